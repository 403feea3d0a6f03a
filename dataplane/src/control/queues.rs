//! Opens the sockets of a device: every receive queue falls to one worker.

use headrace_xsk::program::ProgramError;
use headrace_xsk::{AreaHandle, Granted, OpenError, Socket, SocketConfig};

use super::workers::Workers;
use crate::frames::AreaId;

/// A device's sockets by worker.
pub struct Queues {
    /// Sockets of each worker, in the order of the workers; a worker may have none.
    pub sockets: Vec<Vec<Socket>>,
    /// What the sockets got, as the first one did.
    pub granted: Granted,
    /// How many there are.
    pub count: u32,
}

/// A device's sockets could not be had.
#[derive(Debug, thiserror::Error)]
pub enum QueuesError {
    /// A socket.
    #[error(transparent)]
    Socket(#[from] OpenError),
    /// The program's map.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

impl Queues {
    /// Opens one socket on each of the first `wanted` queues and hands it to `register`, which puts it in the XDP program's
    /// map. Queue q falls to worker q modulo their number. A device with fewer queues than it was made with ends the list
    /// early; without the first one nothing works.
    ///
    /// # Errors
    /// [`QueuesError`] when the first queue, or the map, cannot be had; no socket stays open then.
    pub fn open(
        workers: &Workers,
        area: AreaId,
        ifindex: u32,
        wanted: u32,
        config: &SocketConfig,
        mut register: impl FnMut(u32, &Socket) -> Result<(), ProgramError>,
    ) -> Result<Self, QueuesError> {
        let areas: Vec<&AreaHandle> = workers.areas(area).collect();
        let mut queues = Self {
            sockets: areas.iter().map(|_| Vec::new()).collect(),
            granted: Granted::default(),
            count: 0,
        };
        for queue in 0..wanted {
            let worker = queue as usize % areas.len().max(1);
            let socket = match Socket::open(areas[worker], ifindex, queue, config) {
                Ok(socket) => socket,
                Err(error) if queue > 0 && !error.is_gone() => {
                    tracing::debug!("queues of device {ifindex} end at {queue}: {error}");
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            register(queue, &socket)?;
            if queue == 0 {
                queues.granted = socket.granted().clone();
            }
            queues.sockets[worker].push(socket);
            queues.count += 1;
        }
        Ok(queues)
    }

    /// Whether every worker has a queue to send by.
    pub fn serve_everybody(&self) -> bool {
        self.sockets.iter().all(|sockets| !sockets.is_empty())
    }
}
