//! What load balancers and probes ask this node: `/healthz` and `/livez`, and a port of its own for every Service that
//! has a `healthCheckNodePort`. Paths, headers, codes and bodies are kube-proxy's (kubernetes, pkg/proxy/healthcheck).
//!
//! Healthy means that the dataplane has what the objects say, or that the first change it lacks is younger than
//! [`LATE`]. Unlike kube-proxy's, the first state counts too: a node whose dataplane never came must not get traffic.

mod addresses;
mod answer;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::desired::HealthChecks;
use crate::objects::ObjectName;
use crate::push::SyncWatch;
use crate::report::Reports;

/// kube-proxy's healthTimeout: twice its syncPeriod of 30 s.
const LATE: Duration = Duration::from_secs(60);
/// How often a port is tried again that somebody else has.
const RETRY: Duration = Duration::from_secs(5);
/// How often the node's addresses are looked at again.
const LOOK: Duration = Duration::from_secs(30);

/// What the objects say about who may send traffic here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serving {
    /// Whether the node stays.
    pub node_eligible: bool,
    /// Health checks of Services are answered at the node's addresses in these ranges.
    pub ranges: Vec<IpNetwork>,
    /// The Services that have one.
    pub checks: HealthChecks,
}

/// All that answers are made of. Copies see the same.
#[derive(Clone, Debug)]
pub struct Health {
    sync: SyncWatch,
    serving: watch::Receiver<Serving>,
}

impl Health {
    /// What is known from these channels.
    pub fn new(sync: SyncWatch, serving: watch::Receiver<Serving>) -> Self {
        Self { sync, serving }
    }

    /// Serves `/healthz` and `/livez` at `address`, if there is one, and the Services' health checks, if wanted.
    pub async fn serve(self, address: Option<SocketAddr>, services: bool, reports: Reports) -> Infallible {
        if let Some(address) = address {
            let health = self.clone();
            tokio::spawn(serve_at(address, move |request| answer::proxy(&health, request.uri().path())));
        }
        if !services {
            std::future::pending::<()>().await;
        }
        self.serve_services(&reports).await
    }

    fn is_healthy(&self) -> bool {
        self.sync.borrow().lacking_since.is_none_or(|since: Instant| since.elapsed() < LATE)
    }

    /// Keeps one listener for every Service and address.
    async fn serve_services(mut self, reports: &Reports) -> Infallible {
        let mut running: BTreeMap<(SocketAddr, ObjectName), JoinHandle<()>> = BTreeMap::new();
        let mut problems: BTreeSet<String> = BTreeSet::new();
        loop {
            let serving = self.serving.borrow_and_update().clone();
            let (addresses, fault) = addresses::of(&serving.ranges).await;
            let wanted = wanted(&serving.checks, &addresses);
            running.retain(|key, task| {
                let stays = wanted.contains(key);
                if !stays {
                    task.abort();
                }
                stays
            });
            let mut failed: BTreeSet<String> = fault.into_iter().collect();
            for key in wanted.into_iter().filter(|key| !running.contains_key(key)).collect::<Vec<_>>() {
                match TcpListener::bind(key.0).await {
                    Ok(listener) => drop(running.insert(key.clone(), self.spawn(listener, key.1))),
                    Err(e) => drop(failed.insert(cannot_listen(&key.1, key.0, &e))),
                }
            }
            failed.difference(&problems).for_each(|new| warn!("{new}"));
            if failed != problems {
                reports.set("health checks", failed.iter());
            }
            problems = failed;
            let patience = if problems.is_empty() { LOOK } else { RETRY };
            self.next_change(patience).await;
        }
    }

    fn spawn(&self, listener: TcpListener, service: ObjectName) -> JoinHandle<()> {
        let health = self.clone();
        let answer = move |_: &server::Asked| answer::service(&health, &service);
        tokio::spawn(server::serve(listener, Arc::new(answer)))
    }

    /// Waits for other Services, at most so long.
    async fn next_change(&mut self, patience: Duration) {
        let changed = async {
            if self.serving.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let _ = timeout(patience, changed).await;
    }
}

fn wanted(checks: &HealthChecks, addresses: &BTreeSet<IpAddr>) -> BTreeSet<(SocketAddr, ObjectName)> {
    let of_service = |(name, check): (&ObjectName, &crate::desired::HealthCheck)| {
        let at = |ip: &IpAddr| (SocketAddr::new(*ip, check.port.get()), name.clone());
        addresses.iter().map(at).collect::<Vec<_>>()
    };
    checks.iter().flat_map(of_service).collect()
}

fn cannot_listen(service: &ObjectName, address: SocketAddr, error: &std::io::Error) -> String {
    format!(
        "Service {service}: cannot listen on {address}: {error}; free the port, or change healthCheckNodePort"
    )
}

/// Serves at an address, as soon as it is to be had.
async fn serve_at(
    address: SocketAddr,
    answer: impl Fn(&server::Asked) -> server::Answer + Send + Sync + 'static,
) {
    let mut told = false;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(e) if told => tracing::debug!("{address}: {e}"),
            Err(e) => {
                warn!(
                    "cannot serve /healthz on {address}: {e}; trying again; set --healthz-bind-address to another"
                );
                told = true;
            }
        }
        sleep(RETRY).await;
    };
    info!("/healthz and /livez on {address}");
    server::serve(listener, Arc::new(answer)).await;
}

#[cfg(test)]
mod tests;
