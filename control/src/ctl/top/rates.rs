//! Rates between two answers of the dataplane.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use headrace_api::proto;
use serde::Serialize;

use crate::observe::point::lost;

/// An idle worker sleeps no longer than 200 ms at a time; in less than this none is said to stand.
const LONG_FOR_A_TURN: Duration = Duration::from_millis(800);

/// What happens in a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rates {
    /// Of the dataplane.
    pub version: String,
    /// Since it runs.
    pub uptime_seconds: u64,
    /// "controller", "saved", "file" or "none".
    pub state_source: String,
    /// Connections in the table, both directions of each.
    pub flow_entries: u64,
    /// By worker.
    pub workers: Vec<Worker>,
    /// By port, busiest first.
    pub ports: Vec<Port>,
    /// By reason, most frequent first; only those that happen.
    pub drops: Vec<Drop>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// A worker in a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Worker {
    /// Its number.
    pub id: u32,
    /// Its core, when it is pinned to one.
    pub core: u32,
    /// Whether it is.
    pub pinned: bool,
    /// Part of the time with packets in hand, 0 to 1.
    pub load: f64,
    /// It did not go round its loop once in a time that even an idle worker does not sleep through.
    pub stands: bool,
    /// Frames received, per second.
    pub frames: f64,
    /// Bits received, per second.
    pub bits: f64,
    /// Frames of a turn that had any.
    pub per_burst: f64,
    /// Frames dropped, per second.
    pub drops: f64,
    /// New connections' entries, per second.
    pub new_flows: f64,
}

impl Worker {
    /// Where it is; one that is not pinned may be anywhere.
    fn name(&self) -> String {
        if self.pinned { format!("core {}", self.core) } else { format!("worker {}", self.id) }
    }
}

/// A port in a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Port {
    /// Its device.
    pub interface: String,
    /// Its pod, or its role.
    pub label: String,
    /// Whether it is open.
    pub ready: bool,
    /// Frames and bits that came in, per second.
    pub rx_frames: f64,
    /// See above.
    pub rx_bits: f64,
    /// Frames and bits that left, per second.
    pub tx_frames: f64,
    /// See above.
    pub tx_bits: f64,
    /// Frames that were dropped, or lost in the kernel, per second.
    pub lost: f64,
}

/// Drops in a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Drop {
    /// Name of the reason.
    pub reason: String,
    /// And its sentence.
    pub meaning: String,
    /// Frames per second.
    pub frames: f64,
}

impl Rates {
    /// Between two answers.
    pub(super) fn between(before: &proto::StatusReply, now: &proto::StatusReply, time: Duration) -> Self {
        // The process was started anew in between: its counters began at 0.
        let restarted = now.uptime_seconds < before.uptime_seconds;
        let nothing = proto::StatusReply::default();
        let before = if restarted { &nothing } else { before };
        let per = PerSecond(time);
        let mut rates = Self {
            version: now.version.clone(),
            uptime_seconds: now.uptime_seconds,
            state_source: now.state_source.clone(),
            flow_entries: now.flows.as_ref().map_or(0, |f| f.live),
            workers: now.workers.iter().map(|w| worker(before, now, w, &per)).collect(),
            ports: now.ports.iter().map(|p| port(before, p, &per)).collect(),
            drops: drops(before, now, &per),
            warnings: now.warnings.clone(),
        };
        rates.ports.sort_by(|a, b| (b.rx_bits + b.tx_bits).total_cmp(&(a.rx_bits + a.tx_bits)));
        rates
    }

    /// Means since the start.
    pub(super) fn since_start(now: &proto::StatusReply) -> Self {
        let time = Duration::from_secs(now.uptime_seconds.max(1));
        Self::between(&proto::StatusReply::default(), now, time)
    }
}

/// One line for those without a terminal.
impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for w in &self.workers {
            if w.stands {
                write!(f, "{} stands still; ", w.name())?;
                continue;
            }
            write!(
                f,
                "{} {:3.0} % {:.3} Mpps {:.3} Gbit/s {:.1} per burst {:.0} drops/s; ",
                w.name(),
                w.load * 100.0,
                w.frames / 1e6,
                w.bits / 1e9,
                w.per_burst,
                w.drops
            )?;
        }
        write!(f, "{} flow entries", self.flow_entries)
    }
}

struct PerSecond(Duration);

impl PerSecond {
    fn of(&self, now: u64, before: u64) -> f64 {
        now.saturating_sub(before) as f64 / self.0.as_secs_f64().max(1e-3)
    }
}

fn worker(
    before: &proto::StatusReply,
    now: &proto::StatusReply,
    w: &proto::WorkerStatus,
    per: &PerSecond,
) -> Worker {
    let nothing = proto::WorkerStatus::default();
    let old = before.workers.iter().find(|o| o.id == w.id).unwrap_or(&nothing);
    let drops = |w: &proto::WorkerStatus| w.drops.iter().map(|d| d.count).sum();
    let bytes = |status: &proto::StatusReply| -> u64 {
        let halves = status.ports.iter().filter_map(|p| p.by_worker.get(w.id as usize));
        halves.map(|c| c.rx_bytes).sum()
    };
    let (busy, alive) = (w.busy_ns.saturating_sub(old.busy_ns), w.alive_ns.saturating_sub(old.alive_ns));
    let bursts = w.bursts.saturating_sub(old.bursts);
    Worker {
        id: w.id,
        core: w.core,
        pinned: w.pinned,
        stands: w.loops == old.loops && per.0 >= LONG_FOR_A_TURN,
        load: if alive == 0 { 0.0 } else { (busy as f64 / alive as f64).min(1.0) },
        frames: per.of(w.frames, old.frames),
        bits: per.of(bytes(now), bytes(before)) * 8.0,
        per_burst: w.frames.saturating_sub(old.frames) as f64 / bursts.max(1) as f64,
        drops: per.of(drops(w), drops(old)),
        new_flows: per.of(w.flows_inserted, old.flows_inserted),
    }
}

fn port(before: &proto::StatusReply, p: &proto::PortStatus, per: &PerSecond) -> Port {
    let old = before.ports.iter().find(|o| o.id == p.id && o.interface == p.interface);
    let lost_before = old.map_or(0, lost);
    let old = old.and_then(|o| o.counters).unwrap_or_default();
    let c = p.counters.unwrap_or_default();
    Port {
        interface: p.interface.clone(),
        label: if p.label.is_empty() { p.role.clone() } else { p.label.clone() },
        ready: p.ready,
        rx_frames: per.of(c.rx_frames, old.rx_frames),
        rx_bits: per.of(c.rx_bytes, old.rx_bytes) * 8.0,
        tx_frames: per.of(c.tx_frames, old.tx_frames),
        tx_bits: per.of(c.tx_bytes, old.tx_bytes) * 8.0,
        lost: per.of(lost(p), lost_before),
    }
}

fn drops(before: &proto::StatusReply, now: &proto::StatusReply, per: &PerSecond) -> Vec<Drop> {
    let sums = |status: &proto::StatusReply| {
        let mut sums: BTreeMap<(String, String), u64> = BTreeMap::new();
        for drop in status.workers.iter().flat_map(|w| &w.drops) {
            *sums.entry((drop.name.clone(), drop.meaning.clone())).or_default() += drop.count;
        }
        sums
    };
    let old = sums(before);
    let rate = |(key, count): ((String, String), u64)| {
        let frames = per.of(count, old.get(&key).copied().unwrap_or(0));
        Drop { reason: key.0, meaning: key.1, frames }
    };
    let mut drops: Vec<_> = sums(now).into_iter().map(rate).filter(|d| d.frames > 0.0).collect();
    drops.sort_by(|a, b| b.frames.total_cmp(&a.frames));
    drops
}
