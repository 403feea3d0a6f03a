//! From Kubernetes objects to what the dataplane is asked to do: a pure function, whole state in, whole state out.
//!
//! Same input, same output, in the same order; no clock, no file, no network. What cannot be used is left out and
//! returned as a [`Problem`] that says what is missing and what would help; one wrong object never hides another.
//! Types are family-neutral, but only IPv4 is derived so far.

mod address;
pub mod categorize;
mod nodes;
mod services;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;

use headrace_api::state::{Encapsulation, Peer, Port, PortId, Service, Settings};
use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::Vni;
use ipnetwork::IpNetwork;

use crate::objects::Objects;

/// What the derivation knows besides the objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The own Node object's name.
    pub name: String,
    /// The node's inner MAC address, unless its Node object carries another one.
    pub vtep_mac: MacAddr,
    /// What is the same on all nodes.
    pub cluster: ClusterConfig,
}

/// Settings that all nodes of a cluster share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// All pods: never masqueraded.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// All Service addresses.
    pub service_cidrs: Vec<IpNetwork>,
    /// UDP port of the tunnel.
    pub vxlan_port: NonZeroU16,
    /// Network identifier of the tunnel.
    pub vni: Vni,
    /// How packets travel between nodes.
    pub encapsulation: Encapsulation,
    /// Whether pod traffic that leaves the cluster carries the node's address.
    pub masquerade: bool,
    /// Destinations outside the cluster that see pod addresses all the same.
    pub non_masquerade_cidrs: Vec<IpNetwork>,
    /// Source ports of translated traffic.
    pub snat_ports: RangeInclusive<u16>,
}

/// Everything the dataplane should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// `None` when the own Node object is missing or unusable.
    pub settings: Option<Settings>,
    /// Pod ports.
    pub ports: BTreeMap<PortId, Port>,
    /// The other nodes, by name.
    pub peers: BTreeMap<String, Peer>,
    /// Service ports, by "namespace/name:port".
    pub services: BTreeMap<String, Service>,
}

/// Something in the objects that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// "Node a", "Service default/web".
    pub object: String,
    /// What is wrong or missing.
    pub what: String,
    /// What would help.
    pub remedy: String,
}

impl Problem {
    fn new(object: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { object: object.into(), what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.object, self.what, self.remedy)
    }
}

/// Derives the desired state. Problems come sorted and without duplicates.
pub fn desired(
    objects: &Objects,
    node: &NodeConfig,
    ports: &BTreeMap<PortId, Port>,
) -> (Desired, Vec<Problem>) {
    let mut problems = Vec::new();
    let settings = nodes::settings(&objects.nodes, node, &mut problems);
    let peers = nodes::peers(&objects.nodes, node, &mut problems);
    let services = services::services(objects, node, &mut problems);
    problems.sort();
    problems.dedup();
    (Desired { settings, ports: ports.clone(), peers, services }, problems)
}

#[cfg(test)]
pub(crate) mod test_objects;
#[cfg(test)]
mod tests;
