//! The agent's two HTTP ports: the dashboard and `/metrics`. Both only read, and only what [`crate::observe`] has seen.
//!
//! ```text
//! listener (limits) --> access (method, Host, Origin, headers) --> assets: the page itself
//!                                                              --> token --> stream, summary: what it shows
//! ```
//!
//! Nothing here can change the node or use it up: there are no write operations, every step has a time limit, and a
//! reader that is slow skips looks instead of queueing them.

pub mod access;
mod assets;
mod cluster;
pub mod config;
mod listener;
mod sections;
mod stream;
pub mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tracing::{info, warn};

use self::access::{Access, ask_token, guard};
use self::cluster::Cluster;
use self::config::HttpConfig;
use crate::metrics::{self, Exporter};
use crate::observe::Observations;

/// Time until a port that somebody else holds is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Who this node is, and what of it can be seen.
#[derive(Clone, Debug)]
pub struct Node {
    /// The Node object's name.
    pub name: String,
    /// Where the dataplane's socket is.
    pub run_dir: PathBuf,
    /// What the observer sees.
    pub observations: Observations,
}

/// Serves both ports as configured, for ever. A port that cannot be had is told and tried again: the node's network does
/// not depend on who may look at it.
pub async fn serve(config: HttpConfig, node: Node) {
    let (dashboard, metrics) = (config.dashboard, config.metrics);
    let access = access(&config, &node);
    let tls = config.tls.as_ref().map(|tls| tls.acceptor.clone());
    if config.token.is_some() && tls.is_none() {
        warn!(
            "dashboard and metrics ask for a token but are not encrypted: give --http-certificate and --http-key"
        );
    }
    let exporter = metrics_router(&node, &access);
    let page = dashboard_router(config, node, &access);
    tokio::join!(port("dashboard", dashboard, tls.clone(), page), port("metrics", metrics, tls, exporter));
}

/// The page, and what it asks for.
pub(crate) fn dashboard_router(config: HttpConfig, node: Node, access: &Arc<Access>) -> Router {
    let cluster = Cluster::new(config, &node);
    let state = Shared { node, cluster, streams: Arc::new(Semaphore::new(stream::STREAMS)) };
    let told = Router::new()
        .route("/api/v1/stream", get(stream::stream))
        .route("/api/v1/summary", get(cluster::summary))
        .route_layer(from_fn_with_state(Arc::clone(access), ask_token))
        .with_state(state);
    assets::routes().merge(told).fallback(nothing).layer(from_fn_with_state(Arc::clone(access), guard))
}

/// `/metrics`.
pub(crate) fn metrics_router(node: &Node, access: &Arc<Access>) -> Router {
    let exporter = Arc::new(Exporter::new(&node.name, node.observations.clone()));
    Router::new()
        .route("/metrics", get(export))
        .route_layer(from_fn_with_state(Arc::clone(access), ask_token))
        .with_state(exporter)
        .fallback(nothing)
        .layer(from_fn_with_state(Arc::clone(access), guard))
}

/// What is asked of every request, from the configuration.
pub(crate) fn access(config: &HttpConfig, node: &Node) -> Arc<Access> {
    let mut hosts = config.hosts.clone();
    hosts.push(node.name.clone());
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    Arc::new(Access { token: config.token.clone(), hosts, scheme })
}

/// What the handlers of the dashboard share.
#[derive(Clone)]
struct Shared {
    node: Node,
    cluster: Arc<Cluster>,
    streams: Arc<Semaphore>,
}

async fn export(State(exporter): State<Arc<Exporter>>) -> Response {
    match exporter.text() {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn nothing() -> Response {
    (
        StatusCode::NOT_FOUND,
        "there is nothing here; the dashboard is at /, metrics are at /metrics of their own port\n",
    )
        .into_response()
}

async fn port(
    what: &str,
    address: Option<SocketAddr>,
    tls: Option<tokio_rustls::TlsAcceptor>,
    router: Router,
) {
    let Some(address) = address else { return std::future::pending().await };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut told = false;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) if !told => warn!("no {what} at {address}: {error}; trying again every {RETRY:?}"),
            Err(_) => {}
        }
        told = true;
        sleep(RETRY).await;
    };
    info!("{what} at {scheme}://{address}/");
    listener::serve(listener, tls, router).await;
}

#[cfg(test)]
mod tests;
