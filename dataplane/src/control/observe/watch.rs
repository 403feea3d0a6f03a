//! How many may look at once, and that their taps go when they do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headrace_api::filter::Filter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tonic::Status;

use super::Sight;
use crate::flows::Listener;
use crate::observe::tap::{Sink, Tap};
use crate::worker::Window;

/// Most streams at a time: each costs memory, and a little of every packet while it lasts.
const MOST: usize = 16;

/// Streams that may still be opened.
pub(super) struct Permits(Arc<Semaphore>);

impl Default for Permits {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

impl Permits {
    pub(super) fn take(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{MOST} streams look into this dataplane already; end one"))
        })
    }
}

/// A tap in every worker, as long as this lives. No packet passes the workers by so long.
pub(super) struct Watch {
    id: u64,
    sight: Sight,
    placing: Vec<oneshot::Receiver<()>>,
}

impl Watch {
    pub(super) fn begin(sight: &Sight, filter: &Filter, sink: &Sink) -> Self {
        if let Some(shortcut) = &sight.shortcut {
            shortcut.pause();
        }
        let id = next_id();
        let place = |window: &Window| {
            let (filter, shared, sink) = (filter.clone(), Arc::clone(&sight.shared), sink.clone());
            window.watch(Tap { id, worker: window.id, filter, shared, sink })
        };
        Self { id, sight: sight.clone(), placing: sight.windows.iter().map(place).collect() }
    }

    /// Waits until every worker looks, so that whoever asked misses nothing that it causes after the answer.
    pub(super) async fn placed(&mut self) {
        for placed in self.placing.drain(..) {
            // A worker that has ended sees no packet.
            let _ = placed.await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.sight.windows.iter().for_each(|window| window.unwatch(self.id));
        if let Some(shortcut) = &self.sight.shortcut {
            shortcut.resume();
        }
    }
}

/// An ear at the flows' journal, as long as this lives.
pub(super) struct Ear {
    id: u64,
    sight: Sight,
}

impl Ear {
    pub(super) fn listen(
        sight: &Sight,
        to: crossbeam::channel::Sender<(crate::flows::Event, crate::flows::Record)>,
        lost: Arc<AtomicU64>,
    ) -> Self {
        let id = next_id();
        sight.shared.flows.listen(&Listener { id, to, lost });
        Self { id, sight: sight.clone() }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.sight.shared.flows.unlisten(self.id);
    }
}

fn next_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}
