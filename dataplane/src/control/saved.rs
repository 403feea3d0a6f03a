//! The last accepted state on disk, from which forwarding resumes before the controller is back.
//!
//! The file is a `SyncRequest` with a snapshot, checked like any other when it is read. It is written to a new file that
//! then takes the old one's name, a moment after the last change, so that a burst of changes costs one writing.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headrace_api::state::{Change, Generation};
use headrace_api::{API_VERSION, check, proto};
use prost::Message;
use tokio::time::Instant;

use super::desired::Desired;

pub(super) const FILE: &str = "state.pb";

/// How long after a change the state is written.
const DELAY: Duration = Duration::from_millis(200);

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
}

impl Saved {
    /// The file of a run directory.
    pub fn new(run_dir: &Path) -> Self {
        Self { path: run_dir.join(FILE), due: None }
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
        self.due.get_or_insert(Instant::now() + DELAY);
    }

    /// When [`Saved::write`] is due; `None` = nothing changed since.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Writes the state, if it changed.
    ///
    /// # Errors
    /// [`SaveError`] names the file; the state is tried again after the next change.
    pub fn write(&mut self, generation: Generation, desired: &Desired) -> Result<(), SaveError> {
        if self.due.take().is_none() {
            return Ok(());
        }
        let resources = desired.resources().map(|resource| (&resource).into()).collect();
        let request = proto::SyncRequest {
            api_version: API_VERSION,
            generation: generation.0,
            change: Some(proto::sync_request::Change::Snapshot(proto::Snapshot { resources })),
        };
        let fresh = self.path.with_extension("new");
        let failed = |source| SaveError { path: self.path.clone(), source };
        std::fs::write(&fresh, request.encode_to_vec()).map_err(failed)?;
        std::fs::rename(&fresh, &self.path).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use headrace_api::state::{Endpoint, Frontend, Protocol, Resource, Service};

    use super::*;

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

    #[test]
    fn what_was_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut saved = Saved::new(dir.path());
        assert_eq!(saved.load(), Ok(None));
        saved.write(Generation(7), &desired()).unwrap();
        assert_eq!(saved.load(), Ok(None), "nothing changed, nothing was written");
        saved.touch();
        assert!(saved.due().is_some());
        saved.write(Generation(7), &desired()).unwrap();
        assert_eq!(saved.due(), None);
        let (generation, change) = saved.load().unwrap().unwrap();
        assert_eq!(generation, Generation(7));
        let mut again = Desired::default();
        again.apply(change).unwrap();
        assert!(again.resources().eq(desired().resources()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_damaged_file_is_ignored_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let mut saved = Saved::new(dir.path());
        saved.touch();
        saved.write(Generation(7), &desired()).unwrap();
        let file = dir.path().join(FILE);
        let good = std::fs::read(&file).unwrap();
        for damaged in [&good[..good.len() - 3], b"\xff\xff\xff", b""] {
            std::fs::write(&file, damaged).unwrap();
            let reason = saved.load().unwrap_err();
            assert!(reason.contains("state.pb") && reason.contains("ignored"), "{reason}");
        }
    }
}
