//! Rules in the node's own kernel that bring to the host link what would never come there by itself.
//!
//! Three kinds of packets, all of processes in the node's network namespace:
//! * to a NodePort or hostPort at an address of the node itself: they would go through `lo` and nowhere else. An nftables
//!   chain at the egress of `lo` sends them to the host link. Routing cannot: the kernel's table of local addresses comes
//!   before every rule (ip-rule(8));
//! * to an external or load-balancer address: marked in OUTPUT and routed by the mark, so that the rest of the address, and
//!   the source that the kernel has chosen, stay as they are;
//! * answers of processes that serve behind an external frontend of policy Local: their client is not masqueraded and lies
//!   beyond the uplink. Connections that came by the host link are marked, and so are their answers.
//!
//! The table is called `headrace`, in the families netdev and ip. It is put in force in one transaction and kept over
//! restarts; nothing else in the node's ruleset is touched. A task of its own does it, since `nft` takes its time.

mod nft;
mod ruleset;
#[cfg(test)]
mod tests;
mod way;

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use headrace_xsk::program::Frontend;
use headrace_xsk::sysctl;
use ipnetwork::Ipv4Network;
use rtnetlink::Handle;
use tokio::sync::watch;

pub use nft::NftError;
pub use way::WayError;

/// How long it may stay unnoticed that somebody has removed the rules; as kube-proxy's sync period.
const RECHECK: Duration = Duration::from_secs(30);

/// What the rules are to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Name and index of the kernel's end of the host link; without it there are no rules.
    pub host_link: Option<(String, u32)>,
    /// Addresses of the node that serve NodePorts.
    pub node_port_addresses: BTreeSet<Ipv4Network>,
    /// Frontends at which the node itself is reached: all but clusterIPs, which are routed to the host link anyway.
    pub frontends: BTreeSet<Frontend>,
    /// Whether a process of this node serves clients that are not masqueraded.
    pub serves_unmasqueraded: bool,
}

/// The rules could not be put in force.
#[derive(Debug, thiserror::Error)]
pub enum NodeRulesError {
    /// nftables.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// Routes and rules.
    #[error(transparent)]
    Way(#[from] WayError),
    /// A setting of the host link.
    #[error("{0}; connections of the node to its own loopback address will not work")]
    Setting(io::Error),
}

/// The task that keeps the rules, as its owner sees it; it ends with this.
pub struct NodeRules {
    wanted: watch::Sender<Wanted>,
    problems: watch::Receiver<Vec<String>>,
}

impl NodeRules {
    /// Starts the task. It does nothing until it is told what is wanted.
    pub fn start(handle: Handle) -> Self {
        let (wanted, receiver) = watch::channel(Wanted::default());
        let (sender, problems) = watch::channel(Vec::new());
        tokio::spawn(keep(handle, receiver, sender));
        Self { wanted, problems }
    }

    /// Says what is wanted from now on.
    pub fn set(&self, change: impl FnOnce(&mut Wanted) -> bool) {
        self.wanted.send_if_modified(change);
    }

    /// What does not work, in sentences for the operator.
    pub fn problems(&self) -> Vec<String> {
        self.problems.borrow().clone()
    }
}

/// Removes rules, routes and marks, also those of an earlier process. What is not there is no error.
///
/// # Errors
/// [`NodeRulesError`].
pub async fn remove(handle: &Handle) -> Result<(), NodeRulesError> {
    nft::remove(&ruleset::REMOVE).await?;
    Ok(way::remove(handle).await?)
}

async fn keep(handle: Handle, mut wanted: watch::Receiver<Wanted>, problems: watch::Sender<Vec<String>>) {
    let mut applied = None;
    let mut changed = wanted.changed().await;
    while changed.is_ok() {
        let next = wanted.borrow_and_update().clone();
        let outcome = apply(&handle, applied.as_ref(), &next).await;
        problems.send_replace(outcome.as_ref().err().map(ToString::to_string).into_iter().collect());
        applied = outcome.is_ok().then_some(next);
        changed = loop {
            tokio::select! {
                changed = wanted.changed() => break changed,
                () = tokio::time::sleep(RECHECK) => {
                    if applied.is_none() || !nft::lists(ruleset::TABLES).await {
                        applied = None;
                        break Ok(());
                    }
                }
            }
        };
    }
}

/// Goes from what is in force, if that is known, to what is wanted.
async fn apply(handle: &Handle, applied: Option<&Wanted>, wanted: &Wanted) -> Result<(), NodeRulesError> {
    let Some((name, index)) = &wanted.host_link else { return Ok(()) };
    if applied == Some(wanted) {
        return Ok(());
    }
    if wanted.uses_loopback() {
        sysctl::set(&format!("ipv4/conf/{name}/route_localnet"), "1").map_err(NodeRulesError::Setting)?;
    }
    way::ensure(handle, *index).await?;
    let script = match applied {
        Some(applied) if ruleset::same_shape(applied, wanted) => ruleset::difference(applied, wanted),
        _ => ruleset::whole(wanted, name),
    };
    Ok(nft::run(&script).await?)
}
