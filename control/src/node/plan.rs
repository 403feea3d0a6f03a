//! What the host link should have: a pure function of the facts.

use std::net::Ipv4Addr;

use ipnetwork::{IpNetwork, Ipv4Network};

use super::GATEWAY;
use super::routes::Route;
use crate::seam::NodeFacts;

/// What is wanted of the host link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// S0: the node's address towards pods, the network address of its pod range.
    pub(super) address: Ipv4Addr,
    /// Ranges that lie behind the link, none twice.
    pub(super) ranges: Vec<Ipv4Network>,
    /// Largest packet to them, in bytes.
    pub(super) mtu: u32,
}

/// `None` without an IPv4 pod range.
pub(super) fn plan(facts: &NodeFacts, mtu: u32) -> Option<Plan> {
    let address = facts.pod_cidrs.iter().find_map(v4)?.network();
    let mut ranges: Vec<_> = facts.cluster_cidrs.iter().chain(&facts.service_cidrs).filter_map(v4).collect();
    let own = facts.pod_cidrs.iter().filter_map(v4);
    let outside: Vec<_> = own.filter(|own| !ranges.iter().any(|range| own.is_subnet_of(*range))).collect();
    ranges.extend(outside);
    ranges.sort();
    ranges.dedup();
    Some(Plan { address, ranges, mtu })
}

impl Plan {
    /// The routes, through the link with this index. The first one is the gateway's own.
    pub(super) fn routes(&self, link: u32) -> Vec<Route> {
        let gateway = Route {
            destination: Ipv4Network::from(GATEWAY),
            gateway: None,
            link,
            source: Some(self.address),
            mtu: None,
            onlink: false,
        };
        let range = |destination: &Ipv4Network| Route {
            destination: *destination,
            gateway: Some(GATEWAY),
            link,
            source: Some(self.address),
            mtu: Some(self.mtu),
            onlink: true,
        };
        std::iter::once(gateway).chain(self.ranges.iter().map(range)).collect()
    }
}

/// Without host bits, as the kernel keeps it.
fn v4(network: &IpNetwork) -> Option<Ipv4Network> {
    match network {
        IpNetwork::V4(n) => Ipv4Network::new(n.network(), n.prefix()).ok(),
        IpNetwork::V6(_) => None,
    }
}
