//! The node's own plumbing: addresses, routes and sysctls of the host link.
//!
//! The dataplane makes the veth pair `headrace0` (the kernel's end) and `headrace1` (its own end) when it starts. [`keep`]
//! gives the kernel's end what node processes need to reach pods and Services: the node's pod-side address S0 (the network
//! address of its pod range, as flannel has it) and routes through the gateway that the dataplane is. It puts right what
//! others take away and never touches a route of another device: that is a conflict, said in a warning.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use headrace_wire::ethernet::MacAddr;
use tracing::{debug, info, warn};

use crate::seam::{Directories, FactsWatch, NodeFacts};

mod apply;
mod events;
pub(crate) mod offloads;
mod plan;
pub(crate) mod routes;
pub(crate) mod rtnl;
#[cfg(test)]
pub(crate) mod testns;
#[cfg(test)]
mod tests;

use apply::Outcome;
use events::Events;
use rtnl::{Rtnl, RtnlError};

/// The kernel's end of the host link.
pub const HOST_LINK: &str = "headrace0";

/// Next hop of every pod and of the node towards pods, as Calico has it. Link-local: it cannot collide with a pod.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Link-layer address of the gateway on every link.
pub const GATEWAY_MAC: MacAddr = MacAddr([0xee; 6]);

/// The largest MTU of a device (`ETH_MAX_MTU`, linux/if_ether.h), and the longest IP packet.
pub(crate) const SUPERFRAME_MTU: u32 = 65535;

/// Bytes that VXLAN over IPv4 adds: outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14 (RFC 7348).
const TUNNEL_OVERHEAD: u32 = 50;

/// The smallest path MTU that the dataplane takes (RFC 791: every host accepts 576 bytes).
const LEAST_PATH_MTU: u32 = 576;

/// How long a lost event may stay unnoticed.
const RECHECK: Duration = Duration::from_secs(5);

/// Keeps the host link's addresses, routes and sysctls as the facts ask, until the process ends.
///
/// # Errors
/// What makes further attempts useless: no netlink socket, or the agent is ending.
pub async fn keep(_directories: Directories, mut facts: FactsWatch) -> anyhow::Result<()> {
    let rtnl = Rtnl::connect()?;
    let mut events = Events::subscribe()?;
    let mut last = Outcome::default();
    loop {
        let known = facts.borrow_and_update().clone();
        if let Some(known) = known {
            last = once(&rtnl, &known, last).await;
        }
        tokio::select! {
            changed = facts.changed() => changed?,
            () = events.next() => {}
            () = tokio::time::sleep(RECHECK) => {}
        }
    }
}

/// Bytes of the largest IP packet between pods of different nodes: the uplink's MTU less the tunnel's overhead. Also with
/// direct routing, since peers on other subnets are reached through the tunnel all the same.
///
/// # Errors
/// [`PathMtuError`].
pub(crate) async fn path_mtu(rtnl: &Rtnl, facts: &NodeFacts) -> Result<u32, PathMtuError> {
    let address = facts.node_addresses.first().copied().ok_or(PathMtuError::NoAddress)?;
    let uplink = rtnl.link_of_address(address).await?.ok_or(PathMtuError::NoUplink(address))?;
    match uplink.mtu.min(SUPERFRAME_MTU).checked_sub(TUNNEL_OVERHEAD) {
        Some(mtu) if mtu >= LEAST_PATH_MTU => Ok(mtu),
        _ => Err(PathMtuError::TooSmall { uplink: uplink.name, mtu: uplink.mtu }),
    }
}

/// The path MTU is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PathMtuError {
    /// The facts hold no address.
    #[error("the Node object has no InternalIP")]
    NoAddress,
    /// Nobody has it.
    #[error(
        "no link of this node has its address {0}; give it to the uplink or correct the Node's InternalIP"
    )]
    NoUplink(IpAddr),
    /// Not enough room.
    #[error("uplink {uplink} has MTU {mtu}; want {} or more", LEAST_PATH_MTU + TUNNEL_OVERHEAD)]
    TooSmall {
        /// The link.
        uplink: String,
        /// Its MTU.
        mtu: u32,
    },
    /// The kernel did not say.
    #[error(transparent)]
    Rtnl(#[from] RtnlError),
}

/// One look at the link, with a log line for what differs from the last look.
async fn once(rtnl: &Rtnl, facts: &Arc<NodeFacts>, last: Outcome) -> Outcome {
    let outcome = match path_mtu(rtnl, facts).await {
        Ok(mtu) => apply::apply(rtnl, plan::plan(facts, mtu).as_ref()).await,
        Err(e) => Outcome::Failed(e.to_string()),
    };
    if outcome == last {
        return outcome;
    }
    match &outcome {
        Outcome::Unknown => {}
        Outcome::NoLink => debug!("{HOST_LINK} is not there yet; the dataplane makes it"),
        Outcome::Failed(problem) => warn!("host link {HOST_LINK}: {problem}"),
        Outcome::Kept { notes } => {
            info!("host link {HOST_LINK} has its address and routes");
            for note in notes {
                warn!("host link {HOST_LINK}: {note}");
            }
        }
    }
    outcome
}
