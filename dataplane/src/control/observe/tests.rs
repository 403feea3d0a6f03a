//! The calls of `observe.proto` over a real socket, with a real worker behind them.

use headrace_api::client;
use headrace_api::proto::observe_client::ObserveClient;
use tonic::Code;
use tonic::transport::Channel;

use super::super::server;
use super::super::socket::Socket;
use super::test_node::{A, B, Node, answer};
use super::*;

struct Fixture {
    node: Node,
    client: ObserveClient<Channel>,
    _dir: tempfile::TempDir,
}

impl Fixture {
    async fn start() -> Self {
        let (node, dir) = (Node::new(), tempfile::tempdir().unwrap());
        let (calls, inbox) = mpsc::channel(4);
        tokio::spawn(answer(inbox));
        server::serve(Socket::listen(dir.path()).unwrap(), calls, node.sight());
        let client = client::observe(dir.path()).await.unwrap();
        Self { node, client, _dir: dir }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_packet_is_seen_where_it_comes_in_and_where_it_leaves() {
    let mut f = Fixture::start().await;
    let request = proto::CaptureRequest { filter: "udp and port 53".into(), count: 3, ..Default::default() };
    let mut stream = f.client.capture(request).await.unwrap().into_inner();
    let mut records = Vec::new();
    while records.len() < 3 {
        f.node.send(A, (B, 54), b"not looked for");
        f.node.send(A, (B, 53), b"looked for");
        f.node.send(B, (A, 53), b"from an address that is not the pod's");
        while let Ok(message) =
            tokio::time::timeout(std::time::Duration::from_millis(100), stream.message()).await
        {
            let Some(record) = message.unwrap() else { break };
            records.push(record);
        }
    }
    let told: Vec<_> = records.iter().map(|r| (r.direction(), r.port.as_str(), r.reason.as_str())).collect();
    assert_eq!(told[0], (proto::Direction::In, "hra", ""));
    assert!(told.contains(&(proto::Direction::Out, "hrb", "")), "{told:?}");
    assert!(records.iter().all(|r| r.length as usize == r.frame.len() && r.time_ns > 0));
    assert!(stream.message().await.unwrap().is_none(), "it ends after as many as were wanted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_names_every_stage_and_a_drop_its_reason() {
    let mut f = Fixture::start().await;
    let request = proto::TraceRequest { filter: "port 53".into(), count: 2 };
    let mut stream = f.client.trace(request).await.unwrap().into_inner();
    f.node.send(A, (B, 53), b"a");
    let first = stream.message().await.unwrap().unwrap();
    let stages: Vec<_> = first.steps.iter().map(|s| s.stage.as_str()).collect();
    let pipeline = crate::pipeline::STAGES.iter().map(|(name, _)| *name);
    let expected: Vec<_> = ["ingress"].into_iter().chain(pipeline).chain(["output"]).collect();
    assert_eq!(stages, expected);
    assert_eq!((first.verdict.as_str(), first.port.as_str()), ("forward", "pod default/a"));
    assert!(first.steps.iter().any(|s| s.nanoseconds > 0), "{first:?}");
    // Not in the first one's burst: there it would be told first, since it ends sooner.
    f.node.send(B, (A, 53), b"spoofed");
    let second = stream.message().await.unwrap().unwrap();
    assert_eq!((second.verdict.as_str(), second.reason.as_str()), ("drop", "spoofed_source"));
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_listed_with_what_they_carried() {
    let mut f = Fixture::start().await;
    for _ in 0..3 {
        f.node.send(A, (B, 53), &[0; 72]);
    }
    f.node.worker_rests();
    let request = |filter: &str| proto::FlowsRequest { filter: filter.into(), ..Default::default() };
    let mut stream = f.client.flows(request("pod default/b and udp")).await.unwrap().into_inner();
    let flow = stream.message().await.unwrap().unwrap();
    assert_eq!((flow.client_pod.as_str(), flow.server_pod.as_str()), ("default/a", "default/b"));
    assert_eq!((flow.state.as_str(), flow.way.as_str()), ("one-way", "pod default/b"));
    assert_eq!(flow.to_server, Some(proto::FlowCounters { frames: 3, bytes: 300 }));
    assert!(stream.message().await.unwrap().is_none());
    let mut none = f.client.flows(request("tcp")).await.unwrap().into_inner();
    assert!(none.message().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_begin_are_told_to_those_who_follow() {
    let mut f = Fixture::start().await;
    let request = proto::FlowsRequest { follow: true, ..Default::default() };
    let mut stream = f.client.flows(request).await.unwrap().into_inner();
    let mut port = 1000;
    let record = loop {
        f.node.send(A, (B, port), b"x");
        port += 1;
        let wait = std::time::Duration::from_millis(50);
        if let Ok(message) = tokio::time::timeout(wait, stream.message()).await {
            let record = message.unwrap().unwrap();
            if record.event() == proto::FlowEvent::Began {
                break record;
            }
        }
    };
    assert_eq!(record.lost, 0);
    drop(stream);
    // The ear goes with the stream.
    for _ in 0..100 {
        if !f.node.is_heard() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("somebody still listens");
}

#[tokio::test(flavor = "multi_thread")]
async fn drops_come_with_an_example() {
    let mut f = Fixture::start().await;
    f.node.send(B, (A, 53), b"spoofed");
    f.node.worker_rests();
    let mut stream = f.client.drops(proto::DropsRequest { once: true }).await.unwrap().into_inner();
    let reply = stream.message().await.unwrap().unwrap();
    let drop = &reply.drops[0];
    assert_eq!((drop.reason.as_str(), drop.count), ("spoofed_source", 1));
    let example = drop.example.as_ref().unwrap();
    assert!(example.summary.contains("10.1.0.3:4000 > 10.1.0.2:53 udp"), "{}", example.summary);
    assert_eq!(example.port, "hra");
    let places: Vec<_> = drop.places.iter().map(|place| (place.port.as_str(), place.count)).collect();
    assert_eq!(places, [("pod default/a", 1)]);
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn explaining_sends_nothing_and_remembers_nothing() {
    let mut f = Fixture::start().await;
    let request = proto::ExplainRequest {
        source: "default/a".into(),
        destination: B.to_string(),
        destination_port: 80,
        ..Default::default()
    };
    let reply = f.client.explain(request.clone()).await.unwrap().into_inner();
    assert_eq!(reply.verdict, "forward", "{reply:?}");
    assert_eq!(reply.departures.len(), 1);
    assert!(reply.departures[0].summary.contains("tcp S"), "{reply:?}");
    assert!(f.node.sight().shared.flows.map().is_empty());
    assert!(f.node.outsides.iter().all(|outside| outside.take().is_empty()));
    let nowhere = proto::ExplainRequest { destination: "10.96.0.1".into(), ..request.clone() };
    let reply = f.client.explain(nowhere).await.unwrap().into_inner();
    assert_eq!((reply.verdict.as_str(), reply.reason.as_str()), ("drop", "no_service"));
    let unknown = proto::ExplainRequest { source: "default/gone".into(), ..request };
    assert_eq!(f.client.explain(unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_filters_ports_and_names_are_refused_in_words() {
    let mut f = Fixture::start().await;
    let flows = |filter: &str| proto::FlowsRequest { filter: filter.into(), ..Default::default() };
    let error = f.client.flows(flows("tcp and prot 80")).await.err().unwrap();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("column 9"), "{}", error.message());
    let error = f.client.flows(flows("pod default/gone")).await.err().unwrap();
    assert!(error.message().contains("default/gone"), "{}", error.message());
    let request = proto::CaptureRequest { ports: vec!["eth9".into()], ..Default::default() };
    let error = f.client.capture(request).await.err().unwrap();
    assert!(error.message().contains("eth0"), "it says which there are: {}", error.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_a_few_may_look_at_once() {
    let mut f = Fixture::start().await;
    let request = || proto::FlowsRequest { follow: true, ..Default::default() };
    let mut streams = Vec::new();
    let error = loop {
        match f.client.flows(request()).await {
            Ok(stream) => streams.push(stream),
            Err(error) => break error,
        }
        assert!(streams.len() < 100);
    };
    assert_eq!(error.code(), Code::ResourceExhausted);
    drop(streams);
    for _ in 0..100 {
        if f.client.flows(request()).await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("streams that ended still count");
}
