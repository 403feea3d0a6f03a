//! The workers, as the control thread sees them: where to attach ports, which memory sockets register, what they count.

use std::sync::Arc;

use headrace_xsk::{AreaHandle, Socket};

use crate::config::Config;
use crate::frames::{AreaId, Pool, PoolError, Pools};
use crate::port::afxdp::AfXdpPort;
use crate::port::{Port, PortIndex};
use crate::stats::PortCounters;
use crate::worker::{self, Setup, Shared, SpawnError, Window, WorkerHandle, WorkerId};

/// Workers cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum WorkersError {
    /// No memory for frames.
    #[error("{0}; lower pod-chunks or uplink-chunks")]
    Pool(#[from] PoolError),
    /// No thread.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

/// One worker.
struct Seat {
    handle: WorkerHandle,
    pods: AreaHandle,
    uplink: AreaHandle,
}

/// One worker's half of a port.
pub struct Half {
    counters: Arc<PortCounters>,
    port: Option<Box<dyn Port>>,
}

impl Half {
    /// An open one.
    pub fn of(port: impl Port + 'static) -> Self {
        Self { counters: Arc::clone(port.counters()), port: Some(Box::new(port)) }
    }

    /// Of sockets, of which the worker may have none.
    pub fn of_sockets(index: PortIndex, area: AreaId, sockets: Vec<Socket>, superframes: bool) -> Self {
        let none = sockets.is_empty();
        let half = Self::of(AfXdpPort::new(index, area, sockets, superframes));
        if none { Self { port: None, ..half } } else { half }
    }
}

/// All workers, at least one.
pub struct Workers(Vec<Seat>);

impl Workers {
    /// Makes their memory and starts their threads.
    ///
    /// # Errors
    /// [`WorkersError`] when memory or a thread cannot be had.
    pub fn start(config: &Config, shared: &Arc<Shared>) -> Result<Self, WorkersError> {
        let mut seats = Vec::new();
        for (id, core) in (0..).zip(config.cores.iter()) {
            let pools = Pools {
                pods: Pool::with_pages(AreaId::Pods, config.pod_chunks, config.huge_pages)?,
                uplink: Pool::with_pages(AreaId::Uplink, config.uplink_chunks, config.huge_pages)?,
            };
            let (pods, uplink) = (pools.pods.area().handle(), pools.uplink.area().handle());
            let setup =
                Setup { id: WorkerId(id), core, poll: config.poll, pools, shared: Arc::clone(shared) };
            let handle = worker::spawn(setup)?;
            seats.push(Seat { handle, pods, uplink });
        }
        Ok(Self(seats))
    }

    /// How many there are, at least 1.
    pub fn count(&self) -> u32 {
        self.0.len() as u32
    }

    /// The memory of each worker in one area.
    pub fn areas(&self, area: AreaId) -> impl Iterator<Item = &AreaHandle> {
        self.0.iter().map(move |seat| match area {
            AreaId::Pods => &seat.pods,
            AreaId::Uplink => &seat.uplink,
        })
    }

    /// Lets every worker's memory of an area be registered anew: the device that anchored it is gone.
    pub fn release_anchors(&self, area: AreaId) {
        self.areas(area).for_each(AreaHandle::release);
    }

    /// Hands each worker its half of a port; a worker without any gets no port. Returns the counters of the halves, in the
    /// order of the workers.
    pub fn attach(&self, index: PortIndex, halves: impl Iterator<Item = Half>) -> Vec<Arc<PortCounters>> {
        let mut all = Vec::new();
        for (seat, Half { counters, port }) in self.0.iter().zip(halves) {
            all.push(counters);
            if let Some(port) = port {
                seat.handle.attach(index, port);
            }
        }
        all
    }

    /// Takes a port from every worker; its sockets are closed and its chunks back when this returns.
    pub fn detach(&self, index: PortIndex) {
        for seat in &self.0 {
            seat.handle.detach(index);
        }
    }

    /// Every worker's handle, in their order.
    pub fn handles(&self) -> impl Iterator<Item = &WorkerHandle> {
        self.0.iter().map(|seat| &seat.handle)
    }

    /// The way to look at every worker's packets, in their order.
    pub fn windows(&self) -> Vec<Window> {
        self.handles().map(WorkerHandle::window).collect()
    }

    /// Ends every worker; their sockets are closed when this returns.
    pub fn stop(self) {
        for mut seat in self.0 {
            seat.handle.stop();
        }
    }
}
