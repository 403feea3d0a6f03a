use headrace_api::proto::{
    Count, FlowTableStatus, PeerCounters, PeerStatus, PortCounters, PortStatus, StatusReply, WorkerStatus,
};
use serde_json::json;
use tempfile::TempDir;

use super::events::{Event, Kind, events};
use super::history::{EVENTS, History, POINTS};
use super::point::{PEERS, PORTS, Point};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn rates_are_what_moved_by_the_time_it_took() {
    let old = status(1000, 10);
    let new = StatusReply { flows: flows(70), ..status(3000, 20) };
    let point = Point::new(5, Some((2 * SECOND, &old)), Some(&new));
    assert_eq!((point.at, point.up, point.new_flows), (5, true, 30.0));
    let port = point.ports["hr1"];
    assert_eq!((port.rx_bps, port.rx_pps, port.tx_bps), (8000.0, 10.0, 0.0));
    assert_eq!(point.drops["no_route"], 5.0);
    assert_eq!(point.dropped, 5.0);
    let worker = &point.workers[0];
    assert_eq!((worker.load, worker.burst, worker.bps), (0.25, 4.0, 8000.0));
    assert_eq!(worker.burst_sizes, [10, 0]);
}

#[test]
fn counters_that_begin_anew_count_from_zero() {
    let point = Point::new(0, Some((SECOND, &status(9000, 90))), Some(&status(100, 3)));
    assert_eq!((point.ports["hr1"].rx_bps, point.dropped), (800.0, 3.0));
}

#[test]
fn nothing_is_drawn_where_the_dataplane_was_silent() {
    let down = Point::new(1, Some((SECOND, &status(1, 1))), None);
    assert_eq!(down, Point { at: 1, ..Point::default() });
    let first = Point::new(2, None, Some(&status(1, 1)));
    assert!(first.up && first.ports.is_empty() && first.workers.is_empty());
}

#[test]
fn a_point_holds_the_busiest_ports_and_no_more() {
    let many = |factor: u64| StatusReply {
        ports: (0..1000).map(|i| port(&format!("hr{i}"), i * factor)).collect(),
        ..StatusReply::default()
    };
    let point = Point::new(0, Some((SECOND, &many(1))), Some(&many(2)));
    assert_eq!(point.ports.len(), PORTS);
    assert!(point.ports.contains_key("hr999") && !point.ports.contains_key("hr1"));
}

#[test]
fn what_a_port_drops_and_what_the_kernel_loses_are_one_rate() {
    let look = |factor: u64| {
        let drops = vec![
            Count { name: "no_route".into(), count: 3 * factor, ..Count::default() },
            Count { name: "tx_ring_full".into(), count: factor, ..Count::default() },
        ];
        // Counted among the drops already.
        let counters = PortCounters { rx_ring_full: 10 * factor, tx_ring_full: factor, ..Default::default() };
        let port = PortStatus { drops, counters: Some(counters), ..port("hr1", 0) };
        StatusReply { ports: vec![port], ..StatusReply::default() }
    };
    let point = Point::new(0, Some((SECOND, &look(1))), Some(&look(2)));
    assert_eq!(serde_json::to_value(&point).unwrap()["ports"]["hr1"], json!([0.0, 0.0, 0.0, 0.0, 14.0]));
}

#[test]
fn peers_have_rates_the_busiest_of_them() {
    let look = |factor: u64| StatusReply {
        peers: (0..100).map(|i| peer(&format!("n{i}"), i * factor)).chain([unpublished()]).collect(),
        ..StatusReply::default()
    };
    let point = Point::new(0, Some((SECOND, &look(1))), Some(&look(2)));
    assert_eq!(point.peers.len(), PEERS);
    assert_eq!((point.peers["n99"].rx_bps, point.peers["n99"].tx_bps), (8.0 * 99.0, 80.0 * 99.0));
    assert!(!point.peers.contains_key("n1") && !point.peers.contains_key("unpublished"));
}

fn peer(name: &str, bytes: u64) -> PeerStatus {
    let traffic = PeerCounters { rx_bytes: bytes, tx_bytes: 10 * bytes, ..PeerCounters::default() };
    PeerStatus { name: name.into(), traffic: Some(traffic), ..PeerStatus::default() }
}

fn unpublished() -> PeerStatus {
    PeerStatus { name: "unpublished".into(), ..PeerStatus::default() }
}

#[test]
fn ten_minutes_are_kept_whatever_comes() {
    let mut history = History::default();
    for i in 1..=2000_u64 {
        let event = Event { at: i, kind: Kind::Tables, text: i.to_string() };
        assert_eq!(history.push(&Point { at: i, ..Point::default() }, &[event]), i);
    }
    let all = history.since(0);
    assert_eq!((all.points.len(), all.events.len()), (POINTS, EVENTS));
    assert!(all.points[0].contains("\"at\":1401,"), "{}", all.points[0]);
    assert_eq!(history.since(1998).points.len(), 2);
    assert_eq!(history.since(2000).points.len(), 0);
    assert_eq!(history.since(9999).points.len(), POINTS, "a number of an earlier agent");
}

#[test]
fn what_changed_is_told_once_and_in_words() {
    let before = status(1, 1);
    let mut after = StatusReply { generation: 2, services: 3, ..before.clone() };
    after.ports.push(PortStatus { id: 2, label: "default/web".into(), ready: true, ..port("hr2", 0) });
    after.peers.push(PeerStatus { name: "node2".into(), ..PeerStatus::default() });
    after.warnings.push("something".into());
    let texts = |old: &StatusReply, new: &StatusReply| -> Vec<String> {
        events(0, Some(&Ok(old.clone())), &Ok(new.clone())).into_iter().map(|e| e.text).collect()
    };
    let told = texts(&before, &after);
    let expected = [
        "pod added: default/web",
        "node added: node2",
        "tables changed: 3 services (+3), 0 endpoints",
        "something",
    ];
    assert_eq!(told, expected);
    assert_eq!(texts(&after, &after), Vec::<String>::new());
    let back = texts(&after, &before);
    assert!(back.contains(&"no longer: something".to_owned()), "{back:?}");
}

#[test]
fn a_dataplane_that_comes_and_goes_is_an_event() {
    let there = Ok(status(1, 1));
    let gone = Err("gone".to_owned());
    let kinds = |old: &Result<_, _>, new| -> Vec<Kind> {
        events(0, Some(old), new).into_iter().map(|e| e.kind).collect()
    };
    assert_eq!(kinds(&there, &gone), [Kind::Warning]);
    assert_eq!(kinds(&gone, &gone), []);
    assert_eq!(kinds(&gone, &there), [Kind::Daemons]);
    let younger = Ok(StatusReply { uptime_seconds: 1, ..status(1, 1) });
    assert_eq!(kinds(&there, &younger), [Kind::Daemons]);
}

#[tokio::test]
async fn a_dataplane_that_is_not_there_is_said_in_words() {
    let dir = TempDir::new().unwrap();
    let (observer, mut observations) = new(dir.path().to_owned());
    assert_eq!(observations.latest().sequence, 0);
    tokio::spawn(observer.run());
    assert!(observations.changed().await);
    let latest = observations.latest();
    let problem = latest.status.as_ref().unwrap_err();
    assert!(problem.contains("is headrace-dataplane running"), "{problem}");
    assert_eq!((latest.sequence, latest.json.as_str()), (1, "null"));
    assert_eq!(observations.since(0).events.len(), 1);
}

pub(crate) fn status(bytes: u64, drops: u64) -> StatusReply {
    let count = Count { name: "no_route".into(), meaning: "No pod has it.".into(), count: drops };
    let worker = WorkerStatus {
        frames: 4 * drops,
        bursts: drops,
        busy_ns: bytes,
        alive_ns: 4 * bytes,
        burst_sizes: vec![drops, 7],
        turn_durations: vec![1, 2, 3],
        drops: vec![count],
        ..WorkerStatus::default()
    };
    StatusReply {
        uptime_seconds: 60,
        generation: 1,
        ports: vec![port("hr1", bytes)],
        workers: vec![worker],
        flows: flows(10),
        ..StatusReply::default()
    }
}

fn port(interface: &str, bytes: u64) -> PortStatus {
    let counters = PortCounters { rx_bytes: bytes, rx_frames: bytes / 100, ..PortCounters::default() };
    PortStatus {
        id: 1,
        interface: interface.into(),
        label: format!("default/{interface}"),
        ready: true,
        counters: Some(counters),
        by_worker: vec![counters],
        ..PortStatus::default()
    }
}

fn flows(inserted: u64) -> Option<FlowTableStatus> {
    Some(FlowTableStatus { inserted, live: 2, ..FlowTableStatus::default() })
}
