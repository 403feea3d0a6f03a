//! What a worker shows of its work: counters, costs of stages, examples of drops, and whole packets to whoever asks.
//!
//! [`Observer`] is the worker's side: everything that happens to a frame passes one of its methods. While nobody looks,
//! each costs a counter and a branch. [`tap`] is what somebody who looks brings along.

mod clock;
mod stage;
pub mod tap;
pub mod view;

use std::cell::{Cell, RefCell};
use std::sync::Arc;

pub use clock::{Clock, Ticks};
pub use stage::StageId;

use crate::burst::{Burst, Packet};
use crate::drop_reason::DropReason;
use crate::frames::{Frame, Pool, Pools};
use crate::port::{PortIndex, Received};
use crate::stats::{Hot, PortCounters, WorkerStats};
use tap::{Crossing, Tap, Taps};

/// Stages are measured in one busy turn of this many.
const SAMPLE: u32 = 64;

/// Bytes that are kept of an example.
const EXAMPLE: usize = 192;

/// A dropped frame of which a part was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// When.
    pub at: Ticks,
    /// Where it came in, or should have left.
    pub port: PortIndex,
    /// Its length.
    pub len: u32,
    /// Its beginning.
    pub bytes: Box<[u8]>,
}

/// The worker's side. It belongs to one thread.
pub struct Observer {
    stats: Arc<WorkerStats>,
    turn_began: Cell<Ticks>,
    lap_began: Cell<Ticks>,
    /// Busy turns until stages are measured again.
    countdown: Cell<u32>,
    /// Whether somebody looks at packets.
    watched: Cell<bool>,
    taps: RefCell<Taps>,
    /// This worker's halves of ports, by their slots.
    ports: RefCell<Vec<Option<Arc<PortCounters>>>>,
    /// Reasons of which no example was kept since the last call of [`Observer::renew`], as bits.
    wanted_examples: Cell<u64>,
}

const _: () = assert!(DropReason::ALL.len() <= u64::BITS as usize);

impl Observer {
    /// Over counters that others may read.
    pub fn new(stats: Arc<WorkerStats>) -> Self {
        let now = stats.clock().now();
        Self {
            stats,
            turn_began: Cell::new(now),
            lap_began: Cell::new(now),
            countdown: Cell::new(SAMPLE),
            watched: Cell::new(false),
            taps: RefCell::default(),
            ports: RefCell::default(),
            wanted_examples: Cell::new(u64::MAX),
        }
    }

    /// A port has come into its slot, or gone from it: what is dropped there counts as its own.
    pub fn port_is(&self, index: PortIndex, counters: Option<Arc<PortCounters>>) {
        let (mut ports, slot) = (self.ports.borrow_mut(), usize::from(index.0));
        if ports.len() <= slot {
            ports.resize(slot + 1, None);
        }
        ports[slot] = counters;
    }

    /// The counters.
    pub fn stats(&self) -> &Arc<WorkerStats> {
        &self.stats
    }

    /// Counters that move in every loop.
    #[inline]
    pub fn hot(&self) -> &Hot {
        self.stats.hot()
    }

    /// A turn of the loop begins.
    #[inline]
    pub fn turn_begins(&self) {
        if cfg!(feature = "counters") {
            let now = self.stats.clock().now();
            self.turn_began.set(now);
            self.lap_began.set(now);
        }
    }

    /// A turn ends that had so many frames.
    #[inline]
    pub fn turn_ends(&self, frames: usize) {
        let hot = self.hot();
        hot.loops.add(1);
        if frames == 0 || cfg!(not(feature = "counters")) {
            return;
        }
        hot.bursts.add(1);
        hot.frames.add(frames as u64);
        self.lap(StageId::TRANSMIT, frames);
        let took = self.stats.clock().now().since(self.turn_began.get());
        hot.busy.add(took.0);
        hot.turn_durations.add(self.stats.clock().nanoseconds(took).div_ceil(1000));
        let left = self.countdown.get();
        self.countdown.set(if left == 0 { SAMPLE - 1 } else { left - 1 });
    }

    /// A stage has dealt with so many packets.
    #[inline]
    pub fn lap(&self, stage: StageId, packets: usize) {
        if self.countdown.get() == 0 && packets > 0 {
            self.measure(stage, packets);
        }
    }

    /// A stage of the pipeline has dealt with a burst.
    #[inline]
    pub fn walked(&self, stage: StageId, burst: &Burst) {
        self.lap(stage, burst.len());
        if self.watched.get() {
            self.taps.borrow_mut().walked(stage, burst, self.stats.clock().now());
        }
    }

    /// A port has received frames.
    #[inline]
    pub fn received(&self, port: PortIndex, pool: &Pool, frames: &Received) {
        self.hot().burst_sizes.add(frames.len() as u64);
        self.lap(StageId::RECEIVE, frames.len());
        if self.watched.get() {
            let mut taps = self.taps.borrow_mut();
            taps.burst_begins(self.stats.clock().now());
            for frame in frames {
                taps.crosses(Crossing::In, port, pool, frame, self.stats.clock().now());
            }
        }
    }

    /// A frame was admitted as this packet. Returns the mark by which it is known to those who follow it; 0 = nobody.
    #[inline]
    pub fn admitted(&self, packet: &Packet) -> u16 {
        if self.watched.get() { self.taps.borrow_mut().admitted(packet, self.stats.clock().now()) } else { 0 }
    }

    /// What leaves from here on, or is dropped, comes of the packet with this mark.
    #[inline]
    pub fn carries(&self, packet: &Packet) {
        if self.watched.get() {
            self.taps.borrow_mut().carries(packet.mark);
        }
    }

    /// The burst is at its end.
    #[inline]
    pub fn carried(&self, packets: usize) {
        self.lap(StageId::OUTPUT, packets);
        if self.watched.get() {
            self.taps.borrow_mut().burst_ends(self.stats.clock().now());
        }
    }

    /// A frame leaves by a port.
    #[inline]
    pub fn sends(&self, port: PortIndex, pool: &Pool, frame: &Frame) {
        if self.watched.get() {
            self.taps.borrow_mut().crosses(Crossing::Out, port, pool, frame, self.stats.clock().now());
        }
    }

    /// A frame ends here.
    #[inline]
    pub fn end(&self, port: PortIndex, pools: &mut Pools, frame: Frame, reason: DropReason) {
        self.dropped(port, pools, &frame, reason);
        pools.free(frame);
    }

    /// Counts a drop of a frame that somebody else frees, because its bytes are still needed.
    #[inline]
    pub fn dropped(&self, port: PortIndex, pools: &Pools, frame: &Frame, reason: DropReason) {
        self.stats.drop_frame(reason);
        if let Some(Some(counters)) = self.ports.borrow().get(usize::from(port.0)) {
            counters.drops.add(reason);
        }
        let wanted = self.wanted_examples.get() & (1 << reason as u64) != 0;
        if wanted || self.watched.get() {
            self.show_drop(port, pools.get(frame.area()), frame, reason);
        }
    }

    /// Lets further examples of drops be kept; called about once a second.
    pub fn renew(&self) {
        self.wanted_examples.set(u64::MAX);
    }

    /// Somebody begins to look.
    pub fn watch(&self, tap: Tap) {
        self.taps.borrow_mut().add(tap);
        self.watched.set(true);
    }

    /// Somebody has seen enough.
    pub fn unwatch(&self, id: u64) {
        self.watched.set(self.taps.borrow_mut().remove(id));
    }

    #[cold]
    fn measure(&self, stage: StageId, packets: usize) {
        let now = self.stats.clock().now();
        let cost = self.stats.stage(stage);
        cost.ticks.add(now.since(self.lap_began.replace(now)).0);
        cost.packets.add(packets as u64);
    }

    #[cold]
    fn show_drop(&self, port: PortIndex, pool: &Pool, frame: &Frame, reason: DropReason) {
        let at = self.stats.clock().now();
        if self.watched.get() {
            self.taps.borrow_mut().crosses(Crossing::Dropped(reason), port, pool, frame, at);
        }
        let bit = 1 << reason as u64;
        if self.wanted_examples.get() & bit != 0 {
            self.wanted_examples.set(self.wanted_examples.get() & !bit);
            let mut bytes = Vec::with_capacity(EXAMPLE);
            view::copy(pool, frame, EXAMPLE, &mut bytes);
            let example = Example { at, port, len: frame.len() as u32, bytes: bytes.into() };
            self.stats.set_example(reason, example);
        }
    }
}
