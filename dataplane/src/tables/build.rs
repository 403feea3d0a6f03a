//! From desired state and kernel facts to tables: pure, off the hot path.

mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use headrace_api::state::{self, Encapsulation, PortId, Settings};
use headrace_wire::ethernet::MacAddr;
use ipnetwork::{IpNetwork, Ipv4Network};

use super::routes::{Route, Routes};
use super::services::Services;
use super::{
    Bucket, HopIndex, Hops, Node, POD_GATEWAY, Peer, PeerIndex, Peers, PodPort, Ports, SnatPorts, Tables,
    Traffic,
};
use crate::port::PortIndex;

pub use service::{changed_service, frontend_keys, service};

/// What the kernel says of this node, kept up to date from rtnetlink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelFacts {
    /// MAC address of the uplink.
    pub uplink_mac: MacAddr,
    /// MTU of the uplink, bytes.
    pub uplink_mtu: u16,
    /// MAC address of the kernel's end of the host link.
    pub host_mac: MacAddr,
    /// Every IPv4 address of the node.
    pub local: BTreeSet<Ipv4Addr>,
    /// Main-table routes whose device is the uplink: gateway, or `None` for subnets.
    pub routes: BTreeMap<Ipv4Network, Option<Ipv4Addr>>,
    /// Neighbours on the uplink whose MAC address is known.
    pub neighbors: BTreeMap<Ipv4Addr, MacAddr>,
    /// Ports of the translation range that a process of the node listens on.
    pub listening: BTreeSet<u16>,
}

impl KernelFacts {
    /// The next hop on the uplink towards an address.
    pub fn next_hop(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let longest =
            self.routes.iter().filter(|(p, _)| p.contains(address)).max_by_key(|(p, _)| p.prefix())?;
        Some(longest.1.unwrap_or(address))
    }

    /// Whether an address lies on a subnet of the uplink.
    pub fn on_link(&self, address: Ipv4Addr) -> bool {
        self.next_hop(address) == Some(address)
    }
}

/// The part of the desired state that tables of one route generation depend on.
pub struct Wanted<'a> {
    /// The node itself.
    pub settings: &'a Settings,
    /// Open pod ports and their slots.
    pub ports: &'a BTreeMap<PortId, (PortIndex, state::Port)>,
    /// Other nodes, by name.
    pub peers: &'a BTreeMap<String, state::Peer>,
    /// Hosts on the uplink's subnets that packets wanted to reach.
    pub asked: &'a BTreeSet<Ipv4Addr>,
}

/// Builds everything but the Services, which are taken over as they are.
///
/// The caller gives a new route generation whenever the outcome differs from the snapshot before in more than MAC
/// addresses of next hops.
pub fn tables(wanted: &Wanted<'_>, facts: &KernelFacts, services: Services, route_generation: u32) -> Tables {
    let mut hops = Hops::default();
    let peers = peers(wanted, facts, &mut hops);
    for address in facts.routes.values().flatten().chain(wanted.asked) {
        hops.intern(*address);
    }
    for (address, mac) in &facts.neighbors {
        hops.set_mac(*address, Some(*mac));
    }
    let node = node(wanted.settings, facts);
    let routes = node.as_ref().map(|n| routes(n, wanted, facts, &peers)).unwrap_or_default();
    Tables {
        node: node.map(Arc::new),
        ports: Arc::new(ports(wanted.ports)),
        routes: Arc::new(routes),
        services,
        host_ports: Arc::new(service::host_ports(wanted.ports.values().map(|(_, port)| port))),
        peers: Arc::new(peers),
        hops: Arc::new(hops),
        route_generation,
    }
}

fn node(settings: &Settings, facts: &KernelFacts) -> Option<Node> {
    let address = settings.node_addresses.iter().find_map(|a| v4(*a))?;
    let pod_cidr = v4_ranges(&settings.pod_cidrs).next()?;
    let s0 = pod_cidr.network();
    let mut local = facts.local.clone();
    local.extend(settings.node_addresses.iter().filter_map(|a| v4(*a)));
    local.insert(s0);
    let (first, last) = (*settings.snat_ports.start(), *settings.snat_ports.end());
    Some(Node {
        s0,
        own: own_address(pod_cidr),
        pod_cidr,
        address,
        vtep_mac: settings.vtep_mac,
        vxlan_port: settings.vxlan_port.get(),
        vni: settings.vni,
        uplink_mac: facts.uplink_mac,
        uplink_mtu: facts.uplink_mtu,
        host_mac: facts.host_mac,
        masquerade: settings.masquerade,
        plain_ranges: v4_ranges(&settings.cluster_cidrs)
            .chain(v4_ranges(&settings.non_masquerade_cidrs))
            .collect(),
        service_ranges: v4_ranges(&settings.service_cidrs).collect(),
        snat_ports: SnatPorts::new(first, last, &facts.listening),
        node_port_addresses: node_port_addresses(settings, &local),
        node_port_loopback: settings.node_port_loopback,
        masquerade_all: settings.masquerade_all,
        local_sources: v4_ranges(&settings.local_sources).collect(),
        local,
    })
}

/// Loopback addresses answer NodePorts only by a setting of their own.
fn node_port_addresses(settings: &Settings, local: &BTreeSet<Ipv4Addr>) -> BTreeSet<Ipv4Addr> {
    let ranges: Vec<_> = v4_ranges(&settings.node_port_ranges).collect();
    let answers =
        |address: &&Ipv4Addr| !address.is_loopback() && ranges.iter().any(|r| r.contains(**address));
    local.iter().filter(answers).copied().collect()
}

fn peers(wanted: &Wanted<'_>, facts: &KernelFacts, hops: &mut Hops) -> Peers {
    let mut peers = Peers::default();
    for peer in wanted.peers.values() {
        let Some(address) = v4(peer.address) else { continue };
        let hop: Option<HopIndex> = facts.next_hop(address).and_then(|hop| hops.intern(hop));
        let index = PeerIndex(peers.list.len() as u16);
        let mut addresses = vec![address];
        addresses.extend(peer.other_addresses.iter().filter_map(|a| v4(*a)));
        // It may send from another address than the one that its tunnel ends at: flannel's device keeps the node's own
        // when its operator has another one published.
        for other in &addresses[1..] {
            peers.by_address.entry(*other).or_insert(index);
        }
        peers.by_address.insert(address, index);
        peers.list.push(Peer {
            address,
            addresses,
            pod_cidrs: v4_ranges(&peer.pod_cidrs).collect(),
            vtep_mac: peer.vtep_mac,
            hop,
            direct: wanted.settings.encapsulation == Encapsulation::Direct && facts.on_link(address),
            traffic: Traffic::default(),
        });
    }
    peers.any_direct = peers.list.iter().any(|peer| peer.direct);
    peers
}

fn ports(wanted: &BTreeMap<PortId, (PortIndex, state::Port)>) -> Ports {
    let slots = wanted.values().map(|(index, _)| usize::from(index.0) + 1).max().unwrap_or(0);
    let mut ports = vec![None; slots];
    for (index, port) in wanted.values() {
        ports[usize::from(index.0)] = Some(PodPort {
            mac: port.mac,
            addresses: port.addresses.iter().filter_map(|a| v4(*a)).collect(),
            superframes: port.superframes,
            path_mtu: port.path_mtu,
            ingress: port.bandwidth.ingress.map(|limit| Arc::new(Bucket::new(limit))),
            egress: port.bandwidth.egress.map(|limit| Arc::new(Bucket::new(limit))),
        });
    }
    Ports::new(ports)
}

fn routes(node: &Node, wanted: &Wanted<'_>, facts: &KernelFacts, peers: &Peers) -> Routes {
    let mut routes = Routes::default();
    for (prefix, gateway) in &facts.routes {
        routes.add_prefix(*prefix, Route::Outside(*gateway));
    }
    // Addresses of the cluster that nobody holds go nowhere, not to the default gateway.
    for range in node.plain_ranges.iter().filter(|r| is_cluster(wanted.settings, r)) {
        routes.add_prefix(*range, Route::None);
    }
    for range in &node.service_ranges {
        routes.add_prefix(*range, Route::None);
    }
    for (index, peer) in peers.list.iter().enumerate() {
        let route = Route::Peer(PeerIndex(index as u16));
        for cidr in &peer.pod_cidrs {
            routes.add_prefix(*cidr, route);
        }
        for address in &peer.addresses {
            routes.add_address(*address, route);
        }
    }
    routes.add_prefix(node.pod_cidr, Route::None);
    for address in &node.local {
        routes.add_address(*address, Route::Host);
    }
    routes.add_prefix(LOOPBACK, Route::Host);
    for address in [POD_GATEWAY, node.own] {
        routes.add_address(address, Route::Own);
    }
    for (index, port) in wanted.ports.values() {
        for address in port.addresses.iter().filter_map(|a| v4(*a)) {
            routes.add_address(address, Route::Pod(*index));
        }
    }
    routes
}

/// Only the node itself may be reached by these, from itself (RFC 1122 3.2.1.3); ingress sees to it.
const LOOPBACK: Ipv4Network = Ipv4Network::new_checked(Ipv4Addr::new(127, 0, 0, 0), 8).unwrap();

fn is_cluster(settings: &Settings, range: &Ipv4Network) -> bool {
    settings.cluster_cidrs.contains(&IpNetwork::V4(*range))
}

/// The dataplane's own address of a pod range: the one after the network address.
pub fn own_address(pod_cidr: Ipv4Network) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(pod_cidr.network()) + 1)
}

/// An IPv4 address as one.
pub(crate) fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(a) => Some(a),
        IpAddr::V6(_) => None,
    }
}

fn v4_ranges(ranges: &[IpNetwork]) -> impl Iterator<Item = Ipv4Network> + '_ {
    ranges.iter().filter_map(|r| match r {
        IpNetwork::V4(r) => Some(*r),
        IpNetwork::V6(_) => None,
    })
}

#[cfg(test)]
mod tests;
