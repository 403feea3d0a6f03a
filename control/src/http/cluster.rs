//! The other nodes: their agents are asked for a summary while somebody looks, and one's stream is handed through.
//!
//! A cluster is joined where the dashboard listens beyond loopback with a token, and knows the authorities that sign the
//! other agents' certificates. All agents then listen on the same port and know the same token. What another node
//! answers is taken as data only, at most [`LONGEST_SUMMARY`] bytes of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use futures::StreamExt as _;
use headrace_api::proto::PeerStatus;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::config::HttpConfig;
use super::{Node, Shared};
use crate::observe::{Observations, Snapshot};

/// Nodes that are asked at the same time.
const AT_ONCE: usize = 16;
/// Nodes that are shown.
const NODES: usize = 512;
/// Time for another node's answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a summary.
const LONGEST_SUMMARY: usize = 64 * 1024;

/// A node at a glance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Summary {
    /// Its name.
    pub(super) name: String,
    /// Where it is reached; empty for the own node.
    pub(super) address: String,
    /// Why nothing is known of it; empty when something is.
    pub(super) problem: String,
    /// Load of its busiest worker, 0 to 1.
    pub(super) load: f64,
    /// Bits a second that its ports receive.
    pub(super) bps: f64,
    /// Frames a second that its ports receive.
    pub(super) pps: f64,
    /// Frames dropped a second.
    pub(super) dropped: f64,
    /// Live flows.
    pub(super) flows: u64,
    /// Attached pods.
    pub(super) pods: usize,
}

impl Summary {
    fn of(name: &str, snapshot: &Snapshot) -> Self {
        let point = &snapshot.point;
        let pods = snapshot.status.as_ref().map_or(0, |s| s.ports.iter().filter(|p| p.id != 0).count());
        Self {
            name: name.to_owned(),
            problem: snapshot.status.as_ref().err().cloned().unwrap_or_default(),
            load: point.workers.iter().map(|w| w.load).fold(0.0, f64::max),
            bps: point.ports.values().map(|p| p.rx_bps).sum(),
            pps: point.ports.values().map(|p| p.rx_pps).sum(),
            dropped: point.dropped,
            flows: point.flows,
            pods,
            ..Self::default()
        }
    }
}

pub(super) async fn summary(State(shared): State<Shared>) -> impl IntoResponse {
    Json(Summary::of(&shared.node.name, &shared.node.observations.latest()))
}

/// The nodes that this one can ask.
pub(super) struct Cluster {
    name: String,
    link: Option<Link>,
    others: Mutex<BTreeMap<String, Summary>>,
    lookers: AtomicUsize,
}

/// How other nodes are asked.
struct Link {
    tls: TlsConnector,
    authorization: String,
    port: u16,
}

/// Somebody looks, as long as it is held.
pub(super) struct Looking(Arc<Cluster>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.lookers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Cluster {
    /// Begins to ask the other nodes where the configuration allows it.
    pub(super) fn new(config: HttpConfig, node: &Node) -> Arc<Self> {
        let beyond = config.dashboard.filter(|address| !address.ip().is_loopback());
        let link = beyond.and_then(|address| {
            let tls = config.tls?.connector?;
            Some(Link { tls, authorization: config.token?.header(), port: address.port() })
        });
        let (others, lookers) = Default::default();
        let cluster = Arc::new(Self { name: node.name.clone(), link, others, lookers });
        if cluster.is_joined() {
            tokio::spawn(keep_asking(Arc::downgrade(&cluster), node.observations.clone()));
        }
        cluster
    }

    /// Whether other nodes are shown.
    pub(super) fn is_joined(&self) -> bool {
        self.link.is_some()
    }

    /// Other nodes are asked while this is held.
    pub(super) fn look(self: &Arc<Self>) -> Looking {
        self.lookers.fetch_add(1, Ordering::Relaxed);
        Looking(Arc::clone(self))
    }

    /// All nodes, the own one first, as JSON.
    pub(super) fn nodes(&self, own: &Snapshot) -> String {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let own = Summary::of(&self.name, own);
        let all: Vec<&Summary> = std::iter::once(&own).chain(others.values()).collect();
        serde_json::to_string(&all).unwrap_or_else(|_| "[]".into())
    }

    /// The stream of node `name`, asked with the same query.
    ///
    /// # Errors
    /// In words, what is in the way.
    pub(super) async fn relay(
        &self,
        name: &str,
        query: &str,
        permit: OwnedSemaphorePermit,
    ) -> Result<Body, String> {
        let Some(link) = &self.link else {
            return Err("this dashboard shows its own node only; see --http-ca of headrace-agent".into());
        };
        let address = {
            let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
            let other = others.get(name).ok_or_else(|| format!("no node named {name:?} is known here"))?;
            other.address.parse().map_err(|_| format!("node {name} has no address"))?
        };
        let response = link.ask(address, &format!("/api/v1/stream?{query}")).await;
        let response = response.map_err(|problem| format!("node {name}: {problem}"))?;
        let frames = response.into_body().into_data_stream().map(move |frame| {
            let _held = &permit;
            frame
        });
        Ok(Body::from_stream(frames))
    }

    async fn ask_all(&self, link: &Link, own: &Observations) {
        let latest = own.latest();
        let Ok(status) = &latest.status else { return };
        let peers = status.peers.iter().take(NODES).map(|peer| (peer.name.clone(), address(peer)));
        let questions: Vec<_> = peers.map(|(name, address)| link.named_summary(name, address)).collect();
        let answers = futures::stream::iter(questions).buffer_unordered(AT_ONCE).collect().await;
        *self.others.lock().unwrap_or_else(PoisonError::into_inner) = answers;
    }
}

impl Link {
    /// Who it is and where is for us to say, not for whoever answers.
    async fn named_summary(&self, name: String, address: Option<IpAddr>) -> (String, Summary) {
        let answer = match address {
            Some(address) => timeout(PATIENCE, self.summary(address)).await,
            None => Ok(Err("it has no address".into())),
        };
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
        let known = answer.unwrap_or_else(|problem| Summary { problem, ..Summary::default() });
        let address = address.map(|a| a.to_string()).unwrap_or_default();
        (name.clone(), Summary { name, address, ..known })
    }

    async fn summary(&self, address: IpAddr) -> Result<Summary, String> {
        let response = self.ask(address, "/api/v1/summary").await?;
        let body = Limited::new(response.into_body(), LONGEST_SUMMARY).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| format!("it answers something else: {error}"))
    }

    async fn ask(&self, address: IpAddr, path: &str) -> Result<Response<Incoming>, String> {
        let ask = async {
            let stream = TcpStream::connect((address, self.port)).await?;
            let stream = self.tls.connect(ServerName::IpAddress(address.into()), stream).await?;
            let (mut sender, connection) =
                http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            let request = Request::get(path)
                .header(HOST, SocketAddr::new(address, self.port).to_string())
                .header(AUTHORIZATION, &self.authorization)
                .body(Empty::<Bytes>::new())
                .map_err(std::io::Error::other)?;
            sender.send_request(request).await.map_err(std::io::Error::other)
        };
        let response = timeout(PATIENCE, ask).await.map_err(|_| format!("no answer within {PATIENCE:?}"))?;
        let response = response.map_err(|error| error.to_string())?;
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::UNAUTHORIZED => Err("it has another token; give all nodes the same".into()),
            status => Err(format!("it answers {status}")),
        }
    }
}

fn address(peer: &PeerStatus) -> Option<IpAddr> {
    let octets = &peer.address.as_ref()?.octets;
    let v4 = <[u8; 4]>::try_from(octets.as_slice()).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets.as_slice()).map(IpAddr::from)).ok()
}

/// Asks after every look of the own node while somebody looks; ends with the cluster's last user.
async fn keep_asking(cluster: std::sync::Weak<Cluster>, mut own: Observations) {
    while own.changed().await {
        let Some(cluster) = cluster.upgrade() else { return };
        let (Some(link), true) = (&cluster.link, cluster.lookers.load(Ordering::Relaxed) > 0) else {
            continue;
        };
        cluster.ask_all(link, &own).await;
    }
}
