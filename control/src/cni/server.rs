//! What all verbs share: the node's facts, the attachments, the addresses, the kernel.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headrace_cni::protocol::{Reply, Request, Verb};
use headrace_cni::{CniError, CniResult, ErrorCode, NetworkConfig};
use tracing::{info, warn};

use super::Options;
use super::asked;
use super::ipam::{Choice, Pool, Range};
use super::store::Store;
use super::turns::Turns;
use crate::node::rtnl::Rtnl;
use crate::seam::{Directories, FactsWatch, NodeFacts, PortGate};

/// An agent that has just started knows its Node object in a moment.
const FACTS_PATIENCE: Duration = Duration::from_secs(10);

/// Answers requests; one for the whole agent.
pub(crate) struct Server {
    pub(super) rtnl: Rtnl,
    pub(super) gate: PortGate,
    pub(super) options: Options,
    pub(super) turns: Turns,
    pub(super) directories: Directories,
    store: Arc<Mutex<Store>>,
    facts: FactsWatch,
}

impl Server {
    /// `store` holds what earlier runs left.
    pub(crate) fn new(
        rtnl: Rtnl,
        store: Store,
        directories: Directories,
        facts: FactsWatch,
        gate: PortGate,
        options: Options,
    ) -> Self {
        let store = Arc::new(Mutex::new(store));
        Self { rtnl, gate, options, turns: Turns::default(), directories, store, facts }
    }

    /// Carries a request out.
    pub(crate) async fn answer(&self, request: Request, netns: Option<OwnedFd>) -> Reply {
        let outcome = match NetworkConfig::from_json(&request.config) {
            Ok(config) => self.carry_out(&request, &config, netns).await,
            Err(e) => Err(e),
        };
        let (verb, id, ifname) = (request.verb, &request.container_id, &request.ifname);
        match outcome {
            Ok(result) => {
                if verb != Verb::Status {
                    info!("{verb:?} {id} {ifname}: done");
                }
                Reply::Ok(result)
            }
            Err(e) => {
                warn!("{verb:?} {id} {ifname}: error {}: {e} {}", e.code, e.details);
                Reply::Error(e)
            }
        }
    }

    async fn carry_out(
        &self,
        request: &Request,
        config: &NetworkConfig,
        netns: Option<OwnedFd>,
    ) -> Result<Option<CniResult>, CniError> {
        match request.verb {
            Verb::Add => self.add(request, config, netns).await.map(Some),
            Verb::Del => self.del(request, config).await.map(|()| None),
            Verb::Check => self.check(request, config, netns).await.map(|()| None),
            Verb::Gc => self.collect(config).await.map(|()| None),
            Verb::Status => self.status(config).await.map(|()| None),
        }
    }

    /// The node's facts, as soon as they are known.
    pub(super) async fn facts(&self) -> Result<Arc<NodeFacts>, CniError> {
        let mut facts = self.facts.clone();
        let known = tokio::time::timeout(FACTS_PATIENCE, facts.wait_for(Option::is_some)).await;
        match known {
            Ok(Ok(known)) => known.clone().ok_or_else(no_facts),
            Ok(Err(_)) | Err(_) => Err(no_facts()),
        }
    }

    /// Works on the attachments, off the runtime's threads: they are on disk.
    pub(super) async fn store<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Result<T, CniError> {
        let store = Arc::clone(&self.store);
        blocking(move || job(&mut store.lock().unwrap_or_else(PoisonError::into_inner))).await
    }

    /// Works on the reservations of a network, likewise.
    pub(super) async fn pool<T: Send + 'static>(
        &self,
        network: &str,
        job: impl FnOnce(&Pool) -> T + Send + 'static,
    ) -> Result<T, CniError> {
        let pool = Pool::new(&self.directories.state.join("ipam"), network);
        blocking(move || job(&pool)).await
    }

    /// Whether ADD would find what it needs.
    async fn status(&self, config: &NetworkConfig) -> Result<(), CniError> {
        let unavailable = |msg: String| CniError::new(ErrorCode::NOT_AVAILABLE, msg);
        let facts = self.facts.borrow().clone().ok_or_else(|| unavailable(no_facts().msg))?;
        let range = asked::pod_range(&facts).map_err(|e| unavailable(e.msg))?;
        if config.ipam.is_none() && !self.has_free(config, range).await? {
            return Err(unavailable("all addresses of this node's podCIDR are in use".to_owned()));
        }
        // Without a dataplane, the pods that are there have no network either.
        let limited = |e: CniError| CniError { code: ErrorCode::LIMITED_CONNECTIVITY, ..e };
        self.queues().await.map_err(limited).map(drop)
    }

    async fn has_free(&self, config: &NetworkConfig, range: Range) -> Result<bool, CniError> {
        let taken = self.store(|store| store.all().map(|attachment| attachment.address).collect()).await?;
        let choice = asked::without(Choice::any(range), taken);
        Ok(self.pool(&config.name, move |pool| pool.has_free(&choice)).await??)
    }
}

fn no_facts() -> CniError {
    CniError::new(ErrorCode::TRY_AGAIN_LATER, "headrace-agent has not read this node's own Node object yet")
        .details("check --node-name and that the object has spec.podCIDR and an InternalIP; the runtime tries again by itself")
}

async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Result<T, CniError> {
    let done = tokio::task::spawn_blocking(job).await;
    done.map_err(|e| CniError::new(ErrorCode::INTERNAL, format!("a task of headrace-agent failed: {e}")))
}
