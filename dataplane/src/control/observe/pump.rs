//! From a thread that produces to a stream that a caller reads.
//!
//! The thread looks for news every few milliseconds instead of being woken: a worker must not make a system call because
//! somebody looks. It takes only time that nobody else wants: under full load who looks loses, and traffic does not. It ends
//! when the caller is gone.

use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Replies;

/// Time between two looks for news.
pub(super) const PERIOD: Duration = Duration::from_millis(10);
/// The least that the scheduler has, see sched(7).
const LOWEST: i32 = 19;
/// Messages that wait for the caller.
const QUEUE: usize = 64;

/// Where a thread puts its messages.
pub(super) struct Outlet<T>(mpsc::Sender<Result<T, Status>>);

/// The caller is gone.
pub(super) struct Gone;

impl<T> Outlet<T> {
    /// Waits while the caller is slow.
    pub(super) fn put(&self, message: T) -> Result<(), Gone> {
        self.0.blocking_send(Ok(message)).map_err(|_| Gone)
    }

    /// Sleeps until it is time to look again.
    pub(super) fn rest(&self, period: Duration) -> Result<(), Gone> {
        let end = std::time::Instant::now() + period;
        while !self.0.is_closed() {
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
        Err(Gone)
    }
}

/// Runs `produce` on a thread of its own until it is done or the caller is gone.
pub(super) fn start<T: Send + 'static>(
    name: &str,
    permit: OwnedSemaphorePermit,
    produce: impl FnOnce(&Outlet<T>) -> Result<(), Gone> + Send + 'static,
) -> Result<Replies<T>, Status> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            // nice(2) is of the calling thread on Linux. Without it looking only costs more.
            let _ = rustix::process::nice(LOWEST);
            // A caller who has left is no error.
            let _ = produce(&Outlet(sender));
            drop(permit);
        })
        .map_err(|error| Status::resource_exhausted(format!("no thread for this stream: {error}")))?;
    Ok(Box::pin(ReceiverStream::new(receiver)))
}
