//! The control thread's loop: makes what is agree with what is wanted, whatever of the two changed.
//!
//! There is one way to get there, [`Reconciler::converge`], taken after every change of the desired state and of the
//! kernel's: uplink, host link, ports, tables, neighbours, each of which does nothing when nothing is to do. A change of
//! Services alone goes straight to the tables, and where its frontends are others, to the uplink and the node's rules.

mod frontends;
mod left;
mod requests;
mod snat;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use headrace_api::proto;
use headrace_api::state::{Encapsulation, Generation, Peer, PortId, Refusal};
use tokio::sync::mpsc;

use super::asked::Asked;
use super::desired::Desired;
use super::kernel::{Kernel, KernelError, Resolver};
use super::node_rules::NodeRules;
use super::observe::{Directory, Sight};
use super::ports::Ports;
use super::publish::Publisher;
use super::saved::Saved;
use super::server::Call;
use super::shortcut::{KeeperThread, Shortcut, ShortcutError};
use super::state_file::StateFile;
use super::uplink::Uplink;
use super::warnings::{Topic, Warnings};
use super::workers::Workers;
use super::{host_link, status};
use crate::config::Config;
use crate::tables::build::{KernelFacts, Wanted};
use crate::worker::Shared;

use frontends::Served;
use left::Left;
use standing::Standing;

/// How often things are looked after that nobody tells of.
const TICK: Duration = Duration::from_secs(2);
/// Ticks between two looks at listening ports.
const TICKS_PER_LISTENING: u64 = 15;

/// Where the state in force comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody has told any.
    None,
    /// An earlier run left it.
    Saved,
    /// A file that is followed.
    File,
    /// A controller whose stream is open.
    Controller,
    /// A controller whose stream has ended.
    Kept,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Saved => "saved",
            Self::File => "file",
            Self::Controller => "controller",
            Self::Kept => "kept",
        })
    }
}

/// The flow table's file and what was in it.
pub struct FlowTable {
    /// The file.
    pub path: PathBuf,
    /// Entries found at start.
    pub taken_over: usize,
    /// The table itself is in here.
    pub shared: Arc<Shared>,
}

impl FlowTable {
    /// Entries in use.
    pub fn live(&self) -> usize {
        self.shared.flows.map().len()
    }

    /// Entries there is room for.
    pub fn capacity(&self) -> usize {
        self.shared.flows.map().capacity()
    }
}

/// Everything that the control thread holds.
pub struct Reconciler {
    pub(super) config: Config,
    pub(super) started: Instant,
    pub(super) desired: Desired,
    pub(super) generation: Generation,
    pub(super) source: Source,
    pub(super) last_refusals: Vec<Refusal>,
    pub(super) kernel: Kernel,
    pub(super) facts: KernelFacts,
    pub(super) ports: Ports,
    pub(super) uplink: Uplink,
    pub(super) workers: Workers,
    pub(super) flows: FlowTable,
    pub(super) warnings: Warnings,
    pub(super) shortcut: Option<Arc<Shortcut>>,
    _keeper: Option<KeeperThread>,
    directory: Arc<ArcSwap<Directory>>,
    publisher: Publisher,
    node_rules: NodeRules,
    served: Served,
    left: Left,
    resolver: Resolver,
    asked: Asked,
    listening: BTreeSet<u16>,
    saved: Saved,
    standing: Standing,
    file: Option<StateFile>,
    ticks: u64,
}

/// What is there when the loop begins.
pub struct Parts {
    /// Settings of the process.
    pub config: Config,
    /// The file by which it runs.
    pub file: Option<StateFile>,
    /// The kernel's view.
    pub kernel: Kernel,
    /// No port is open yet.
    pub ports: Ports,
    /// Not open yet.
    pub uplink: Uplink,
    /// Without ports.
    pub workers: Workers,
    /// Opened.
    pub flows: FlowTable,
    /// The shortcut, if there is to be one, and the thread that keeps it.
    pub shortcut: Result<Option<(Arc<Shortcut>, KeeperThread)>, ShortcutError>,
}

impl Reconciler {
    /// Begins with the state that an earlier run left, if there is one, in force.
    pub async fn new(parts: Parts) -> Self {
        let Parts { config, file, kernel, ports, uplink, workers, flows, shortcut } = parts;
        let no_shortcut = shortcut.as_ref().err().map(ToString::to_string);
        let (shortcut, keeper) = shortcut.ok().flatten().unzip();
        let mut reconciler = Self {
            started: Instant::now(),
            desired: Desired::default(),
            generation: Generation::default(),
            source: Source::None,
            last_refusals: Vec::new(),
            facts: KernelFacts::default(),
            warnings: Warnings::default(),
            directory: Arc::default(),
            publisher: Publisher::new(Arc::clone(&flows.shared)).telling(shortcut.clone()),
            shortcut,
            _keeper: keeper,
            node_rules: NodeRules::start(kernel.handle().clone()),
            served: Served::default(),
            left: Left::default(),
            resolver: Resolver::new(),
            asked: Asked::default(),
            listening: BTreeSet::new(),
            saved: Saved::new(&config.run_dir),
            standing: Standing::default(),
            file,
            ticks: 0,
            config,
            kernel,
            ports,
            uplink,
            workers,
            flows,
        };
        reconciler.warn_of_cores();
        reconciler.warnings.set(Topic::Shortcut, no_shortcut.into_iter().collect());
        reconciler.resume().await;
        reconciler
    }

    /// What may be looked at while it runs.
    pub fn sight(&self) -> Sight {
        Sight {
            shared: Arc::clone(&self.flows.shared),
            windows: self.workers.windows(),
            directory: Arc::clone(&self.directory),
            shortcut: self.shortcut.clone(),
        }
    }

    /// Runs until `stop` is done.
    ///
    /// # Errors
    /// [`KernelError::Ended`]: without news from the kernel it cannot go on.
    pub async fn run(
        mut self,
        mut calls: mpsc::Receiver<Call>,
        mut asked: mpsc::Receiver<Ipv4Addr>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), KernelError> {
        tokio::pin!(stop);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let due = self.saved.due();
            let save = async move {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut stop => break,
                Some(call) = calls.recv() => self.call(call).await,
                Some(host) = asked.recv() => self.host_asked(host, &mut asked).await,
                news = self.kernel.changed() => {
                    news?;
                    self.kernel_changed().await;
                }
                _ = tick.tick() => self.tick().await,
                () = StateFile::asked(self.file.as_mut()) => self.follow_file().await,
                () = save => self.save(),
                written = self.saved.written() => self.saved_or_not(written),
            }
        }
        self.finish_saving().await;
        self.workers.stop();
        Ok(())
    }

    async fn call(&mut self, call: Call) {
        // A caller who does not wait any more misses nothing.
        match call {
            Call::Connected => tracing::info!("a controller has connected"),
            Call::Disconnected => {
                if self.source == Source::Controller {
                    self.source = Source::Kept;
                }
                tracing::warn!("the controller is gone; its last state stays in force");
            }
            Call::Change { request, reply } => drop(reply.send(self.change(request).await)),
            Call::Status { reply } => drop(reply.send(status::reply(self))),
            Call::Services { name, reply } => drop(reply.send(self.services(&name))),
        }
    }

    async fn kernel_changed(&mut self) {
        match self.kernel.refresh().await {
            Ok(parts) if parts.beyond_neighbors() || self.read_facts() != self.facts => self.converge().await,
            // The kernel confirms its neighbours every few seconds, and may have given one up.
            Ok(parts) if parts.any() => self.resolve().await,
            Ok(_) => {}
            Err(error) => self.warnings.set(Topic::Kernel, vec![error.to_string()]),
        }
    }

    async fn host_asked(&mut self, first: Ipv4Addr, more: &mut mpsc::Receiver<Ipv4Addr>) {
        let hosts: Vec<_> =
            std::iter::once(first).chain(std::iter::from_fn(|| more.try_recv().ok())).collect();
        let on_link = hosts.into_iter().filter(|host| self.facts.on_link(*host));
        // Every host counts: no short circuit.
        let new = on_link.fold(false, |new, host| self.asked.add(host) | new);
        if new {
            self.converge().await;
        }
    }

    async fn tick(&mut self) {
        self.ticks += 1;
        self.watch_workers();
        if self.file.as_ref().is_some_and(StateFile::has_changed) {
            self.follow_file().await;
        }
        self.publisher.free_former();
        self.forget_left_frontends();
        self.end_connections_of_left_pods();
        let known = &self.facts.neighbors;
        let mut changed = self.asked.expire(|host| known.contains_key(&host));
        if self.ticks.is_multiple_of(TICKS_PER_LISTENING) {
            changed |= self.look_for_listeners();
        }
        let incomplete = self.ports.incomplete() || self.uplink.open().is_err();
        if changed || incomplete || !self.resolver.managed() {
            self.converge().await;
        }
    }

    /// Makes everything agree with the desired state and the kernel's. Parts that cannot are left for the next time.
    async fn converge(&mut self) {
        let refreshed = self.kernel.refresh().await.map(drop);
        self.warnings.set(Topic::Kernel, sentence(refreshed));
        self.keep_host_link().await;
        let local = self.kernel.view().local();
        let configured = self.uplink.configure(&self.desired, &local);
        let chosen =
            Uplink::choose(self.config.uplink.as_deref(), self.desired.settings(), self.kernel.view());
        self.uplink.follow(chosen, self.desired.settings(), &self.workers);
        // What the tunnel's sockets carry is not the program's to take.
        let configured = configured.and_then(|()| self.uplink.configure(&self.desired, &local));
        self.warnings.set(
            Topic::Uplink,
            match (&configured, self.uplink.open()) {
                (Err(error), _) => vec![format!("{error}; changes of nodes and settings are not in force")],
                (Ok(()), Ok(open)) => open.warnings.clone(),
                (Ok(()), Err(_)) if self.source == Source::None => Vec::new(),
                // It needs none.
                (Ok(()), Err(_)) if self.is_forwarder() => Vec::new(),
                (Ok(()), Err(problem)) => vec![format!("no uplink: {problem}")],
            },
        );
        if configured.is_ok() {
            self.follow_ports();
        }
        self.keep_node_rules();
        self.resolve().await;
    }

    /// Pod ports and tables. Tables never name a port that is not open, so that its slot means nobody else.
    fn follow_ports(&mut self) {
        self.facts = self.read_facts();
        let (wanted, view) = (self.desired.ports(), self.kernel.view());
        let host = view.link(&self.config.host_link.dataplane);
        let outdated = self.ports.outdated(wanted, host, view);
        if !outdated.is_empty() {
            self.publish(&outdated);
        }
        self.ports.close(&outdated, host, &self.workers);
        self.ports.open(wanted, host, view, &self.workers);
        self.ports.forget_gone(view);
        self.publish(&BTreeSet::new());
        let problem = self.ports.host().err().map(|problem| format!("the host link is not open: {problem}"));
        self.warnings.set(Topic::HostPort, problem.into_iter().collect());
    }

    fn publish(&self, without: &BTreeSet<PortId>) {
        let ports: BTreeMap<_, _> = self
            .ports
            .open_pods()
            .filter(|(id, _)| !without.contains(id))
            .filter_map(|(id, open)| {
                let mut port = self.desired.ports().get(&id)?.clone();
                port.superframes = open.device.superframes;
                Some((id, (open.index, port)))
            })
            .collect();
        let wanted = self.desired.settings().map(|settings| Wanted {
            settings,
            ports: &ports,
            peers: self.desired.peers(),
            asked: self.asked.hosts(),
        });
        if let Some(shortcut) = &self.shortcut {
            shortcut.set_places(self.ports.places(without));
        }
        self.publisher.rest(wanted.as_ref(), &self.facts);
        self.directory.store(Arc::new(Directory::of(self)));
    }

    /// How many snapshots of the tables were published, and how old the last one is.
    pub(super) fn updates(&self) -> (u64, Duration) {
        self.publisher.updates()
    }

    /// Services whose name has `part` in it, by name.
    fn services(&self, part: &str) -> Vec<proto::Service> {
        let mut services: Vec<_> = self
            .desired
            .services()
            .filter(|service| service.name.contains(part))
            .map(|s| (&**s).into())
            .collect();
        services.sort_by(|a: &proto::Service, b| a.name.cmp(&b.name));
        services
    }

    fn read_facts(&self) -> KernelFacts {
        let view = self.kernel.view();
        let uplink = self.uplink.open().ok().and_then(|open| view.link_by_index(open.ifindex));
        view.facts(uplink, view.link(&self.config.host_link.kernel), self.listening.clone())
    }

    async fn keep_host_link(&mut self) {
        let names = &self.config.host_link;
        let there = |name: &str| self.kernel.view().link(name).is_some_and(|link| link.up);
        if there(&names.kernel) && there(&names.dataplane) && self.ports.host().is_ok() {
            return;
        }
        let names = names.clone();
        let kept = host_link::ensure(&mut self.kernel, &names, self.workers.count()).await;
        self.warnings.set(Topic::HostLink, kept.unwrap_or_else(|error| vec![error.to_string()]));
    }

    /// Keeps next hops resolved: of peers, gateways, and hosts that packets asked for.
    async fn resolve(&mut self) {
        let uplink = self.uplink.open().ok().map(|open| open.ifindex);
        let peers = self.desired.peers().values().filter_map(|peer| match peer.address {
            IpAddr::V4(address) => self.facts.next_hop(address),
            IpAddr::V6(_) => None,
        });
        let gateways = self.facts.routes.values().flatten().copied();
        let wanted = peers.chain(gateways).chain(self.asked.hosts().iter().copied()).collect();
        let faults = self.resolver.resolve(self.kernel.handle(), self.kernel.view(), uplink, &wanted).await;
        self.warnings.set(Topic::Neighbors, faults);
    }

    /// Whether it forwards between its own ports alone, by a file.
    pub(super) fn is_forwarder(&self) -> bool {
        self.file.is_some() && self.desired.peers().is_empty()
    }

    /// Whether packets travel to a peer without a tunnel.
    pub(super) fn is_direct(&self, peer: &Peer) -> bool {
        let direct = self.desired.settings().is_some_and(|s| s.encapsulation == Encapsulation::Direct);
        direct && matches!(peer.address, IpAddr::V4(address) if self.facts.on_link(address))
    }
}

fn sentence(outcome: Result<(), impl fmt::Display>) -> Vec<String> {
    outcome.err().map(|error| error.to_string()).into_iter().collect()
}
