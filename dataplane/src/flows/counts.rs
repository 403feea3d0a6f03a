//! Frames and bytes of each flow, beside the table: they belong to this process and begin anew with it.
//!
//! A worker adds once for a run of packets of one flow, without a lock: should two workers carry packets of one direction at
//! the same moment, one of them may count for nothing. What is known of TCP's [`Progress`] lies in the same cache line.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use headrace_flowmap::{Slot, prefetch_read};

use super::Seconds;
use super::progress::Progress;

/// What was carried of one direction of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Frames.
    pub frames: u64,
    /// Bytes of IP packets.
    pub bytes: u64,
    /// Since when.
    pub since: Seconds,
}

#[derive(Default)]
#[repr(align(32))]
struct Count {
    frames: AtomicU64,
    bytes: AtomicU64,
    since: AtomicU32,
    progress: AtomicU64,
}

/// Counts of all flows, by slot.
pub(super) struct Counts(Box<[Count]>);

impl Counts {
    pub(super) fn new(capacity: usize) -> Self {
        Self((0..capacity).map(|_| Count::default()).collect())
    }

    /// A flow moves into a slot.
    pub(super) fn begin(&self, slot: Slot, now: Seconds) {
        if let Some(count) = self.0.get(slot.raw() as usize) {
            count.frames.store(0, Relaxed);
            count.bytes.store(0, Relaxed);
            count.since.store(now, Relaxed);
            Progress::default().store(&count.progress);
        }
    }

    /// How far a direction of TCP has come.
    pub(super) fn progress(&self, slot: Slot) -> Progress {
        self.0.get(slot.raw() as usize).map_or_else(Progress::default, |c| Progress::load(&c.progress))
    }

    /// Changes how far a direction of TCP has come.
    #[inline]
    pub(super) fn advance(&self, slot: Slot, change: impl FnOnce(Progress) -> Progress) {
        if let Some(count) = self.0.get(slot.raw() as usize) {
            change(Progress::load(&count.progress)).store(&count.progress);
        }
    }

    /// Begins to load the line of a flow whose packet is about to touch it: with many flows it is in no cache.
    #[inline]
    pub(super) fn prefetch(&self, slot: Slot) {
        if let Some(count) = self.0.get(slot.raw() as usize) {
            prefetch_read(count);
        }
    }

    pub(super) fn get(&self, slot: Slot) -> Carried {
        self.0.get(slot.raw() as usize).map_or_else(Carried::default, |count| Carried {
            frames: count.frames.load(Relaxed),
            bytes: count.bytes.load(Relaxed),
            since: count.since.load(Relaxed),
        })
    }

    pub(super) fn add(&self, slot: Slot, frames: u64, bytes: u64) {
        if let Some(count) = self.0.get(slot.raw() as usize) {
            count.frames.store(count.frames.load(Relaxed) + frames, Relaxed);
            count.bytes.store(count.bytes.load(Relaxed) + bytes, Relaxed);
        }
    }
}

/// Adds up a burst's packets, run by run of one flow. Parts of their own: what is written in parts and read as a whole waits
/// for the processor's store buffer.
pub struct Tally<'a> {
    counts: &'a Counts,
    slot: Cell<u32>,
    frames: Cell<u64>,
    bytes: Cell<u64>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(counts: &'a Counts) -> Self {
        Self { counts, slot: Cell::new(u32::MAX), frames: Cell::new(0), bytes: Cell::new(0) }
    }

    /// A packet of a flow.
    #[inline]
    pub fn add(&self, slot: Slot, bytes: u16) {
        if cfg!(not(feature = "counters")) {
            return;
        }
        if self.slot.get() == slot.raw() {
            self.frames.set(self.frames.get() + 1);
            self.bytes.set(self.bytes.get() + u64::from(bytes));
        } else {
            self.end();
            self.slot.set(slot.raw());
            self.frames.set(1);
            self.bytes.set(bytes.into());
        }
    }

    fn end(&self) {
        self.counts.add(Slot::from_raw(self.slot.get()), self.frames.get(), self.bytes.get());
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
