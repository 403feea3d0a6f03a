//! Keeps the dataplane's state equal to the desired one.
//!
//! One Sync stream at a time: a snapshot first, then what differs, one request in flight, so that changes made meanwhile
//! become one. What always holds: nothing equal is sent twice on a stream; after a reconnect everything is sent again;
//! one refused resource does not keep the others back. [`Pusher`] is the agent's handle, [`Feed`] the task behind it,
//! `progress` the state machine without I/O.

mod diff;
pub mod gate;
mod progress;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use headrace_api::client::ConnectError;
use headrace_api::proto::{SyncReply, SyncRequest};
use headrace_api::state::Generation;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::{info, warn};

use self::gate::{PortBoard, PortGate};
use self::progress::{Progress, UnexpectedReply};
use crate::desired::Desired;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Takes the desired state.
#[derive(Debug)]
pub struct Pusher {
    desired: watch::Sender<Option<Arc<Desired>>>,
    board: watch::Receiver<PortBoard>,
    sync: watch::Sender<SyncState>,
}

/// Whether the dataplane has what is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncState {
    /// Since when it lacks something; `None` while it has everything.
    pub lacking_since: Option<Instant>,
    /// When it last had everything that was new.
    pub updated: Option<SystemTime>,
}

/// Latest [`SyncState`].
pub type SyncWatch = watch::Receiver<SyncState>;

/// Sends the desired state; run it as a task.
#[derive(Debug)]
pub struct Feed {
    run_dir: PathBuf,
    desired: watch::Receiver<Option<Arc<Desired>>>,
    board: watch::Sender<PortBoard>,
    generation: Generation,
    sync: watch::Sender<SyncState>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the dataplane ended the stream: {}", .0.message())]
    Stream(#[from] tonic::Status),
    #[error("the dataplane ended the stream")]
    Closed,
    #[error(transparent)]
    Reply(#[from] UnexpectedReply),
}

/// A pusher for the dataplane that serves `run_dir`, and its task.
pub fn new(run_dir: PathBuf) -> (Pusher, Feed) {
    let (desired, desired_rx) = watch::channel(None);
    let away = Some("the agent has not read its objects yet".into());
    let (board, board_rx) = watch::channel(PortBoard { away, ..PortBoard::default() });
    let lacking = SyncState { lacking_since: Some(Instant::now()), updated: None };
    let sync = watch::Sender::new(lacking);
    let feed =
        Feed { run_dir, desired: desired_rx, board, generation: first_generation(), sync: sync.clone() };
    (Pusher { desired, board: board_rx, sync }, feed)
}

impl Pusher {
    /// Replaces the desired state. An equal one changes nothing.
    pub fn update(&self, desired: Desired) {
        self.desired.send_if_modified(|old| {
            let differs = old.as_deref() != Some(&desired);
            if differs {
                // Before the feed can see it, or it might be done already.
                lacks(&self.sync);
                *old = Some(Arc::new(desired));
            }
            differs
        });
    }

    /// Whether the dataplane has what is wanted.
    pub fn sync(&self) -> SyncWatch {
        self.sync.subscribe()
    }

    #[cfg(test)]
    pub(crate) fn latest(&self) -> Option<Arc<Desired>> {
        self.desired.borrow().clone()
    }

    /// Where to wait for the dataplane's answers.
    pub fn gate(&self) -> PortGate {
        PortGate::new(self.board.clone())
    }

    /// The dataplane's answers so far.
    pub fn board(&self) -> PortBoard {
        self.board.borrow().clone()
    }
}

impl Feed {
    /// Feeds the dataplane for as long as the [`Pusher`] lives.
    pub async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut last = String::new();
        // Nothing is said before there is something to say: an empty snapshot would detach everything.
        while self.desired.wait_for(Option::is_some).await.is_ok() {
            let reason = match self.stream().await {
                Ok(()) => return,
                Err(lost) => lost.to_string(),
            };
            let answered = self.board.borrow().away.is_none();
            if answered {
                pause = FIRST_PAUSE;
            }
            if reason != last {
                warn!("{reason}; trying again");
                last.clone_from(&reason);
            }
            self.board.send_modify(|b| b.away = Some(reason));
            lacks(&self.sync);
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// One stream, from connecting to its end. `Ok` when the pusher is gone.
    async fn stream(&mut self) -> Result<(), Lost> {
        let mut client = headrace_api::client::connect(&self.run_dir).await?;
        let mut progress = Progress::new(self.board.borrow().clone());
        let (requests, outgoing) = mpsc::channel(1);
        // The first request is on its way before the call, so a dataplane may wait for it before it answers the call.
        self.send_next(&mut progress, &requests).await?;
        let mut replies = client.sync(ReceiverStream::new(outgoing)).await?.into_inner();
        info!("connected to the dataplane");
        loop {
            tokio::select! {
                reply = next_reply(&mut replies) => progress.take(reply?)?,
                changed = self.desired.changed() => if changed.is_err() { return Ok(()) },
            }
            self.send_next(&mut progress, &requests).await?;
            if progress.is_done() && !self.desired.has_changed().unwrap_or(true) {
                self.sync.send_replace(SyncState { lacking_since: None, updated: Some(SystemTime::now()) });
            }
            self.board.send_if_modified(|board| {
                let differs = *board != progress.board;
                if differs {
                    board.clone_from(&progress.board);
                }
                differs
            });
        }
    }

    /// Sends what differs now, unless a request is in flight.
    async fn send_next(
        &mut self,
        progress: &mut Progress,
        requests: &mpsc::Sender<SyncRequest>,
    ) -> Result<(), Lost> {
        let desired = self.desired.borrow_and_update().clone();
        let Some(request) = desired.and_then(|d| progress.next(&d, Generation(self.generation.0 + 1))) else {
            return Ok(());
        };
        self.generation.0 += 1;
        requests.send(request).await.map_err(|_| Lost::Closed)
    }
}

fn lacks(sync: &watch::Sender<SyncState>) {
    sync.send_modify(|s| s.lacking_since = s.lacking_since.or_else(|| Some(Instant::now())));
}

async fn next_reply(replies: &mut Streaming<SyncReply>) -> Result<SyncReply, Lost> {
    replies.message().await?.ok_or(Lost::Closed)
}

/// Grows over restarts of the agent, as long as the clock does: no agent sends a request every microsecond.
fn first_generation() -> Generation {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Generation(u64::try_from(since.as_micros()).unwrap_or(u64::MAX / 2))
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
