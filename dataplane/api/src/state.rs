//! Checked resources: what the dataplane is asked to do, in types that cannot hold an illegal state.
//!
//! They are made by [`crate::check`] from messages and turned back into messages by `From`. Addresses are family-neutral.

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::ops::RangeInclusive;

use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::Vni;
use ipnetwork::IpNetwork;

use crate::proto;

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
    /// Who may get new connections, evenly.
    pub endpoints: Vec<Endpoint>,
}

/// An address and port at which a Service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// Any unicast address.
    pub address: IpAddr,
    /// 1 to 65535.
    pub port: NonZeroU16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// An address and port that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// A pod's or a node's address.
    pub address: IpAddr,
    /// 1 to 65535.
    pub port: NonZeroU16,
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

impl From<&Refusal> for proto::Refusal {
    fn from(r: &Refusal) -> Self {
        Self { resource: r.resource.clone(), field: r.field.clone(), reason: r.reason.clone() }
    }
}

impl From<IpAddr> for proto::Address {
    fn from(address: IpAddr) -> Self {
        let octets = match address {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        Self { octets }
    }
}

impl From<IpNetwork> for proto::Prefix {
    fn from(network: IpNetwork) -> Self {
        Self { address: Some(network.ip().into()), length: network.prefix().into() }
    }
}

impl From<&Settings> for proto::Settings {
    fn from(s: &Settings) -> Self {
        let encapsulation = match s.encapsulation {
            Encapsulation::Vxlan => proto::Encapsulation::Vxlan,
            Encapsulation::Direct => proto::Encapsulation::Direct,
        };
        Self {
            node_addresses: addresses(&s.node_addresses),
            pod_cidrs: prefixes(&s.pod_cidrs),
            cluster_cidrs: prefixes(&s.cluster_cidrs),
            service_cidrs: prefixes(&s.service_cidrs),
            vxlan_port: s.vxlan_port.get().into(),
            vni: s.vni.get(),
            vtep_mac: s.vtep_mac.0.to_vec(),
            encapsulation: encapsulation.into(),
            masquerade: s.masquerade,
            non_masquerade_cidrs: prefixes(&s.non_masquerade_cidrs),
            snat_port_first: (*s.snat_ports.start()).into(),
            snat_port_last: (*s.snat_ports.end()).into(),
        }
    }
}

impl From<&Port> for proto::Port {
    fn from(p: &Port) -> Self {
        Self {
            id: p.id.get(),
            interface: p.interface.clone(),
            mac: p.mac.0.to_vec(),
            addresses: addresses(&p.addresses),
            path_mtu: p.path_mtu.map_or(0, u32::from),
            superframes: p.superframes,
            label: p.label.clone(),
        }
    }
}

impl From<&Peer> for proto::Peer {
    fn from(p: &Peer) -> Self {
        Self {
            name: p.name.clone(),
            address: Some(p.address.into()),
            other_addresses: addresses(&p.other_addresses),
            pod_cidrs: prefixes(&p.pod_cidrs),
            vtep_mac: p.vtep_mac.0.to_vec(),
        }
    }
}

impl From<&Service> for proto::Service {
    fn from(s: &Service) -> Self {
        let protocol = |p| match p {
            Protocol::Tcp => proto::Protocol::Tcp,
            Protocol::Udp => proto::Protocol::Udp,
            Protocol::Sctp => proto::Protocol::Sctp,
        };
        let frontend = |f: &Frontend| proto::Frontend {
            address: Some(f.address.into()),
            port: f.port.get().into(),
            protocol: protocol(f.protocol).into(),
        };
        let endpoint =
            |e: &Endpoint| proto::Endpoint { address: Some(e.address.into()), port: e.port.get().into() };
        Self {
            name: s.name.clone(),
            frontends: s.frontends.iter().map(frontend).collect(),
            endpoints: s.endpoints.iter().map(endpoint).collect(),
        }
    }
}

impl From<&Resource> for proto::Resource {
    fn from(resource: &Resource) -> Self {
        use proto::resource::Kind;
        let kind = match resource {
            Resource::Settings(s) => Kind::Settings(s.into()),
            Resource::Port(p) => Kind::Port(p.into()),
            Resource::Peer(p) => Kind::Peer(p.into()),
            Resource::Service(s) => Kind::Service(s.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl From<&Key> for proto::Key {
    fn from(key: &Key) -> Self {
        use proto::key::Kind;
        let kind = match key {
            Key::Port(id) => Kind::Port(id.get()),
            Key::Peer(name) => Kind::Peer(name.clone()),
            Key::Service(name) => Kind::Service(name.clone()),
        };
        Self { kind: Some(kind) }
    }
}

fn addresses(list: &[IpAddr]) -> Vec<proto::Address> {
    list.iter().map(|a| (*a).into()).collect()
}

fn prefixes(list: &[IpNetwork]) -> Vec<proto::Prefix> {
    list.iter().map(|p| (*p).into()).collect()
}
