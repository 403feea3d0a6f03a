//! A node in memory: tables, flows, and workers whose ports cost next to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use headrace_api::state::{
    Bandwidth, Encapsulation, Endpoint, Frontend, Peer, Port, PortId, Protocol, Service, Settings,
};
use headrace_dataplane::flows::{Affinity, CONTENT_VERSION, Flows};
use headrace_dataplane::frames::{AreaId, Pool, Pools};
use headrace_dataplane::port::PortIndex;
use headrace_dataplane::stats::WorkerStats;
use headrace_dataplane::tables::Tables;
use headrace_dataplane::tables::build::{self, KernelFacts, Wanted};
use headrace_dataplane::tables::services::Services;
use headrace_dataplane::worker::{Shared, Worker};
use headrace_flowmap::{FlowMap, Geometry};
use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::Vni;

use crate::packets::PORTS;
use crate::{LoopPort, NEIGHBOUR, NODE, PEER, PEER_VTEP, POD, REMOTE, SERVICE, Source, VTEP};

/// How much there is on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pods, two at least.
    pub pods: u32,
    /// Services, one at least.
    pub services: u32,
    /// Entries of the flow table; a connection takes two.
    pub table: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { pods: 2, services: 1, table: 1 << 18 }
    }
}

/// What the workers of a node share.
pub struct Node {
    shared: Arc<Shared>,
}

/// Frames sent by the uplink and to the neighbour, counted while the worker runs.
#[derive(Clone, Debug)]
pub struct Sent {
    /// By the uplink.
    pub uplink: Arc<AtomicU64>,
    /// To [`NEIGHBOUR`] and to [`POD`].
    pub pods: [Arc<AtomicU64>; 2],
}

impl Node {
    /// A node with two pods that matter, a peer and a Service, and with others as `size` says.
    ///
    /// # Panics
    /// When memory is short.
    pub fn new(size: &Size) -> Self {
        let geometry = Geometry { capacity: size.table, content_version: CONTENT_VERSION };
        let map = || FlowMap::anonymous(&geometry).expect("memory for flows");
        let flows = Flows::new(map(), Affinity::new(map()));
        let (asked, _) = crossbeam::channel::bounded(1);
        let shared = Shared { tables: Arc::new(ArcSwap::from_pointee(tables(size))), flows, asked };
        Self { shared: Arc::new(shared) }
    }

    /// A worker with ports of its own: `from_pod` arrives from [`POD`], `from_wire` by the uplink.
    ///
    /// # Panics
    /// When memory is short.
    pub fn worker(&self, from_pod: Source, from_wire: Source) -> (Worker, Sent) {
        let pool = |area| Pool::new(area, 8192).expect("memory for frames");
        let pools = Pools { pods: pool(AreaId::Pods), uplink: pool(AreaId::Uplink) };
        let mut worker = Worker::new(Arc::clone(&self.shared), pools, WorkerStats::new());
        let uplink = LoopPort::new(AreaId::Uplink, from_wire);
        let pod = LoopPort::new(AreaId::Pods, from_pod);
        let neighbour = LoopPort::new(AreaId::Pods, Source::default());
        let sent = Sent { uplink: uplink.sent(), pods: [neighbour.sent(), pod.sent()] };
        worker.attach(PortIndex::HOST, Box::new(LoopPort::new(AreaId::Pods, Source::default())));
        worker.attach(PortIndex::UPLINK, Box::new(uplink));
        worker.attach(PortIndex(2), Box::new(pod));
        worker.attach(PortIndex(3), Box::new(neighbour));
        (worker, sent)
    }

    /// Forgets all flows.
    pub fn clear(&self) {
        self.shared.flows.map().clear();
    }
}

/// The two pods and the Service that packets go to, and so many more as `size` says.
fn tables(size: &Size) -> Tables {
    let facts = KernelFacts {
        uplink_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        uplink_mtu: 1500,
        host_mac: MacAddr([2, 0, 0, 0, 0, 2]),
        local: BTreeSet::from([NODE]),
        routes: BTreeMap::from([("192.0.2.0/24".parse().expect("a range"), None)]),
        neighbors: BTreeMap::from([(PEER, MacAddr([2, 0, 0, 0, 0, 3]))]),
        listening: BTreeSet::new(),
    };
    let settings = Settings {
        node_addresses: vec![NODE.into()],
        pod_cidrs: vec!["10.244.1.0/24".parse().expect("a range")],
        cluster_cidrs: vec!["10.244.0.0/16".parse().expect("a range")],
        service_cidrs: vec!["10.96.0.0/16".parse().expect("a range")],
        vxlan_port: NonZeroU16::new(8472).expect("not 0"),
        vni: Vni::new(1).expect("24 bits"),
        vtep_mac: VTEP,
        encapsulation: Encapsulation::Vxlan,
        masquerade: true,
        non_masquerade_cidrs: Vec::new(),
        snat_ports: 50_000..=59_999,
        node_port_ranges: Vec::new(),
        node_port_loopback: false,
        masquerade_all: false,
        local_sources: Vec::new(),
    };
    let pod = |id: u32, address: Ipv4Addr| {
        let port = Port {
            id: PortId::new(id).expect("not 0"),
            interface: format!("pod{id}"),
            mac: MacAddr([2, 0, 0, (id >> 8) as u8, 3, id as u8]),
            addresses: vec![address.into()],
            path_mtu: None,
            superframes: true,
            label: String::new(),
            host_ports: Vec::new(),
            bandwidth: Bandwidth::default(),
        };
        (port.id, (PortIndex(id as u16 + 1), port))
    };
    let others = (3..=size.pods).map(|id| pod(id, Ipv4Addr::from(u32::from(POD) + id)));
    let pods = [pod(1, POD), pod(2, NEIGHBOUR)].into_iter().chain(others).collect();
    let peer = Peer {
        name: "b".into(),
        address: PEER.into(),
        other_addresses: Vec::new(),
        pod_cidrs: vec!["10.244.2.0/24".parse().expect("a range")],
        vtep_mac: PEER_VTEP,
    };
    let wanted = Wanted {
        settings: &settings,
        ports: &pods,
        peers: &BTreeMap::from([("b".to_owned(), peer)]),
        asked: &BTreeSet::new(),
    };
    build::tables(&wanted, &facts, services(size.services), 1)
}

/// The ports of the Service that packets go to, and other Services with ten endpoints each.
fn services(count: u32) -> Services {
    let port = |p| NonZeroU16::new(p).expect("not 0");
    // Each port leads to a port of its own: a source port may be used once towards each.
    let measured = |number: u16| {
        let frontend = Frontend::cluster_ip(SERVICE.into(), port(80 + number), Protocol::Udp);
        let endpoint = Endpoint::ready(REMOTE.into(), port(8080 + number));
        Service::new(format!("default/web:{number}"), vec![frontend], vec![endpoint])
    };
    let other = |number: u32| {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 128, 0)) + number);
        let endpoint = |n: u32| {
            let pod = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 0)) + number * 10 + n);
            Endpoint::ready(pod.into(), port(8080))
        };
        let frontend = Frontend::cluster_ip(address.into(), port(80), Protocol::Udp);
        Service::new(format!("default/other-{number}:http"), vec![frontend], (0..10).map(endpoint).collect())
    };
    let all = (0..PORTS).map(measured).chain((1..count).map(other));
    let built: Vec<_> = all.flat_map(|service| build::service(&service)).collect();
    Services::default().with(&[], &built)
}
