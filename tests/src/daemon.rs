//! The two daemons of a Headrace node: start, wait until they serve, stop, kill.

use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::plan::NIC;
use crate::process::{Process, wait_until};
use crate::{LabConfig, LabError, dataplane};

/// Time for a daemon to serve after its start, and to end after SIGTERM.
const LIMIT: Duration = Duration::from_secs(15);

/// Which daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// Forwards.
    Dataplane,
    /// Feeds the dataplane and serves the CNI plugin.
    Agent,
}

impl Daemon {
    /// Both, in the order in which they are started.
    pub const ALL: [Self; 2] = [Self::Dataplane, Self::Agent];

    /// Name of the binary.
    #[must_use]
    pub fn binary(self) -> &'static str {
        match self {
            Self::Dataplane => "headrace-dataplane",
            Self::Agent => "headrace-agent",
        }
    }
}

/// The processes of a node's daemons; none while a daemon is stopped.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Daemons {
    /// headrace-dataplane.
    pub dataplane: Option<Process>,
    /// headrace-agent.
    pub agent: Option<Process>,
}

impl Daemons {
    /// The process of one of them.
    #[must_use]
    pub fn process(&self, daemon: Daemon) -> Option<Process> {
        match daemon {
            Daemon::Dataplane => self.dataplane,
            Daemon::Agent => self.agent,
        }
    }

    /// Notes a start or an end.
    pub fn set(&mut self, daemon: Daemon, process: Option<Process>) {
        match daemon {
            Daemon::Dataplane => self.dataplane = process,
            Daemon::Agent => self.agent = process,
        }
    }
}

/// Starts `daemon` on `machine` and waits until it serves.
///
/// # Errors
/// [`LabError::MissingBinary`], or [`LabError::Daemon`] with the end of its log.
pub fn start(machine: &Machine, daemon: Daemon, config: &LabConfig) -> Result<Process, LabError> {
    let process = launch(machine, daemon, config)?;
    let serves = || match daemon {
        Daemon::Dataplane => dataplane::status(&run_dir(machine)).is_ok(),
        Daemon::Agent => listens(&process, &run_dir(machine).join("cni.sock")),
    };
    let up = wait_until(LIMIT, || !process.alive() || serves());
    if !process.alive() {
        return Err(failure(machine, daemon, "ended right after its start".to_owned()));
    }
    if !up {
        // A daemon that does not serve is of no use to anybody.
        let _ = process.signal(Signal::KILL);
        return Err(failure(machine, daemon, format!("did not serve its socket in {LIMIT:?}")));
    }
    Ok(process)
}

/// Whether it is `process` that listens: what is left of one that was killed may do so for a moment.
fn listens(process: &Process, socket: &Path) -> bool {
    let listener = UnixStream::connect(socket).and_then(|stream| Ok(socket_peercred(&stream)?.pid));
    listener.is_ok_and(|pid| pid.as_raw_nonzero().get() == process.pid)
}

/// Asks `process` to end and waits until it has.
///
/// # Errors
/// [`LabError::Daemon`] when it does not end in time.
pub fn stop(machine: &Machine, daemon: Daemon, process: Process) -> Result<(), LabError> {
    end(machine, daemon, process, Signal::TERM)
}

/// Ends `process` at once, as a crash would.
///
/// # Errors
/// [`LabError::Daemon`] when it does not end in time.
pub fn kill(machine: &Machine, daemon: Daemon, process: Process) -> Result<(), LabError> {
    end(machine, daemon, process, Signal::KILL)
}

/// An error about `daemon` with the end of its log.
#[must_use]
pub fn failure(machine: &Machine, daemon: Daemon, problem: String) -> LabError {
    machine.failure(daemon.binary(), problem)
}

/// A binary of this project: beside the running one, or one folder up, where tests run from.
///
/// # Errors
/// [`LabError::MissingBinary`].
pub fn binary(name: &'static str) -> Result<PathBuf, LabError> {
    let own = std::env::current_exe().map_err(LabError::io("find the running program"))?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let file = folder.join(name);
    if file.is_file() {
        Ok(file)
    } else {
        Err(LabError::MissingBinary { binary: name, folder: folder.into() })
    }
}

fn launch(machine: &Machine, daemon: Daemon, config: &LabConfig) -> Result<Process, LabError> {
    let program = binary(daemon.binary())?.into_os_string();
    let arguments = arguments(machine, daemon, config).into_iter().map(OsString::from);
    machine.launch(daemon.binary(), std::iter::once(program).chain(arguments))
}

fn arguments(machine: &Machine, daemon: Daemon, config: &LabConfig) -> Vec<String> {
    let run_dir = run_dir(machine).display().to_string();
    match daemon {
        Daemon::Dataplane => {
            let own = ["--run-dir", &run_dir, "--uplink", NIC, "--workers", &config.workers.to_string()]
                .map(str::to_owned);
            let of_node = config.node_args.get(&machine.space.name).into_iter().flatten();
            own.into_iter().chain(config.dataplane_args.iter().chain(of_node).cloned()).collect()
        }
        Daemon::Agent => {
            let (source, place) = match &config.kubeconfig {
                Some(file) => ("--kubeconfig", file.as_str()),
                None => ("--manifests", "manifests"),
            };
            let place = machine.directory.join(place).display().to_string();
            let masquerade = config.masquerade.to_string();
            let own = [
                ["--run-dir", &run_dir],
                ["--node-name", &machine.space.name],
                [source, &place],
                ["--encapsulation", config.encapsulation.word()],
                ["--masquerade", &masquerade],
            ];
            own.as_flattened()
                .iter()
                .map(ToString::to_string)
                .chain(config.agent_args.iter().cloned())
                .collect()
        }
    }
}

fn end(machine: &Machine, daemon: Daemon, process: Process, signal: Signal) -> Result<(), LabError> {
    let what = format!("end {} on {}", daemon.binary(), machine.space.name);
    process.signal(signal).map_err(LabError::io(what))?;
    if process.wait_gone(LIMIT) {
        return Ok(());
    }
    Err(failure(machine, daemon, format!("did not end {LIMIT:?} after {signal:?}")))
}

fn run_dir(machine: &Machine) -> PathBuf {
    machine.directory.join("run")
}
