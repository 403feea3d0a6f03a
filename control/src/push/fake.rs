//! A dataplane for tests: a real gRPC server on a Unix socket that checks requests as the dataplane does and models its
//! state, without packets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use headrace_api::proto::dataplane_server::{Dataplane, DataplaneServer};
use headrace_api::proto::{SyncReply, SyncRequest};
use headrace_api::state::{Change, Key, Resource};
use headrace_api::{check, proto};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::{Pusher, diff, new};
use crate::desired::Desired;

/// No step takes that long; a test that waits so long has failed.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// The dataplane's state, by title.
pub(super) type State = BTreeMap<String, Resource>;

pub(super) fn model_of(desired: &Desired) -> State {
    diff::resources(desired).map(|r| (diff::title(&r), r)).collect()
}

pub(super) fn apply(state: &mut State, change: Change) {
    match change {
        Change::Snapshot(resources) => *state = resources.into_iter().map(|r| (diff::title(&r), r)).collect(),
        Change::Delta { upserts, deletes } => {
            for key in deletes {
                let title = match key {
                    Key::Port(id) => format!("port {id}"),
                    Key::Peer(name) => format!("peer {name}"),
                    Key::Service(name) => format!("service {name}"),
                };
                assert!(state.remove(&title).is_some(), "{title} was not there");
            }
            state.extend(upserts.into_iter().map(|r| (diff::title(&r), r)));
        }
    }
}

/// What the dataplane does with requests, without packets.
#[derive(Default)]
pub(super) struct Model {
    pub(super) state: State,
    log: Vec<Entry>,
    /// Titles of resources that are refused.
    pub(super) refused: BTreeSet<String>,
    /// The resource that is named when settings are refused.
    pub(super) settings_conflict: Option<String>,
    /// Ports that are accepted but do not open.
    pub(super) unopenable: BTreeSet<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) generation: u64,
    pub(super) kind: &'static str,
    pub(super) upserts: usize,
    pub(super) deletes: usize,
}

impl Model {
    pub(super) fn answer(&mut self, request: proto::SyncRequest) -> proto::SyncReply {
        let (generation, change) = check::request(request).expect("only what passes the check is sent");
        let (kind, upserts, deletes) = match &change {
            Change::Snapshot(r) => ("snapshot", r.clone(), 0),
            Change::Delta { upserts, deletes } => ("delta", upserts.clone(), deletes.len()),
        };
        assert!(kind == "snapshot" || !upserts.is_empty() || deletes > 0, "an empty delta");
        self.log.push(Entry { generation: generation.0, kind, upserts: upserts.len(), deletes });
        let refused = upserts.iter().filter_map(|r| match r {
            Resource::Settings(_) => self.settings_conflict.clone(),
            other => Some(diff::title(other)).filter(|t| self.refused.contains(t)),
        });
        let refusals: Vec<proto::Refusal> = refused
            .map(|resource| proto::Refusal { resource, field: "all".into(), reason: "not this one".into() })
            .collect();
        if !refusals.is_empty() {
            return proto::SyncReply { generation: generation.0, refusals, ..proto::SyncReply::default() };
        }
        let ports = upserts.iter().filter_map(|r| match r {
            Resource::Port(p) => Some(p.id.get()),
            _ => None,
        });
        let state = |id: u32| match self.unopenable.contains(&id) {
            true => proto::PortState { id, ready: false, problem: "no such interface".into() },
            false => proto::PortState { id, ready: true, problem: String::new() },
        };
        let ports = ports.map(state).collect();
        apply(&mut self.state, change);
        proto::SyncReply { generation: generation.0, accepted: true, refusals, ports }
    }
}

/// A server on a Unix socket around a [`Model`], on a runtime of its own so that stopping it closes its connections.
pub(super) struct Fake {
    dir: TempDir,
    model: Arc<Mutex<Model>>,
    runtime: Option<Runtime>,
}

struct Api(Arc<Mutex<Model>>);

#[tonic::async_trait]
impl Dataplane for Api {
    type SyncStream = ReceiverStream<Result<SyncReply, Status>>;

    async fn sync(
        &self,
        request: Request<Streaming<SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let mut requests = request.into_inner();
        let model = Arc::clone(&self.0);
        let (replies, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let reply = model.lock().unwrap().answer(request);
                if replies.send(Ok(reply)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn status(&self, _: Request<proto::StatusRequest>) -> Result<Response<proto::StatusReply>, Status> {
        Err(Status::unimplemented("not needed here"))
    }
}

impl Fake {
    pub(super) fn start() -> Self {
        let mut fake = Self { dir: TempDir::new().unwrap(), model: Arc::default(), runtime: None };
        fake.start_again();
        fake
    }

    /// With an empty state and log, as a new process.
    pub(super) fn start_again(&mut self) {
        self.model = Arc::default();
        let socket = self.dir.path().join(headrace_api::client::SOCKET);
        let _ = std::fs::remove_file(&socket);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(serve(socket, Api(Arc::clone(&self.model))));
        self.runtime = Some(runtime);
    }

    pub(super) fn stop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    pub(super) fn pusher(&self) -> Pusher {
        let (pusher, feed) = new(self.dir.path().to_owned());
        tokio::spawn(feed.run());
        pusher
    }

    pub(super) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    pub(super) fn log(&self) -> Vec<Entry> {
        self.model().log.clone()
    }

    pub(super) fn state(&self) -> State {
        self.model().state.clone()
    }

    pub(super) async fn reaches(&self, desired: &Desired) {
        let expected = model_of(desired);
        let reached = async {
            while self.state() != expected {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let reached = timeout(LONG, reached).await.is_ok();
        assert!(reached, "{:?} is not {:?}", self.state().keys(), expected.keys());
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(socket: impl AsRef<Path>, service: Api) {
    let listener = UnixListener::bind(socket).unwrap();
    let server = tonic::transport::Server::builder().add_service(DataplaneServer::new(service));
    server.serve_with_incoming(UnixListenerStream::new(listener)).await.unwrap();
}
