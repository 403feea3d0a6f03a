//! Configuration tables: an immutable snapshot that workers pick up once per burst.
//!
//! [`build`] makes one from the desired state and what the kernel says of this node, as a pure function; parts that did not
//! change are shared with the snapshot before, so that one endpoint's change does not copy a cluster. Behind this module
//! nothing is IPv6 yet: the contract carries both families, the builder takes the IPv4 part.

pub mod build;
pub mod limit;
pub mod routes;
pub mod service;
pub mod services;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::Vni;
use ipnetwork::Ipv4Network;

use crate::port::PortIndex;
use services::FrontendKey;

pub use limit::{Bucket, Nanos};
pub use routes::{Route, Routes};
pub use service::{Frontend, FrontendKind, Origin, Service};
pub use services::Services;
pub use traffic::{PeerTally, Traffic};

/// The pods' gateway address, the same on every node, as Calico has it.
pub const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The MAC address under which pods and the node's stack reach the dataplane.
pub const GATEWAY_MAC: MacAddr = MacAddr([0xee; 6]);

/// Bytes that VXLAN over IPv4 puts in front of an inner IP packet: 20 IPv4, 8 UDP, 8 VXLAN, 14 Ethernet (RFC 7348 5).
pub const VXLAN_OVERHEAD: u16 = 50;

/// A map whose keys the controller chooses, so that its hash is quick and need not resist anybody.
pub type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// Everything a worker needs to forward, but for the flows.
#[derive(Clone)]
pub struct Tables {
    /// The node itself; `None` until the controller has spoken.
    pub node: Option<Arc<Node>>,
    /// Pod ports by slot.
    pub ports: Arc<Ports>,
    /// Where destinations lie.
    pub routes: Arc<Routes>,
    /// Service frontends.
    pub services: Services,
    /// Ports of the node that lead to pods of it; under the unspecified address those of all its addresses.
    pub host_ports: Arc<HostPorts>,
    /// Peers, by the index that routes name.
    pub peers: Arc<Peers>,
    /// Hosts on the uplink's subnets, by the index that routes and flows name.
    pub hops: Arc<Hops>,
    /// Changes whenever a route may have changed: flows that cached an older one look again.
    pub route_generation: u32,
}

/// The node itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The node's pod-side address: the network address of its pod range.
    pub s0: Ipv4Addr,
    /// The dataplane's own address: the one after it.
    pub own: Ipv4Addr,
    /// The node's pod range.
    pub pod_cidr: Ipv4Network,
    /// Tunnel source and address of masqueraded traffic.
    pub address: Ipv4Addr,
    /// Every address of the node's kernel, S0 included.
    pub local: BTreeSet<Ipv4Addr>,
    /// MAC address of this node inside the tunnel.
    pub vtep_mac: MacAddr,
    /// UDP port of the tunnel.
    pub vxlan_port: u16,
    /// Network identifier of the tunnel.
    pub vni: Vni,
    /// MAC address of the uplink.
    pub uplink_mac: MacAddr,
    /// Largest IP packet on the uplink, bytes.
    pub uplink_mtu: u16,
    /// MAC address of the kernel's end of the host link.
    pub host_mac: MacAddr,
    /// Whether pod traffic that leaves the cluster carries the node's address.
    pub masquerade: bool,
    /// Ranges that see pod addresses: the cluster's and the configured ones.
    pub plain_ranges: Vec<Ipv4Network>,
    /// All Service addresses.
    pub service_ranges: Vec<Ipv4Network>,
    /// Source ports of translated traffic.
    pub snat_ports: SnatPorts,
    /// Addresses of the node that answer NodePorts.
    pub node_port_addresses: BTreeSet<Ipv4Addr>,
    /// Whether NodePorts and pods' host ports answer on loopback addresses, to the node itself.
    pub node_port_loopback: bool,
    /// Whether pods are masqueraded towards clusterIPs.
    pub masquerade_all: bool,
    /// Sources that count as this node's pods; empty = nobody does.
    pub local_sources: Vec<Ipv4Network>,
}

/// Ports of the node that lead to pods of it.
pub type HostPorts = Map<FrontendKey, Frontend>;

impl Node {
    /// Whether an address is the node's own.
    pub fn has(&self, address: Ipv4Addr) -> bool {
        self.local.contains(&address) || address.is_loopback()
    }

    fn answers_node_ports(&self, address: Ipv4Addr) -> bool {
        self.node_port_addresses.contains(&address) || self.node_port_loopback && address.is_loopback()
    }
}

/// Source ports of translated traffic: a range without those that a process of the node listens on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnatPorts {
    usable: Vec<u16>,
}

impl SnatPorts {
    /// The range `first..=last` without `excluded`.
    pub fn new(first: u16, last: u16, excluded: &BTreeSet<u16>) -> Self {
        Self { usable: (first..=last).filter(|p| !excluded.contains(p)).collect() }
    }

    /// The usable ports, ascending.
    pub fn usable(&self) -> &[u16] {
        &self.usable
    }
}

/// A pod's port as the pipeline sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPort {
    /// MAC address of the pod's end.
    pub mac: MacAddr,
    /// The only addresses from which it may send.
    pub addresses: Vec<Ipv4Addr>,
    /// Whether frames may be up to 64 KiB.
    pub superframes: bool,
    /// Largest IP packet when they may not, and towards the wire; bytes.
    pub path_mtu: Option<u16>,
    /// How much it may receive.
    pub ingress: Option<Arc<Bucket>>,
    /// How much it may send.
    pub egress: Option<Arc<Bucket>>,
}

/// Pod ports by slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Slots of the host link and the uplink are empty.
    pub slots: Vec<Option<PodPort>>,
    /// Whether any of them has a bandwidth limit.
    pub limited: bool,
}

impl Ports {
    /// The pod ports in these slots.
    pub fn new(slots: Vec<Option<PodPort>>) -> Self {
        let limited = slots.iter().flatten().any(|pod| pod.ingress.is_some() || pod.egress.is_some());
        Self { slots, limited }
    }

    /// The pod port in a slot.
    #[inline]
    pub fn get(&self, index: PortIndex) -> Option<&PodPort> {
        self.slots.get(usize::from(index.0))?.as_ref()
    }

    /// Takes over the buckets of a snapshot before, where pod and limit are the same: they are not full again.
    pub fn keep_buckets(&mut self, before: &Self) {
        for (slot, pod) in self.slots.iter_mut().enumerate() {
            let before = before.slots.get(slot).and_then(Option::as_ref);
            if let (Some(pod), Some(before)) = (pod, before)
                && pod.mac == before.mac
                && (&pod.ingress, &pod.egress) == (&before.ingress, &before.egress)
            {
                pod.ingress.clone_from(&before.ingress);
                pod.egress.clone_from(&before.egress);
            }
        }
    }
}

/// Index of a peer in [`Peers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerIndex(pub u16);

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where its tunnel ends.
    pub address: Ipv4Addr,
    /// All its addresses, that one included.
    pub addresses: Vec<Ipv4Addr>,
    /// Its pod ranges.
    pub pod_cidrs: Vec<Ipv4Network>,
    /// Its inner MAC address.
    pub vtep_mac: MacAddr,
    /// The next hop towards its address; `None` when no route leads there by the uplink.
    pub hop: Option<HopIndex>,
    /// Whether packets travel to it without a tunnel.
    pub direct: bool,
    /// What was carried to and from it.
    pub traffic: Traffic,
}

impl Peer {
    /// Whether the peer may be the source of an inner packet from this address.
    #[inline]
    pub fn owns(&self, address: Ipv4Addr) -> bool {
        self.pod_cidrs.iter().any(|c| c.contains(address)) || self.addresses.contains(&address)
    }
}

/// All peers, by index and by tunnel address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// In the order of their names.
    pub list: Vec<Peer>,
    /// By each of their addresses.
    pub by_address: Map<Ipv4Addr, PeerIndex>,
    /// Whether there is a path without a tunnel.
    pub any_direct: bool,
}

impl Peers {
    /// The peer with that index.
    #[inline]
    pub fn get(&self, index: PeerIndex) -> Option<&Peer> {
        self.list.get(usize::from(index.0))
    }

    /// Goes on with the counts of a snapshot before.
    pub fn keep_traffic(&mut self, before: &Self) {
        for peer in &mut self.list {
            let before = before.by_address.get(&peer.address).and_then(|index| before.get(*index));
            if let Some(before) = before.filter(|before| before.address == peer.address) {
                peer.traffic = before.traffic.clone();
            }
        }
    }

    /// The same peers with counts of their own.
    #[must_use]
    pub fn apart(&self) -> Self {
        let alone = |peer: &Peer| Peer { traffic: Traffic::default(), ..peer.clone() };
        Self { list: self.list.iter().map(alone).collect(), ..self.clone() }
    }
}

/// Index of a next hop in [`Hops`]; it keeps its meaning as long as the route generation stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HopIndex(pub u16);

/// Next hops on the uplink's subnets: address and, once known, MAC address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hops {
    list: Vec<(Ipv4Addr, Option<MacAddr>)>,
    by_address: BTreeMap<Ipv4Addr, HopIndex>,
}

impl Hops {
    /// Most next hops; further ones are refused until the table is rebuilt.
    pub const CAPACITY: usize = 16_384;

    /// The hop's address and MAC address.
    #[inline]
    pub fn get(&self, index: HopIndex) -> Option<(Ipv4Addr, Option<MacAddr>)> {
        self.list.get(usize::from(index.0)).copied()
    }

    /// The hop's index, when it is known.
    pub fn find(&self, address: Ipv4Addr) -> Option<HopIndex> {
        self.by_address.get(&address).copied()
    }

    /// The hop's index; it is added when it is new. `None` when the table is full.
    pub fn intern(&mut self, address: Ipv4Addr) -> Option<HopIndex> {
        if let Some(index) = self.find(address) {
            return Some(index);
        }
        if self.list.len() >= Self::CAPACITY {
            return None;
        }
        let index = HopIndex(self.list.len() as u16);
        self.list.push((address, None));
        self.by_address.insert(address, index);
        Some(index)
    }

    /// Records what the kernel knows of a hop.
    pub fn set_mac(&mut self, address: Ipv4Addr, mac: Option<MacAddr>) {
        if let Some(index) = self.find(address) {
            self.list[usize::from(index.0)].1 = mac;
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, Option<MacAddr>)> + '_ {
        self.list.iter().copied()
    }
}

impl Tables {
    /// Nothing is known yet: everything is dropped as not configured.
    pub fn empty(route_generation: u32) -> Self {
        Self {
            node: None,
            ports: Arc::default(),
            routes: Arc::default(),
            services: Services::beginning_at(route_generation),
            host_ports: Arc::default(),
            peers: Arc::default(),
            hops: Arc::default(),
            route_generation,
        }
    }

    /// What a destination leads to: a Service at exactly that address, else a NodePort, else a pod's host port.
    pub fn frontend(&self, node: &Node, key: FrontendKey) -> Option<&Frontend> {
        if let Some(frontend) = self.services.get(&key) {
            return Some(frontend);
        }
        if !node.has(key.address) {
            return None;
        }
        if node.answers_node_ports(key.address)
            && let Some(frontend) = self.services.get(&key.at_node())
        {
            return Some(frontend);
        }
        self.host_ports.get(&key).or_else(|| self.host_ports.get(&key.at_node()))
    }
}
