//! Prepared nodes: three pods, a host link and an uplink in memory, two peers, some Services, two workers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::sync::Arc;

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, bounded};
use headrace_api::state::{
    self, Bandwidth, Encapsulation, Endpoint, Frontend, FrontendAddress, HostPort, PortId, Protocol,
    RateLimit, Settings, TrafficPolicy,
};
use headrace_dataplane::drop_reason::DropReason;
use headrace_dataplane::flows::{Affinity, Flows};
use headrace_dataplane::frames::{AreaId, Pool, Pools};
use headrace_dataplane::port::memory::{MemoryPort, Outside};
use headrace_dataplane::port::{Capabilities, PortIndex};
use headrace_dataplane::random::Random;
use headrace_dataplane::stats::WorkerStats;
use headrace_dataplane::tables::build::{self, KernelFacts, Wanted};
use headrace_dataplane::tables::{Services, Tables};
use headrace_dataplane::worker::{Shared, Worker};
use headrace_flowmap::{FlowMap, Geometry};
use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::Vni;

use super::check;
use super::script::{PORTS, Place, Split};

pub(crate) const GATEWAY_MAC: [u8; 6] = [0xee; 6];
pub(crate) const UPLINK_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const HOST_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub(crate) const NODE_VTEP: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Where one of the Services is reached besides.
pub(crate) const LOAD_BALANCER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);
pub(crate) const VXLAN_PORT: u16 = 8472;
pub(crate) const VNI: u32 = 1;
/// Address, third octet but one of the pod range 10.x.0.0/24, and inner MAC address.
pub(crate) const PEERS: [(Ipv4Addr, u8, MacAddr); 2] = [
    (Ipv4Addr::new(192, 0, 2, 2), 2, MacAddr([2, 0, 0, 0, 2, 0])),
    (Ipv4Addr::new(198, 51, 100, 2), 3, MacAddr([2, 0, 0, 0, 3, 0])),
];
/// Small, so that it runs out.
const CHUNKS: u32 = 96;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

/// What the ports of a world can do, by number.
const CAPABILITIES: [Capabilities; PORTS] = [
    Capabilities { superframes: true, partial_checksums: true, cuts_segments: false },
    Capabilities { superframes: false, partial_checksums: false, cuts_segments: false },
    Capabilities { superframes: true, partial_checksums: true, cuts_segments: false },
    Capabilities { superframes: false, partial_checksums: false, cuts_segments: false },
    Capabilities { superframes: true, partial_checksums: false, cuts_segments: false },
];

/// MAC address of a pod by its port's number.
pub(crate) fn pod_mac(port: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, port as u8])
}

/// Address of a pod by its port's number.
pub(crate) fn pod_address(port: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, port as u8)
}

/// One worker with the outsides of its ports.
struct Side {
    worker: Worker,
    ports: [Option<Outside>; PORTS],
}

/// A node under test.
pub(crate) struct World {
    choice: u8,
    pub(crate) now: u32,
    sides: Vec<Side>,
    shared: Arc<Shared>,
    generation: u32,
    /// What came in, for the checks of what goes out.
    pub(crate) seen: check::Seen,
    frames_in: u64,
    frames_out: u64,
    _asked: Receiver<Ipv4Addr>,
}

impl World {
    pub(crate) fn new(choice: u8) -> Self {
        let map = || FlowMap::anonymous(&Geometry { capacity: 64, content_version: 1 }).unwrap();
        let flows = Flows::new(map(), Affinity::new(map()));
        let (sender, asked) = bounded(4);
        let tables = Arc::new(ArcSwap::from_pointee(tables(choice, 0, 1)));
        let shared = Arc::new(Shared { tables, flows, asked: sender });
        let sides = (0..2).map(|number| side(&shared, number)).collect();
        let seen = check::Seen::new(uplink_mtu(choice));
        Self {
            choice,
            now: 1000,
            sides,
            shared,
            generation: 1,
            seen,
            frames_in: 0,
            frames_out: 0,
            _asked: asked,
        }
    }

    pub(crate) fn put(&mut self, place: Place, frame: Vec<u8>, split: Split, honest: bool) {
        let whole = |bytes: u16| if bytes == 0 { u32::MAX } else { bytes.into() };
        if let Some(outside) = &self.sides[place.worker()].ports[place.port()] {
            self.seen.came_in(place.port(), &frame, honest);
            outside.put_in_chunks(frame, whole(split.0), whole(split.1));
        }
    }

    pub(crate) fn turn(&mut self) {
        for side in &mut self.sides {
            self.frames_in += side.worker.turn(self.now).frames as u64;
            for (port, outside) in side.ports.iter().enumerate() {
                for sent in outside.iter().flat_map(Outside::take) {
                    self.frames_out += 1;
                    self.seen.goes_out(port, CAPABILITIES[port], &sent);
                }
            }
            for area in [AreaId::Pods, AreaId::Uplink] {
                let ledger = side.worker.pools().get(area).ledger();
                assert_eq!(ledger.free + ledger.in_hand, ledger.total, "ports in memory keep no chunk");
            }
        }
    }

    pub(crate) fn expire(&mut self, buckets: usize) {
        for side in &mut self.sides {
            side.worker.expire(buckets, self.now);
        }
    }

    pub(crate) fn swap(&mut self, variant: u8) {
        self.generation += 1;
        self.shared.tables.store(Arc::new(tables(self.choice, variant, self.generation)));
    }

    /// Closes a port, or opens it again.
    pub(crate) fn toggle(&mut self, place: Place) {
        let side = &mut self.sides[place.worker()];
        let index = PortIndex(place.port() as u16);
        if side.ports[place.port()].take().is_some() {
            assert!(side.worker.detach(index));
        } else {
            side.ports[place.port()] = Some(attach(&mut side.worker, place.port()));
        }
    }

    /// Carries out what is left and checks that nothing was lost. Returns the reasons for which frames were dropped.
    pub(crate) fn end(mut self) -> BTreeSet<DropReason> {
        (0..3).for_each(|_| self.turn());
        check::flows(&self.shared.flows);
        self.now = self.now.saturating_add(10);
        self.expire(1000);
        let mut accounted = self.frames_out;
        let mut reasons = BTreeSet::new();
        for side in &self.sides {
            for area in [AreaId::Pods, AreaId::Uplink] {
                let ledger = side.worker.pools().get(area).ledger();
                assert_eq!(ledger.free, ledger.total, "chunks are missing: {ledger:?}");
            }
            let stats = side.worker.stats();
            accounted += DropReason::ALL.iter().map(|reason| stats.drops(*reason)).sum::<u64>();
            reasons.extend(DropReason::ALL.iter().filter(|reason| stats.drops(**reason) > 0));
            accounted += stats.hot().segments_in.get();
        }
        assert!(accounted >= self.frames_in, "{} frames came in, {accounted} are known of", self.frames_in);
        reasons
    }
}

fn side(shared: &Arc<Shared>, number: u64) -> Side {
    let pools = Pools {
        pods: Pool::new(AreaId::Pods, CHUNKS).unwrap(),
        uplink: Pool::new(AreaId::Uplink, CHUNKS).unwrap(),
    };
    let worker = Worker::new(Arc::clone(shared), pools, WorkerStats::new());
    let mut worker = worker.with_random(Random::with_seed(number + 1));
    let ports = std::array::from_fn(|port| Some(attach(&mut worker, port)));
    Side { worker, ports }
}

fn attach(worker: &mut Worker, port: usize) -> Outside {
    let area = if port == 1 { AreaId::Uplink } else { AreaId::Pods };
    let (inside, outside) = MemoryPort::new(area, CAPABILITIES[port]);
    worker.attach(PortIndex(port as u16), Box::new(inside.with_room(100)));
    outside
}

fn uplink_mtu(choice: u8) -> u16 {
    if choice % 3 == 2 { 1280 } else { 1500 }
}

/// The tables of a world. Variants: 0 = as it should be, 1 = next hops unknown, 2 = a pod gone, endpoints changed and
/// masquerading switched, 3 = nothing known.
fn tables(choice: u8, variant: u8, generation: u32) -> Tables {
    let variant = variant % 4;
    if variant == 3 {
        return Tables::empty(generation);
    }
    let settings = settings(choice, variant);
    let mut ports = BTreeMap::new();
    for port in (2..PORTS).filter(|port| variant != 2 || *port != 3) {
        ports.insert(PortId::new(port as u32).unwrap(), (PortIndex(port as u16), pod(port, choice)));
    }
    let peers: BTreeMap<_, _> = PEERS.iter().map(|p| (p.0.to_string(), peer(p))).collect();
    let asked = BTreeSet::from([Ipv4Addr::new(192, 0, 2, 77)]);
    let wanted = Wanted { settings: &settings, ports: &ports, peers: &peers, asked: &asked };
    build::tables(&wanted, &facts(choice, variant), services(variant), generation)
}

fn settings(choice: u8, variant: u8) -> Settings {
    let v4 = |text: &str| vec![text.parse().unwrap()];
    let masquerade = choice % 3 != 1;
    Settings {
        node_addresses: vec![NODE.into()],
        pod_cidrs: v4("10.1.0.0/24"),
        cluster_cidrs: v4("10.0.0.0/14"),
        service_cidrs: v4("10.96.0.0/16"),
        vxlan_port: NonZeroU16::new(VXLAN_PORT).unwrap(),
        vni: Vni::new(VNI).unwrap(),
        vtep_mac: NODE_VTEP,
        encapsulation: if choice.is_multiple_of(3) { Encapsulation::Vxlan } else { Encapsulation::Direct },
        masquerade: masquerade != (variant == 2),
        non_masquerade_cidrs: Vec::new(),
        snat_ports: 32_768..=32_775,
        node_port_ranges: v4("0.0.0.0/0"),
        node_port_loopback: choice % 2 == 1,
        masquerade_all: choice % 5 == 4,
        local_sources: if choice % 4 < 2 { v4("10.0.0.0/14") } else { Vec::new() },
    }
}

/// In worlds with this bit one pod may send almost nothing, and another one receive almost nothing.
const LIMITED: u8 = 0x40;

fn bandwidth(port: usize, choice: u8) -> Bandwidth {
    let one_bit = Some(RateLimit { rate: NonZeroU64::MIN, burst: Some(NonZeroU64::MIN) });
    match port {
        2 if choice & LIMITED != 0 => Bandwidth { ingress: None, egress: one_bit },
        3 if choice & LIMITED != 0 => Bandwidth { ingress: one_bit, egress: None },
        _ => Bandwidth::default(),
    }
}

fn pod(port: usize, choice: u8) -> state::Port {
    state::Port {
        id: PortId::new(port as u32).unwrap(),
        interface: format!("pod{port}"),
        mac: pod_mac(port),
        addresses: vec![pod_address(port).into()],
        path_mtu: None,
        superframes: CAPABILITIES[port].superframes,
        label: String::new(),
        host_ports: if port == 4 { vec![host_port()] } else { Vec::new() },
        bandwidth: bandwidth(port, choice),
    }
}

/// TCP 6443 of the node, to port 80 of its pod.
fn host_port() -> HostPort {
    let (port, pod_port) = (NonZeroU16::new(6443).unwrap(), NonZeroU16::new(80).unwrap());
    HostPort { address: None, port, protocol: Protocol::Tcp, pod_port }
}

fn peer((address, range, vtep_mac): &(Ipv4Addr, u8, MacAddr)) -> state::Peer {
    state::Peer {
        name: address.to_string(),
        address: (*address).into(),
        other_addresses: Vec::new(),
        pod_cidrs: vec![format!("10.{range}.0.0/24").parse().unwrap()],
        vtep_mac: *vtep_mac,
    }
}

fn facts(choice: u8, variant: u8) -> KernelFacts {
    let mac = |last| MacAddr([2, 0, 0, 0, 9, last]);
    let mut neighbors = BTreeMap::from([(GATEWAY, mac(254))]);
    if variant != 1 {
        neighbors.insert(PEERS[0].0, mac(2));
        neighbors.insert(Ipv4Addr::new(192, 0, 2, 77), mac(77));
    } else {
        neighbors.clear();
    }
    let routes = [("0.0.0.0/0", Some(GATEWAY)), ("192.0.2.0/24", None)];
    KernelFacts {
        uplink_mac: UPLINK_MAC,
        uplink_mtu: uplink_mtu(choice),
        host_mac: HOST_MAC,
        local: BTreeSet::from([NODE]),
        routes: routes.into_iter().map(|(prefix, hop)| (prefix.parse().unwrap(), hop)).collect(),
        neighbors,
        listening: BTreeSet::new(),
    }
}

fn services(variant: u8) -> Services {
    let everywhere = ["10.1.0.2:8080", "10.1.0.3:8080", "10.2.0.5:8080", "10.3.0.5:8080", "192.0.2.1:6443"];
    let everywhere = if variant == 2 { &everywhere[2..3] } else { &everywhere[..] };
    let dns = if variant == 2 { &["10.1.0.4:53"][..] } else { &["10.1.0.3:53", "10.2.0.5:53"] };
    let list: [(u8, u16, Protocol, &[&str]); 5] = [
        (10, 53, Protocol::Udp, dns),
        (11, 80, Protocol::Tcp, everywhere),
        (12, 80, Protocol::Tcp, &[]),
        (13, 80, Protocol::Tcp, &["10.1.0.2:8080"]),
        (13, 53, Protocol::Udp, &["10.1.0.2:53"]),
    ];
    let mut insert = Vec::new();
    for (last, port, protocol, endpoints) in list {
        let address = IpAddr::from([10, 96, 0, last]);
        let frontend = Frontend::cluster_ip(address, NonZeroU16::new(port).unwrap(), protocol);
        let endpoints = endpoints.iter().map(|text| endpoint(text)).collect();
        let mut service = state::Service::new(format!("default/{last}:{port}"), vec![frontend], endpoints);
        match last {
            10 => service.frontends.push(Frontend { address: FrontendAddress::NodePort, ..frontend }),
            11 => expose(&mut service),
            _ => {}
        }
        insert.extend(build::service(&service));
    }
    Services::default().with(&[], &insert)
}

/// At TCP 8080 of the node and at a load balancer's address, both for local endpoints.
fn expose(service: &mut state::Service) {
    let port = NonZeroU16::new(8080).unwrap();
    let frontend = service.frontends[0];
    service.frontends.push(Frontend { address: FrontendAddress::NodePort, port, ..frontend });
    let address = FrontendAddress::LoadBalancer(LOAD_BALANCER.into());
    service.frontends.push(Frontend { address, ..frontend });
    service.external_policy = TrafficPolicy::Local;
    service.affinity_seconds = NonZeroU32::new(100);
    service.source_ranges = ["203.0.113.0/24", "10.1.0.3/32"].map(|range| range.parse().unwrap()).into();
}

fn endpoint(text: &str) -> Endpoint {
    let address: std::net::SocketAddrV4 = text.parse().unwrap();
    let local = *address.ip() == NODE || address.ip().octets()[..3] == [10, 1, 0];
    Endpoint { local, ..Endpoint::ready((*address.ip()).into(), NonZeroU16::new(address.port()).unwrap()) }
}
