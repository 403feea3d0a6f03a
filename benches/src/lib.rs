//! What benchmarks of the pipeline share: a node in memory whose ports cost next to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use arc_swap::ArcSwap;
use headrace_api::state::{
    Bandwidth, Encapsulation, Endpoint, Frontend, Peer, Port, PortId, Protocol, Service, Settings,
};
use headrace_dataplane::flows::{CONTENT_VERSION, Flows};
use headrace_dataplane::frames::{AreaId, Frame, Pool, Pools};
use headrace_dataplane::port::{self, BURST, Capabilities, PortIndex, Received};
use headrace_dataplane::stats::{PortCounters, WorkerStats};
use headrace_dataplane::tables::build::{self, KernelFacts, Wanted};
use headrace_dataplane::tables::services::Services;
use headrace_dataplane::worker::{Shared, Worker};
use headrace_flowmap::{FlowMap, Geometry};
use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::Vni;

/// This node's address on the uplink.
pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The other node's.
pub const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// A pod of this node.
pub const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
/// Another pod of this node.
pub const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 3);
/// A pod of the other node.
pub const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 2);
/// A Service, port 80, whose endpoint is [`REMOTE`], port 8080.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// This node's inner MAC address.
pub const VTEP: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
/// The other node's.
pub const PEER_VTEP: MacAddr = MacAddr([2, 0, 0, 0, 2, 1]);

/// A port that receives copies of its templates, a burst a turn, and swallows what is sent.
pub struct LoopPort {
    area: AreaId,
    templates: Vec<Vec<u8>>,
    next: usize,
    counters: Arc<PortCounters>,
}

impl LoopPort {
    /// Receives the templates in turns; none = it only swallows.
    pub fn new(area: AreaId, templates: Vec<Vec<u8>>) -> Self {
        Self { area, templates, next: 0, counters: Arc::default() }
    }
}

impl port::Port for LoopPort {
    fn area(&self) -> AreaId {
        self.area
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { superframes: self.area == AreaId::Pods, partial_checksums: self.area == AreaId::Pods }
    }

    fn receive(&mut self, pool: &mut Pool, received: &mut Received) -> usize {
        if self.templates.is_empty() {
            return 0;
        }
        for _ in 0..BURST {
            let template = &self.templates[self.next];
            self.next = (self.next + 1) % self.templates.len();
            let mut pieces = Vec::with_capacity(1 + template.len() / 3840);
            for part in template.chunks(pool.chunk_capacity() as usize) {
                let Some(mut piece) = pool.take() else { break };
                piece.len = part.len() as u32;
                pool.bytes_mut(piece).copy_from_slice(part);
                pieces.push(piece);
            }
            if let Some(frame) = pool.assemble(&pieces) {
                received.push(frame);
            }
        }
        BURST
    }

    fn replenish(&mut self, _pool: &mut Pool) {}

    fn transmit(&mut self, pool: &mut Pool, frame: Frame) -> Result<(), Frame> {
        pool.free(frame);
        Ok(())
    }

    fn flush(&mut self, _pool: &mut Pool) -> bool {
        false
    }

    fn readiness(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    fn counters(&self) -> &Arc<PortCounters> {
        &self.counters
    }
}

/// A node with two pods, a peer and a Service. `from_pod` arrive from [`POD`], `from_wire` by the uplink.
///
/// # Panics
/// When memory is short.
pub fn node(from_pod: Vec<Vec<u8>>, from_wire: Vec<Vec<u8>>) -> Worker {
    let geometry = Geometry { capacity: 1 << 18, content_version: CONTENT_VERSION };
    let flows = Flows::new(FlowMap::anonymous(&geometry).expect("memory for flows"));
    let (asked, _) = crossbeam::channel::bounded(1);
    let shared = Shared { tables: Arc::new(ArcSwap::from_pointee(tables())), flows, asked };
    let pool = |area| Pool::new(area, 8192).expect("memory for frames");
    let pools = Pools { pods: pool(AreaId::Pods), uplink: pool(AreaId::Uplink) };
    let mut worker = Worker::new(Arc::new(shared), pools, WorkerStats::new());
    let quiet = |area| Box::new(LoopPort::new(area, Vec::new()));
    worker.attach(PortIndex::HOST, quiet(AreaId::Pods));
    worker.attach(PortIndex::UPLINK, Box::new(LoopPort::new(AreaId::Uplink, from_wire)));
    worker.attach(PortIndex(2), Box::new(LoopPort::new(AreaId::Pods, from_pod)));
    worker.attach(PortIndex(3), quiet(AreaId::Pods));
    worker
}

fn tables() -> headrace_dataplane::tables::Tables {
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
            mac: MacAddr([2, 0, 0, 0, 3, id as u8]),
            addresses: vec![address.into()],
            path_mtu: None,
            superframes: true,
            label: String::new(),
            host_ports: Vec::new(),
            bandwidth: Bandwidth::default(),
        };
        (port.id, (PortIndex(id as u16 + 1), port))
    };
    let peer = Peer {
        name: "b".into(),
        address: PEER.into(),
        other_addresses: Vec::new(),
        pod_cidrs: vec!["10.244.2.0/24".parse().expect("a range")],
        vtep_mac: PEER_VTEP,
    };
    let wanted = Wanted {
        settings: &settings,
        ports: &BTreeMap::from([pod(1, POD), pod(2, NEIGHBOUR)]),
        peers: &BTreeMap::from([("b".to_owned(), peer)]),
        asked: &BTreeSet::new(),
    };
    let port = |p| NonZeroU16::new(p).expect("not 0");
    let frontend = Frontend::cluster_ip(SERVICE.into(), port(80), Protocol::Udp);
    let endpoint = Endpoint::ready(REMOTE.into(), port(8080));
    let service = Service::new("default/web:http", vec![frontend], vec![endpoint]);
    let services = Services::default().with(&[], &build::service(&service));
    build::tables(&wanted, &facts, services, 1)
}
