//! The last accepted state on disk, from which forwarding resumes before the controller is back.
//!
//! The file is a `SyncRequest` with a snapshot, checked like any other when it is read. It is written to a new file that
//! then takes the old one's name, a moment after a change, so that a burst of changes costs one writing. That is done on a
//! thread of its own, behind everybody else, which takes a small share of a core however fast changes come: ten thousand
//! Services take as long to write as many changes to carry out.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headrace_api::state::{Change, Generation, Resource, Service};
use headrace_api::{API_VERSION, check, proto};
use prost::Message;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::desired::Resources;

pub(super) const FILE: &str = "state.pb";

/// How long after a change the state is written.
const DELAY: Duration = Duration::from_millis(200);
/// Of so much time, the writer works a part of one.
const SHARE: u32 = 100;
/// Added to the writer's nice(2) value: packets and changes go before it.
const LOWEST: i32 = 19;

/// The state could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot save the state to {path}: {source}; after a restart forwarding waits for the controller")]
pub struct SaveError {
    path: PathBuf,
    source: io::Error,
}

/// The file, and when it is next to be written.
#[derive(Debug)]
pub struct Saved {
    path: PathBuf,
    due: Option<Instant>,
    /// From a change to the writing.
    delay: Duration,
    /// Gives the CPU time that it took.
    writer: Option<Writer>,
}

type Writer = oneshot::Receiver<io::Result<Duration>>;

impl Saved {
    /// The file of a run directory.
    pub fn new(run_dir: &Path) -> Self {
        Self { path: run_dir.join(FILE), due: None, delay: DELAY, writer: None }
    }

    /// Reads the state that an earlier run left.
    ///
    /// # Errors
    /// A sentence for the operator when there is one that cannot be used.
    pub fn load(&self) -> Result<Option<(Generation, Change)>, String> {
        let unusable = |why: &str| format!("saved state {} is ignored: {why}", self.path.display());
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(&error.to_string())),
        };
        let request = proto::SyncRequest::decode(bytes.as_slice()).map_err(|e| unusable(&e.to_string()))?;
        let refused = |refusals: Vec<headrace_api::state::Refusal>| {
            unusable(&refusals.first().map_or_else(String::new, ToString::to_string))
        };
        check::request(request).map(Some).map_err(refused)
    }

    /// Says that the state changed.
    pub fn touch(&mut self) {
        self.due.get_or_insert(Instant::now() + self.delay);
    }

    /// When [`Saved::write`] is due; `None` = nothing changed since, or the former state is still being written.
    pub fn due(&self) -> Option<Instant> {
        self.due.filter(|_| self.writer.is_none())
    }

    /// Begins to write the state, if it changed.
    pub fn write(&mut self, generation: Generation, resources: impl FnOnce() -> Resources) {
        if self.writer.is_none() && self.due.take().is_some() {
            self.writer = Some(start(self.path.clone(), generation, resources()));
        }
    }

    /// The end of the writing; never, when there is none.
    ///
    /// # Errors
    /// [`SaveError`] names the file; the state is tried again after the next change.
    pub async fn written(&mut self) -> Result<(), SaveError> {
        let Some(writer) = &mut self.writer else { return std::future::pending().await };
        let end = writer.await;
        self.writer = None;
        let took = end.unwrap_or_else(|_| Err(io::Error::other("the writer ended without a result")));
        let took = took.map_err(|source| SaveError { path: self.path.clone(), source })?;
        self.delay = DELAY.max(took * SHARE);
        Ok(())
    }

    /// Writes the state, if it changed, and waits for it.
    ///
    /// # Errors
    /// As [`Saved::written`].
    pub async fn finish(
        &mut self,
        generation: Generation,
        resources: impl FnOnce() -> Resources,
    ) -> Result<(), SaveError> {
        if self.writer.is_some() {
            self.written().await?;
        }
        self.write(generation, resources);
        match self.writer {
            Some(_) => self.written().await,
            None => Ok(()),
        }
    }
}

/// Writes on a thread of its own.
fn start(path: PathBuf, generation: Generation, resources: Resources) -> Writer {
    let (end, writer) = oneshot::channel();
    let write = move || {
        // nice(2) is of the calling thread on Linux. Without it writing only costs more.
        let _ = rustix::process::nice(LOWEST);
        let written = replace(&path, generation, &resources);
        // Nobody waits for it any more when the process ends.
        let _ = end.send(written.map(|()| thread_time()));
    };
    if let Err(error) = std::thread::Builder::new().name("state-writer".into()).spawn(write) {
        tracing::warn!("no thread to save the state: {error}");
    }
    writer
}

/// CPU time of the calling thread since it began.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn replace(path: &Path, generation: Generation, resources: &Resources) -> io::Result<()> {
    let service = |service: &std::sync::Arc<Service>| (&Resource::Service(Service::clone(service))).into();
    let others = resources.others.iter().map(proto::Resource::from);
    let resources = others.chain(resources.services.iter().map(service)).collect();
    let request = proto::SyncRequest {
        api_version: API_VERSION,
        generation: generation.0,
        change: Some(proto::sync_request::Change::Snapshot(proto::Snapshot { resources })),
    };
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, request.encode_to_vec())?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use headrace_api::state::{Endpoint, Frontend, Protocol};

    use super::*;
    use crate::control::desired::Desired;

    fn desired() -> Desired {
        let address = "10.96.0.1".parse().unwrap();
        let port = 443.try_into().unwrap();
        let frontend = Frontend::cluster_ip(address, port, Protocol::Tcp);
        let endpoint = Endpoint::ready("192.0.2.1".parse().unwrap(), port);
        let service = Service::new("default/kubernetes:https", vec![frontend], vec![endpoint]);
        let mut desired = Desired::default();
        desired.apply(Change::Snapshot(vec![Resource::Service(service)])).unwrap();
        desired
    }

    #[tokio::test]
    async fn what_was_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut saved = Saved::new(dir.path());
        assert_eq!(saved.load(), Ok(None));
        saved.finish(Generation(7), || desired().shared()).await.unwrap();
        assert_eq!(saved.load(), Ok(None), "nothing changed, nothing was written");
        saved.touch();
        assert!(saved.due().is_some());
        saved.write(Generation(7), || desired().shared());
        saved.touch();
        assert_eq!(saved.due(), None, "while it is written nothing is due");
        saved.written().await.unwrap();
        assert!(saved.due().is_some(), "the second change is still to be written");
        let (generation, change) = saved.load().unwrap().unwrap();
        assert_eq!(generation, Generation(7));
        let mut again = Desired::default();
        again.apply(change).unwrap();
        assert!(again.resources().eq(desired().resources()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[tokio::test]
    async fn the_end_waits_for_a_writing_and_writes_what_came_after() {
        let dir = tempfile::tempdir().unwrap();
        let mut saved = Saved::new(dir.path());
        saved.touch();
        saved.write(Generation(1), || desired().shared());
        saved.touch();
        saved.finish(Generation(2), || desired().shared()).await.unwrap();
        assert_eq!(saved.load().unwrap().unwrap().0, Generation(2));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut saved = Saved::new(&dir.path().join("missing"));
        saved.touch();
        let error = saved.finish(Generation(1), || desired().shared()).await.unwrap_err().to_string();
        assert!(error.contains("missing/state.pb"), "{error}");
    }

    #[tokio::test]
    async fn a_damaged_file_is_ignored_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let mut saved = Saved::new(dir.path());
        saved.touch();
        saved.finish(Generation(7), || desired().shared()).await.unwrap();
        let file = dir.path().join(FILE);
        let good = std::fs::read(&file).unwrap();
        for damaged in [&good[..good.len() - 3], b"\xff\xff\xff", b""] {
            std::fs::write(&file, damaged).unwrap();
            let reason = saved.load().unwrap_err();
            assert!(reason.contains("state.pb") && reason.contains("ignored"), "{reason}");
        }
    }
}
