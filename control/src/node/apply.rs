//! Makes the host link as planned: adds what is missing, removes what is ours and not wanted, reports what others hold.

use headrace_xsk::sysctl;
use ipnetwork::Ipv4Network;

use super::offloads;
use super::plan::Plan;
use super::routes::{KernelRoute, Route};
use super::rtnl::{Link, Rtnl, RtnlError};
use super::{GATEWAY, GATEWAY_MAC, HOST_LINK, SUPERFRAME_MTU};

/// What came of one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Not looked yet.
    #[default]
    Unknown,
    /// The dataplane has not made the link.
    NoLink,
    /// Something did not work; it is tried again.
    Failed(String),
    /// All is as planned, but for what is noted.
    Kept {
        /// What others hold and what cannot be set, in sentences for the operator.
        notes: Vec<String>,
    },
}

/// One look. Without a `plan` there is nothing to do.
pub(super) async fn apply(rtnl: &Rtnl, plan: Option<&Plan>) -> Outcome {
    let link = match rtnl.link(HOST_LINK).await {
        Ok(Some(link)) => link,
        Ok(None) => return Outcome::NoLink,
        Err(e) => return Outcome::Failed(e.to_string()),
    };
    let Some(plan) = plan else {
        return Outcome::Failed("the node has no IPv4 pod range".to_owned());
    };
    let mut notes = settings(&link);
    match plumbing(rtnl, &link, plan).await {
        Ok(conflicts) => {
            notes.extend(conflicts);
            Outcome::Kept { notes }
        }
        Err(e) => Outcome::Failed(e.to_string()),
    }
}

/// rp_filter=2 because translated replies come from addresses whose route is another link; no IPv6 because its link-local
/// chatter means nothing to the dataplane. What cannot be set (/proc/sys read-only in a container) is no reason to stop.
fn settings(link: &Link) -> Vec<String> {
    let outcomes = [
        sysctl::set(&format!("ipv4/conf/{}/rp_filter", link.name), "2").map_err(|e| e.to_string()),
        sysctl::set(&format!("ipv6/conf/{}/disable_ipv6", link.name), "1").map_err(|e| e.to_string()),
        offloads::restrict(&link.name, true).map_err(|e| e.to_string()),
    ];
    outcomes.into_iter().filter_map(Result::err).collect()
}

async fn plumbing(rtnl: &Rtnl, link: &Link, plan: &Plan) -> Result<Vec<String>, RtnlError> {
    if !link.up || link.mtu != SUPERFRAME_MTU {
        rtnl.bring_up(link, SUPERFRAME_MTU).await?;
    }
    let own = Ipv4Network::from(plan.address);
    let present = rtnl.addresses(link).await?;
    if !present.contains(&own) {
        rtnl.add_address(link, own).await?;
    }
    if rtnl.neighbour(link, GATEWAY).await? != Some(GATEWAY_MAC) {
        rtnl.set_neighbour(link, GATEWAY, GATEWAY_MAC).await?;
    }
    let conflicts = routes(rtnl, link, plan).await?;
    // Last: the kernel drops routes together with the address they take as source.
    for stale in present.into_iter().filter(|a| *a != own) {
        rtnl.delete_address(link, stale).await?;
    }
    Ok(conflicts)
}

async fn routes(rtnl: &Rtnl, link: &Link, plan: &Plan) -> Result<Vec<String>, RtnlError> {
    let wanted = plan.routes(link.index);
    let (ours, others): (Vec<_>, Vec<_>) =
        rtnl.routes().await?.into_iter().partition(|r| r.ours && r.route.link == link.index);
    let mut conflicts = Vec::new();
    for route in &wanted {
        for other in others.iter().filter(|other| other.route.link != link.index) {
            conflicts.extend(conflict(rtnl, route, other).await?);
        }
        match ours.iter().find(|o| o.route.destination == route.destination) {
            Some(present) if present.route == *route => {}
            Some(_) => rtnl.replace_route(route).await?,
            None => match rtnl.add_route(route).await {
                Err(e) if e.is_exists() => {}
                done => done?,
            },
        }
    }
    let stale = |o: &KernelRoute| !wanted.iter().any(|w| w.destination == o.route.destination);
    for route in ours.into_iter().filter(stale) {
        rtnl.delete_route(route).await?;
    }
    Ok(conflicts)
}

/// A sentence when another device's route takes packets of ours.
async fn conflict(rtnl: &Rtnl, ours: &Route, other: &KernelRoute) -> Result<Option<String>, RtnlError> {
    let (range, theirs) = (ours.destination, other.route.destination);
    let same = theirs == range && other.metric == 0;
    let inside = theirs.is_subnet_of(range) && theirs != range;
    if !same && !inside {
        return Ok(None);
    }
    let device = rtnl.link_name(other.route.link).await?;
    let what = if same { "is in the way of ours" } else { "takes a part of it" };
    Ok(Some(format!(
        "{range}: the route to {theirs} through {device} {what}, those packets do not reach the dataplane; remove the \
         route or what made it ('ip route del {theirs} dev {device}')"
    )))
}
