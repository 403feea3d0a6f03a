use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::time::SystemTime;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::desired::HealthCheck;
use crate::push::SyncState;

/// No step takes that long; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn healthz_and_livez_say_what_kube_proxy_says() {
    let rig = Rig::start().await;
    let long_ago = Instant::now().checked_sub(LATE);
    // Lacking since, eligible, code of /healthz, code of /livez.
    let cases = [
        (None, true, 200, 200),
        (Some(Instant::now()), true, 200, 200),
        (long_ago, true, 503, 503),
        (None, false, 503, 200),
        (long_ago, false, 503, 503),
    ];
    for (lacking_since, node_eligible, healthz, livez) in cases {
        let late = lacking_since.is_some() && lacking_since == long_ago;
        rig.sync.send_replace(SyncState { lacking_since, updated: Some(SystemTime::UNIX_EPOCH) });
        rig.serving.send_modify(|s| s.node_eligible = node_eligible);
        for (path, code) in [("/healthz", healthz), ("/livez", livez)] {
            let reply = rig.ask(path).await;
            assert_eq!(reply.code, code, "{path} {reply:?}");
            assert!(
                reply.has("content-type: application/json") && reply.has("x-content-type-options: nosniff")
            );
            let body: Value = serde_json::from_str(&reply.body).unwrap();
            let eligible = (path == "/healthz").then_some(node_eligible);
            assert_eq!(body.get("nodeEligible").and_then(Value::as_bool), eligible, "{body}");
            assert_eq!(
                (&body["healthy"], &body["status"]["IPv4"]["healthy"]),
                (&(!late).into(), &(!late).into())
            );
            assert_eq!(body["status"]["IPv4"]["lastUpdated"], "1970-01-01T00:00:00.000000000Z");
            assert_eq!(body["lastUpdated"] == body["currentTime"], code == 200, "{body}");
        }
    }
}

#[tokio::test]
async fn before_the_dataplane_has_anything_time_counts_too() {
    let rig = Rig::start().await;
    rig.sync.send_replace(SyncState { lacking_since: Instant::now().checked_sub(LATE), updated: None });
    let reply = rig.ask("/livez").await;
    assert_eq!(reply.code, 503);
    assert!(
        reply.body.starts_with("{\"lastUpdated\":\"0001-01-01T00:00:00Z\",\"currentTime\":\"2"),
        "{reply:?}"
    );
}

#[tokio::test]
async fn other_paths_are_not_found() {
    let reply = Rig::start().await.ask("/metrics").await;
    assert_eq!((reply.code, reply.body.as_str()), (404, "404 page not found\n"));
}

#[tokio::test]
async fn a_service_is_asked_at_its_own_port_while_it_has_one() {
    let rig = Rig::start().await;
    let port = free_port().await;
    let name = ObjectName { namespace: "shop".into(), name: "web".into() };
    let check = |local_endpoints| HealthCheck { port: NonZeroU16::new(port).unwrap(), local_endpoints };
    let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    for (local, late, code) in [(2, false, 200), (0, false, 503), (2, true, 503)] {
        let lacking_since = Instant::now().checked_sub(LATE).filter(|_| late);
        rig.sync.send_replace(SyncState { lacking_since, updated: None });
        rig.serving.send_modify(|s| {
            s.checks.insert(name.clone(), check(local));
        });
        let reply = ask(at, "/any/path").await;
        assert_eq!(reply.code, code, "{reply:?}");
        assert!(reply.has(&format!("x-load-balancing-endpoint-weight: {local}")), "{reply:?}");
        assert!(reply.has("content-type: application/json") && reply.has("x-content-type-options: nosniff"));
        let body = format!(
            "{{\n\t\"service\": {{\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t}},\n\t\"localEndpoints\": {local},\n\t\
             \"serviceProxyHealthy\": {}\n}}",
            !late
        );
        assert_eq!(reply.body, body);
    }
    rig.serving.send_modify(|s| s.checks.clear());
    let closes = async {
        while TcpStream::connect(at).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, closes).await.unwrap();
}

#[tokio::test]
async fn a_range_means_the_addresses_of_the_node_in_it() {
    let of = async |ranges: &[&str]| {
        let ranges: Vec<IpNetwork> = ranges.iter().map(|range| range.parse().unwrap()).collect();
        let (addresses, fault) = addresses::of(&ranges).await;
        assert_eq!(fault, None);
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    // 127.0.0.0/8 is on every node's loopback device, as 127.0.0.1; nobody has an address for documentation.
    assert_eq!(of(&["127.0.0.0/8", "198.51.100.0/24"]).await, ["127.0.0.1"]);
    assert_eq!(of(&["192.0.2.1/32"]).await, ["192.0.2.1"], "the primary one, whoever has it");
    assert_eq!(of(&["127.0.0.0/8", "0.0.0.0/0"]).await, ["0.0.0.0"]);
}

#[tokio::test]
async fn a_port_that_is_taken_is_reported_and_keeps_no_other_back() {
    let rig = Rig::start().await;
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (first, second) = (taken.local_addr().unwrap(), free_port().await);
    rig.serving.send_modify(|s| {
        for (name, port) in [("a", first.port()), ("b", second)] {
            let name = ObjectName { namespace: "default".into(), name: name.into() };
            s.checks.insert(name, HealthCheck { port: NonZeroU16::new(port).unwrap(), local_endpoints: 1 });
        }
    });
    assert_eq!(ask(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), second), "/").await.code, 200);
    let lines = rig.reports.lines();
    assert!(lines.len() == 1 && lines[0].contains("Service default/a: cannot listen"), "{lines:?}");
}

#[tokio::test]
async fn silent_and_endless_peers_do_not_keep_others_from_an_answer() {
    let rig = Rig::start().await;
    assert_eq!(rig.ask("/healthz").await.code, 200, "it is up");
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(TcpStream::connect(rig.at).await.unwrap());
    }
    let mut endless = TcpStream::connect(rig.at).await.unwrap();
    let flood = vec![b'x'; 64 * 1024];
    let _ = endless.write_all(b"GET /healthz HTTP/1.1\r\nx: ").await;
    let _ = endless.write_all(&flood).await;
    assert_eq!(rig.ask("/healthz").await.code, 200);
    let mut end = Vec::new();
    let ended = timeout(LONG, endless.read_to_end(&mut end)).await.unwrap();
    assert!(ended.is_err() || end.starts_with(b"HTTP/1.1 431"), "{ended:?} {end:?}");
}

struct Rig {
    sync: watch::Sender<SyncState>,
    serving: watch::Sender<Serving>,
    reports: Reports,
    at: SocketAddr,
}

impl Rig {
    async fn start() -> Self {
        let serving = Serving {
            node_eligible: true,
            ranges: vec!["127.0.0.1/32".parse().unwrap()],
            checks: HealthChecks::new(),
        };
        let (sync, sync_watch) = watch::channel(SyncState::default());
        let (serving, serving_watch) = watch::channel(serving);
        let reports = Reports::new();
        let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port().await);
        tokio::spawn(Health::new(sync_watch, serving_watch).serve(Some(at), true, reports.clone()));
        Self { sync, serving, reports, at }
    }

    async fn ask(&self, path: &str) -> Reply {
        ask(self.at, path).await
    }
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

#[derive(Debug)]
struct Reply {
    code: u16,
    head: String,
    body: String,
}

impl Reply {
    fn has(&self, header: &str) -> bool {
        self.head.to_lowercase().contains(&header.to_lowercase())
    }
}

/// Asks as soon as somebody listens.
async fn ask(at: SocketAddr, path: &str) -> Reply {
    let connects = async {
        loop {
            match TcpStream::connect(at).await {
                Ok(stream) => return stream,
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let mut stream = timeout(LONG, connects).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    timeout(LONG, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { code, head: head.into(), body: body.into() }
}
