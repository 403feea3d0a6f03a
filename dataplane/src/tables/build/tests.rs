use std::num::NonZeroU16;

use headrace_api::state::{Bandwidth, Endpoint, Frontend, Peer, Port, Protocol};
use headrace_wire::vxlan::Vni;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::tables::services::FrontendKey;

/// A cluster, small enough that its parts overlap.
#[derive(Clone, Debug)]
struct Cluster {
    settings: Settings,
    ports: BTreeMap<PortId, (PortIndex, Port)>,
    peers: BTreeMap<String, Peer>,
    facts: KernelFacts,
    asked: BTreeSet<Ipv4Addr>,
}

impl Cluster {
    fn tables(&self) -> Tables {
        let Self { settings, ports, peers, facts, asked } = self;
        tables(&Wanted { settings, ports, peers, asked }, facts, Services::default(), 3)
    }
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    (0u8..4, 0u8..8).prop_map(|(third, last)| Ipv4Addr::new(10, 0, third, last))
}

fn prefix(lengths: std::ops::RangeInclusive<u8>) -> impl Strategy<Value = Ipv4Network> {
    (address(), lengths).prop_map(|(address, length)| {
        let network = Ipv4Network::new(address, length).unwrap();
        Ipv4Network::new(network.network(), length).unwrap()
    })
}

fn v6() -> IpAddr {
    "2001:db8::1".parse().unwrap()
}

fn settings() -> impl Strategy<Value = Settings> {
    let ranges = || vec(prefix(8..=30).prop_map(IpNetwork::V4), 0..3);
    (vec(address(), 1..3), prefix(24..=30), ranges(), ranges(), any::<bool>()).prop_map(
        |(nodes, pod_cidr, cluster_cidrs, service_cidrs, direct)| Settings {
            node_addresses: [v6()].into_iter().chain(nodes.into_iter().map(IpAddr::V4)).collect(),
            pod_cidrs: vec!["2001:db8::/64".parse().unwrap(), pod_cidr.into()],
            cluster_cidrs,
            service_cidrs,
            vxlan_port: NonZeroU16::new(8472).unwrap(),
            vni: Vni::new(1).unwrap(),
            vtep_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            encapsulation: if direct { Encapsulation::Direct } else { Encapsulation::Vxlan },
            masquerade: true,
            non_masquerade_cidrs: vec!["172.16.0.0/12".parse().unwrap()],
            snat_ports: 2000..=2010,
            node_port_ranges: Vec::new(),
            node_port_loopback: false,
            masquerade_all: false,
            local_sources: Vec::new(),
        },
    )
}

fn port(slot: u16, address: Ipv4Addr) -> (PortId, (PortIndex, Port)) {
    let id = PortId::new(u32::from(slot) + 1).unwrap();
    let port = Port {
        id,
        interface: format!("hr{slot}"),
        mac: MacAddr([2, 0, 0, 0, 1, slot as u8]),
        addresses: vec![v6(), address.into()],
        path_mtu: Some(1300 + slot),
        superframes: slot.is_multiple_of(2),
        label: String::new(),
        host_ports: Vec::new(),
        bandwidth: Bandwidth::default(),
    };
    (id, (PortIndex(slot + 2), port))
}

fn peer() -> impl Strategy<Value = Peer> {
    (address(), vec(address(), 0..2), vec(prefix(22..=30), 0..3)).prop_map(|(address, others, cidrs)| Peer {
        name: String::new(),
        address: address.into(),
        other_addresses: others.into_iter().map(IpAddr::V4).collect(),
        pod_cidrs: cidrs.into_iter().map(IpNetwork::V4).collect(),
        vtep_mac: MacAddr([2, 0, 0, 0, 2, 0]),
    })
}

fn facts() -> impl Strategy<Value = KernelFacts> {
    let route = (prefix(0..=30), proptest::option::of(address()));
    let neighbor = (address(), any::<u8>().prop_map(|last| MacAddr([2, 0, 0, 0, 9, last])));
    (vec(address(), 0..3), vec(route, 0..5), vec(neighbor, 0..6)).prop_map(|(local, routes, neighbors)| {
        KernelFacts {
            uplink_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            uplink_mtu: 1500,
            host_mac: MacAddr([2, 0, 0, 0, 0, 3]),
            local: local.into_iter().collect(),
            routes: routes.into_iter().collect(),
            neighbors: neighbors.into_iter().collect(),
            listening: BTreeSet::from([2003]),
        }
    })
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let peers = btree_map("[a-z]{1,3}", peer(), 0..4);
    (settings(), btree_map(address(), 0u16..6, 0..5), peers, facts(), vec(address(), 0..3)).prop_map(
        |(settings, pods, peers, facts, asked)| Cluster {
            settings,
            ports: pods.into_iter().map(|(address, slot)| port(slot, address)).collect(),
            peers,
            facts,
            asked: asked.into_iter().collect(),
        },
    )
}

/// Where an address goes, found by looking at everything there is.
fn oracle(cluster: &Cluster, to: Ipv4Addr) -> Route {
    let settings = &cluster.settings;
    let pod_cidr = v4_ranges(&settings.pod_cidrs).next().unwrap();
    let peers = || cluster.peers.values().enumerate();
    let peer = |index: usize| Route::Peer(PeerIndex(index as u16));
    if let Some((index, _)) = cluster.ports.values().rfind(|(_, port)| port.addresses.contains(&to.into())) {
        return Route::Pod(*index);
    }
    if to.is_loopback() {
        return Route::Host;
    }
    if to == POD_GATEWAY || u32::from(to) == u32::from(pod_cidr.network()) + 1 {
        return Route::Own;
    }
    let is_local = cluster.facts.local.contains(&to) || settings.node_addresses.contains(&to.into());
    if is_local || to == pod_cidr.network() {
        return Route::Host;
    }
    let of_peer = |p: &Peer| p.address == IpAddr::V4(to) || p.other_addresses.contains(&to.into());
    if let Some((index, _)) = peers().rfind(|(_, p)| of_peer(p)) {
        return peer(index);
    }
    // Of equally long ranges the later kind counts, and of one kind the later one.
    let mut ranges: Vec<(Ipv4Network, Route)> = Vec::new();
    ranges.extend(cluster.facts.routes.iter().map(|(prefix, via)| (*prefix, Route::Outside(*via))));
    ranges.extend(v4_ranges(&settings.cluster_cidrs).map(|range| (range, Route::None)));
    ranges.extend(v4_ranges(&settings.service_cidrs).map(|range| (range, Route::None)));
    for (index, p) in peers() {
        ranges.extend(v4_ranges(&p.pod_cidrs).map(|range| (range, peer(index))));
    }
    ranges.push((pod_cidr, Route::None));
    let holding = ranges.into_iter().filter(|(range, _)| range.contains(to));
    holding.max_by_key(|(range, _)| range.prefix()).map_or(Route::None, |(_, route)| route)
}

proptest! {
    #[test]
    fn destinations_lie_where_a_look_at_everything_says(cluster in cluster(), outside in any::<u32>()) {
        let tables = cluster.tables();
        let near = (0..4u8).flat_map(|third| (0..=255u8).map(move |last| Ipv4Addr::new(10, 0, third, last)));
        for to in near.chain([outside.into(), POD_GATEWAY, Ipv4Addr::new(10, 1, 0, 0)]) {
            prop_assert_eq!(tables.routes.lookup(to), oracle(&cluster, to), "to {}", to);
        }
    }

    #[test]
    fn peers_are_reached_by_their_next_hop(cluster in cluster()) {
        let tables = cluster.tables();
        prop_assert_eq!(tables.peers.list.len(), cluster.peers.len());
        for (built, wanted) in tables.peers.list.iter().zip(cluster.peers.values()) {
            prop_assert_eq!(IpAddr::V4(built.address), wanted.address);
            let routes = cluster.facts.routes.iter().filter(|(prefix, _)| prefix.contains(built.address));
            let longest = routes.max_by_key(|(prefix, _)| prefix.prefix());
            let hop = longest.map(|(_, via)| via.unwrap_or(built.address));
            prop_assert_eq!(built.hop.map(|hop| tables.hops.get(hop).unwrap().0), hop);
            let direct = cluster.settings.encapsulation == Encapsulation::Direct;
            prop_assert_eq!(built.direct, direct && hop == Some(built.address));
            let index = tables.peers.by_address[&built.address];
            prop_assert_eq!(tables.peers.get(index).unwrap().address, built.address);
            for other in &wanted.other_addresses {
                let peer = v4(*other).and_then(|other| tables.peers.get(*tables.peers.by_address.get(&other)?));
                prop_assert!(peer.is_some_and(|peer| peer.addresses.iter().any(|a| IpAddr::V4(*a) == *other)));
            }
        }
    }

    #[test]
    fn next_hops_have_the_kernels_mac_addresses(cluster in cluster()) {
        let tables = cluster.tables();
        for (address, mac) in tables.hops.iter() {
            prop_assert_eq!(mac, cluster.facts.neighbors.get(&address).copied());
            let index = tables.hops.find(address).unwrap();
            prop_assert_eq!(tables.hops.get(index), Some((address, mac)));
        }
        let gateways = cluster.facts.routes.values().flatten();
        for address in gateways.chain(&cluster.asked) {
            prop_assert!(tables.hops.find(*address).is_some(), "{} is no next hop", address);
        }
    }

    #[test]
    fn the_node_and_its_ports_are_what_was_asked_for(cluster in cluster()) {
        let tables = cluster.tables();
        let node = tables.node.as_deref().unwrap();
        prop_assert_eq!(IpAddr::V4(node.address), cluster.settings.node_addresses[1]);
        prop_assert_eq!((node.s0, u32::from(node.own)), (node.pod_cidr.network(), u32::from(node.s0) + 1));
        prop_assert!(node.local.contains(&node.s0) && node.local.contains(&node.address));
        prop_assert_eq!(node.snat_ports.usable(), [2000, 2001, 2002, 2004, 2005, 2006, 2007, 2008, 2009, 2010]);
        for (index, wanted) in cluster.ports.values() {
            let built = tables.ports.get(*index).unwrap();
            let addresses: Vec<_> = built.addresses.iter().map(|a| IpAddr::V4(*a)).collect();
            prop_assert_eq!(&addresses[..], &wanted.addresses[1..]);
            prop_assert_eq!((built.mac, built.superframes, built.path_mtu), (wanted.mac, wanted.superframes, wanted.path_mtu));
        }
        let slots = tables.ports.slots.iter().flatten().count();
        prop_assert_eq!(slots, cluster.ports.len());
        prop_assert!(tables.ports.get(PortIndex::HOST).is_none() && tables.ports.get(PortIndex::UPLINK).is_none());
    }
}

#[test]
fn a_service_has_its_ipv4_frontends_and_endpoints() {
    let port = |number| NonZeroU16::new(number).unwrap();
    let frontend = |address: &str| Frontend::cluster_ip(address.parse().unwrap(), port(53), Protocol::Udp);
    let endpoint = |address: &str| Endpoint::ready(address.parse().unwrap(), port(5353));
    let wanted = state::Service::new(
        "kube-system/dns:dns",
        vec![frontend("10.96.0.10"), frontend("2001:db8::10")],
        vec![endpoint("2001:db8::5"), endpoint("10.1.0.5"), endpoint("10.2.0.5")],
    );
    let built = service(&wanted);
    assert_eq!(built.len(), 1);
    let key = FrontendKey { address: Ipv4Addr::new(10, 96, 0, 10), port: 53, protocol: 17 };
    assert_eq!((built[0].0, frontend_keys(&wanted)), (key, vec![key]));
    let endpoints = [(Ipv4Addr::new(10, 1, 0, 5), 5353), (Ipv4Addr::new(10, 2, 0, 5), 5353)];
    assert_eq!(*built[0].1.service.cluster, endpoints);
    let only_v6 = state::Service { frontends: vec![frontend("2001:db8::10")], ..wanted };
    assert_eq!(service(&only_v6), []);
}

#[test]
fn without_an_ipv4_pod_range_nothing_is_forwarded() {
    let cluster = Cluster {
        settings: Settings {
            node_addresses: vec!["192.0.2.1".parse().unwrap()],
            pod_cidrs: vec!["2001:db8::/64".parse().unwrap()],
            cluster_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            vxlan_port: NonZeroU16::new(8472).unwrap(),
            vni: Vni::new(1).unwrap(),
            vtep_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            encapsulation: Encapsulation::Vxlan,
            masquerade: true,
            non_masquerade_cidrs: Vec::new(),
            snat_ports: 2000..=2010,
            node_port_ranges: Vec::new(),
            node_port_loopback: false,
            masquerade_all: false,
            local_sources: Vec::new(),
        },
        ports: BTreeMap::new(),
        peers: BTreeMap::new(),
        facts: KernelFacts::default(),
        asked: BTreeSet::new(),
    };
    assert!(cluster.tables().node.is_none());
}
