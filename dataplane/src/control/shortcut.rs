//! The shortcut: as switches offload flows to hardware, established flows between pods of this node that need no translation
//! are handed to programs in the kernel (`headrace_xsk::program::ShortcutProgram`). Off unless `shortcut = on`.
//!
//! Workers offer what they see, and decide about every connection's first and last packets; [`keeper`] hands flows over and
//! takes them back, on a thread of its own; [`judge`] says which, from the same tables. What always holds: a flow in the
//! shortcut would be forwarded unchanged by the workers too. A way counts only in the generations of routes and Services in
//! which it was found right; publishing others takes all of them back at once, before the publisher goes on.
//!
//! The flow table stays the truth: what the shortcut carries is counted there and in the ports' counters, keeps the flow
//! from expiring, and ends with its first FIN, SYN or RST, which a worker gets to see.

mod judge;
mod keeper;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::Thread;

use arc_swap::{ArcSwap, ArcSwapOption};
use headrace_api::proto;
use headrace_xsk::AreaConfig;
use headrace_xsk::program::{ProgramError, ShortcutControl, ShortcutProgram};

use crate::frames::HEADROOM;
use crate::port::PortIndex;
use crate::stats::PortCounters;
use crate::tables::Tables;
use crate::worker::Shared;
use keeper::Keeper;
pub use keeper::KeeperThread;

/// What the rest of the control thread, and whoever looks at packets, knows of the shortcut.
pub struct Shortcut {
    control: Arc<ShortcutControl>,
    filter: OwnedFd,
    places: ArcSwap<Places>,
    keeper: ArcSwapOption<Thread>,
    carried: Carried,
}

/// Pod ports between which there may be a shortcut.
pub type Places = HashMap<PortIndex, Place>;

/// Such a port.
#[derive(Clone)]
pub struct Place {
    /// Index of its device.
    pub ifindex: u32,
    /// Where its frames are counted that pass the workers by.
    pub counters: Arc<PortCounters>,
}

/// Sums since the process runs.
#[derive(Default)]
struct Carried {
    /// Directions that are in it now.
    ways: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
}

/// A shortcut that runs.
pub struct Started {
    /// For everybody else.
    pub shortcut: Arc<Shortcut>,
    /// The program for the pods' devices.
    pub guard: OwnedFd,
    /// The thread that decides; the shortcut ends with it.
    pub keeper: KeeperThread,
}

/// There is no shortcut: the workers carry everything.
#[derive(Debug, thiserror::Error)]
pub enum ShortcutError {
    /// Its programs.
    #[error("no shortcut: {0}")]
    Program(#[from] ProgramError),
    /// Its thread.
    #[error("no shortcut: cannot start its thread: {0}")]
    Thread(#[from] io::Error),
}

impl Shortcut {
    /// Loads the programs and starts the thread. Without places nothing takes the shortcut.
    ///
    /// # Errors
    /// [`ShortcutError`], when the kernel does not take the programs or there is no thread to be had.
    pub fn start(shared: &Arc<Shared>) -> Result<Started, ShortcutError> {
        // Longer frames have several chunks, which is how the workers count superframes.
        let long = AreaConfig::default().chunk_size - HEADROOM;
        let ShortcutProgram { guard, filter, ways, control } = ShortcutProgram::load(long)?;
        let shortcut = Arc::new(Self {
            control,
            filter,
            places: ArcSwap::default(),
            keeper: ArcSwapOption::empty(),
            carried: Carried::default(),
        });
        shortcut.follow(&shared.tables.load());
        let keeper = KeeperThread::start(Keeper::new(Arc::clone(&shortcut), Arc::clone(shared), ways))?;
        shortcut.keeper.store(Some(Arc::new(keeper.thread().clone())));
        Ok(Started { shortcut, guard, keeper })
    }

    /// For packet sockets of pods: keeps from them what takes the shortcut.
    pub fn filter(&self) -> BorrowedFd<'_> {
        self.filter.as_fd()
    }

    /// The ports that are open; to be called before tables that name them are published.
    pub fn set_places(&self, places: Places) {
        self.places.store(Arc::new(places));
    }

    /// These tables are in force: what was decided by others counts no more when this returns.
    pub fn follow(&self, tables: &Tables) {
        self.control.set_generations(tables.route_generation, tables.services.generation());
        if let Some(keeper) = &*self.keeper.load() {
            keeper.unpark();
        }
    }

    /// Somebody wants to see every packet. As often as it is paused it must be resumed.
    pub fn pause(&self) {
        self.control.pause();
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.control.resume();
    }

    /// What it does now.
    pub fn status(&self) -> proto::ShortcutStatus {
        proto::ShortcutStatus {
            state: if self.control.is_paused() { "paused" } else { "on" }.into(),
            ways: self.carried.ways.load(Relaxed),
            frames: self.carried.frames.load(Relaxed),
            bytes: self.carried.bytes.load(Relaxed),
            lost: self.control.lost(),
        }
    }
}
