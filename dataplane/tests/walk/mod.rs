//! A world around real workers: places to send from, tables built from desired state, a ledger to be balanced.
//!
//! Every packet that comes out is taken apart and checked in full before a walk sees it: MAC addresses, tunnel headers as
//! flannel has them, IPv4 checksum. After every step no chunk may be missing in any pool.

pub(crate) mod capture;
pub(crate) mod desired;
pub(crate) mod oracle;
pub(crate) mod packet;
pub(crate) mod place;
mod verify;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Barrier};

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, bounded};
use headrace_dataplane::control::observe::explain;
use headrace_dataplane::drop_reason::DropReason;
use headrace_dataplane::flows::{Affinity, Flow, FlowKey, Flows, Kind, Seconds};
use headrace_dataplane::frames::{AreaId, Pool, Pools};
use headrace_dataplane::observe::StageId;
use headrace_dataplane::port::memory::{MemoryPort, Outside};
use headrace_dataplane::port::{Capabilities, Port, PortIndex};
use headrace_dataplane::stats::{Counter, Hot, PortCounters, Total, WorkerStats};
use headrace_dataplane::tables::services::FrontendKey;
use headrace_dataplane::tables::{Nanos, Tables};
use headrace_dataplane::worker::{Shared, Worker};
use headrace_flowmap::{Entry, FlowMap, Geometry};

use capture::Capture;
use desired::Desired;
use packet::Packet;
use place::At;

/// How a world is made.
pub(crate) struct Plan {
    pub(crate) desired: Desired,
    pub(crate) workers: usize,
    /// Chunks of each pool.
    pub(crate) chunks: u32,
    /// Frames that a port takes between two steps.
    pub(crate) room: usize,
    /// Bytes of the first chunk of received frames.
    pub(crate) first_chunk: u32,
    pub(crate) flows: FlowMap,
    pub(crate) affinity: FlowMap,
    pub(crate) route_generation: u32,
}

impl Plan {
    pub(crate) fn new() -> Self {
        // So large that no walk pushes a flow out that does not mean to: where a flow lies is random.
        let geometry = Geometry { capacity: 16_384, content_version: 0 };
        Self {
            desired: Desired::new(),
            workers: 1,
            chunks: 512,
            room: usize::MAX,
            first_chunk: u32::MAX,
            flows: FlowMap::anonymous(&geometry).unwrap(),
            affinity: FlowMap::anonymous(&geometry).unwrap(),
            route_generation: 7,
        }
    }

    pub(crate) fn desired(mut self, change: impl FnOnce(&mut Desired)) -> Self {
        change(&mut self.desired);
        self
    }

    pub(crate) fn world(self) -> World {
        World::of(self)
    }
}

/// A node with its surroundings.
pub(crate) struct World {
    pub(crate) desired: Desired,
    pub(crate) now: Seconds,
    /// For bandwidth limits.
    pub(crate) clock: Nanos,
    pub(crate) asked: Receiver<Ipv4Addr>,
    /// Packets that wait for a neighbour: their chunks are in hand.
    pub(crate) waiting: u32,
    shared: Arc<Shared>,
    nodes: Vec<Node>,
    capture: Capture,
    drops: BTreeMap<&'static str, u64>,
}

/// A worker and the outside of its ports.
struct Node {
    worker: Worker,
    outsides: BTreeMap<PortIndex, Outside>,
    counters: BTreeMap<PortIndex, Arc<PortCounters>>,
}

/// What a step brought out.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) out: Vec<(At, Packet)>,
    /// Frames dropped, by the reasons' labels.
    pub(crate) drops: BTreeMap<&'static str, u64>,
}

impl World {
    /// The world of [`place`], without Services.
    pub(crate) fn new() -> Self {
        Plan::new().world()
    }

    /// The world of [`place`] with a change.
    pub(crate) fn with(change: impl FnOnce(&mut Desired)) -> Self {
        Plan::new().desired(change).world()
    }

    fn of(plan: Plan) -> Self {
        let (asked_sender, asked) = bounded(16);
        let empty = Tables::empty(plan.route_generation);
        let services = plan.desired.services(None, &empty.services);
        let tables = Arc::new(plan.desired.tables(services, plan.route_generation));
        let tables = Arc::new(ArcSwap::new(tables));
        let flows = Flows::new(plan.flows, Affinity::new(plan.affinity));
        let shared = Arc::new(Shared { tables, flows, asked: asked_sender });
        let node = |_| Node::new(&shared, plan.chunks, plan.room, plan.first_chunk);
        Self {
            nodes: (0..plan.workers).map(node).collect(),
            desired: plan.desired,
            now: 1000,
            clock: Nanos(1_000_000_000_000),
            asked,
            waiting: 0,
            shared,
            capture: Capture::default(),
            drops: BTreeMap::new(),
        }
    }

    /// Changes what is desired; routes may have changed.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Desired)) {
        let generation = self.shared.tables.load().route_generation + 1;
        self.publish(change, generation, true);
    }

    /// Changes what is desired where no route can have changed: Services, MAC addresses.
    pub(crate) fn change_quietly(&mut self, change: impl FnOnce(&mut Desired)) {
        let generation = self.shared.tables.load().route_generation;
        self.publish(change, generation, false);
    }

    fn publish(&mut self, change: impl FnOnce(&mut Desired), generation: u32, beyond_services: bool) {
        let before = self.desired.clone();
        change(&mut self.desired);
        let current = self.shared.tables.load_full();
        let mut services = self.desired.services(Some(&before), &current.services);
        if beyond_services {
            services = services.with(&[], &[]);
        }
        let mut tables = self.desired.tables(services, generation);
        Arc::make_mut(&mut tables.ports).keep_buckets(&current.ports);
        self.shared.tables.store(Arc::new(tables));
    }

    /// Sends packets into the first worker by one place, in one burst.
    #[track_caller]
    pub(crate) fn send(&mut self, from: At, packets: impl AsRef<[Packet]>) -> Outcome {
        self.send_to(0, from, packets)
    }

    /// Sends packets into a worker.
    #[track_caller]
    pub(crate) fn send_to(&mut self, worker: usize, from: At, packets: impl AsRef<[Packet]>) -> Outcome {
        let frames: Vec<_> = packets.as_ref().iter().map(|p| from.frame(p)).collect();
        self.send_frames(worker, from, frames)
    }

    /// Sends frames of any bytes.
    #[track_caller]
    pub(crate) fn send_frames(&mut self, worker: usize, from: At, frames: Vec<Vec<u8>>) -> Outcome {
        for frame in frames {
            self.capture.0.push((from, true, frame.clone()));
            self.nodes[worker].outsides[&from.port()].put(frame);
        }
        self.turn(worker)
    }

    /// What would come of a frame, and nothing of it happens.
    #[track_caller]
    pub(crate) fn explain(&self, from: At, frame: Vec<u8>) -> Outcome {
        let ports = At::PORTS.into_iter().map(|at| (at.port(), capabilities(at))).collect();
        let (tables, flows) = (self.shared.tables.load_full(), &self.shared.flows);
        let explained = explain::walk(&tables, flows, &ports, from.port(), frame, self.now).unwrap();
        let place = |port| At::PORTS.into_iter().find(|at| at.port() == port).unwrap();
        let sent = explained.sent.iter();
        Outcome {
            out: sent.filter_map(|(port, sent)| verify::frame(place(*port), sent, &self.desired)).collect(),
            drops: explained.drops.iter().map(|reason| (reason.label(), 1)).collect(),
        }
    }

    /// Lets a worker turn until nothing comes in, and takes what comes out.
    #[track_caller]
    pub(crate) fn turn(&mut self, worker: usize) -> Outcome {
        self.nodes[worker].worker.set_clock(self.clock);
        while self.nodes[worker].worker.turn(self.now).frames > 0 {}
        self.outcome(worker)
    }

    /// Sends the same packets into all workers, which run at the same time, and takes what each of them brings out.
    pub(crate) fn race(&mut self, from: At, packets: &[Packet]) -> Vec<Outcome> {
        let now = self.now;
        let start = Barrier::new(self.nodes.len());
        std::thread::scope(|scope| {
            for node in &mut self.nodes {
                for packet in packets {
                    node.outsides[&from.port()].put(from.frame(packet));
                }
                scope.spawn(|| {
                    start.wait();
                    while node.worker.turn(now).frames > 0 {}
                });
            }
        });
        (0..self.nodes.len()).map(|worker| self.outcome(worker)).collect()
    }

    /// Goes on to a later time and looks for flows and waiting packets that are over.
    #[track_caller]
    pub(crate) fn pass_time(&mut self, seconds: Seconds) -> Outcome {
        self.now += seconds;
        let buckets = self.shared.flows.map().buckets();
        for node in &mut self.nodes {
            node.worker.expire(buckets, self.now);
        }
        self.outcome(0)
    }

    /// Goes on to a later time; nothing is looked at before the next turn.
    pub(crate) fn pass_time_quietly(&mut self, seconds: Seconds) {
        self.now += seconds;
    }

    #[track_caller]
    fn outcome(&mut self, worker: usize) -> Outcome {
        let mut out = Vec::new();
        for at in At::PORTS {
            let Some(outside) = self.nodes[worker].outsides.get(&at.port()) else { continue };
            for sent in outside.take() {
                self.capture.0.push((at, false, sent.bytes.clone()));
                if let Some(packet) = verify::frame(at, &sent, &self.desired) {
                    out.push(packet);
                }
            }
        }
        let drops = self.all_drops();
        let before = std::mem::replace(&mut self.drops, drops);
        let since = |(label, n): (&&'static str, &u64)| (*label, n - before.get(label).copied().unwrap_or(0));
        let drops = self.drops.iter().map(since).filter(|(_, n)| *n > 0).collect();
        self.balance();
        self.drops_have_a_place();
        Outcome { out, drops }
    }

    /// Every drop is counted at a port, but for those whose port is gone.
    #[track_caller]
    fn drops_have_a_place(&self) {
        for node in self.nodes.iter().filter(|node| node.outsides.len() == node.counters.len()) {
            for reason in DropReason::ALL.iter().filter(|reason| **reason != DropReason::PortGone) {
                let at_ports: u64 = node.counters.values().map(|port| port.drops.of(*reason)).sum();
                assert_eq!(at_ports, node.worker.stats().drops(*reason), "{}", reason.label());
            }
        }
    }

    /// Frames dropped at a port of the first worker for a reason.
    pub(crate) fn drops_at(&self, at: At, reason: DropReason) -> u64 {
        self.nodes[0].counters[&at.port()].drops.of(reason)
    }

    /// No chunk may be missing: all are free but those of packets that wait.
    #[track_caller]
    fn balance(&self) {
        let mut in_hand = 0;
        for node in &self.nodes {
            for area in [AreaId::Pods, AreaId::Uplink] {
                let ledger = node.worker.pools().get(area).ledger();
                assert_eq!(ledger.total, ledger.free + ledger.in_hand, "{area:?}: {ledger:?}");
                in_hand += ledger.in_hand;
            }
        }
        assert_eq!(in_hand, self.waiting, "chunks in hand and packets that wait");
    }

    fn all_drops(&self) -> BTreeMap<&'static str, u64> {
        let of = |reason: &DropReason| {
            let count = self.nodes.iter().map(|n| n.worker.stats().drops(*reason)).sum();
            (reason.label(), count)
        };
        DropReason::ALL.iter().map(of).collect()
    }

    /// A packet comes out at one place, and nothing else happens.
    #[track_caller]
    pub(crate) fn pass(&mut self, from: At, sent: &Packet, to: At, expected: &Packet) {
        let outcome = self.send(from, sent);
        outcome.is(&[(to, expected.clone())], &[]);
    }

    /// A packet comes out at one place as it was, one hop older.
    #[track_caller]
    pub(crate) fn forward(&mut self, from: At, sent: &Packet, to: At) {
        self.pass(from, sent, to, &sent.hop());
    }

    /// A packet is dropped, and nothing comes out.
    #[track_caller]
    pub(crate) fn drop(&mut self, from: At, sent: &Packet, reason: DropReason) {
        self.send(from, sent).is(&[], &[reason]);
    }

    /// A frame is dropped, and nothing comes out.
    #[track_caller]
    pub(crate) fn drop_frame(&mut self, from: At, frame: Vec<u8>, reason: DropReason) {
        self.send_frames(0, from, vec![frame]).is(&[], &[reason]);
    }

    /// A packet is dropped and its sender told.
    #[track_caller]
    pub(crate) fn refuse(&mut self, from: At, sent: &Packet, reason: DropReason, answer: &Packet) {
        self.send(from, sent).is(&[(from, answer.clone())], &[reason]);
    }

    /// One of the counters, over all workers.
    pub(crate) fn count(&self, counter: impl Fn(&Hot) -> &Counter) -> u64 {
        self.nodes.iter().map(|n| counter(n.worker.stats().hot()).get()).sum()
    }

    /// Connections begun to the Service at a clusterIP, TCP port 80, and to one endpoint of it.
    pub(crate) fn hits(&self, service: &str, endpoint: &str) -> (u64, u64) {
        let key = FrontendKey { address: service.parse().unwrap(), port: 80, protocol: 6 };
        let endpoint: SocketAddrV4 = endpoint.parse().unwrap();
        let tables = self.shared.tables.load();
        let hits = &tables.services.get(&key).unwrap().service.hits;
        (hits.all(), hits.of_endpoint((*endpoint.ip(), endpoint.port())))
    }

    /// Frames and bytes that came from a peer, and that went to it.
    pub(crate) fn peer(&self, peer: &str) -> [u64; 4] {
        let peers = &self.shared.tables.load().peers;
        let traffic = &peers.get(peers.by_address[&peer.parse().unwrap()]).unwrap().traffic;
        [&traffic.rx_frames, &traffic.rx_bytes, &traffic.tx_frames, &traffic.tx_bytes].map(Total::get)
    }

    /// The first worker's bursts by size and turns by duration.
    pub(crate) fn histograms(&self) -> (Vec<u64>, Vec<u64>) {
        let hot = self.nodes[0].worker.stats().hot();
        (hot.burst_sizes.classes(), hot.turn_durations.classes())
    }

    /// Ticks and packets that the first worker has measured of a stage.
    pub(crate) fn stage(&self, stage: StageId) -> (u64, u64) {
        let cost = self.nodes[0].worker.stats().stage(stage);
        (cost.ticks.get(), cost.packets.get())
    }

    /// Frames that have left by a port so far.
    pub(crate) fn frames_out(&self, at: At) -> usize {
        self.capture.0.iter().filter(|(port, inward, _)| port.port() == at.port() && !inward).count()
    }

    /// The frame that came out last.
    pub(crate) fn last_frame(&self) -> &[u8] {
        &self.capture.0.iter().rfind(|(_, inward, _)| !inward).unwrap().2
    }

    /// Clients that keep an endpoint.
    pub(crate) fn clients(&self) -> usize {
        self.shared.flows.affinity().map().len()
    }

    /// Entries of the flow table.
    pub(crate) fn flows(&self) -> usize {
        self.shared.flows.map().len()
    }

    /// Connections of which one direction is gone, and when the entry idle for longest was used last.
    pub(crate) fn halves_and_oldest(&self) -> (usize, Seconds) {
        let map = self.shared.flows.map();
        let has_partner = |entry: &Entry| {
            let key = FlowKey::unpack(&entry.key).unwrap();
            let partner = Flow::unpack(entry.slot, entry.value).partner_key(&key).pack();
            map.lookup(&partner, map.hash(&partner)).is_some()
        };
        let is_connection =
            |entry: &Entry| FlowKey::unpack(&entry.key).is_some_and(|key| key.kind == Kind::Ports);
        let halves = map.iter().filter(|entry| is_connection(entry) && !has_partner(entry)).count();
        (halves, map.iter().map(|entry| entry.last_seen).min().unwrap_or(self.now))
    }

    /// Takes a port away from all workers.
    pub(crate) fn unplug(&mut self, at: At) {
        for node in &mut self.nodes {
            node.worker.detach(at.port());
            node.outsides.remove(&at.port());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let thread = std::thread::current();
            match self.capture.write(thread.name().unwrap_or("walk")) {
                Ok(path) => eprintln!("all frames of this walk: {}", path.display()),
                Err(error) => eprintln!("no capture of this walk: {error}"),
            }
        }
    }
}

impl Node {
    fn new(shared: &Arc<Shared>, chunks: u32, room: usize, first_chunk: u32) -> Self {
        let pool = |area| Pool::new(area, chunks).unwrap();
        let pools = Pools { pods: pool(AreaId::Pods), uplink: pool(AreaId::Uplink) };
        let mut worker = Worker::new(Arc::clone(shared), pools, WorkerStats::new());
        let (mut outsides, mut counters) = (BTreeMap::new(), BTreeMap::new());
        for at in At::PORTS {
            let area = if at == At::Wire { AreaId::Uplink } else { AreaId::Pods };
            let (port, outside) = MemoryPort::new(area, capabilities(at));
            let port = port.with_room(room).with_first_chunk(first_chunk);
            counters.insert(at.port(), Arc::clone(port.counters()));
            worker.attach(at.port(), Box::new(port));
            outsides.insert(at.port(), outside);
        }
        Self { worker, outsides, counters }
    }
}

fn capabilities(at: At) -> Capabilities {
    Capabilities {
        superframes: matches!(at, At::Host | At::PodA | At::PodB),
        partial_checksums: matches!(at, At::Host | At::PodA),
        cuts_segments: false,
    }
}

impl Outcome {
    /// Exactly this came out, in this order at each place, and exactly this was dropped.
    #[track_caller]
    pub(crate) fn is(&self, out: &[(At, Packet)], drops: &[DropReason]) {
        let mut expected_drops = BTreeMap::new();
        for reason in drops {
            *expected_drops.entry(reason.label()).or_insert(0) += 1;
        }
        let same =
            |((at, got), (to, expected)): (&(At, Packet), &(At, Packet))| at == to && expected.describes(got);
        let alike = out.len() == self.out.len() && self.out.iter().zip(out).all(same);
        assert!(
            alike && self.drops == expected_drops,
            "expected {out:#?}\n dropped {expected_drops:?}\n got {:#?}\n dropped {:?}",
            self.out,
            self.drops
        );
    }

    /// The only packet that came out, when nothing was dropped.
    #[track_caller]
    pub(crate) fn only(mut self, at: At) -> Packet {
        assert!(
            self.drops.is_empty() && self.out.len() == 1 && self.out[0].0 == at,
            "expected one packet at {at:?}: {self:#?}"
        );
        self.out.remove(0).1
    }

    /// All packets, when nothing was dropped and all came out at one place.
    #[track_caller]
    pub(crate) fn all(self, at: At) -> Vec<Packet> {
        assert!(
            self.drops.is_empty() && self.out.iter().all(|(a, _)| *a == at),
            "not all at {at:?}: {self:#?}"
        );
        self.out.into_iter().map(|(_, packet)| packet).collect()
    }
}
