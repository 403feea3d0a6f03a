//! Rates between two looks: what the dashboard draws over time.
//!
//! Counters of a dataplane that was started again begin at 0; a counter that went back counts from 0. Only what moved is
//! kept, and at most [`PORTS`] ports and [`PEERS`] other nodes: the busiest.

use std::collections::BTreeMap;
use std::time::Duration;

use headrace_api::proto::{PeerCounters, PortStatus, StatusReply, WorkerStatus};
use serde::Serialize;

/// Ports in one point.
pub const PORTS: usize = 64;

/// Other nodes in one point.
pub const PEERS: usize = 64;

/// One second of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Since 1970, in milliseconds.
    pub at: u64,
    /// Whether the dataplane answered.
    pub up: bool,
    /// In the workers' order.
    pub workers: Vec<WorkerRates>,
    /// By interface, where something moved.
    pub ports: BTreeMap<String, PortRates>,
    /// By the other node's name, where something moved.
    pub peers: BTreeMap<String, PeerRates>,
    /// Frames dropped a second, by reason, where there were any.
    pub drops: BTreeMap<String, f64>,
    /// All drops.
    pub dropped: f64,
    /// Live flows.
    pub flows: u64,
    /// New flows a second.
    pub new_flows: f64,
}

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WorkerRates {
    /// Share of its time with packets in hand, 0 to 1.
    pub load: f64,
    /// Received bits a second.
    pub bps: f64,
    /// Frames a second.
    pub pps: f64,
    /// Frames in a burst, on average.
    pub burst: f64,
    /// Bursts by size, in the contract's classes (WorkerStatus.burst_sizes).
    pub burst_sizes: Vec<u64>,
    /// Turns by duration, in the contract's classes (WorkerStatus.turn_durations).
    pub turn_durations: Vec<u64>,
}

/// One port, seen from the dataplane: received is what the pod or the wire sent. Written as an array.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PortRates {
    /// Received bits a second.
    pub rx_bps: f64,
    /// Sent bits a second.
    pub tx_bps: f64,
    /// Received frames a second.
    pub rx_pps: f64,
    /// Sent frames a second.
    pub tx_pps: f64,
    /// Frames a second that were dropped, or lost in the kernel.
    pub lost: f64,
}

impl Serialize for PortRates {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.rx_bps, self.tx_bps, self.rx_pps, self.tx_pps, self.lost].map(f64::round).serialize(serializer)
    }
}

/// IP packets of one other node, seen from this one. Written as an array.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PeerRates {
    /// Bits a second that come from the other node.
    pub rx_bps: f64,
    /// Bits a second that go to it.
    pub tx_bps: f64,
}

impl Serialize for PeerRates {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.rx_bps, self.tx_bps].map(f64::round).serialize(serializer)
    }
}

impl Point {
    /// The rates from `old` (with the time since) to `new`; none where either is missing.
    pub fn new(at: u64, old: Option<(Duration, &StatusReply)>, new: Option<&StatusReply>) -> Self {
        let Some(new) = new else { return Self { at, ..Self::default() } };
        let alone = Self { at, up: true, flows: live(new), ..Self::default() };
        let Some((elapsed, old)) = old.filter(|(elapsed, _)| !elapsed.is_zero()) else { return alone };
        let rate = Rate(elapsed.as_secs_f64());
        let drops = drops(rate, old, new);
        Self {
            workers: (0..new.workers.len()).map(|i| worker_rates(rate, (old, new), i)).collect(),
            ports: ports(rate, old, new),
            peers: peers(rate, old, new),
            // An empty sum of floating point numbers is -0.
            dropped: drops.values().fold(0.0, |sum, rate| sum + rate),
            drops,
            new_flows: rate.of(inserted(old), inserted(new)),
            ..alone
        }
    }
}

/// Counters to rates: holds the seconds between two looks.
#[derive(Clone, Copy)]
struct Rate(f64);

impl Rate {
    /// Per second, to a tenth: more digits are noise.
    fn of(self, old: u64, new: u64) -> f64 {
        let moved = new.checked_sub(old).unwrap_or(new);
        (moved as f64 / self.0 * 10.0).round() / 10.0
    }
}

fn worker_rates(rate: Rate, (old, new): (&StatusReply, &StatusReply), index: usize) -> WorkerRates {
    let (nothing, worker) = (WorkerStatus::default(), &new.workers[index]);
    let before = old.workers.iter().find(|w| w.id == worker.id).unwrap_or(&nothing);
    let (pps, bursts) = (rate.of(before.frames, worker.frames), rate.of(before.bursts, worker.bursts));
    let (busy, alive) = (rate.of(before.busy_ns, worker.busy_ns), rate.of(before.alive_ns, worker.alive_ns));
    let bytes = |status: &StatusReply| {
        status.ports.iter().filter_map(|port| port.by_worker.get(index)).map(|c| c.rx_bytes).sum()
    };
    WorkerRates {
        // A turn counts when it ends, however long it was kept off its core.
        load: share(busy, alive).min(1.0),
        bps: 8.0 * rate.of(bytes(old), bytes(new)),
        pps,
        burst: share(pps, bursts),
        burst_sizes: moved(&before.burst_sizes, &worker.burst_sizes),
        turn_durations: moved(&before.turn_durations, &worker.turn_durations),
    }
}

/// To a thousandth; 0 of nothing.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole * 1000.0).round() / 1000.0 } else { 0.0 }
}

/// What was added to each class of a histogram.
fn moved(old: &[u64], new: &[u64]) -> Vec<u64> {
    let before = old.iter().copied().chain(std::iter::repeat(0));
    new.iter().zip(before).map(|(new, old)| new.checked_sub(old).unwrap_or(*new)).collect()
}

fn ports(rate: Rate, old: &StatusReply, new: &StatusReply) -> BTreeMap<String, PortRates> {
    let before: BTreeMap<&str, &PortStatus> =
        old.ports.iter().map(|port| (port.interface.as_str(), port)).collect();
    let nothing = PortStatus::default();
    let rates = new.ports.iter().map(|port| {
        let name = port.interface.as_str();
        (name, port_rates(rate, before.get(name).copied().unwrap_or(&nothing), port))
    });
    // A port that loses all is no idle one.
    busiest(rates, PORTS, |rates| rates.rx_bps + rates.tx_bps + rates.lost)
}

fn peers(rate: Rate, old: &StatusReply, new: &StatusReply) -> BTreeMap<String, PeerRates> {
    let before: BTreeMap<&str, PeerCounters> =
        old.peers.iter().filter_map(|peer| Some((peer.name.as_str(), peer.traffic?))).collect();
    let rates = new.peers.iter().filter_map(|peer| {
        let (name, new) = (peer.name.as_str(), peer.traffic?);
        let old = before.get(name).copied().unwrap_or_default();
        let rx_bps = 8.0 * rate.of(old.rx_bytes, new.rx_bytes);
        let tx_bps = 8.0 * rate.of(old.tx_bytes, new.tx_bytes);
        Some((name, PeerRates { rx_bps, tx_bps }))
    });
    busiest(rates, PEERS, |rates| rates.rx_bps + rates.tx_bps)
}

/// Those that move, the `limit` that move most.
fn busiest<'a, T: Default + PartialEq>(
    rates: impl Iterator<Item = (&'a str, T)>,
    limit: usize,
    weight: fn(&T) -> f64,
) -> BTreeMap<String, T> {
    let mut moved: Vec<(&str, T)> = rates.filter(|(_, rates)| *rates != T::default()).collect();
    moved.sort_by(|(_, a), (_, b)| weight(b).total_cmp(&weight(a)));
    moved.truncate(limit);
    moved.into_iter().map(|(name, rates)| (name.to_owned(), rates)).collect()
}

fn port_rates(rate: Rate, old_port: &PortStatus, new_port: &PortStatus) -> PortRates {
    let (old, new) = (old_port.counters.unwrap_or_default(), new_port.counters.unwrap_or_default());
    PortRates {
        lost: rate.of(lost(old_port), lost(new_port)),
        rx_bps: 8.0 * rate.of(old.rx_bytes, new.rx_bytes),
        tx_bps: 8.0 * rate.of(old.tx_bytes, new.tx_bytes),
        rx_pps: rate.of(old.rx_frames, new.rx_frames),
        tx_pps: rate.of(old.tx_frames, new.tx_frames),
    }
}

/// Frames of a port that were not carried on; a full transmit ring is among the reasons of drops.
pub fn lost(port: &PortStatus) -> u64 {
    let c = port.counters.unwrap_or_default();
    c.rx_ring_full + c.fill_ring_empty + c.tx_invalid + port.drops.iter().map(|drop| drop.count).sum::<u64>()
}

fn drops(rate: Rate, old: &StatusReply, new: &StatusReply) -> BTreeMap<String, f64> {
    let sums = |status: &StatusReply| {
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        for drop in status.workers.iter().flat_map(|worker| &worker.drops) {
            *sums.entry(drop.name.clone()).or_default() += drop.count;
        }
        sums
    };
    let before = sums(old);
    let rates = sums(new).into_iter().map(|(reason, count)| {
        let per_second = rate.of(before.get(&reason).copied().unwrap_or_default(), count);
        (reason, per_second)
    });
    rates.filter(|(_, per_second)| *per_second > 0.0).collect()
}

fn live(status: &StatusReply) -> u64 {
    status.flows.as_ref().map_or(0, |flows| flows.live)
}

fn inserted(status: &StatusReply) -> u64 {
    status.flows.as_ref().map_or(0, |flows| flows.inserted)
}
