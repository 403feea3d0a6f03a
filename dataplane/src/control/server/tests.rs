//! The contract over a real Unix socket, with a loop behind it that holds a desired state and nothing else.

use std::path::Path;

use headrace_api::client::connect;
use headrace_api::proto::dataplane_client::DataplaneClient;
use headrace_api::proto::sync_request::Change;
use headrace_api::{check, proto};
use tonic::Code;
use tonic::transport::Channel;

use super::super::desired::Desired;
use super::super::observe::test_node::Node;
use super::*;

/// Answers calls as the control thread does, but for ports and tables; says who came and went.
async fn answer(mut calls: mpsc::Receiver<Call>, events: mpsc::UnboundedSender<&'static str>) {
    let mut desired = Desired::default();
    while let Some(call) = calls.recv().await {
        match call {
            Call::Connected => events.send("connected").unwrap(),
            Call::Disconnected => events.send("disconnected").unwrap(),
            Call::Change { request, reply } => {
                let generation = request.generation;
                let outcome = check::request(request).and_then(|(_, change)| desired.apply(change));
                let refusals = outcome.err().unwrap_or_default().iter().map(Into::into).collect::<Vec<_>>();
                let accepted = refusals.is_empty();
                let _ = reply.send(proto::SyncReply { generation, accepted, refusals, ports: vec![] });
            }
            Call::Services { reply, .. } => {
                let _ = reply.send(desired.services().map(|service| (&**service).into()).collect());
            }
            Call::Status { reply } => {
                let services = desired.service_counts().0 as u32;
                let _ = reply.send(proto::StatusReply { services, ..Default::default() });
            }
        }
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    events: mpsc::UnboundedReceiver<&'static str>,
    task: tokio::task::JoinHandle<()>,
}

impl Fixture {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (calls, inbox) = mpsc::channel(4);
        let (sender, events) = mpsc::unbounded_channel();
        tokio::spawn(answer(inbox, sender));
        let task = serve(Socket::listen(dir.path()).unwrap(), calls, Node::new().sight());
        Self { dir, events, task }
    }

    async fn stream(&self) -> Stream {
        Stream::open(self.dir.path()).await
    }
}

struct Stream {
    requests: mpsc::Sender<proto::SyncRequest>,
    replies: Streaming<proto::SyncReply>,
    client: DataplaneClient<Channel>,
}

impl Stream {
    async fn open(run_dir: &Path) -> Self {
        let mut client = connect(run_dir).await.unwrap();
        let (requests, receiver) = mpsc::channel(4);
        let replies = client.sync(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { requests, replies, client }
    }

    async fn ask(&mut self, generation: u64, change: Change) -> Result<proto::SyncReply, Status> {
        let request = proto::SyncRequest { api_version: API_VERSION, generation, change: Some(change) };
        self.requests.send(request).await.unwrap();
        self.replies.message().await.map(|reply| reply.expect("the stream goes on"))
    }
}

fn service(name: &str) -> proto::Resource {
    let address = Some(proto::Address { octets: vec![10, 96, 0, 1] });
    let (protocol, kind) = (proto::Protocol::Tcp.into(), proto::FrontendKind::ClusterIp.into());
    let frontend = proto::Frontend { address, port: 80, protocol, kind };
    let service =
        proto::Service { name: name.into(), frontends: vec![frontend], ..proto::Service::default() };
    proto::Resource { kind: Some(proto::resource::Kind::Service(service)) }
}

fn snapshot(resources: Vec<proto::Resource>) -> Change {
    Change::Snapshot(proto::Snapshot { resources })
}

fn delta(upserts: Vec<proto::Resource>) -> Change {
    Change::Delta(proto::Delta { upserts, deletes: vec![] })
}

#[tokio::test]
async fn changes_are_answered_by_generation_and_refusals_say_why() {
    let mut fixture = Fixture::start();
    let mut stream = fixture.stream().await;
    assert!(stream.ask(5, snapshot(vec![service("a")])).await.unwrap().accepted);
    let reply = stream.ask(6, delta(vec![service("b")])).await.unwrap();
    assert_eq!((reply.generation, reply.accepted), (6, false));
    assert_eq!(reply.refusals[0].resource, "service b");
    assert!(reply.refusals[0].reason.contains("service a"), "{:?}", reply.refusals);
    assert!(
        stream.ask(7, delta(vec![service("a")])).await.unwrap().accepted,
        "the stream outlives a refusal"
    );
    let status = stream.client.status(proto::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.services, 1);
    drop(stream);
    assert_eq!(fixture.events.recv().await, Some("connected"));
    assert_eq!(fixture.events.recv().await, Some("disconnected"));
}

#[tokio::test]
async fn a_stream_begins_with_a_snapshot() {
    let fixture = Fixture::start();
    let status = fixture.stream().await.ask(1, delta(vec![])).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn generations_grow_within_a_stream_and_begin_anew_with_the_next() {
    let fixture = Fixture::start();
    let mut stream = fixture.stream().await;
    assert!(stream.ask(9, snapshot(vec![])).await.unwrap().accepted);
    assert_eq!(stream.ask(9, delta(vec![])).await.unwrap_err().code(), Code::InvalidArgument);
    assert!(fixture.stream().await.ask(1, snapshot(vec![])).await.unwrap().accepted);
}

#[tokio::test]
async fn another_contract_is_refused_in_words() {
    let fixture = Fixture::start();
    let mut stream = fixture.stream().await;
    let request = proto::SyncRequest { api_version: API_VERSION + 1, generation: 1, change: None };
    stream.requests.send(request).await.unwrap();
    let reply = stream.replies.message().await.unwrap().unwrap();
    assert!(!reply.accepted && reply.refusals[0].field == "api_version", "{reply:?}");
}

#[tokio::test]
async fn a_new_controller_replaces_the_old_one() {
    let mut fixture = Fixture::start();
    let mut old = fixture.stream().await;
    assert!(old.ask(1, snapshot(vec![])).await.unwrap().accepted);
    let mut new = fixture.stream().await;
    assert!(new.ask(1, snapshot(vec![])).await.unwrap().accepted);
    let end = old.replies.message().await.unwrap_err();
    assert!(end.code() == Code::Aborted && end.message().contains("another controller"), "{end:?}");
    drop(new);
    for event in ["connected", "connected", "disconnected"] {
        assert_eq!(fixture.events.recv().await, Some(event), "the replaced one is not reported as gone");
    }
}

#[tokio::test]
async fn the_sockets_file_goes_with_the_server() {
    let fixture = Fixture::start();
    let path = fixture.dir.path().join(headrace_api::client::SOCKET);
    assert!(path.exists());
    fixture.task.abort();
    assert!(fixture.task.await.unwrap_err().is_cancelled());
    assert!(!path.exists());
}
