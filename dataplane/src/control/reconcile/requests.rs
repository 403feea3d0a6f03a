//! Changes of the desired state: from the controller, from a file, and from an earlier run.

use headrace_api::state::{Change, Generation, PortId, Refusal, Resource};
use headrace_api::{check, proto};

use super::{Reconciler, Source, sentence};
use crate::control::desired::Diff;
use crate::control::saved::SaveError;
use crate::control::state_file::StateFile;
use crate::control::status;
use crate::control::warnings::Topic;

impl Reconciler {
    /// Answers a request.
    pub(super) async fn change(&mut self, request: proto::SyncRequest) -> proto::SyncReply {
        let generation = request.generation;
        if let Some(file) = &self.file {
            return refused(generation, &[in_charge(file)]);
        }
        let outcome = check::request(request).and_then(|(generation, change)| {
            let touched = touched_ports(&change);
            self.desired.apply(change).map(|diff| (generation, touched, diff))
        });
        match outcome {
            Ok((generation, touched, diff)) => {
                self.accept(generation, Source::Controller, &diff).await;
                if touched.iter().any(|id| self.ports.pod(*id).is_err()) {
                    self.kernel.expect_links();
                    self.converge().await;
                }
                let ports = touched.into_iter().map(|id| status::port_state(self, id)).collect();
                proto::SyncReply { generation: generation.0, accepted: true, refusals: Vec::new(), ports }
            }
            Err(refusals) => {
                for refusal in &refusals {
                    tracing::warn!("generation {generation} is refused: {refusal}");
                }
                let reply = refused(generation, &refusals);
                self.last_refusals = refusals;
                reply
            }
        }
    }

    /// Puts a change of the desired state into force.
    async fn accept(&mut self, generation: Generation, source: Source, diff: &Diff) {
        self.generation = generation;
        self.source = source;
        self.last_refusals.clear();
        if source == Source::Controller {
            self.warnings.set(Topic::Saved, Vec::new());
        }
        if diff.is_empty() {
            return;
        }
        self.saved.touch();
        self.left.add(&diff.left);
        if diff.settings || !diff.ports.is_empty() {
            self.reserve_ports();
        }
        if diff.settings {
            self.look_for_listeners();
        }
        if diff.beyond_services() {
            self.kernel.expect_links();
            self.converge().await;
        }
        self.publisher.services(&diff.services);
        self.follow_frontends(diff);
    }

    /// Reads the file by which this runs. What cannot be used is told, and changes nothing.
    pub(super) async fn follow_file(&mut self) {
        let Some(file) = &mut self.file else { return };
        let place = file.path().display().to_string();
        let applied = file.load().map_err(|error| error.to_string()).and_then(|(_, change)| {
            let told = |refusals: Vec<Refusal>| {
                refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            };
            self.desired
                .apply(change)
                .map_err(|refusals| format!("the state file {place}: {}", told(refusals)))
        });
        match applied {
            Ok(diff) => {
                let generation = Generation(self.generation.0 + 1);
                tracing::info!("the state file {place} is in force, generation {}", generation.0);
                self.warnings.set(Topic::StateFile, Vec::new());
                self.accept(generation, Source::File, &diff).await;
            }
            Err(problem) => {
                let kept =
                    if self.source == Source::File { "; what it held before stays in force" } else { "" };
                self.warnings.set(Topic::StateFile, vec![format!("{problem}{kept}")]);
            }
        }
    }

    /// Takes up the state of the file by which this runs, or that an earlier run left, if there is one.
    pub(super) async fn resume(&mut self) {
        if self.file.is_some() {
            self.follow_file().await;
            return self.converge().await;
        }
        match self.saved.load() {
            Ok(Some((generation, change))) => match self.desired.apply(change) {
                Ok(diff) => {
                    tracing::info!("resuming with saved state of generation {}", generation.0);
                    self.accept(generation, Source::Saved, &diff).await;
                }
                Err(refusals) => {
                    let why = refusals.first().map(ToString::to_string).unwrap_or_default();
                    self.warnings.set(Topic::Saved, vec![format!("the saved state is ignored: {why}")]);
                }
            },
            Ok(None) => {}
            Err(warning) => self.warnings.set(Topic::Saved, vec![warning]),
        }
        self.converge().await;
    }

    /// Begins to write the state for a later run, if it changed.
    pub(super) fn save(&mut self) {
        self.saved.write(self.generation, || self.desired.shared());
    }

    /// Writes the state for a later run, if it changed, and waits for it.
    pub(super) async fn finish_saving(&mut self) {
        let written = self.saved.finish(self.generation, || self.desired.shared()).await;
        self.saved_or_not(written);
    }

    /// Tells of a state that could not be written.
    pub(super) fn saved_or_not(&mut self, written: Result<(), SaveError>) {
        self.warnings.set(Topic::Saved, sentence(written));
    }
}

fn refused(generation: u64, refusals: &[Refusal]) -> proto::SyncReply {
    let refusals = refusals.iter().map(Into::into).collect();
    proto::SyncReply { generation, accepted: false, refusals, ports: Vec::new() }
}

fn in_charge(file: &StateFile) -> Refusal {
    let reason = format!(
        "this dataplane runs by the file {} alone: change that, or start it without --state",
        file.path().display()
    );
    Refusal { resource: "state".into(), field: "file".into(), reason }
}

/// Ports that a request names, whether it changes them or not: the controller waits for them.
fn touched_ports(change: &Change) -> Vec<PortId> {
    let upserts = match change {
        Change::Snapshot(resources) => resources,
        Change::Delta { upserts, .. } => upserts,
    };
    let port = |resource: &Resource| match resource {
        Resource::Port(port) => Some(port.id),
        _ => None,
    };
    upserts.iter().filter_map(port).collect()
}
