//! What headrace-dataplane is told at start: flags, then environment, then configuration file, then defaults.
//!
//! Every key has one row in [`KEYS`]; it may be given as `--key VALUE`, as `HEADRACE_KEY=VALUE` or as `key = value` in the
//! TOML file that `config` names. A wrong value is an error that names the key, the value, where it was given and what
//! would be right.

mod sources;
#[cfg(test)]
mod tests;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgMatches};

use sources::Sources;
pub use sources::{ConfigError, Origin};
pub use values::{Cores, Drivers, HostLinkNames, LogFormat, PodDriver, Poll, TunnelDriver};

/// Name of the subcommand that removes what outlives the process.
const CLEANUP: &str = "cleanup";
/// Name of the subcommand that does what the process itself may not be privileged for.
const PREPARE: &str = "prepare";

const EXAMPLES: &str = "\
Examples:
  headrace-dataplane                              one worker, the rest found by itself
  headrace-dataplane --uplink eth1 --cores 2,3    two workers, pinned
  headrace-dataplane --driver af_xdp              AF_XDP everywhere, also where another driver is faster
  headrace-dataplane --shortcut on                flows within the node go past the workers, for speed
  headrace-dataplane --config /etc/headrace.toml  lines such as  cores = [2, 3]
  HEADRACE_LOG_LEVEL=debug headrace-dataplane     any key from the environment
  headrace-dataplane --run-dir /run/b             a second node, in its namespace
  headrace-dataplane --state two-ports.yaml --cores 3 --poll always   a forwarder without a controller
  headrace-dataplane cleanup                      remove what a stopped one left
  headrace-dataplane prepare                      mount the BPF file system, for one that may not

SIGTERM and SIGINT end it. XDP programs, the host link and all state stay for the next start; cleanup removes them.";

/// One key.
struct Row {
    /// As a flag and in the file; in the environment in capitals with `_` for `-`, behind `HEADRACE_`.
    key: &'static str,
    /// What stands for the value in the help.
    value: &'static str,
    default: Option<&'static str>,
    help: &'static str,
}

const KEYS: [Row; 19] = [
    row(
        "run-dir",
        "DIR",
        Some("/run/headrace"),
        "Socket, flow table and saved state; what separates two nodes",
    ),
    row("config", "FILE", None, "TOML file that may hold any other key"),
    row(
        "uplink",
        "NAME",
        None,
        "Device towards other nodes [default: the node address's, else the default route's]",
    ),
    row(
        "uplink-queues",
        "keep|match",
        Some("keep"),
        "match: give the uplink a queue for each worker, and spread tunnels over them (resets most NICs' links)",
    ),
    row(
        "driver",
        "DRIVER",
        Some("auto"),
        "auto, af_xdp for everything, or by kind: pods=af_packet|af_xdp,tunnel=udp|af_xdp",
    ),
    row(
        "shortcut",
        "on|off",
        Some("off"),
        "Hand established flows between pods of this node, on packet sockets and untranslated, to the kernel",
    ),
    row(
        "state",
        "FILE",
        None,
        "Forward by this YAML file alone, without a controller; read again when it changes",
    ),
    row(
        "poll",
        "MODE",
        Some("adaptive"),
        "adaptive: sleep when nothing comes; always: never sleep, on cores of its own",
    ),
    row(
        "huge-pages",
        "on|off",
        Some("off"),
        "Frame memory in huge pages of 2 MiB, reserved beforehand (sysctl vm.nr_hugepages)",
    ),
    row("cores", "LIST", None, "A worker pinned to each, as in 0,1 or 2-5 [default: one, on the last core]"),
    row("workers", "N", None, "Workers that are not pinned, instead of cores"),
    row("flow-capacity", "N", Some("262144"), "Entries of the flow table; a connection takes two"),
    row("pod-chunks", "N", Some("12288"), "Frame memory of pods and host link: chunks of 4 KiB per worker"),
    row("uplink-chunks", "N", Some("4096"), "Frame memory of the uplink: chunks of 4 KiB per worker"),
    row(
        "host-link-name",
        "NAME",
        Some("headrace0"),
        "Kernel's end of the host link; ends in 0, the other end in 1",
    ),
    row("log", "FORMAT", Some("human"), "human or json, on standard error"),
    row("log-level", "LEVEL", Some("info"), "error, warn, info, debug or trace"),
    row(
        "flow-log",
        "FILE",
        None,
        "Connections and drops as JSON lines, added to this file; - = standard output",
    ),
    row("flow-log-sample", "N", Some("1"), "Of so many connections one is in the flow log"),
];

const fn row(
    key: &'static str,
    value: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Row {
    Row { key, value, default, help }
}

/// What the process is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Forward packets.
    Run(Config),
    /// Remove XDP programs, host link, reserved ports and state of a dataplane that does not run.
    Cleanup(Config),
    /// Mount the BPF file system.
    Prepare(Config),
}

/// All settings, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Directory of the socket, the flow table and the saved state.
    pub run_dir: PathBuf,
    /// The uplink's name; `None` = the device that holds the node's address, else the default route's.
    pub uplink: Option<String>,
    /// Whether the uplink gets as many queues as there are workers.
    pub match_queues: bool,
    /// Which driver serves which kind of port.
    pub drivers: Drivers,
    /// Whether established flows within the node are handed to the kernel.
    pub shortcut: bool,
    /// A static state; `None` = a controller tells.
    pub state: Option<PathBuf>,
    /// What a worker does without packets.
    pub poll: Poll,
    /// Whether frame memory lies in huge pages.
    pub huge_pages: bool,
    /// Where workers run, at least one.
    pub cores: Cores,
    /// Entries of the flow table.
    pub flow_capacity: usize,
    /// Chunks of 4 KiB per worker for pods and host link.
    pub pod_chunks: u32,
    /// Chunks of 4 KiB per worker for the uplink.
    pub uplink_chunks: u32,
    /// Both ends of the host link.
    pub host_link: HostLinkNames,
    /// How log lines look.
    pub log: LogFormat,
    /// Least severe level that is logged.
    pub log_level: tracing::Level,
    /// Where connections are logged; `None` = nowhere.
    pub flow_log: Option<PathBuf>,
    /// One of so many is.
    pub flow_log_sample: u64,
}

impl Task {
    /// Reads arguments (the first is the program's name), the environment given, and the file they name. `--help` and
    /// `--version` print and end the process, as do unknown flags.
    ///
    /// # Errors
    /// [`ConfigError`] for the first wrong key.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let matches = command().get_matches_from(arguments);
        Self::of(&matches, environment)
    }

    fn of(matches: &ArgMatches, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        match matches.subcommand() {
            Some((CLEANUP, flags)) => Config::of(flags, environment).map(Self::Cleanup),
            Some((PREPARE, flags)) => Config::of(flags, environment).map(Self::Prepare),
            _ => Config::of(matches, environment).map(Self::Run),
        }
    }
}

impl Config {
    fn of(flags: &ArgMatches, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let sources = Sources::read(flags, environment)?;
        Ok(Self {
            run_dir: sources.required("run-dir", values::run_dir)?,
            uplink: sources.optional("uplink", values::device)?,
            match_queues: sources.required("uplink-queues", values::keep_or_match)?,
            drivers: sources.required("driver", values::drivers)?,
            shortcut: sources.required("shortcut", values::on_or_off)?,
            state: sources.optional("state", values::state_file)?,
            poll: sources.required("poll", values::poll)?,
            huge_pages: sources.required("huge-pages", values::on_or_off)?,
            cores: cores(&sources)?,
            flow_capacity: sources.required("flow-capacity", values::flow_capacity)?,
            pod_chunks: sources.required("pod-chunks", values::chunks)?,
            uplink_chunks: sources.required("uplink-chunks", values::chunks)?,
            host_link: sources.required("host-link-name", values::host_link)?,
            log: sources.required("log", values::log_format)?,
            log_level: sources.required("log-level", values::log_level)?,
            flow_log: sources.optional("flow-log", values::flow_log)?,
            flow_log_sample: sources.required("flow-log-sample", values::flow_log_sample)?,
        })
    }
}

/// `cores` and `workers` exclude each other; of the two, the one of the stronger source counts.
fn cores(sources: &Sources) -> Result<Cores, ConfigError> {
    let (cores, workers) = (sources.origin("cores"), sources.origin("workers"));
    match (cores, workers) {
        (Some(a), Some(b)) if a.same_kind(b) => {
            Err(sources.error("workers", "give cores or workers, not both"))
        }
        (Some(a), b) if b.is_none_or(|b| a.precedes(b)) => sources.required("cores", values::cores),
        (_, Some(_)) => sources.required("workers", values::workers),
        _ => Ok(Cores::last_available()),
    }
}

/// The command line, made of [`KEYS`].
fn command() -> clap::Command {
    clap::Command::new("headrace-dataplane")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Forwards the packets of a node's pods in userspace, as a controller tells it on RUN-DIR/dataplane.sock")
        .after_help(EXAMPLES)
        .args(KEYS.iter().map(flag))
        .subcommand(
            clap::Command::new(CLEANUP)
                .about("Removes what a stopped dataplane left: XDP programs, host link, reserved ports, state"),
        )
        .subcommand(
            clap::Command::new(PREPARE)
                .about("Mounts the BPF file system where it is not, from a privileged init container"),
        )
}

fn flag(row: &Row) -> Arg {
    let default = row.default.map(|d| format!(" [default: {d}]")).unwrap_or_default();
    let env = sources::variable(row.key);
    Arg::new(row.key)
        .long(row.key)
        .value_name(row.value)
        .global(true)
        .help(format!("{}{default} [env: {env}]", row.help))
        .value_parser(clap::value_parser!(OsString))
}
