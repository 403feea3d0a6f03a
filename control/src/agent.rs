//! The agent: joins source, CNI server, derivation and push, and runs them until it is told to end.
//!
//! [`Reconciler`] is the part with a memory: it keeps the last usable settings, so that a Node object that goes away
//! does not take the node's pods with it.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use headrace_api::state::Settings;
use headrace_wire::ethernet::MacAddr;
use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::config::{AgentConfig, Source};
use crate::desired::{Derivation, NodeConfig, Problems};
use crate::health::{Health, Serving};
use crate::http::config::HttpConfig;
use crate::identity;
use crate::install;
use crate::objects::Objects;
use crate::preflight::{self, Severity};
use crate::push::{self, Pusher};
use crate::report::Reports;
use crate::seam::{NodeFacts, PortGate, Ports, PortsWatch};
use crate::source::kubernetes::events;
use crate::source::kubernetes::node_status::{self, Annotations, AnnotationsWatch};
use crate::source::{ObjectsPublisher, ObjectsWatch, kubernetes, manifests};
use crate::{cni, http, node, observe};

/// Most problems that one change puts into the log: a wrong file may make a hundred thousand.
const MOST_TOLD: usize = 50;

/// How long a killed agent may hold on to its run directory.
const LAST_MOMENTS: Duration = Duration::from_secs(3);

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, or a part that cannot go on; each with what would help.
pub async fn run(config: AgentConfig) -> anyhow::Result<()> {
    let directories = config.directories();
    make_directory(&directories.run)?;
    make_directory(&directories.state)?;
    let _only_one = lock(&directories.run)?;
    let http_config = config.http.load()?;
    let vtep_mac = identity::vtep_mac(&directories.state, &config.node_name)?;
    refuse_the_impossible()?;
    let preflight_options = preflight::Options {
        bin_dir: config.cni.cni_bin_dir.clone(),
        conf_dir: config.cni.cni_conf_dir.clone(),
        ..preflight::Options::default()
    };
    warn_of_limits(preflight_options);
    tell_where(&config, &http_config);

    let (objects_tx, objects) = watch::channel(None);
    let (ports_tx, ports) = watch::channel(None);
    let (facts_tx, facts) = watch::channel(None);
    let (pusher, feed) = push::new(directories.run.clone());
    let gate = pusher.gate();
    let install = config.cni.wanted(&directories.run);
    let installer_gate = gate.clone();
    let node_config = NodeConfig { name: config.node_name.clone(), vtep_mac, cluster: config.cluster() };
    let reports = Reports::new();
    let (annotations_tx, annotations) = watch::channel(None);
    let own_node =
        OwnNode { name: config.node_name.clone(), objects: objects.clone(), annotations, gate: gate.clone() };
    let source = follow(config.source(), objects_tx, own_node, reports.clone());
    let (serving_tx, serving) = watch::channel(Serving::default());
    let health = Health::new(pusher.sync(), serving);
    let published = Published {
        facts: facts_tx,
        serving: serving_tx,
        annotations: annotations_tx,
        reports: reports.clone(),
    };
    let reconciler = Reconciler::new(node_config, directories.run.clone(), published, pusher);

    let (observer, observations) = observe::new(directories.run.clone());
    let seen = http::Node { name: config.node_name.clone(), run_dir: directories.run.clone(), observations };

    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        ended = cni::serve(directories.clone(), facts.clone(), gate, ports_tx) => ended.context("CNI server"),
        ended = node::keep(directories.clone(), facts) => ended.context("host link"),
        ended = source => ended.and(Err(anyhow!("the source of objects has ended"))),
        () = reconciler.run(objects, ports) => Err(anyhow!("the source of objects or of ports has ended")),
        never = health.serve(config.healthz_bind_address.0, config.health_check_node_ports, reports.clone()) => match never {},
        () = reports.clone().keep(directories.run.clone()) => Err(anyhow!("nobody reports any more")),
        () = observer.run() => unreachable!("it looks for ever"),
        () = http::serve(http_config, seen) => unreachable!("it serves for ever"),
        never = install::keep(install, installer_gate, reports.clone()) => match never {},
        () = feed.run() => Err(anyhow!("nobody derives the desired state any more")),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }?;
    info!("headrace-agent ends; the dataplane goes on");
    Ok(())
}

/// One line that says what runs where.
fn tell_where(config: &AgentConfig, http: &HttpConfig) {
    let address = |address: Option<SocketAddr>| address.map_or_else(|| "nowhere".into(), |a| a.to_string());
    info!(
        "headrace-agent {} of node {} starts on {}; objects from {}; dashboard at {}, metrics at {}",
        env!("CARGO_PKG_VERSION"),
        config.node_name,
        config.run_dir.display(),
        config.source(),
        address(http.dashboard),
        address(http.metrics),
    );
}

/// Where the other parts of the agent hear from the [`Reconciler`].
pub(crate) struct Published {
    pub(crate) facts: watch::Sender<Option<Arc<NodeFacts>>>,
    pub(crate) serving: watch::Sender<Serving>,
    pub(crate) reports: Reports,
    pub(crate) annotations: watch::Sender<Option<Annotations>>,
}

/// What the cluster is told about this node by.
struct OwnNode {
    name: String,
    objects: ObjectsWatch,
    annotations: AnnotationsWatch,
    gate: PortGate,
}

/// Follows the source; a cluster is also told about this node.
async fn follow(
    source: Source,
    objects: ObjectsPublisher,
    own: OwnNode,
    reports: Reports,
) -> anyhow::Result<()> {
    match source {
        Source::Manifests(directory) => {
            std::thread::Builder::new()
                .name("manifests".into())
                .spawn(move || manifests::follow(&directory, &objects, &reports))
                .context("cannot start a thread")?;
            std::future::pending().await
        }
        Source::Kubernetes(access) => {
            let client = access.client().await?;
            let name = own.name;
            tokio::join!(
                kubernetes::follow(client.clone(), &name, &objects, &reports),
                events::keep(client.clone(), name.clone(), own.gate.clone(), &reports),
                node_status::keep(client, name.clone(), own.objects, own.annotations, own.gate, &reports),
            );
            Ok(())
        }
    }
}

/// Derives and publishes whenever something changes.
pub(crate) struct Reconciler {
    node_name: String,
    derivation: Derivation,
    run_dir: PathBuf,
    published: Published,
    pusher: Pusher,
    settings: Option<Arc<Settings>>,
    told: Problems,
    shown: Option<(MacAddr, IpAddr)>,
}

impl Reconciler {
    pub(crate) fn new(config: NodeConfig, run_dir: PathBuf, published: Published, pusher: Pusher) -> Self {
        Self {
            node_name: config.name.clone(),
            derivation: Derivation::new(config),
            run_dir,
            published,
            pusher,
            settings: None,
            told: Problems::default(),
            shown: None,
        }
    }

    /// Ends when a source of changes does.
    pub(crate) async fn run(mut self, mut objects: ObjectsWatch, mut ports: PortsWatch) {
        loop {
            let latest_objects = objects.borrow_and_update().clone();
            let latest_ports = ports.borrow_and_update().clone();
            if let Some(latest) = latest_objects {
                self.reconcile(&latest, latest_ports.as_ref());
            }
            let alive = tokio::select! {
                changed = objects.changed() => changed,
                changed = ports.changed() => changed,
            };
            if alive.is_err() {
                return;
            }
        }
    }

    /// Goes on to these objects and ports. Without the ports only the facts are published: they may be what the ports
    /// wait for.
    fn reconcile(&mut self, objects: &Objects, ports: Option<&Ports>) {
        self.derivation.update(objects);
        self.tell();
        let mut derived = self.derivation.desired(ports.unwrap_or(&Ports::default()));
        match (&derived.settings, &self.settings) {
            (Some(new), _) => self.settings = Some(Arc::clone(new)),
            (None, Some(_)) => warn!("the last usable settings of this node stay in force"),
            (None, None) => return,
        }
        derived.settings.clone_from(&self.settings);
        self.publish_facts();
        self.publish_serving();
        if ports.is_some() {
            self.pusher.update(derived);
        }
    }

    /// Every problem is told once, and once more when it is solved.
    fn tell(&mut self) {
        let now = self.derivation.problems();
        let (appeared, solved) = (now.since(&self.told), self.told.since(now));
        for problem in appeared.iter().take(MOST_TOLD) {
            warn!("{problem}");
        }
        for problem in solved.iter().take(MOST_TOLD) {
            info!("solved: {problem}");
        }
        let untold = |count: usize| count.saturating_sub(MOST_TOLD);
        if untold(appeared.len()) + untold(solved.len()) > 0 {
            warn!(
                "{} more problems and {} more that are solved",
                untold(appeared.len()),
                untold(solved.len())
            );
        }
        if !(appeared.is_empty() && solved.is_empty()) {
            self.published.reports.set("objects", now.iter());
        }
        self.told = now.clone();
    }

    fn publish_facts(&mut self) {
        let Some(settings) = &self.settings else { return };
        let facts = NodeFacts {
            name: self.node_name.clone(),
            node_addresses: settings.node_addresses.clone(),
            pod_cidrs: settings.pod_cidrs.clone(),
            cluster_cidrs: settings.cluster_cidrs.clone(),
            service_cidrs: settings.service_cidrs.clone(),
            encapsulation: settings.encapsulation,
            masquerade: settings.masquerade,
            non_masquerade_cidrs: settings.non_masquerade_cidrs.clone(),
        };
        self.published.facts.send_if_modified(|old| {
            let differs = old.as_deref() != Some(&facts);
            if differs {
                *old = Some(Arc::new(facts));
            }
            differs
        });
        self.show_annotations();
    }

    fn publish_serving(&self) {
        let serving = Serving {
            node_eligible: self.derivation.node_eligible(),
            ranges: self.settings.as_deref().map(|s| s.node_port_ranges.clone()).unwrap_or_default(),
            checks: self.derivation.health_checks().clone(),
        };
        self.published.serving.send_if_modified(|old| {
            let differs = *old != serving;
            *old = serving;
            differs
        });
    }

    /// Shows the annotations by which peers find this node: to the cluster, in the log and in node.json.
    fn show_annotations(&mut self) {
        let Some(settings) = &self.settings else { return };
        let Some(public) = settings.node_addresses.first() else { return };
        let identity = (settings.vtep_mac, *public);
        if self.shown == Some(identity) {
            return;
        }
        let annotations = identity::annotations(settings.vni, settings.vtep_mac, *public);
        for (key, value) in &annotations {
            info!("annotation of this node for its peers: {key}: {value}");
        }
        if let Err(e) = identity::show(&self.run_dir, &self.node_name, &annotations) {
            error!("{e}");
        }
        self.published.annotations.send_replace(Some(annotations));
        self.shown = Some(identity);
    }
}

/// What preflight finds wrong with the kernel cannot change while the agent runs.
fn refuse_the_impossible() -> anyhow::Result<()> {
    let report = preflight::of_kernel(&preflight::Options::default());
    let fatal: Vec<_> = report.errors().map(preflight::Finding::sentence).collect();
    if !fatal.is_empty() {
        bail!("preflight: {}", fatal.join("; "));
    }
    Ok(())
}

/// What `headracectl preflight` says of this node, as far as it is not as it should be. None of it is a reason to end: links,
/// routes and others' programs come and go, and the dataplane tries again.
fn warn_of_limits(options: preflight::Options) {
    // It starts programs, for which nobody has to wait.
    std::thread::spawn(move || {
        for finding in preflight::of_node(&options).findings {
            match finding.severity {
                Severity::Ok | Severity::Note => {}
                Severity::Warning => warn!("preflight: {}", finding.sentence()),
                Severity::Error => error!("preflight: {}", finding.sentence()),
            }
        }
    });
}

/// Others may look (headracectl, the CNI plugin), only root may change; sockets guard themselves.
fn make_directory(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).with_context(|| {
        format!("cannot make directory {}; correct --run-dir or --state-dir", path.display())
    })
}

/// Two agents on one run directory would undo each other's work. The lock goes with the process: of one that was killed
/// when its last thread has left the kernel, which may take a moment.
fn lock(run_dir: &Path) -> anyhow::Result<File> {
    let path = run_dir.join("agent.lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let start = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if start.elapsed() > LAST_MOMENTS {
            bail!("another headrace-agent runs on {}; end it, or use another --run-dir", run_dir.display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
