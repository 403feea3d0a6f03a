//! When the route generation moves, and that Services published bit by bit equal those built at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use arc_swap::ArcSwap;
use headrace_api::state::{
    Change, Encapsulation, Endpoint, Frontend, Peer, Protocol, Resource, Service, Settings,
};
use headrace_flowmap::{FlowMap, Geometry};
use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::Vni;
use proptest::prelude::*;

use super::super::desired::Desired;
use super::*;
use crate::flows::{Affinity, Choice, Flows};
use crate::tables::Service as Service_;

fn publisher() -> Publisher {
    let map = || FlowMap::anonymous(&Geometry { capacity: 16, content_version: 0 }).unwrap();
    let (asked, _) = crossbeam::channel::bounded(1);
    let tables = Arc::new(ArcSwap::from_pointee(Tables::empty(u32::MAX)));
    Publisher::new(Arc::new(Shared { tables, flows: Flows::new(map(), Affinity::new(map())), asked }))
}

fn settings() -> Settings {
    Settings {
        node_addresses: vec!["10.0.0.2".parse().unwrap()],
        pod_cidrs: vec!["10.42.1.0/24".parse().unwrap()],
        cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
        service_cidrs: vec![],
        vxlan_port: 8472.try_into().unwrap(),
        vni: Vni::new(1).unwrap(),
        vtep_mac: MacAddr([2; 6]),
        encapsulation: Encapsulation::Vxlan,
        masquerade: true,
        non_masquerade_cidrs: vec![],
        snat_ports: 20000..=20009,
        node_port_ranges: Vec::new(),
        node_port_loopback: false,
        masquerade_all: false,
        local_sources: Vec::new(),
    }
}

fn facts() -> KernelFacts {
    KernelFacts {
        uplink_mtu: 1500,
        routes: [("10.0.0.0/24".parse().unwrap(), None)].into(),
        ..KernelFacts::default()
    }
}

fn peer(n: u8) -> (String, Peer) {
    let name = format!("n{n}");
    let peer = Peer {
        name: name.clone(),
        address: Ipv4Addr::new(10, 0, 0, n).into(),
        other_addresses: vec![],
        pod_cidrs: vec![format!("10.42.{n}.0/24").parse().unwrap()],
        vtep_mac: MacAddr([2; 6]),
    };
    (name, peer)
}

/// Publishes with these peers and hosts; returns the generation then.
fn publish(p: &Publisher, peers: &[u8], asked: &[u8], facts: &KernelFacts) -> u32 {
    let settings = settings();
    let peers: BTreeMap<_, _> = peers.iter().map(|n| peer(*n)).collect();
    let asked: BTreeSet<_> = asked.iter().map(|n| Ipv4Addr::new(10, 0, 0, *n)).collect();
    let wanted = Wanted { settings: &settings, ports: &BTreeMap::new(), peers: &peers, asked: &asked };
    p.rest(Some(&wanted), facts);
    p.shared.tables.load().route_generation
}

#[test]
fn former_tables_are_freed_by_the_publisher_alone_and_soon() {
    let p = publisher();
    let worker = p.shared.tables.load_full();
    let first = Arc::downgrade(&worker);
    publish(&p, &[3], &[], &facts());
    publish(&p, &[3, 4], &[], &facts());
    p.free_former();
    assert_eq!(p.former.borrow().len(), 1, "the second was nobody's");
    drop(worker);
    assert!(first.upgrade().is_some(), "the worker has freed it");
    p.free_former();
    assert!(first.upgrade().is_none());
}

#[test]
fn the_generation_moves_with_routes_and_not_with_mac_addresses() {
    let p = publisher();
    let first = publish(&p, &[3], &[], &facts());
    assert_eq!(first, 0, "it wraps around");
    let published = p.shared.tables.load_full();
    assert_eq!(publish(&p, &[3], &[], &facts()), first);
    assert!(Arc::ptr_eq(&published, &p.shared.tables.load()), "nothing changed, nothing is published");

    let mut known = facts();
    known.neighbors.insert(Ipv4Addr::new(10, 0, 0, 3), MacAddr([6; 6]));
    assert_eq!(publish(&p, &[3], &[], &known), first);
    let tables = p.shared.tables.load_full();
    assert_eq!(tables.hops.iter().next(), Some((Ipv4Addr::new(10, 0, 0, 3), Some(MacAddr([6; 6])))));
    assert!(Arc::ptr_eq(&published.routes, &tables.routes), "what is equal is shared");

    assert_eq!(publish(&p, &[3], &[9], &known), first, "a next hop behind the others");
    assert_eq!(publish(&p, &[3], &[8, 9], &known), first + 1, "a next hop in front of another");
    assert_eq!(publish(&p, &[3, 4], &[8, 9], &known), first + 2);
    known.uplink_mtu = 9000;
    assert_eq!(publish(&p, &[3, 4], &[8, 9], &known), first + 3);
    p.rest(None, &known);
    assert!(p.shared.tables.load().node.is_none());
}

fn service(name: u8, frontends: &[u8], endpoints: u8) -> Resource {
    let address = |n: u8| Ipv4Addr::new(10, 96, 0, n).into();
    let port = 80.try_into().unwrap();
    let frontend = |n: &u8| Frontend::cluster_ip(address(*n), port, Protocol::Udp);
    let endpoint = |n: u8| Endpoint::ready(address(100 + n), port);
    let (frontends, endpoints) = (frontends.iter().map(frontend), (0..endpoints).map(endpoint));
    Resource::Service(Service::new(format!("s{name}"), frontends.collect(), endpoints.collect()))
}

fn key(n: u8) -> FrontendKey {
    FrontendKey { address: Ipv4Addr::new(10, 96, 0, n), port: 80, protocol: 17 }
}

#[test]
fn clients_forget_an_endpoint_that_goes_and_comes_back() {
    let p = publisher();
    let mut desired = Desired::default();
    let mut publish = |endpoints| {
        let Resource::Service(service) = service(1, &[1], endpoints) else { unreachable!("it is one") };
        let service = Service { affinity_seconds: 600.try_into().ok(), ..service };
        p.services(&desired.apply(Change::Snapshot(vec![Resource::Service(service)])).unwrap().services);
        p.shared.tables.load().services.get(&key(1)).unwrap().service.clone()
    };
    let stick = |usable: &Service_, chosen: usize| {
        let client = Ipv4Addr::new(10, 42, 1, 7);
        let chosen = usable.cluster[chosen];
        let choice = Choice { service: usable.id, client, timeout: 600, usable: &usable.cluster, chosen };
        p.shared.flows.affinity().stick(&choice, 1000)
    };
    let both = publish(2);
    assert_eq!([stick(&both, 1), stick(&both, 0)], [both.cluster[1]; 2]);
    publish(1);
    let both = publish(2);
    assert_eq!(stick(&both, 0), both.cluster[0], "chosen anew");
    assert_eq!(stick(&both, 1), both.cluster[0]);
}

#[test]
fn counts_go_on_while_what_they_count_is_there() {
    let p = publisher();
    let mut desired = Desired::default();
    let mut publish_service = |endpoints| {
        p.services(&desired.apply(Change::Snapshot(vec![service(1, &[1], endpoints)])).unwrap().services);
        p.shared.tables.load().services.get(&key(1)).unwrap().service.hits.clone()
    };
    let endpoint = |n: u8| (Ipv4Addr::new(10, 96, 0, 100 + n), 80);
    let first = publish_service(2);
    (0..2).for_each(|n| first.add(endpoint(n)));
    publish_service(1).add(endpoint(0));
    let last = publish_service(2);
    let counts = [last.all(), last.of_endpoint(endpoint(0)), last.of_endpoint(endpoint(1))];
    assert_eq!(counts, [3, 2, 0], "an endpoint that was gone begins anew, its Service does not");

    let traffic = || {
        let peers = p.shared.tables.load().peers.clone();
        peers.get(peers.by_address[&Ipv4Addr::new(10, 0, 0, 4)]).unwrap().traffic.clone()
    };
    publish(&p, &[4], &[], &facts());
    traffic().tx_bytes.add(7);
    publish(&p, &[3, 4], &[], &facts());
    assert_eq!(traffic().tx_bytes.get(), 7);
    publish(&p, &[3], &[], &facts());
    publish(&p, &[4], &[], &facts());
    assert_eq!(traffic().tx_bytes.get(), 0);
}

proptest! {
    #[test]
    fn services_changed_bit_by_bit_equal_those_built_at_once(
        steps in prop::collection::vec(
            prop::collection::vec((0u8..4, prop::collection::vec(0u8..6, 1..3), 0u8..3), 0..5), 1..12)
    ) {
        let p = publisher();
        let mut desired = Desired::default();
        for step in steps {
            let change = Change::Snapshot(step.iter().map(|(n, f, e)| service(*n, f, *e)).collect());
            let Ok(diff) = desired.apply(change) else { continue };
            let before = p.shared.tables.load().services.generation();
            p.services(&diff.services);
            let services = p.shared.tables.load().services.clone();
            prop_assert_eq!(services.generation() != before, !diff.is_empty());
            for n in 0..6 {
                let wanted = desired.services().find(|s| s.frontends.iter().any(|f| f.address.ip() == Some(key(n).address.into())));
                let built = wanted.map(|s| build::service(s)).unwrap_or_default();
                let built = built.iter().find(|(at, _)| *at == key(n)).map(|(_, frontend)| frontend);
                prop_assert_eq!(services.get(&key(n)), built);
            }
        }
    }
}
