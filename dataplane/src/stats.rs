//! Counters: one writer each (the worker), any number of readers, no contended cache line.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use crossbeam::utils::CachePadded;

use crate::drop_reason::DropReason;
use crate::frames::{AreaId, Ledger};

/// A number that one thread writes and others read: a plain store, no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning worker may call it.
    #[inline]
    pub fn add(&self, n: u64) {
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

/// One worker's counters of one port.
#[derive(Debug, Default)]
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
}

/// One worker's counters.
pub struct WorkerStats {
    hot: CachePadded<Hot>,
    drops: Vec<Counter>,
    ledgers: [ArcSwapOption<Ledger>; 2],
}

/// Counters that move in every loop.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Hot {
    pub loops: Counter,
    pub bursts: Counter,
    pub frames: Counter,
    pub sleeps: Counter,
    pub flow_hits: Counter,
    pub flow_misses: Counter,
    pub flows_inserted: Counter,
    pub flows_evicted: Counter,
    pub flows_expired: Counter,
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
        Arc::new(Self {
            hot: CachePadded::default(),
            drops: DropReason::ALL.iter().map(|_| Counter::default()).collect(),
            ledgers: [ArcSwapOption::empty(), ArcSwapOption::empty()],
        })
    }

    /// Counters that move in every loop.
    pub fn hot(&self) -> &Hot {
        &self.hot
    }

    /// Counts a drop.
    #[inline]
    pub fn drop_frame(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }

    /// Frames dropped for `reason`.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].get()
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
