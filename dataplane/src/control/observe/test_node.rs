//! A node to be looked at: a real worker on its thread, two pods and an uplink in memory, tables of the builder.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::sync::Arc;

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, bounded};
use etherparse::PacketBuilder;
use headrace_api::proto;
use headrace_api::state::{Encapsulation, Port, PortId, Settings};
use headrace_flowmap::{FlowMap, Geometry};
use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::Vni;

use super::directory::{Directory, OpenPort};
use super::*;
use crate::flows::{Affinity, CONTENT_VERSION, Flows};
use crate::frames::{AreaId, Pool, Pools};
use crate::port::memory::{MemoryPort, Outside};
use crate::port::{Capabilities, Port as _, PortIndex};
use crate::stats::PortCounters;
use crate::tables::build::{self, KernelFacts, Wanted};
use crate::tables::{GATEWAY_MAC, Services};
use crate::worker::{self, Setup, WorkerHandle, WorkerId};

pub(in crate::control) const A: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
pub(in crate::control) const B: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 3);
const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 10);

pub(in crate::control) struct Node {
    shared: Arc<Shared>,
    worker: WorkerHandle,
    /// By slot: host link, uplink, pod A, pod B.
    pub(in crate::control) outsides: Vec<Outside>,
    counters: Vec<Arc<PortCounters>>,
    _asked: Receiver<Ipv4Addr>,
}

impl Node {
    pub(in crate::control) fn new() -> Self {
        let map =
            || FlowMap::anonymous(&Geometry { capacity: 1024, content_version: CONTENT_VERSION }).unwrap();
        let flows = Flows::new(map(), Affinity::new(map()));
        let (asked, questions) = bounded(16);
        let tables = Arc::new(ArcSwap::from_pointee(tables()));
        let shared = Arc::new(Shared { tables, flows, asked });
        let pool = |id| Pool::new(id, 512).unwrap();
        let pools = Pools { pods: pool(AreaId::Pods), uplink: pool(AreaId::Uplink) };
        let setup =
            Setup { id: WorkerId(0), core: None, poll: <_>::default(), pools, shared: Arc::clone(&shared) };
        let worker = worker::spawn(setup).unwrap();
        let (mut outsides, mut counters) = (Vec::new(), Vec::new());
        for index in 0..4 {
            let area = if index == 1 { AreaId::Uplink } else { AreaId::Pods };
            let (port, outside) = MemoryPort::new(area, CAPABILITIES);
            counters.push(Arc::clone(port.counters()));
            worker.attach(PortIndex(index), Box::new(port));
            outsides.push(outside);
        }
        Self { shared, worker, outsides, counters, _asked: questions }
    }

    pub(in crate::control) fn sight(&self) -> Sight {
        let mut directory = Directory::default();
        for (index, interface, label) in
            [(0, "headrace1", ""), (1, "eth0", ""), (2, "hra", "default/a"), (3, "hrb", "default/b")]
        {
            let port = OpenPort {
                interface: interface.into(),
                label: label.into(),
                capabilities: if index == 1 { Capabilities::default() } else { CAPABILITIES },
                counters: vec![Arc::clone(&self.counters[usize::from(index)])],
            };
            directory.ports.insert(PortIndex(index), port);
        }
        directory.pods = [(A, "default/a".to_owned()), (B, "default/b".to_owned())].into();
        Sight {
            shared: Arc::clone(&self.shared),
            windows: vec![self.worker.window()],
            directory: Arc::new(ArcSwap::from_pointee(directory)),
            shortcut: None,
        }
    }

    /// Returns when what was sent has been dealt with.
    pub(in crate::control) fn worker_rests(&self) {
        // A command is carried out after a turn.
        self.worker.publish();
        self.worker.publish();
    }

    /// Whether somebody listens to the flows' journal.
    pub(in crate::control) fn is_heard(&self) -> bool {
        self.shared.flows.is_heard()
    }

    /// Pod A sends a datagram.
    pub(in crate::control) fn send(&self, src: Ipv4Addr, dst: (Ipv4Addr, u16), payload: &[u8]) {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 1, 0, 2], GATEWAY_MAC.0)
            .ipv4(src.octets(), dst.0.octets(), 64)
            .udp(4000, dst.1)
            .write(&mut frame, payload)
            .unwrap();
        self.outsides[2].put(frame);
        // Ports in memory wake nobody.
        self.worker.publish();
    }
}

const CAPABILITIES: Capabilities =
    Capabilities { superframes: true, partial_checksums: true, cuts_segments: false };

/// A controller of nothing.
pub(in crate::control) async fn answer(mut calls: mpsc::Receiver<Call>) {
    while let Some(call) = calls.recv().await {
        match call {
            Call::Services { reply, .. } => drop(reply.send(Vec::new())),
            Call::Status { reply } => drop(reply.send(proto::StatusReply::default())),
            Call::Connected | Call::Disconnected | Call::Change { .. } => {}
        }
    }
}

/// Tables with both pods, of route generation 1.
pub(in crate::control) fn tables() -> crate::tables::Tables {
    let facts = KernelFacts {
        uplink_mac: MacAddr([2, 0, 0, 0, 7, 10]),
        uplink_mtu: 1500,
        host_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        local: BTreeSet::from([NODE]),
        routes: BTreeMap::from([("192.168.7.0/24".parse().unwrap(), None)]),
        neighbors: BTreeMap::new(),
        listening: BTreeSet::new(),
    };
    let settings = Settings {
        node_addresses: vec![NODE.into()],
        pod_cidrs: vec!["10.1.0.0/24".parse().unwrap()],
        cluster_cidrs: vec!["10.1.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        vxlan_port: NonZeroU16::new(8472).unwrap(),
        vni: Vni::new(1).unwrap(),
        vtep_mac: MacAddr([2, 0, 0, 0, 99, 10]),
        encapsulation: Encapsulation::Vxlan,
        masquerade: true,
        non_masquerade_cidrs: Vec::new(),
        snat_ports: 61_000..=61_999,
        node_port_ranges: Vec::new(),
        node_port_loopback: false,
        masquerade_all: false,
        local_sources: Vec::new(),
    };
    let pod = |id: u32, address: Ipv4Addr| {
        let port = Port {
            id: PortId::new(id).unwrap(),
            interface: format!("hr{id}"),
            mac: MacAddr([2, 0, 0, 1, 0, id as u8]),
            addresses: vec![address.into()],
            path_mtu: None,
            superframes: true,
            label: format!("default/{id}"),
            host_ports: Vec::new(),
            bandwidth: <_>::default(),
        };
        (port.id, (PortIndex(id as u16), port))
    };
    let wanted = Wanted {
        settings: &settings,
        ports: &BTreeMap::from([pod(2, A), pod(3, B)]),
        peers: &BTreeMap::new(),
        asked: &BTreeSet::new(),
    };
    build::tables(&wanted, &facts, Services::default(), 1)
}
