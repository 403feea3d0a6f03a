//! The pod's end of the link: what is set inside its namespace, and whether it is still so.
//!
//! One address with no neighbours (/32), a default route through a gateway that every pod has, and a permanent neighbour
//! entry for it, so that the pod never asks. The device carries 64 KiB, the route says what the path carries: TCP takes the
//! segment size from the route, and large frames still pass.

use std::net::Ipv4Addr;

use headrace_wire::ethernet::MacAddr;
use ipnetwork::Ipv4Network;

use crate::node::offloads::{self, OffloadError};
use crate::node::routes::Route;
use crate::node::rtnl::{Link, Rtnl, RtnlError};
use crate::node::{GATEWAY, GATEWAY_MAC};

/// Destination of the default route.
pub(crate) const EVERYTHING: Ipv4Network = match Ipv4Network::new_checked(Ipv4Addr::UNSPECIFIED, 0) {
    Some(all) => all,
    None => unreachable!(),
};

/// What the pod's end has.
#[derive(Clone, Debug)]
pub(crate) struct PodLink {
    /// Name in the pod.
    pub(crate) ifname: String,
    /// Link-layer address.
    pub(crate) mac: MacAddr,
    /// IP address.
    pub(crate) address: Ipv4Addr,
    /// Largest packet to anywhere, in bytes.
    pub(crate) path_mtu: u32,
    /// Whether TCP may be handed over in frames larger than that.
    pub(crate) superframes: bool,
}

/// The pod's end could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodError {
    /// It has gone meanwhile.
    #[error("{0} is not in the pod's network namespace")]
    NoLink(String),
    /// An address or a route.
    #[error(transparent)]
    Rtnl(#[from] RtnlError),
    /// The kernel would hand over frames that cannot be cut.
    #[error(transparent)]
    Offloads(#[from] OffloadError),
}

impl PodLink {
    /// Sets a new link up. To be called inside.
    pub(crate) async fn configure(&self, rtnl: &Rtnl) -> Result<(), PodError> {
        let found = rtnl.link(&self.ifname).await?;
        let link = found.ok_or_else(|| PodError::NoLink(self.ifname.clone()))?;
        offloads::restrict(&self.ifname, self.superframes)?;
        rtnl.bring_up(&link, link.mtu).await?;
        rtnl.add_address(&link, Ipv4Network::from(self.address)).await?;
        rtnl.set_neighbour(&link, GATEWAY, GATEWAY_MAC).await?;
        for route in self.routes(&link) {
            rtnl.add_route(&route).await?;
        }
        Ok(())
    }

    /// What is not as [`Self::configure`] left it, in sentences. To be called inside. What others added is fine.
    pub(crate) async fn verify(&self, rtnl: &Rtnl) -> Result<Vec<String>, RtnlError> {
        let name = &self.ifname;
        let Some(link) = rtnl.link(name).await? else {
            return Ok(vec![format!("{name} is gone from the pod")]);
        };
        let mut problems = Vec::new();
        let mut want = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        want(link.up, format!("{name} is down"));
        want(link.mac == self.mac, format!("{name} has MAC address {}; want {}", link.mac, self.mac));
        let has = rtnl.addresses(&link).await?.iter().any(|a| a.ip() == self.address);
        want(has, format!("{name} has lost address {}", self.address));
        let neighbour = rtnl.neighbour(&link, GATEWAY).await? == Some(GATEWAY_MAC);
        want(neighbour, format!("{name} has lost the neighbour entry of {GATEWAY}"));
        let present = rtnl.routes().await?;
        for route in self.routes(&link) {
            let there = present.iter().any(|p| {
                let p = &p.route;
                (p.destination, p.gateway, p.link) == (route.destination, route.gateway, route.link)
            });
            want(there, format!("the pod has lost the route to {}", route.destination));
        }
        Ok(problems)
    }

    /// The gateway's first: the other one leads through it.
    fn routes(&self, link: &Link) -> [Route; 2] {
        let gateway = Route {
            destination: Ipv4Network::from(GATEWAY),
            gateway: None,
            link: link.index,
            source: None,
            mtu: None,
            onlink: false,
        };
        let everything = Route {
            destination: EVERYTHING,
            gateway: Some(GATEWAY),
            mtu: Some(self.path_mtu),
            ..gateway.clone()
        };
        [gateway, everything]
    }
}
