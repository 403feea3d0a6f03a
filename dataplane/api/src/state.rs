//! Checked resources: what the dataplane is asked to do, in types that cannot hold an illegal state.
//!
//! They are made by [`crate::check`] from messages and turned back into messages by `From`. Addresses are family-neutral.

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::ops::RangeInclusive;

use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::Vni;
use ipnetwork::IpNetwork;

mod message;

/// A pod port's number: chosen by the controller, stable for the attachment's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(NonZeroU32);

impl PortId {
    /// `None` for 0, which stands for "no port" in messages.
    pub fn new(id: u32) -> Option<Self> {
        NonZeroU32::new(id).map(Self)
    }

    /// The number, 1 or more.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a desired state, chosen by the controller; it only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// How packets travel between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// VXLAN to every peer.
    Vxlan,
    /// No tunnel to peers on a subnet of the uplink, VXLAN to the others.
    Direct,
}

/// Transport protocol of a Service frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

impl Protocol {
    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// The node itself. Without it nothing is forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Addresses of the node on the uplink, at least one; the first of a family is the tunnel's source and the address of
    /// masqueraded traffic.
    pub node_addresses: Vec<IpAddr>,
    /// The node's own pod ranges, at least one. Of an IPv4 range the network address is the node's (S0), the next one the
    /// dataplane's.
    pub pod_cidrs: Vec<IpNetwork>,
    /// All pods of the cluster: never masqueraded.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// All Service addresses.
    pub service_cidrs: Vec<IpNetwork>,
    /// UDP port of the tunnel.
    pub vxlan_port: NonZeroU16,
    /// Network identifier of the tunnel.
    pub vni: Vni,
    /// Inner MAC address of this node.
    pub vtep_mac: MacAddr,
    /// How packets travel between nodes.
    pub encapsulation: Encapsulation,
    /// Whether pod traffic that leaves the cluster carries the node's address.
    pub masquerade: bool,
    /// Destinations outside the cluster that see pod addresses all the same.
    pub non_masquerade_cidrs: Vec<IpNetwork>,
    /// Source ports of translated traffic.
    pub snat_ports: RangeInclusive<u16>,
    /// Addresses of the node within these answer NodePorts.
    pub node_port_ranges: Vec<IpNetwork>,
    /// Whether NodePorts answer on the node's loopback addresses too.
    pub node_port_loopback: bool,
    /// Whether everything that goes to a clusterIP is masqueraded, also traffic of pods.
    pub masquerade_all: bool,
    /// Sources that count as this node's pods (kube-proxy's local detector); empty = no detection.
    pub local_sources: Vec<IpNetwork>,
}

/// A pod's network port: the host end of a veth pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Stable for the attachment's life.
    pub id: PortId,
    /// Host end, 1 to 15 bytes, in the dataplane's network namespace.
    pub interface: String,
    /// MAC address of the pod's end.
    pub mac: MacAddr,
    /// The only addresses from which it may send, at least one.
    pub addresses: Vec<IpAddr>,
    /// Largest IP packet towards the wire in bytes, 576 or more; `None` = the path's.
    pub path_mtu: Option<u16>,
    /// Whether frames may be up to 64 KiB.
    pub superframes: bool,
    /// For people: "default/web-1".
    pub label: String,
    /// Ports of the node that lead to this pod.
    pub host_ports: Vec<HostPort>,
    /// How much the pod may receive and send.
    pub bandwidth: Bandwidth,
}

/// How much a pod may receive and send; `None` = as much as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// What the pod receives.
    pub ingress: Option<RateLimit>,
    /// What the pod sends.
    pub egress: Option<RateLimit>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Bits per second.
    pub rate: NonZeroU64,
    /// Bits that may pass at once; `None` = as the dataplane sees fit.
    pub burst: Option<NonZeroU64>,
}

/// A port of the node that leads to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// An address of the node; `None` = all of them.
    pub address: Option<IpAddr>,
    /// On the node, 1 to 65535.
    pub port: NonZeroU16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// In the pod, 1 to 65535.
    pub pod_port: NonZeroU16,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node's name.
    pub name: String,
    /// Where its tunnel ends.
    pub address: IpAddr,
    /// Its other addresses.
    pub other_addresses: Vec<IpAddr>,
    /// Its pod ranges.
    pub pod_cidrs: Vec<IpNetwork>,
    /// Its inner MAC address.
    pub vtep_mac: MacAddr,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// "namespace/name:port".
    pub name: String,
    /// Where clients connect to.
    pub frontends: Vec<Frontend>,
    /// Every endpoint that is ready, or still serves while it ends, anywhere; none of them twice.
    pub endpoints: Vec<Endpoint>,
    /// For frontends that are cluster addresses.
    pub internal_policy: TrafficPolicy,
    /// For all other frontends.
    pub external_policy: TrafficPolicy,
    /// After how many seconds without a new connection a client loses its endpoint, at most
    /// [`LONGEST_AFFINITY`]; `None` = every connection is decided anew.
    pub affinity_seconds: Option<NonZeroU32>,
    /// Who may use the load-balancer frontends; empty = everyone.
    pub source_ranges: Vec<IpNetwork>,
}

impl Service {
    /// A Service without policies: evenly, everyone, every connection anew.
    pub fn new(name: impl Into<String>, frontends: Vec<Frontend>, endpoints: Vec<Endpoint>) -> Self {
        Self {
            name: name.into(),
            frontends,
            endpoints,
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            affinity_seconds: None,
            source_ranges: Vec::new(),
        }
    }
}

/// Longest session affinity, in seconds (Kubernetes: ClientIPConfig.timeoutSeconds).
pub const LONGEST_AFFINITY: u32 = 86_400;

/// Which endpoints may get new connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficPolicy {
    /// Those of the whole cluster.
    #[default]
    Cluster,
    /// Those of this node.
    Local,
}

/// An address and port at which a Service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// Where, and what kind of address that is.
    pub address: FrontendAddress,
    /// 1 to 65535.
    pub port: NonZeroU16,
    /// Transport protocol.
    pub protocol: Protocol,
}

impl Frontend {
    /// A clusterIP.
    pub fn cluster_ip(address: IpAddr, port: NonZeroU16, protocol: Protocol) -> Self {
        Self { address: FrontendAddress::ClusterIp(address), port, protocol }
    }
}

/// Where a Service is reached. The kind decides over traffic policy, masquerade and source ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontendAddress {
    /// A clusterIP.
    ClusterIp(IpAddr),
    /// One of externalIPs.
    ExternalIp(IpAddr),
    /// A load balancer's address that keeps its destination on the way to the node.
    LoadBalancer(IpAddr),
    /// Every NodePort address of the node.
    NodePort,
}

impl FrontendAddress {
    /// The address, when it is a certain one.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::ClusterIp(address) | Self::ExternalIp(address) | Self::LoadBalancer(address) => {
                Some(address)
            }
            Self::NodePort => None,
        }
    }
}

impl fmt::Display for FrontendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip() {
            Some(address) => address.fmt(f),
            None => f.write_str("the node"),
        }
    }
}

/// An address and port that serves, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// A pod's or a node's address.
    pub address: IpAddr,
    /// 1 to 65535.
    pub port: NonZeroU16,
    /// Gets new connections under [`TrafficPolicy::Cluster`].
    pub cluster: bool,
    /// Gets new connections under [`TrafficPolicy::Local`].
    pub local: bool,
    /// Keeps the UDP flows that it has.
    pub serving: bool,
}

impl Endpoint {
    /// A ready one, on whatever node.
    pub fn ready(address: IpAddr, port: NonZeroU16) -> Self {
        Self { address, port, cluster: true, local: false, serving: true }
    }
}

/// One keyed resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The node itself.
    Settings(Settings),
    /// A pod's port.
    Port(Port),
    /// Another node.
    Peer(Peer),
    /// One port of a Service.
    Service(Service),
}

/// The name of a resource that can be deleted. Settings cannot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A pod's port.
    Port(PortId),
    /// Another node, by name.
    Peer(String),
    /// One port of a Service, by name.
    Service(String),
}

/// A checked request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Everything; what is not in it goes away.
    Snapshot(Vec<Resource>),
    /// What changed; deletes come first.
    Delta {
        /// New or changed resources.
        upserts: Vec<Resource>,
        /// Names of those that go.
        deletes: Vec<Key>,
    },
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{resource}: {field}: {reason}")]
pub struct Refusal {
    /// "port 7", "service default/web:http".
    pub resource: String,
    /// "addresses[0]".
    pub field: String,
    /// What is wrong and what would be right.
    pub reason: String,
}
