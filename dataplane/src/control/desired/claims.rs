//! What a resource claims for itself alone: names, addresses, frontends, ranges.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

use headrace_api::state::{HostPort, Protocol, Resource};
use ipnetwork::IpNetwork;

use super::Owner;

/// Something that one resource has and no other may have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Claim {
    /// A network device.
    Interface(String),
    /// A pod's address.
    Pod(IpAddr),
    /// A node's address.
    Node(IpAddr),
    /// Where a Service is reached, whatever kind of address that is; `None` = at the node's addresses.
    Frontend(Option<IpAddr>, NonZeroU16, Protocol),
    /// A port of the node that leads to a pod; `None` = at all addresses.
    HostPort(Option<IpAddr>, NonZeroU16, Protocol),
}

/// The field of a resource that makes a claim.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field(&'static str, Option<usize>);

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(index) => write!(f, "{}[{index}]", self.0),
            None => f.write_str(self.0),
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => f.write_str(name),
            Self::Pod(address) | Self::Node(address) => address.fmt(f),
            Self::Frontend(Some(address), port, protocol) => write!(f, "{address}:{port}/{protocol:?}"),
            Self::Frontend(None, port, protocol) => write!(f, "NodePort {port}/{protocol:?}"),
            Self::HostPort(Some(address), port, protocol) => {
                write!(f, "host port {address}:{port}/{protocol:?}")
            }
            Self::HostPort(None, port, protocol) => write!(f, "host port {port}/{protocol:?}"),
        }
    }
}

/// Everything a resource claims. It may name a thing twice; that is no conflict.
pub(super) fn of(resource: &Resource) -> Vec<(Claim, Field)> {
    match resource {
        Resource::Settings(s) => list("node_addresses", &s.node_addresses, |a| Claim::Node(*a)),
        Resource::Port(p) => {
            let mut claims = list("addresses", &p.addresses, |a| Claim::Pod(*a));
            claims.push((Claim::Interface(p.interface.clone()), Field("interface", None)));
            let host_port = |h: &HostPort| Claim::HostPort(h.address, h.port, h.protocol);
            claims.extend(list("host_ports", &p.host_ports, host_port));
            claims
        }
        Resource::Peer(p) => {
            let mut claims = list("other_addresses", &p.other_addresses, |a| Claim::Node(*a));
            claims.push((Claim::Node(p.address), Field("address", None)));
            claims
        }
        Resource::Service(s) => {
            list("frontends", &s.frontends, |f| Claim::Frontend(f.address.ip(), f.port, f.protocol))
        }
    }
}

/// Pod ranges of a resource.
pub(super) fn ranges_of(resource: &Resource) -> &[IpNetwork] {
    match resource {
        Resource::Settings(settings) => &settings.pod_cidrs,
        Resource::Peer(peer) => &peer.pod_cidrs,
        Resource::Port(_) | Resource::Service(_) => &[],
    }
}

fn list<T>(field: &'static str, items: &[T], claim: impl Fn(&T) -> Claim) -> Vec<(Claim, Field)> {
    items.iter().enumerate().map(|(i, item)| (claim(item), Field(field, Some(i)))).collect()
}

/// Who owns what.
#[derive(Debug, Default)]
pub(super) struct Claims {
    holders: HashMap<Claim, Owner>,
    held: HashMap<Owner, Vec<Claim>>,
}

impl Claims {
    pub(super) fn holder(&self, claim: &Claim) -> Option<&Owner> {
        self.holders.get(claim)
    }

    pub(super) fn take(&mut self, owner: &Owner, resource: &Resource) {
        let claims: Vec<_> = of(resource).into_iter().map(|(claim, _)| claim).collect();
        for claim in &claims {
            self.holders.insert(claim.clone(), owner.clone());
        }
        self.held.insert(owner.clone(), claims);
    }

    pub(super) fn release(&mut self, owner: &Owner) {
        for claim in self.held.remove(owner).unwrap_or_default() {
            self.holders.remove(&claim);
        }
    }
}

/// Disjoint pod ranges, by first address, with last address and owner.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges(BTreeMap<IpAddr, (IpAddr, Owner)>);

impl Ranges {
    /// Keeps the ranges of those owners for whom `stays` holds.
    pub(super) fn retain(&mut self, stays: impl Fn(&Owner) -> bool) {
        self.0.retain(|_, (_, owner)| stays(owner));
    }

    /// Adds a range, or names the owner of one that it overlaps. Families compare as disjoint: IPv4 is below IPv6.
    pub(super) fn add(&mut self, range: IpNetwork, owner: &Owner) -> Result<(), Owner> {
        let (first, last) = (range.network(), range.broadcast());
        // Ranges in here are disjoint, so only the last one that begins at or before `last` can reach into this one.
        if let Some((_, (end, other))) = self.0.range(..=last).next_back()
            && *end >= first
        {
            return Err(other.clone());
        }
        self.0.insert(first, (last, owner.clone()));
        Ok(())
    }
}
