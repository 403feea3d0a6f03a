//! A worker on its thread, and the handle by which the control thread gives it ports.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;

use super::pace::{Pace, uptime};
use super::{Closed, Shared, Worker, WorkerId};
use crate::config::Poll;
use crate::frames::Pools;
use crate::observe::tap::Tap;
use crate::port::{Port, PortIndex};
use crate::stats::WorkerStats;
use crate::tables::Nanos;

/// How often flows are looked at for expiry.
const TICK: Duration = Duration::from_millis(10);
/// Ticks in which the whole flow table is looked at.
const TICKS_PER_SWEEP: usize = 500;

/// What a worker starts with.
pub struct Setup {
    /// Its number.
    pub id: WorkerId,
    /// The core it is pinned to; `None` = wherever the scheduler puts it.
    pub core: Option<usize>,
    /// What it does without packets.
    pub poll: Poll,
    /// Its memory, on which the control thread may have opened the first sockets.
    pub pools: Pools,
    /// What it shares.
    pub shared: Arc<Shared>,
}

/// A worker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No thread.
    #[error("worker {}: no thread: {source}", id.0)]
    Thread {
        /// Which worker.
        id: WorkerId,
        /// Why.
        source: std::io::Error,
    },
    /// No descriptor to wake it up by, or to sleep on.
    #[error("worker {}: {source}; raise the limit of open files (LimitNOFILE)", id.0)]
    Descriptor {
        /// Which worker.
        id: WorkerId,
        /// Why.
        source: std::io::Error,
    },
}

enum Command {
    Attach(PortIndex, Box<dyn Port>),
    LetGo(PortIndex, Sender<Option<Box<dyn Port>>>),
    Reclaim(Closed, Sender<()>),
    #[cfg(test)]
    Publish(Sender<()>),
    Watch(Box<Tap>, oneshot::Sender<()>),
    Unwatch(u64),
    Stop,
}

/// A worker, as those see it who look at its packets.
#[derive(Clone)]
pub struct Window {
    /// Its number.
    pub id: WorkerId,
    /// Its counters.
    pub stats: Arc<WorkerStats>,
    commands: Sender<Command>,
    waker: Arc<OwnedFd>,
}

impl Window {
    /// Begins to look. What comes back is told when the tap is in place: no packet from then on is missed.
    pub fn watch(&self, tap: Tap) -> oneshot::Receiver<()> {
        let (placed, wait) = oneshot::channel();
        self.send(Command::Watch(Box::new(tap), placed));
        wait
    }

    /// Ends to.
    pub fn unwatch(&self, id: u64) {
        self.send(Command::Unwatch(id));
    }

    fn send(&self, command: Command) {
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&*self.waker, &1u64.to_ne_bytes());
    }
}

/// The control thread's end of a worker.
pub struct WorkerHandle {
    id: WorkerId,
    core: Option<usize>,
    pinned: bool,
    commands: Sender<Command>,
    waker: Arc<OwnedFd>,
    stats: Arc<WorkerStats>,
    thread: Option<JoinHandle<()>>,
}

/// Starts a worker without ports.
///
/// A worker that panics ends the process: its ports would be black holes otherwise, and the supervisor starts it anew.
///
/// # Errors
/// [`SpawnError`].
pub fn spawn(setup: Setup) -> Result<WorkerHandle, SpawnError> {
    let Setup { id, core, poll, pools, shared } = setup;
    let descriptor = |source: rustix::io::Errno| SpawnError::Descriptor { id, source: source.into() };
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let waker = Arc::new(eventfd(0, flags).map_err(descriptor)?);
    let pace = Pace::new(poll, waker.as_fd()).map_err(descriptor)?;
    let (commands, inbox) = unbounded();
    let (pinned_tx, pinned_rx) = bounded(1);
    let stats = WorkerStats::new();
    let worker = Worker::new(shared, pools, Arc::clone(&stats));
    let waker_end = Arc::clone(&waker);
    let body = move || {
        let _end_process = EndProcessOnPanic(id);
        let pinned =
            core.is_some_and(|core| core_affinity::set_for_current(core_affinity::CoreId { id: core }));
        let _ = pinned_tx.send(pinned);
        run(worker, pace, &inbox, &waker_end);
    };
    let name = format!("worker-{}", id.0);
    let thread = std::thread::Builder::new().name(name).spawn(body);
    let thread = thread.map_err(|source| SpawnError::Thread { id, source })?;
    let pinned = pinned_rx.recv().unwrap_or(false);
    Ok(WorkerHandle { id, core, pinned, commands, waker, stats, thread: Some(thread) })
}

impl WorkerHandle {
    /// Its number.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// The core it was to be pinned to, and whether that worked.
    pub fn core(&self) -> (Option<usize>, bool) {
        (self.core, self.pinned)
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<WorkerStats> {
        &self.stats
    }

    /// The way to look at its packets.
    pub fn window(&self) -> Window {
        Window {
            id: self.id,
            stats: Arc::clone(&self.stats),
            commands: self.commands.clone(),
            waker: Arc::clone(&self.waker),
        }
    }

    /// Gives it its half of a port.
    pub fn attach(&self, index: PortIndex, port: Box<dyn Port>) {
        self.send(Command::Attach(index, port));
    }

    /// Takes its half of a port away; returns when its sockets are closed and its chunks are back.
    ///
    /// The sockets are closed by the caller's thread: it takes the kernel some milliseconds, in which the worker goes on.
    pub fn detach(&self, index: PortIndex) {
        let (give, port) = bounded(1);
        self.send(Command::LetGo(index, give));
        let Ok(Some(port)) = port.recv() else { return };
        let closed = Closed { index, area: port.area(), zero_copy: port.zero_copy() };
        drop(port);
        let (done, wait) = bounded(1);
        self.send(Command::Reclaim(closed, done));
        let _ = wait.recv();
    }

    /// Makes it publish its ledger and the kernel's counters now; returns when it has. Nobody asks for that but tests, since
    /// readers must not disturb it.
    #[cfg(test)]
    pub fn publish(&self) {
        let (done, wait) = bounded(1);
        self.send(Command::Publish(done));
        let _ = wait.recv_timeout(Duration::from_secs(1));
    }

    /// Ends it; returns when its sockets are closed.
    pub fn stop(&mut self) {
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // It ended the process if it panicked.
            let _ = thread.join();
        }
    }

    fn send(&self, command: Command) {
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&*self.waker, &1u64.to_ne_bytes());
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The loop around [`Worker::turn`].
fn run(mut worker: Worker, mut pace: Pace, inbox: &Receiver<Command>, waker: &OwnedFd) {
    let mut time = uptime();
    let (mut next_tick, mut next_second) = (time, time);
    let step = (worker.shared.flows.map().buckets() / TICKS_PER_SWEEP).max(1);
    loop {
        worker.set_clock(Nanos(time.as_nanos() as u64));
        let turn = worker.turn(time.as_secs() as u32);
        if pace.rest(turn.frames > 0 || turn.pending, turn.waiting) {
            worker.stats().hot().sleeps.add(1);
        }
        time = uptime();
        if time >= next_tick {
            let ticks = ((time - next_tick).as_nanos() / TICK.as_nanos()) as usize + 1;
            worker.expire(step * ticks.min(20), time.as_secs() as u32);
            next_tick = time + TICK;
        }
        if time >= next_second {
            worker.publish();
            next_second = time + Duration::from_secs(1);
        }
        while let Ok(command) = inbox.try_recv() {
            let _ = rustix::io::read(waker, &mut [0; 8]);
            match command {
                Command::Attach(index, port) => {
                    for fd in port.readiness() {
                        // Without it the port is polled by the longest sleep.
                        let _ = pace.watch(fd);
                    }
                    worker.attach(index, port);
                }
                Command::LetGo(index, give) => {
                    let _ = give.send(worker.let_go(index));
                }
                Command::Reclaim(closed, done) => {
                    worker.reclaim(closed);
                    let _ = done.send(());
                }
                #[cfg(test)]
                Command::Publish(done) => {
                    worker.publish();
                    let _ = done.send(());
                }
                Command::Watch(tap, placed) => {
                    worker.observer().watch(*tap);
                    let _ = placed.send(());
                }
                Command::Unwatch(id) => worker.observer().unwatch(id),
                Command::Stop => return,
            }
        }
    }
}

struct EndProcessOnPanic(WorkerId);

impl Drop for EndProcessOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                worker = self.0.0,
                "worker panicked; ending the process so that it is started anew"
            );
            std::process::exit(70);
        }
    }
}
