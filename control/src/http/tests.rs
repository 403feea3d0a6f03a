use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderValue, Method};
use headrace_api::proto::StatusReply;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::access::{Denied, Token};
use super::config::{HttpArgs, Listen};
use super::*;
use crate::observe::Observer;
use crate::observe::testing::seen;
use crate::observe::tests::status;

const LONG: Duration = Duration::from_secs(20);
const TOKEN: &str = "0123456789abcdef";

#[tokio::test]
async fn the_page_comes_with_a_policy_that_keeps_it_to_itself() {
    let site = Site::start(None).await;
    let answer = site.get("/", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let policy = answer.lines().find(|line| line.starts_with("content-security-policy:")).unwrap();
    for part in ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(site.get("/nonsense", "").await.starts_with("HTTP/1.1 404"));
    assert!(site.get("/../../etc/passwd", "").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn the_first_event_has_all_and_the_next_ones_what_is_new() {
    let mut site = Site::start(None).await;
    site.observer.show(Ok(status(2000, 20)));
    let mut stream = site.open("/api/v1/stream", "").await;
    let first = event(&mut stream).await;
    assert_eq!(first["sequence"], 2);
    assert_eq!(first["points"].as_array().unwrap().len(), 2);
    assert_eq!(first["status"]["ports"][0]["interface"], "hr1");
    assert_eq!(first["nodes"][0]["name"], "a");
    assert_eq!(first["cluster"], false);
    assert!(first.get("flows").is_none(), "nobody asked for connections");
    site.observer.show(Err("it is gone".into()));
    let second = event(&mut stream).await;
    assert_eq!(second["points"].as_array().unwrap().len(), 1);
    assert_eq!((&second["problem"], &second["status"]), (&"it is gone".into(), &serde_json::Value::Null));
    let mut again = site.open("/api/v1/stream?since=2", "").await;
    assert_eq!(event(&mut again).await["points"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_the_dataplane_cannot_tell_is_said_in_its_section() {
    let site = Site::start(None).await;
    let long = "x".repeat(300);
    let mut stream = site.open(&format!("/api/v1/stream?flows={long}&services="), "").await;
    let first = event(&mut stream).await;
    assert!(first["flows"]["problem"].as_str().unwrap().contains("longer than"), "{}", first["flows"]);
    assert!(first["services"]["problem"].as_str().unwrap().contains("no dataplane"), "{}", first["services"]);
}

#[tokio::test]
async fn other_nodes_are_not_shown_without_a_cluster() {
    let site = Site::start(None).await;
    let answer = site.get("/api/v1/stream?node=b", "").await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("its own node only"), "{answer}");
}

#[tokio::test]
async fn streams_are_limited_and_come_free_again() {
    let site = Site::start(None).await;
    let mut streams = Vec::new();
    for _ in 0..stream::STREAMS {
        let mut stream = site.open("/api/v1/stream", "").await;
        event(&mut stream).await;
        streams.push(stream);
    }
    let answer = site.get("/api/v1/stream", "").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(site.get("/", "").await.starts_with("HTTP/1.1 200"), "the page itself is still there");
    drop(streams);
    let again = async {
        loop {
            let mut stream = site.open("/api/v1/stream", "").await;
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.unwrap();
            if &status == b"HTTP/1.1 200" {
                return event(&mut stream).await;
            }
            assert_eq!(&status, b"HTTP/1.1 503");
        }
    };
    timeout(LONG, again).await.unwrap();
}

#[tokio::test]
async fn a_thousand_half_open_connections_keep_nobody_out() {
    let site = Site::start(None).await;
    let mut idle = Vec::new();
    for i in 0..1000 {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        if i % 2 == 0 {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: ").await;
        }
        idle.push(stream);
    }
    let answer = timeout(LONG, site.get("/", "")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut ended = 0;
    for stream in &mut idle {
        let mut byte = [0];
        ended += usize::from(timeout(LONG, stream.read(&mut byte)).await.is_ok());
    }
    assert_eq!(ended, idle.len(), "all of them are ended by the agent, none of them waits for ever");
}

#[tokio::test]
async fn garbage_is_answered_or_ended_and_the_next_one_served() {
    let site = Site::start(None).await;
    let endless = [b"GET / HTTP/1.1\r\nHost: localhost\r\nx: ".to_vec(), vec![b'a'; 100_000]].concat();
    let cases: [&[u8]; 5] =
        [b"\0\0\0\0", b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", &[0xff; 5000], &endless];
    for garbage in cases {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        let _ = stream.write_all(garbage).await;
        let mut answer = Vec::new();
        let _ = timeout(LONG, stream.read_to_end(&mut answer)).await.expect("it ends");
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
    assert!(site.get("/", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn the_token_opens_what_tells_about_the_node() {
    let site = Site::start(Some(Token::new(TOKEN))).await;
    assert!(site.get("/", "").await.starts_with("HTTP/1.1 200"), "the page asks for the token itself");
    for path in ["/api/v1/stream", "/api/v1/summary"] {
        for wrong in
            ["", "Authorization: Bearer 0123456789abcdeX\r\n", "Authorization: Basic 0123456789abcdef\r\n"]
        {
            let answer = site.get(path, wrong).await;
            assert!(answer.starts_with("HTTP/1.1 401"), "{path} {wrong}: {answer}");
        }
        assert!(site.get(&format!("{path}?token={TOKEN}"), "").await.starts_with("HTTP/1.1 401"));
    }
    let mut stream = site.open("/api/v1/stream", &format!("Authorization: Bearer {TOKEN}\r\n")).await;
    assert_eq!(event(&mut stream).await["node"], "a");
}

#[test]
fn method_host_and_origin_are_checked() {
    let access = Access { token: None, hosts: vec!["node-a".into()], scheme: "http" };
    let check = |headers: &[(&'static str, &str)]| {
        let headers = headers.iter().map(|(k, v)| (k.parse().unwrap(), HeaderValue::from_str(v).unwrap()));
        access.check(&Method::GET, &headers.collect::<HeaderMap>())
    };
    for good in ["localhost:9480", "127.0.0.1", "[::1]:9480", "192.0.2.7:1", "NODE-A:9480"] {
        assert_eq!(check(&[("host", good)]), Ok(()), "{good}");
    }
    for bad in ["evil.example", "127.0.0.1.evil.example:9480", "", "node-a.evil", "a b"] {
        assert_eq!(check(&[("host", bad)]), Err(Denied::Host), "{bad}");
    }
    assert_eq!(check(&[]), Err(Denied::Host));
    let origin = |origin| check(&[("host", "localhost:9480"), ("origin", origin)]);
    assert_eq!(origin("http://localhost:9480"), Ok(()));
    for bad in ["http://evil.example", "https://localhost:9480", "http://localhost:1", "null"] {
        assert_eq!(origin(bad), Err(Denied::Origin), "{bad}");
    }
    let site =
        |site, mode| check(&[("host", "localhost"), ("sec-fetch-site", site), ("sec-fetch-mode", mode)]);
    assert_eq!(site("cross-site", "cors"), Err(Denied::Origin));
    assert_eq!(site("same-site", "no-cors"), Err(Denied::Origin));
    assert_eq!(site("cross-site", "navigate"), Ok(()), "a link to the page");
    assert_eq!(site("same-origin", "cors"), Ok(()));
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        assert_eq!(access.check(&method, &HeaderMap::new()), Err(Denied::Method), "{method}");
    }
}

#[test]
fn beyond_loopback_a_token_is_needed_and_a_good_one() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("token");
    let open = HttpArgs { dashboard: Listen::At("0.0.0.0:9480".parse().unwrap()), ..HttpArgs::default() };
    let error = open.load().unwrap_err().to_string();
    assert!(error.contains("--dashboard 0.0.0.0:9480") && error.contains("--http-token-file"), "{error}");
    let with_token = HttpArgs { http_token_file: Some(path.clone()), ..open };
    let error = with_token.load().unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
    for weak in ["", "short", "sixteen letters?", "0123456789abcdé0"] {
        std::fs::write(&path, weak).unwrap();
        let error = with_token.load().unwrap_err().to_string();
        assert!(error.contains("openssl rand"), "{weak}: {error}");
    }
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    let config = with_token.load().unwrap();
    assert!(config.token.is_some());
    assert!(!format!("{config:?}").contains(TOKEN), "a token must not get into a log");
    let loopback = HttpArgs { dashboard: Listen::At("[::1]:1".parse().unwrap()), ..HttpArgs::default() };
    assert!(loopback.load().unwrap().token.is_none());
}

/// One node's dashboard on a free port, with one look in its history.
struct Site {
    address: SocketAddr,
    observer: Observer,
    _run_dir: TempDir,
}

impl Site {
    async fn start(token: Option<Token>) -> Self {
        let run_dir = TempDir::new().unwrap();
        let (observer, observations) = seen(Ok::<StatusReply, String>(status(1000, 10)));
        let node = Node { name: "a".into(), run_dir: run_dir.path().to_owned(), observations };
        let config = HttpConfig { dashboard: None, metrics: None, token, tls: None, hosts: Vec::new() };
        let access = access(&config, &node);
        let router = dashboard_router(config, node, &access);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(listener::serve(listener, None, router));
        Self { address, observer, _run_dir: run_dir }
    }

    async fn open(&self, path: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// The whole answer.
    async fn get(&self, path: &str, headers: &str) -> String {
        let mut answer = Vec::new();
        let mut stream = self.open(path, headers).await;
        timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    }
}

/// The next event of a stream.
async fn event(stream: &mut TcpStream) -> serde_json::Value {
    let mut text = Vec::new();
    while !text.ends_with(b"\n\n\r\n") {
        let byte = timeout(LONG, stream.read_u8()).await.unwrap().unwrap();
        text.push(byte);
    }
    let text = String::from_utf8(text).unwrap();
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    serde_json::from_str(data).unwrap()
}
