//! The cases: one base, and around it one thing varied at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use headrace_dataplane::frames::{AreaId, Pool};
use headrace_dataplane::port::BURST;
use headrace_dataplane::worker::Worker;
use headrace_wire::vxlan::ENCAP_LEN;

use crate::packets::{tcp, tunnelled, udp};
use crate::{LoopPort, NEIGHBOUR, Node, POD, REMOTE, SERVICE, Size, Source, Vary};

/// Payload of a datagram whose frame has 64 bytes with its checksum, as NICs count.
const SMALL: usize = 18;
/// Ethernet, IPv4 and UDP header, and Ethernet's checksum.
const OVERHEAD: usize = 46;
/// Payload of a segment that fills a packet between pods.
const SEGMENT: u32 = 1410;
/// Segments of a superframe.
const SEGMENTS: u32 = 45;
/// Places of an order: a power of two, more than caches remember.
const ORDER: usize = 1 << 20;

/// What a worker does with every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Parses it and drops it, since it has another's source address.
    ParseOnly,
    /// To a pod of the same node.
    Forward,
    /// To a pod of the other node.
    VxlanOut,
    /// To a Service, whose endpoint is a pod of the other node: translated and put in the tunnel.
    Service,
    /// From the other node to a pod.
    VxlanIn,
    /// A superframe to the other node: cut into segments, each of them put in the tunnel.
    Segment,
    /// Segments from the other node to a pod: put together.
    Coalesce,
    /// A superframe to a pod of the same node.
    ForwardSuperframe,
}

/// How packets are spread over flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Evenly, at random.
    Random,
    /// The n-th most frequent flow has 1/n of the packets that the most frequent one has (Zipf's law).
    Zipf,
    /// Every packet begins a flow.
    New,
}

/// One case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// What is done.
    pub way: Way,
    /// Length of frames, where the way leaves a choice.
    pub bytes: usize,
    /// Number of flows.
    pub flows: u32,
    /// Their order.
    pub order: Order,
    /// Frames of a burst.
    pub burst: usize,
    /// What else is on the node.
    pub size: Size,
}

/// A case that is ready to run.
pub struct Ready {
    /// The node, for more workers and for forgetting flows.
    pub node: Node,
    /// The worker.
    pub worker: Worker,
    /// Packets of each turn.
    pub packets: u64,
}

impl Case {
    /// 64 bytes in full bursts, 10 000 flows that come at random and are known.
    pub fn of(way: Way) -> Self {
        let flows = 10_000;
        Self { way, bytes: 64, flows, order: Order::Random, burst: BURST, size: Size::default() }
    }

    /// For people and for the result.
    pub fn name(&self) -> String {
        let way = match self.way {
            Way::ParseOnly => "parse only",
            Way::Forward => "forward",
            Way::VxlanOut => "VXLAN out",
            Way::Service => "Service and VXLAN out",
            Way::VxlanIn => "VXLAN in",
            Way::Segment => return "segment 64 KB into VXLAN, each segment".to_owned(),
            Way::Coalesce => return "coalesce 45 segments from VXLAN, each segment".to_owned(),
            Way::ForwardSuperframe => return "forward 64 KB, each frame".to_owned(),
        };
        let flows = match self.order {
            Order::New if self.size.table < Size::default().table => "new flows, full table".to_owned(),
            Order::New => "new flows".to_owned(),
            _ if self.flows == 1 => "1 flow".to_owned(),
            Order::Random => format!("{} flows", self.flows),
            Order::Zipf => format!("{} flows (Zipf)", self.flows),
        };
        let burst = if self.burst == BURST { String::new() } else { format!(", bursts of {}", self.burst) };
        format!("{way}, {} B, {flows}{burst}", self.bytes)
    }

    /// Makes the node and runs it until all flows are known.
    ///
    /// # Panics
    /// When packets do not go where the case sends them.
    pub fn ready(&self) -> Ready {
        let node = Node::new(&self.table());
        let mut worker = self.worker(&node, 0);
        for _ in 0..self.warm_up() / self.burst.max(1) {
            worker.turn(1);
        }
        Ready { node, worker, packets: self.packets() }
    }

    /// One more worker on `node`; `number` makes its flows its own, as a NIC's queues do.
    ///
    /// # Panics
    /// When packets do not go where the case sends them.
    pub fn worker(&self, node: &Node, number: u32) -> Worker {
        let (from_pod, from_wire) = self.sources(number);
        let (mut worker, sent) = node.worker(from_pod, from_wire);
        worker.turn(1);
        let sent = [&sent.uplink, &sent.pods[0], &sent.pods[1]].map(|count| count.load(Ordering::Relaxed));
        let as_meant = match self.way {
            Way::ParseOnly => sent == [0, 0, 0],
            Way::Forward | Way::ForwardSuperframe => sent[1] == self.burst as u64,
            Way::VxlanOut | Way::Service => sent[0] == self.burst as u64,
            Way::Segment => sent[0] >= self.packets(),
            Way::VxlanIn => sent[2] == self.burst as u64,
            // Those of one burst become one or two frames.
            Way::Coalesce => (1..8).contains(&sent[2]),
        };
        assert!(as_meant, "{}: {} frames came, {sent:?} were sent", self.name(), self.burst);
        worker
    }

    /// The port of the pod that packets come from, and memory for them.
    ///
    /// # Panics
    /// When memory is short.
    pub fn port_alone(&self) -> (LoopPort, Pool) {
        let pool = Pool::new(AreaId::Pods, 8192).expect("memory for frames");
        (LoopPort::new(AreaId::Pods, self.sources(0).0), pool)
    }

    /// Packets of each turn, as the figures count them.
    pub fn packets(&self) -> u64 {
        match self.way {
            Way::Segment => self.burst as u64 * u64::from(SEGMENTS),
            _ => self.burst as u64,
        }
    }

    /// A table where all flows have room, unless it shall be full.
    fn table(&self) -> Size {
        let needed = (self.flows as usize * 4).next_power_of_two();
        let table = if self.order == Order::New { self.size.table } else { self.size.table.max(needed) };
        Size { table, ..self.size }
    }

    fn warm_up(&self) -> usize {
        match self.order {
            _ if self.flows == 1 => 20_000,
            Order::New => self.size.table,
            Order::Random | Order::Zipf => ORDER,
        }
    }

    fn sources(&self, worker: u32) -> (Source, Source) {
        let payload = self.bytes.max(SMALL + OVERHEAD) - OVERHEAD;
        let (template, start) = match self.way {
            Way::ParseOnly => (udp(std::net::Ipv4Addr::new(10, 244, 1, 99), (NEIGHBOUR, 80), 0, payload), 0),
            Way::Forward => (udp(POD, (NEIGHBOUR, 80), 0, payload), 0),
            Way::VxlanOut => (udp(POD, (REMOTE, 80), 0, payload), 0),
            Way::Service => (udp(POD, (SERVICE, 80), 0, payload), 0),
            Way::VxlanIn => (tunnelled(udp(REMOTE, (POD, 80), 0, payload)), ENCAP_LEN),
            Way::Segment => (tcp(POD, REMOTE, (SEGMENT * SEGMENTS) as usize), 0),
            Way::Coalesce => (tunnelled(tcp(REMOTE, POD, SEGMENT as usize)), ENCAP_LEN),
            Way::ForwardSuperframe => (tcp(POD, NEIGHBOUR, (SEGMENT * SEGMENTS) as usize), 0),
        };
        let source = Source { templates: vec![template], start, vary: self.vary(worker), burst: self.burst };
        match self.way {
            Way::VxlanIn | Way::Coalesce => (Source::default(), source),
            _ => (source, Source::default()),
        }
    }

    fn vary(&self, worker: u32) -> Vary {
        let order = |choose: &dyn Fn(f64) -> u32| {
            let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ u64::from(worker));
            Vary::Flow((0..ORDER).map(|_| worker * self.flows + choose(random.next())).collect())
        };
        match (self.way, self.order) {
            (Way::Segment | Way::ForwardSuperframe | Way::ParseOnly, _) => Vary::Nothing,
            (Way::Coalesce, _) => Vary::Sequence(SEGMENT),
            (_, Order::New) => Vary::NewFlow,
            (_, _) if self.flows == 1 => Vary::Flow(Arc::new([worker])),
            (_, Order::Random) => order(&|x| (x * f64::from(self.flows)) as u32),
            (_, Order::Zipf) => {
                // Of the continuous law: the share of the first n flows is ln(n) / ln(all), so n = all^x.
                order(&|x| f64::from(self.flows).powf(x) as u32 - 1)
            }
        }
    }
}

/// Numbers from 0 to 1 by Marsaglia's xorshift64, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Every case but the series: the base, and each thing varied alone.
pub fn all() -> Vec<Case> {
    let (service, forward) = (Case::of(Way::Service), Case::of(Way::Forward));
    let mut cases: Vec<Case> =
        [Way::ParseOnly, Way::Forward, Way::VxlanOut, Way::VxlanIn, Way::Service].map(Case::of).to_vec();
    let few = |way, burst| Case { flows: 1, burst, ..Case::of(way) };
    // More superframes at once are more segments than a worker has chunks.
    cases.extend([few(Way::ForwardSuperframe, 16), few(Way::Segment, 16), few(Way::Coalesce, 45)]);
    for flows in [1, 1_000_000] {
        cases.extend([Case { flows, ..forward }, Case { flows, ..service }]);
    }
    cases.extend([10_000, 1_000_000].map(|flows| Case { flows, order: Order::Zipf, ..service }));
    cases.extend([1, 32].map(|burst| Case { burst, ..service }));
    for bytes in [512, 1450] {
        cases.extend([forward, service, Case::of(Way::VxlanIn)].map(|case| Case { bytes, ..case }));
    }
    let new = Case { order: Order::New, ..service };
    cases.push(new);
    cases.push(Case { size: Size { table: 1 << 16, ..Size::default() }, ..new });
    cases.push(Case { order: Order::New, ..forward });
    cases
}

/// The cases that are enough for a short look.
pub fn few() -> Vec<Case> {
    let service = Case::of(Way::Service);
    let mut cases =
        [Way::ParseOnly, Way::Forward, Way::VxlanOut, Way::VxlanIn, Way::Service].map(Case::of).to_vec();
    cases.push(Case { flows: 1_000_000, ..service });
    cases.push(Case { order: Order::New, ..service });
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_sends_its_packets_where_it_says() {
        let mut names = Vec::new();
        for case in all() {
            // Fewer flows, for a debug build's sake; `worker` looks where packets go.
            let small = Case { flows: case.flows.min(1000), ..case };
            let node = Node::new(&small.table());
            small.worker(&node, 0).turn(1);
            names.push(case.name());
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "a name stands twice: {names:?}");
    }
}
