//! Which flows may take the shortcut: one that may, and every way to spoil it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use headrace_api::state::{self, RateLimit};
use headrace_flowmap::{FlowMap, Geometry};
use headrace_wire::nat::Rewrite;

use super::super::Place;
use super::*;
use crate::control::observe::test_node::{A, B, tables};
use crate::flows::{Affinity, Connection, Kind, Seen, SourcePorts};
use crate::random::Random;
use crate::stats::Hot;
use crate::tables::build;
use crate::tables::limit::Bucket;
use crate::tables::routes::Out;

const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 10);
const ENDS: [PortIndex; 2] = [PortIndex(2), PortIndex(3)];

/// Everything that a passage depends on.
struct Scene {
    flows: Flows,
    tables: Tables,
    places: Places,
}

impl Scene {
    fn new() -> Self {
        let map = || FlowMap::anonymous(&Geometry { capacity: 64, content_version: 0 }).unwrap();
        let place = |index: PortIndex| Place { ifindex: 100 + u32::from(index.0), counters: Arc::default() };
        let places = ENDS.map(|index| (index, place(index))).into();
        Self { flows: Flows::new(map(), Affinity::new(map())), tables: tables(), places }
    }

    /// A connection of which `seen` shows in each direction.
    fn connect(&self, key: &FlowKey, rewrite: Rewrite, seen: [Seen; 2]) {
        let connection = Connection {
            key: *key,
            rewrite,
            source_ports: SourcePorts::OwnOrAny,
            out: Out::Pod(ENDS[1]),
            route_generation: 1,
            service: None,
            service_generation: 0,
            seen: seen[0],
        };
        let flow = self.flows.connect(&connection, 5, &mut Random::with_seed(1), &Hot::default()).unwrap();
        let reply = flow.partner_key(key);
        let mut flow = self.flows.peek(&reply).unwrap();
        self.flows.saw(&reply, &mut flow, seen[1]);
    }

    fn passage(&self, key: &FlowKey) -> Option<Passage> {
        passage(key, &self.flows, &self.tables, &self.places)
    }

    fn ports(&mut self, change: impl Fn(&mut PodPort), port: usize) {
        let ports = Arc::make_mut(&mut self.tables.ports);
        change(ports.slots[usize::from(ENDS[port].0)].as_mut().unwrap());
    }
}

fn key(src: Ipv4Addr, dst: Ipv4Addr, protocol: Protocol) -> FlowKey {
    let tuple = Rewrite { src, dst, src_port: 4000, dst_port: 80 };
    FlowKey { tuple, protocol, kind: Kind::Ports }
}

const BOTH: [Seen; 2] = [Seen::SYN.and(Seen::DATA), Seen::DATA];

/// A scene with one established connection between the pods, spoiled or not.
fn judged(spoil: impl Fn(&mut Scene)) -> [Option<Passage>; 2] {
    let key = key(A, B, Protocol::TCP);
    let mut scene = Scene::new();
    scene.connect(&key, key.tuple, BOTH);
    spoil(&mut scene);
    let reply = FlowKey { tuple: key.tuple.reversed(), ..key };
    [scene.passage(&key), scene.passage(&reply)]
}

#[test]
fn an_established_connection_between_two_pods_may_in_both_directions() {
    let [there, back] = judged(|_| ()).map(|passage| passage.unwrap());
    assert_eq!((there.from, there.to), (ENDS[0], ENDS[1]));
    let expected = WayKey {
        ifindex: 102,
        source: A,
        destination: B,
        source_port: 4000,
        destination_port: 80,
        protocol: 6,
    };
    assert_eq!(there.key, expected);
    assert_eq!((there.way.device, there.way.destination_mac), (103, [2, 0, 0, 1, 0, 3]));
    assert_eq!((back.key.ifindex, back.way.device), (103, 102));
    assert_eq!((back.key.source, back.key.destination_port, back.way.routes), (B, 4000, 1));
}

#[test]
fn what_ends_may_not() {
    for seen in [Seen::FIN, Seen::RST, Seen::WAS_RESET] {
        for both in [[BOTH[0].and(seen), BOTH[1]], [BOTH[0], BOTH[1].and(seen)]] {
            let scene = Scene::new();
            let key = key(A, B, Protocol::TCP);
            scene.connect(&key, key.tuple, both);
            assert_eq!(scene.passage(&key), None, "{seen:?}");
        }
    }
    for early in [[Seen::SYN, Seen::NOTHING], [Seen::SYN, Seen::SYN], [BOTH[0], Seen::SYN]] {
        let scene = Scene::new();
        let key = key(A, B, Protocol::TCP);
        scene.connect(&key, key.tuple, early);
        assert_eq!(scene.passage(&key), None, "{early:?}");
    }
}

#[test]
fn what_is_translated_or_leaves_the_node_may_not() {
    let scene = Scene::new();
    let to_service = key(A, Ipv4Addr::new(10, 96, 0, 1), Protocol::TCP);
    scene.connect(&to_service, Rewrite { dst: B, ..to_service.tuple }, BOTH);
    assert_eq!(scene.passage(&to_service), None);
    for (src, dst) in [(A, HOST), (HOST, A), (A, Ipv4Addr::new(10, 1, 0, 9)), (A, Ipv4Addr::new(9, 9, 9, 9))]
    {
        let key = key(src, dst, Protocol::TCP);
        scene.connect(&key, key.tuple, BOTH);
        assert_eq!(scene.passage(&key), None, "{src} to {dst}");
    }
    let echo = key(A, B, Protocol::ICMP);
    scene.connect(&echo, echo.tuple, BOTH);
    assert_eq!(scene.passage(&echo), None);
    let unknown = key(B, A, Protocol::TCP);
    assert_eq!(scene.passage(&unknown), None);
}

type Spoiler = fn(&mut PodPort, RateLimit);

#[test]
fn ports_that_workers_have_to_serve_may_not() {
    let limit = RateLimit { rate: 1_000_000.try_into().unwrap(), burst: None };
    for (port, index) in ENDS.into_iter().enumerate() {
        let spoilers: [(&str, Spoiler); 3] = [
            ("ingress", |pod, limit| pod.ingress = Some(Arc::new(Bucket::new(limit)))),
            ("egress", |pod, limit| pod.egress = Some(Arc::new(Bucket::new(limit)))),
            ("plain frames", |pod, _| pod.superframes = false),
        ];
        for (what, spoil) in spoilers {
            let spoiled = judged(|scene| scene.ports(|pod| spoil(pod, limit), port));
            assert_eq!(spoiled, [None, None], "{what} of port {port}");
        }
        assert_eq!(judged(|scene| drop(scene.places.remove(&index))), [None, None]);
    }
    let other_owner = judged(|scene| scene.ports(|pod| pod.addresses.clear(), 0));
    assert!(other_owner[0].is_none(), "from a port that does not own the source");
}

#[test]
fn udp_to_a_service_may_not() {
    let key = key(A, B, Protocol::UDP);
    let mut scene = Scene::new();
    scene.connect(&key, key.tuple, [Seen::DATA, Seen::DATA]);
    assert!(scene.passage(&key).is_some());
    scene.connect(&FlowKey { protocol: Protocol::TCP, ..key }, key.tuple, BOTH);
    // A Service comes to be at the pod's own address and port.
    let at = state::Frontend::cluster_ip(B.into(), 80.try_into().unwrap(), state::Protocol::Udp);
    let service = state::Service::new("default/dns:udp", vec![at], Vec::new());
    scene.tables.services = scene.tables.services.with(&[], &build::service(&service));
    assert_eq!(scene.passage(&key), None);
    assert!(scene.passage(&FlowKey { protocol: Protocol::TCP, ..key }).is_some(), "TCP keeps its endpoint");
    let reply = FlowKey { tuple: key.tuple.reversed(), ..key };
    assert!(scene.passage(&reply).is_some(), "replies go where they come from");
}
