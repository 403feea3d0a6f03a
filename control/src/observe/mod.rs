//! The node under observation: the dataplane's status once a second, the rates between two of them, ten minutes of both.
//!
//! ```text
//! dataplane.sock --Status--> Observer --> Snapshot (the latest, whole)   --> metrics, dashboard
//!                                     --> History  (points and events)  --> dashboard
//! ```
//!
//! The observer is the only one that asks, however many look: readers cost the dataplane nothing. All that is kept is
//! bounded. When the dataplane does not answer, that is a snapshot too, with the reason in words.

pub mod events;
pub mod history;
pub mod point;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use headrace_api::client;
use headrace_api::proto::dataplane_client::DataplaneClient;
use headrace_api::proto::{StatusReply, StatusRequest};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::transport::Channel;

use self::events::events;
use self::history::{History, Since};
use self::point::Point;
use crate::report;
use crate::status::Status;

/// Time from one look to the next.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// Time for the dataplane to answer.
const PATIENCE: Duration = Duration::from_millis(900);

/// What was seen at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows by one with every look; 0 before the first.
    pub sequence: u64,
    /// The dataplane's status, or why there is none.
    pub status: Result<StatusReply, String>,
    /// The status as `headracectl status --json` prints it, `null` where there is none: made once, however many read it.
    pub json: String,
    /// The rates since the snapshot before.
    pub point: Point,
}

impl Default for Snapshot {
    fn default() -> Self {
        let status = Err("the agent has not asked the dataplane yet".to_owned());
        Self { sequence: 0, status, json: "null".into(), point: Point::default() }
    }
}

/// What the observer has seen, for any number of readers.
#[derive(Clone, Debug)]
pub struct Observations {
    latest: watch::Receiver<Arc<Snapshot>>,
    history: Arc<Mutex<History>>,
}

impl Observations {
    /// The last look.
    pub fn latest(&self) -> Arc<Snapshot> {
        self.latest.borrow().clone()
    }

    /// The last look; [`Observations::changed`] then waits for a later one.
    pub fn take(&mut self) -> Arc<Snapshot> {
        self.latest.borrow_and_update().clone()
    }

    /// Waits for the next look. `false` when there will be none.
    pub async fn changed(&mut self) -> bool {
        self.latest.changed().await.is_ok()
    }

    /// Points and events that came after snapshot `sequence`, at most all that is kept.
    pub fn since(&self, sequence: u64) -> Since {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).since(sequence)
    }
}

/// Looks at the dataplane that serves a run directory.
pub struct Observer {
    run_dir: PathBuf,
    client: Option<DataplaneClient<Channel>>,
    latest: watch::Sender<Arc<Snapshot>>,
    history: Arc<Mutex<History>>,
}

/// An observer, to be [run](Observer::run), and what it will see.
pub fn new(run_dir: PathBuf) -> (Observer, Observations) {
    let (sender, latest) = watch::channel(Arc::default());
    let history = Arc::default();
    let observations = Observations { latest, history: Arc::clone(&history) };
    (Observer { run_dir, client: None, latest: sender, history }, observations)
}

impl Observer {
    /// Looks once a second, for ever.
    pub async fn run(mut self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut last: Option<(Instant, Arc<Snapshot>)> = None;
        loop {
            ticks.tick().await;
            let status = self.ask().await;
            let (now, at) = (Instant::now(), milliseconds());
            let before = last.as_ref().map(|(then, snapshot)| (now - *then, &**snapshot));
            let snapshot = Arc::new(self.take(status, at, before));
            last = Some((now, Arc::clone(&snapshot)));
            self.latest.send_replace(snapshot);
        }
    }

    /// Puts a look into the history and beside the one `before` it.
    fn take(
        &self,
        status: Result<StatusReply, String>,
        at: u64,
        before: Option<(Duration, &Snapshot)>,
    ) -> Snapshot {
        let old = before.map(|(_, snapshot)| &snapshot.status);
        let happened = events(at, old, &status);
        let rates_from = before.and_then(|(elapsed, s)| Some((elapsed, s.status.as_ref().ok()?)));
        let point = Point::new(at, rates_from, status.as_ref().ok());
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = history.push(&point, &happened);
        let readable = status.as_ref().ok().map(|reply| Status {
            agent_problems: report::read(&self.run_dir),
            ..Status::from(reply.clone())
        });
        let json = serde_json::to_string(&readable).unwrap_or_else(|_| "null".into());
        Snapshot { sequence, status, json, point }
    }

    async fn ask(&mut self) -> Result<StatusReply, String> {
        let answer = timeout(PATIENCE, self.status()).await;
        let answer =
            answer.unwrap_or_else(|_| Err(format!("the dataplane does not answer within {PATIENCE:?}")));
        if answer.is_err() {
            self.client = None;
        }
        answer
    }

    async fn status(&mut self) -> Result<StatusReply, String> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(client::connect(&self.run_dir).await.map_err(|e| e.to_string())?),
        };
        let reply = client.status(StatusRequest {}).await;
        reply
            .map(tonic::Response::into_inner)
            .map_err(|e| format!("the dataplane does not answer: {}", e.message()))
    }
}

/// Wall clock, for people's eyes only: since 1970, in milliseconds.
fn milliseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis().try_into().unwrap_or(u64::MAX))
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod tests;
