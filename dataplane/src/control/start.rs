//! Start and end of the process.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use headrace_flowmap::{FlowMap, Geometry, Origin};
use headrace_xsk::limits;
use headrace_xsk::program::ProgramError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::host_link::{self, HostLinkError};
use super::kernel::{Kernel, KernelError};
use super::observe::Sight;
use super::observe::flow_log::{self, FlowLogConfig};
use super::pins::{self, PinError};
use super::ports::Ports;
use super::publish;
use super::reconcile::{FlowTable, Parts, Reconciler};
use super::server;
use super::shortcut::{Shortcut, Started};
use super::socket::{Socket, SocketError};
use super::state_file::{self, StateFile, StateFileError};
use super::uplink::Uplink;
use super::workers::{Workers, WorkersError};
use crate::config::Config;
use crate::flows::{AFFINITY_VERSION, Affinity, CONTENT_VERSION, Flows};
use crate::tables::Tables;
use crate::worker::Shared;

/// File of the run directory that holds the flow table.
pub(super) const FLOWS: &str = "flows";
/// The one that holds clients of Services with session affinity.
pub(super) const AFFINITY: &str = "affinity";
/// There is room for one such client beside so many flows.
const CLIENTS_SHARE: usize = 4;

/// Questions for MAC addresses that may wait; more are asked again by the packets that follow.
const QUESTIONS: usize = 256;
/// Calls of the server that may wait.
const CALLS: usize = 16;

/// The dataplane cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The run directory.
    #[error("cannot make the run directory {path}: {source}; choose another one with --run-dir")]
    RunDir {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file by which it runs.
    #[error(transparent)]
    StateFile(#[from] StateFileError),
    /// The flow log.
    #[error("cannot write the flow log {path}: {source}; correct --flow-log")]
    FlowLog {
        /// Its file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The flow table.
    #[error(transparent)]
    Flows(#[from] headrace_flowmap::OpenError),
    /// Threads, signals, sockets of the runtime.
    #[error("cannot start the control thread: {0}")]
    Runtime(io::Error),
    /// Pins of XDP programs.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// An XDP program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The kernel's network state.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The host link.
    #[error(transparent)]
    HostLink(#[from] HostLinkError),
    /// Workers.
    #[error(transparent)]
    Workers(#[from] WorkersError),
    /// The control socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
}

/// Forwards packets until SIGTERM or SIGINT. Sockets are closed then; XDP programs, the host link and all state stay.
///
/// # Errors
/// [`StartError`] says what could not be had, and the remedy.
pub fn run(config: Config) -> Result<(), StartError> {
    make_run_dir(&config.run_dir)?;
    raise_limits();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), StartError> {
    let stop = stop_signal().map_err(StartError::Runtime)?;
    let pins = pins::ensure(&config.run_dir)?;
    serve_until(stop, config, &pins).await?;
    tracing::info!("stopped; forwarding resumes when headrace-dataplane starts again");
    Ok(())
}

/// Runs everything, with pins in the directory given, until `stop` is done.
pub(super) async fn serve_until(
    stop: impl Future<Output = ()>,
    config: Config,
    pins: &Path,
) -> Result<(), StartError> {
    // Who gives a file wants to know before anything is touched that it cannot be used.
    if let Some(file) = &config.state {
        state_file::load(file)?;
    }
    // The table's lock comes first: it keeps a second process out of everything below.
    let (flows, asked) = open_flows(&config)?;
    let socket = Socket::listen(&config.run_dir)?;
    let mut kernel = Kernel::open().await?;
    let workers = Workers::start(&config, &flows.shared)?;
    for warning in host_link::ensure(&mut kernel, &config.host_link, workers.count()).await? {
        tracing::warn!("{warning}");
    }
    let (shortcut, guard) = match config.shortcut.then(|| Shortcut::start(&flows.shared)).transpose() {
        Ok(Some(Started { shortcut, guard, keeper })) => {
            (Ok(Some((Arc::clone(&shortcut), keeper))), Some((shortcut, guard)))
        }
        Ok(None) => (Ok(None), None),
        Err(error) => (Err(error), None),
    };
    let ports = Ports::new(pins, workers.count(), config.drivers.pods, guard)?;
    let uplink = Uplink::new(pins, config.drivers.tunnel, config.match_queues)?;
    let run_dir = config.run_dir.clone();
    let file = config.state.as_deref().map(StateFile::follow).transpose().map_err(StartError::Runtime)?;
    let parts = Parts { config, file, kernel, ports, uplink, workers, flows, shortcut };
    let reconciler = Reconciler::new(parts).await;
    let (calls, inbox) = mpsc::channel(CALLS);
    start_flow_log(&reconciler.config, reconciler.sight())?;
    tell_where(&reconciler, &run_dir);
    let server = server::serve(socket, calls, reconciler.sight());
    let outcome = reconciler.run(inbox, asked, stop).await;
    server.abort();
    // Waits until the socket's file is gone.
    let _ = server.await;
    Ok(outcome?)
}

/// One line that says what runs where.
fn tell_where(reconciler: &Reconciler, run_dir: &Path) {
    let core = |(core, pinned): (Option<usize>, bool)| match core {
        Some(core) if pinned => core.to_string(),
        _ => "any".into(),
    };
    let uplink = match reconciler.uplink.open() {
        Ok(open) => &open.name,
        Err(_) if reconciler.is_forwarder() => "not needed",
        Err(_) => "not open yet",
    };
    let cores: Vec<String> = reconciler.workers.handles().map(|handle| core(handle.core())).collect();
    tracing::info!(
        "headrace-dataplane {} is ready on {}; workers on cores {}; uplink {}",
        env!("CARGO_PKG_VERSION"),
        run_dir.join(headrace_api::client::SOCKET).display(),
        cores.join(", "),
        uplink,
    );
}

fn start_flow_log(config: &Config, sight: Sight) -> Result<(), StartError> {
    let Some(path) = config.flow_log.clone() else { return Ok(()) };
    let log = FlowLogConfig { path: path.clone(), sample: config.flow_log_sample };
    flow_log::start(sight, &log).map_err(|source| StartError::FlowLog { path, source })
}

fn make_run_dir(path: &Path) -> Result<(), StartError> {
    std::fs::create_dir_all(path).map_err(|source| StartError::RunDir { path: path.into(), source })
}

/// Frame memory is locked, and every port takes a descriptor per queue. Where a limit cannot be raised, the call that
/// runs into it says so.
fn raise_limits() {
    if let Err(error) = limits::unlock_memory() {
        tracing::debug!("cannot lift the limit on locked memory: {error}");
    }
    let files = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }) {
        tracing::debug!("cannot lift the limit on open files: {error}");
    }
}

/// Done when the process is told to end.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Opens the flow table and makes what workers share, with the receiving end of their questions.
fn open_flows(config: &Config) -> Result<(FlowTable, mpsc::Receiver<Ipv4Addr>), StartError> {
    let path = config.run_dir.join(FLOWS);
    let (map, taken_over) = open_table(&path, config.flow_capacity, CONTENT_VERSION)?;
    let clients = config.run_dir.join(AFFINITY);
    let (clients, _) = open_table(&clients, config.flow_capacity / CLIENTS_SHARE, AFFINITY_VERSION)?;
    let flows = Flows::new(map, Affinity::new(clients));
    let flows = if config.shortcut { flows.with_offers() } else { flows };
    let (asked, questions) = crossbeam::channel::bounded(QUESTIONS);
    let tables = Tables::empty(publish::first_generation());
    let shared = Arc::new(Shared { tables: Arc::new(ArcSwap::from_pointee(tables)), flows, asked });
    let questions = carry(questions).map_err(StartError::Runtime)?;
    Ok((FlowTable { path, taken_over, shared }, questions))
}

/// A table of the run directory, and how many entries an earlier run left in it.
fn open_table(path: &Path, capacity: usize, content_version: u32) -> Result<(FlowMap, usize), StartError> {
    let (map, origin) = FlowMap::open(path, &Geometry { capacity, content_version })?;
    let taken_over = match origin {
        Origin::TakenOver { live, repaired } => {
            tracing::info!("took over {live} entries of {}, {repaired} of them repaired", path.display());
            live
        }
        Origin::Recreated { why } => {
            tracing::warn!("the table {} was made anew: {why}", path.display());
            0
        }
        Origin::Created => 0,
    };
    Ok((map, taken_over))
}

/// Carries questions from the workers' channel, on which a task cannot wait, to one on which it can.
fn carry(from: crossbeam::channel::Receiver<Ipv4Addr>) -> io::Result<mpsc::Receiver<Ipv4Addr>> {
    let (to, receiver) = mpsc::channel(QUESTIONS);
    std::thread::Builder::new().name("questions".into()).spawn(move || {
        while let Ok(host) = from.recv() {
            if to.blocking_send(host).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}
