//! Counters: one writer each (the worker), any number of readers, no contended cache line.
//!
//! They only ever grow; rates are made by readers. Without the feature `counters` they are compiled out, to measure what
//! they cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use crossbeam::utils::CachePadded;

use crate::drop_reason::DropReason;
use crate::frames::{AreaId, Ledger};
use crate::observe::{Clock, Example, StageId, Ticks};

/// A number that one thread writes and others read: a plain store, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning worker may call it.
    #[inline]
    pub fn add(&self, n: u64) {
        if cfg!(not(feature = "counters")) {
            return;
        }
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Replaces the value; only the owner may call it.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that any thread may add to, now and then and not for every packet. Snapshots of the tables share it; it is no
/// part of what they say, so any two are equal.
#[derive(Clone, Debug, Default)]
pub struct Total(Arc<AtomicU64>);

impl Total {
    /// Adds.
    pub fn add(&self, n: u64) {
        if cfg!(feature = "counters") {
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl PartialEq for Total {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Total {}

/// One worker's counters of one port, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
#[allow(missing_docs, reason = "the names say it; frames are what crossed the port, whole chains")]
pub struct PortCounters {
    pub rx_frames: Counter,
    pub rx_bytes: Counter,
    pub rx_superframes: Counter,
    pub tx_frames: Counter,
    pub tx_bytes: Counter,
    pub tx_superframes: Counter,
    /// Kernel: frames lost because the receive ring was full.
    pub rx_ring_full: Counter,
    /// Kernel: frames lost because no chunk was free.
    pub fill_ring_empty: Counter,
    /// Kernel: descriptors it would not send.
    pub tx_invalid: Counter,
    /// System calls that started transmission.
    pub kicks: Counter,
    /// Frames dropped because the transmit ring was full.
    pub tx_ring_full: Counter,
    /// Frames that came in here, or should have left, and were dropped.
    pub drops: Drops,
}

/// Frames dropped, by reason.
#[derive(Debug)]
pub struct Drops([Counter; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Drops {
    /// Counts one.
    #[inline]
    pub fn add(&self, reason: DropReason) {
        self.0[reason as usize].add(1);
    }

    /// Those of a reason.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].get()
    }
}

/// One worker's counters.
pub struct WorkerStats {
    hot: CachePadded<Hot>,
    drops: CachePadded<Drops>,
    stages: CachePadded<[StageCost; StageId::COUNT]>,
    examples: [ArcSwapOption<Example>; REASONS],
    ledgers: [ArcSwapOption<Ledger>; 2],
    clock: Clock,
    started: Ticks,
}

const REASONS: usize = DropReason::ALL.len();

/// What a stage took of the turns in which it was measured.
#[derive(Debug, Default)]
pub struct StageCost {
    /// Time.
    pub ticks: Counter,
    /// Packets.
    pub packets: Counter,
}

/// Numbers sorted by size into classes that double, each with a count; the last class has no bound.
#[derive(Debug)]
pub struct Histogram<const N: usize>([Counter; N]);

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> Histogram<N> {
    /// Counts a number: 0 and 1 in the first class, 2 in the second, 3 and 4 in the third, and so on.
    #[inline]
    pub fn add(&self, n: u64) {
        let class = (u64::BITS - n.saturating_sub(1).leading_zeros()) as usize;
        self.0[class.min(N - 1)].add(1);
    }

    /// All classes.
    pub fn classes(&self) -> Vec<u64> {
        self.0.iter().map(Counter::get).collect()
    }
}

/// Counters that move in every loop.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Hot {
    pub loops: Counter,
    /// Turns that had frames.
    pub bursts: Counter,
    pub frames: Counter,
    /// Ticks of turns that had frames.
    pub busy: Counter,
    /// Frames of a port's burst: 1, 2, 3 to 4, up to 33 to 64.
    pub burst_sizes: Histogram<7>,
    /// Microseconds of turns that had frames: 1 or less, 2, 3 to 4, and so on.
    pub turn_durations: Histogram<16>,
    pub sleeps: Counter,
    pub flow_hits: Counter,
    pub flow_misses: Counter,
    pub flows_inserted: Counter,
    pub flows_evicted: Counter,
    pub flows_expired: Counter,
    /// Connections to Services that were begun.
    pub service_connections: Counter,
    pub segments_out: Counter,
    pub segments_in: Counter,
    pub checksums_completed: Counter,
    pub icmp_errors_sent: Counter,
    /// About packets that must not be answered, or above the limit.
    pub icmp_errors_withheld: Counter,
    pub to_host: Counter,
}

impl WorkerStats {
    /// All zero.
    pub fn new() -> Arc<Self> {
        let clock = Clock::new();
        Arc::new(Self {
            hot: CachePadded::default(),
            drops: CachePadded::default(),
            stages: CachePadded::default(),
            examples: std::array::from_fn(|_| ArcSwapOption::empty()),
            ledgers: [ArcSwapOption::empty(), ArcSwapOption::empty()],
            started: clock.now(),
            clock,
        })
    }

    /// The clock by which busy time, stages and examples are measured.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Time with frames in hand, and time since the worker was made, in nanoseconds.
    pub fn load(&self) -> (u64, u64) {
        let alive = self.clock.now().since(self.started);
        (self.clock.nanoseconds(Ticks(self.hot.busy.get())), self.clock.nanoseconds(alive))
    }

    /// What a stage took.
    pub fn stage(&self, stage: StageId) -> &StageCost {
        &self.stages[stage.index()]
    }

    /// Keeps an example of a drop.
    pub fn set_example(&self, reason: DropReason, example: Example) {
        self.examples[reason as usize].store(Some(Arc::new(example)));
    }

    /// The last example of a drop.
    pub fn example(&self, reason: DropReason) -> Option<Arc<Example>> {
        self.examples[reason as usize].load_full()
    }

    /// Counters that move in every loop.
    pub fn hot(&self) -> &Hot {
        &self.hot
    }

    /// Counts a drop.
    #[inline]
    pub fn drop_frame(&self, reason: DropReason) {
        self.drops.add(reason);
    }

    /// Frames dropped for `reason`.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops.of(reason)
    }

    /// Publishes where an area's chunks are; once a second, not per packet.
    pub fn publish_ledger(&self, area: AreaId, ledger: Ledger) {
        self.ledgers[area as usize].store(Some(Arc::new(ledger)));
    }

    /// Where an area's chunks were when the worker last said.
    pub fn ledger(&self, area: AreaId) -> Option<Ledger> {
        self.ledgers[area as usize].load().as_deref().copied()
    }
}
