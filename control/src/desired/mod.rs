//! From Kubernetes objects to what the dataplane is asked to do.
//!
//! The outcome is a pure function of objects, configuration and ports; no clock, no file, no network. [`Derivation`]
//! remembers the objects it has seen, so that the cost of a change follows the change and not the cluster; [`desired`]
//! does the same from nothing. What cannot be used is left out and told as a [`Problem`] that says what is missing and
//! what would help; one wrong object never hides another. Types are family-neutral, but only IPv4 is derived so far.

mod address;
pub mod categorize;
mod endpoints;
mod frontends;
mod limits;
mod nodes;
mod problems;
mod service;
mod services;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::sync::Arc;

use headrace_api::state::{Encapsulation, Peer, Settings};
use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::Vni;
use ipnetwork::IpNetwork;

use self::limits::Limits;
use self::services::Services;
use crate::objects::Objects;
use crate::seam::Ports;

pub use self::problems::{Problem, Problems};
pub use self::service::HealthCheck;
pub use self::services::{HealthChecks, ServicePorts};

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
    /// Which addresses of the node answer NodePorts.
    pub node_port_addresses: NodePortAddresses,
    /// Whether NodePorts answer on the node's loopback addresses too.
    pub node_port_loopback: bool,
    /// Whether everything that goes to a clusterIP is masqueraded.
    pub masquerade_all: bool,
    /// Whose traffic counts as that of this node's pods.
    pub local_detector: LocalDetector,
}

/// Which addresses of the node answer NodePorts (kube-proxy: `nodePortAddresses`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The node's primary address.
    Primary,
    /// Every address of the node within these ranges.
    Ranges(Vec<IpNetwork>),
}

/// Whose traffic counts as that of this node's pods (kube-proxy: `detectLocalMode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalDetector {
    /// Every pod of the cluster: only they enter here without another proxy in between.
    ClusterCidr,
    /// The pods of this node's own ranges.
    NodeCidr,
    /// Nobody's.
    Nobody,
}

/// Everything the dataplane should hold. Copies are cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// `None` when the own Node object is missing or unusable.
    pub settings: Option<Arc<Settings>>,
    /// Pod ports.
    pub ports: Ports,
    /// The other nodes, by name.
    pub peers: Peers,
    /// Service ports.
    pub services: ServicePorts,
}

/// The other nodes, by name.
pub type Peers = imbl::OrdMap<String, Arc<Peer>>;

/// Derives from objects that change, at a cost that follows the change.
#[derive(Debug)]
pub struct Derivation {
    config: NodeConfig,
    seen: Objects,
    context: Context,
    settings: Option<Arc<Settings>>,
    peers: Peers,
    node_problems: Vec<Problem>,
    services: Services,
    limits: Limits,
    limit_problems: Vec<Problem>,
    problems: Problems,
}

/// What Services are derived in the light of. When it changes, all of them are derived anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Context {
    /// The own Node object's name.
    node: String,
    /// Its label `topology.kubernetes.io/zone`; "" = none.
    zone: String,
    /// The own node's first address.
    primary: Option<IpAddr>,
    /// All Service addresses.
    service_cidrs: Vec<IpNetwork>,
    /// All pods.
    cluster_cidrs: Vec<IpNetwork>,
    /// Addresses of all nodes.
    node_addresses: BTreeSet<IpAddr>,
}

impl Context {
    /// Whether the address is a pod's or a node's.
    fn knows(&self, address: IpAddr) -> bool {
        self.cluster_cidrs.iter().any(|c| c.contains(address)) || self.node_addresses.contains(&address)
    }
}

impl Derivation {
    /// One that has seen no objects.
    pub fn new(config: NodeConfig) -> Self {
        let mut derivation = Self {
            config,
            seen: Objects::default(),
            context: Context::default(),
            settings: None,
            peers: Peers::new(),
            node_problems: Vec::new(),
            services: Services::default(),
            limits: Limits::default(),
            limit_problems: Vec::new(),
            problems: Problems::default(),
        };
        derivation.derive_nodes(&Objects::default());
        derivation
    }

    /// Goes on to these objects.
    pub fn update(&mut self, objects: &Objects) {
        let mut everything = false;
        if objects.nodes != self.seen.nodes || objects.service_cidrs != self.seen.service_cidrs {
            everything = self.derive_nodes(objects);
        }
        self.services.update(&self.seen, objects, &self.context, everything, &mut self.problems);
        if objects.pods != self.seen.pods || objects.namespaces != self.seen.namespaces {
            self.derive_limits(objects);
        }
        self.seen = objects.clone();
    }

    /// What the dataplane should hold, with these ports of attached pods.
    pub fn desired(&self, ports: &Ports) -> Desired {
        Desired {
            settings: self.settings.clone(),
            ports: self.limits.apply(ports),
            peers: self.peers.clone(),
            services: self.services.ports.clone(),
        }
    }

    /// What in the objects could not be used.
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    /// What load balancers that ask about Services should be told.
    pub fn health_checks(&self) -> &HealthChecks {
        &self.services.health_checks
    }

    /// Whether load balancers may send traffic here: the node stays (kubernetes, pkg/proxy/healthcheck: NodeEligible).
    pub fn node_eligible(&self) -> bool {
        self.seen.nodes.get(&self.config.name).is_some_and(|node| nodes::is_eligible(node))
    }

    fn derive_limits(&mut self, objects: &Objects) {
        let mut problems = Vec::new();
        self.limits = Limits::new(objects, &mut problems);
        self.problems.replace(&mut self.limit_problems, problems);
    }

    /// `true` when Services have to be derived in another light.
    fn derive_nodes(&mut self, objects: &Objects) -> bool {
        let mut problems = Vec::new();
        let service_cidrs = nodes::service_cidrs(&objects.service_cidrs, &self.config, &mut problems);
        let settings = nodes::settings(&objects.nodes, &self.config, &service_cidrs, &mut problems);
        let peers = nodes::peers(&objects.nodes, &self.config, &mut problems);
        problems.sort();
        problems.dedup();
        self.problems.replace(&mut self.node_problems, problems);
        self.peers = nodes::shared_with(&self.peers, peers);
        let own = objects.nodes.get(&self.config.name);
        let context = Context {
            node: self.config.name.clone(),
            zone: own.map(|n| nodes::zone(n).to_owned()).unwrap_or_default(),
            primary: settings.as_ref().and_then(|s| s.node_addresses.first().copied()),
            service_cidrs,
            cluster_cidrs: self.config.cluster.cluster_cidrs.clone(),
            node_addresses: objects.nodes.values().flat_map(|n| nodes::addresses(n)).collect(),
        };
        self.settings = settings.map(Arc::new);
        let differs = context != self.context;
        self.context = context;
        differs
    }
}

/// Derives from nothing.
pub fn desired(objects: &Objects, config: &NodeConfig, ports: &Ports) -> (Desired, Problems) {
    let mut derivation = Derivation::new(config.clone());
    derivation.update(objects);
    (derivation.desired(ports), derivation.problems)
}

/// One for all objects: a dual-stack cluster has thousands.
fn ipv6_problem() -> Problem {
    let what = "some have IPv6 addresses, which are not carried yet";
    Problem::new("Services and EndpointSlices", what, "their IPv4 addresses are used")
}

#[cfg(test)]
pub(crate) mod test_objects;
#[cfg(test)]
mod tests;
