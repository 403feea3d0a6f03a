//! The worker: one thread on one core, its own queues on every port, its own memory, one loop.
//!
//! ```text
//! turn: for each port  receive a burst, lend chunks again, run the pipeline, queue what leaves, flush
//! now and then:        expire flows, publish the ledger, carry out commands, sleep when nothing happens
//! ```
//!
//! Workers share the tables (a snapshot, swapped atomically) and the flow table (lock-free reads), nothing else.

mod arrivals;
mod fragments;
mod pace;
mod spawn;
mod waiting;

use std::net::Ipv4Addr;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use crossbeam::channel::Sender;

use crate::burst::Burst;
use crate::drop_reason::DropReason;
use crate::flows::{Expiry, Flows, Seconds};
use crate::frames::{AreaId, Pools};
use crate::observe::Observer;
use crate::pipeline::{self, Context, State, ingress, output};
use crate::port::{Port, PortIndex, PortSet, Received};
use crate::random::Random;
use crate::stats::WorkerStats;
use crate::superframe::Coalescer;
use crate::tables::{Nanos, Tables};
use arrivals::Arrivals;
pub(crate) use pace::uptime;
pub use spawn::{Setup, SpawnError, Window, WorkerHandle, spawn};
pub use waiting::WaitingRoom;

/// A worker's number; its queue number on every port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId(pub u8);

/// What workers share with each other and with the control thread.
pub struct Shared {
    /// The snapshot in force.
    pub tables: Arc<ArcSwap<Tables>>,
    /// All flows.
    pub flows: Flows,
    /// Addresses on the uplink's subnets whose MAC address is wanted; bounded, a full channel loses the question.
    pub asked: Sender<Ipv4Addr>,
}

/// A worker's state. [`spawn`] runs it on a thread; tests call [`Worker::turn`] themselves.
pub struct Worker {
    shared: Arc<Shared>,
    tables: Cache<Arc<ArcSwap<Tables>>, Arc<Tables>>,
    pools: Pools,
    ports: PortSet,
    order: Vec<PortIndex>,
    arrivals: Arrivals,
    observer: Observer,
    state: State,
    coalescer: Coalescer,
    waiting: WaitingRoom,
    expiry: Expiry,
    received: Received,
    burst: Burst,
}

/// What remains of a closed port: chunks in its name.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// Its slot.
    pub index: PortIndex,
    /// The area it used.
    pub area: AreaId,
    /// Whether the device may still write to them.
    pub zero_copy: bool,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Frames received.
    pub frames: usize,
    /// Whether something is still to be sent.
    pub pending: bool,
    /// Whether packets wait for a MAC address.
    pub waiting: bool,
}

impl Worker {
    /// A worker without ports.
    pub fn new(shared: Arc<Shared>, pools: Pools, stats: Arc<WorkerStats>) -> Self {
        Self {
            tables: Cache::new(Arc::clone(&shared.tables)),
            shared,
            pools,
            ports: PortSet::default(),
            order: Vec::new(),
            arrivals: Arrivals::default(),
            observer: Observer::new(stats),
            state: State::default(),
            coalescer: Coalescer::default(),
            waiting: WaitingRoom::default(),
            expiry: Expiry::default(),
            received: Received::new(),
            burst: Burst::new(),
        }
    }

    /// The same worker with choices that can be repeated, for tests.
    #[must_use]
    pub fn with_random(mut self, random: Random) -> Self {
        self.state.random = random;
        self
    }

    /// Tells it the time for bandwidth limits; so exact it is needed once a turn only.
    pub fn set_clock(&mut self, clock: Nanos) {
        self.state.clock = clock;
    }

    /// Once around all ports.
    pub fn turn(&mut self, now: Seconds) -> Turn {
        self.observer.turn_begins();
        let Self { shared, tables, pools, ports, order, observer: stats, state, coalescer, waiting, .. } =
            self;
        let tables: &Tables = tables.load();
        let Some(node) = tables.node.as_deref() else { return self.discard() };
        let (flows, asked) = (&shared.flows, &shared.asked);
        let mut cx = Context { tables, node, flows, pools, stats, now, state, asked };
        let (received, burst) = (&mut self.received, &mut self.burst);
        let mut answers = ingress::Answers::new();
        let mut frames = 0;
        self.arrivals.look();

        if waiting.admit(burst, &mut cx) {
            pipeline::run(burst, &mut cx);
            output::run(burst, ports, coalescer, waiting, &mut cx);
        }
        for &index in order.iter() {
            let Some(port) = ports.get_mut(index) else { continue };
            let pool = cx.pools.get_mut(port.area());
            let silent = port.asks_the_kernel() && !self.arrivals.may_have(index);
            let came = if silent { 0 } else { port.receive(pool, received) };
            port.replenish(pool);
            if came == 0 {
                continue;
            }
            frames += came;
            cx.stats.received(index, cx.pools.get(port.area()), received);
            ingress::run(received, index, burst, &mut answers, &mut cx);
            pipeline::run(burst, &mut cx);
            output::run(burst, ports, coalescer, waiting, &mut cx);
            for (index, frame) in answers.drain(..) {
                ports.transmit(index, cx.pools, frame, cx.stats);
            }
            ports.flush(cx.pools);
        }
        let pending = ports.flush(pools);
        stats.turn_ends(frames);
        Turn { frames, pending, waiting: !waiting.is_empty() }
    }

    /// Puts a port into its slot.
    pub fn attach(&mut self, index: PortIndex, port: Box<dyn Port>) {
        if port.zero_copy() {
            // The queue is bound again: the device has let go of what its former socket lent it.
            self.pools.get_mut(port.area()).release_quarantine();
        }
        if port.asks_the_kernel() {
            port.readiness().into_iter().for_each(|fd| self.arrivals.watch(index, fd));
        }
        self.observer.port_is(index, Some(Arc::clone(port.counters())));
        self.ports.attach(index, port);
        self.order = self.ports.indexes().collect();
    }

    /// Takes a port out. Its chunks stay its own until it is closed and [`Worker::reclaim`] is called: the kernel may
    /// write to them so long.
    pub fn let_go(&mut self, index: PortIndex) -> Option<Box<dyn Port>> {
        let port = self.ports.detach(index);
        self.observer.port_is(index, None);
        self.arrivals.forget(index);
        self.order = self.ports.indexes().collect();
        port
    }

    /// Takes a closed port's chunks back.
    pub fn reclaim(&mut self, closed: Closed) {
        self.pools.get_mut(closed.area).reclaim(closed.index, closed.zero_copy);
    }

    /// Takes a port out and closes it.
    pub fn detach(&mut self, index: PortIndex) -> bool {
        let Some(port) = self.let_go(index) else { return false };
        let closed = Closed { index, area: port.area(), zero_copy: port.zero_copy() };
        drop(port);
        self.reclaim(closed);
        true
    }

    /// Looks at the next `buckets` buckets of the flow table for flows that are over.
    pub fn expire(&mut self, buckets: usize, now: Seconds) {
        let gone = self.expiry.run(&self.shared.flows, buckets, now);
        self.observer.hot().flows_expired.add(gone as u64);
        self.waiting.expire(now, &mut self.pools, &self.observer);
    }

    /// Tells readers where all chunks are and brings the ports' counters up to date.
    pub fn publish(&mut self) {
        for area in [AreaId::Pods, AreaId::Uplink] {
            self.observer.stats().publish_ledger(area, self.pools.get(area).ledger());
        }
        self.observer.renew();
        for &index in &self.order {
            if let Some(port) = self.ports.get_mut(index) {
                port.publish();
            }
        }
    }

    /// The worker's memory.
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// The worker's counters.
    pub fn stats(&self) -> &Arc<WorkerStats> {
        self.observer.stats()
    }

    /// Where somebody begins to look at packets, and ends to.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Before the controller has spoken nothing is forwarded, but rings must not clog.
    fn discard(&mut self) -> Turn {
        let mut frames = 0;
        for &index in &self.order {
            let Some(port) = self.ports.get_mut(index) else { continue };
            let pool = self.pools.get_mut(port.area());
            frames += port.receive(pool, &mut self.received);
            port.replenish(pool);
            for frame in self.received.drain(..) {
                self.observer.end(index, &mut self.pools, frame, DropReason::NotConfigured);
            }
        }
        self.observer.turn_ends(frames);
        Turn { frames, ..Turn::default() }
    }
}
