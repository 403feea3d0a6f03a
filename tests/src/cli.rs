//! The command line.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use headrace_lab::bench::readme::{Action, readme};
use headrace_lab::bench::{self, Part, Scope};
use headrace_lab::forward::Forward;
use headrace_lab::plan::{DASHBOARD, NodeKind};
use headrace_lab::state::lab_names;
use headrace_lab::{Encapsulation, Lab, LabConfig, Wire, cni_latency, demo, interrupt};

/// Nodes, a LAN and pods on this machine. Needs root.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  headrace-lab up --nodes 2 --pods 2
  headrace-lab status
  headrace-lab exec node1-pod1 -- ping -c 3 10.244.2.2
  headrace-lab exec node1 -- headracectl --run-dir /run/headrace-lab/lab/node1/run status
  headrace-lab up --name mixed --nodes 1 --kernel-nodes 1
  headrace-lab dashboard node2
  headrace-lab down --all
  headrace-lab demo
  headrace-lab bench wire --scope quick"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a lab that stays until `down`.
    Up(Up),
    /// Remove a lab and all that belongs to it, also what a crash has left.
    Down {
        /// The lab.
        #[arg(long, default_value = "lab")]
        name: String,
        /// All labs.
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// List names, addresses, namespaces, processes and run directories.
    Status {
        /// The lab.
        #[arg(long, default_value = "lab")]
        name: String,
        /// How to print it.
        #[arg(short, long, default_value = "text")]
        output: Format,
    },
    /// Run a command in a pod, on a node or on the outside host.
    Exec {
        /// The lab.
        #[arg(long, default_value = "lab")]
        name: String,
        /// Such as node1-pod1, node1, kernel1, outside.
        space: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Measure how long the CNI plugin takes and print one table.
    CniLatency {
        /// Where the same is written as JSON.
        #[arg(long, default_value = "target/cni-latency.json")]
        json: PathBuf,
        /// Pods, one after another and all at once.
        #[arg(long, default_value_t = 50)]
        pods: usize,
    },
    /// Make a node's dashboard reachable from a browser on this machine; runs until it is ended.
    Dashboard {
        /// The lab.
        #[arg(long, default_value = "lab")]
        name: String,
        /// The node.
        #[arg(default_value = "node1")]
        node: String,
        /// Port on this machine's loopback.
        #[arg(long, default_value_t = DASHBOARD)]
        listen: u16,
    },
    /// Measure all that can be measured, beside the kernel's own path; about twenty minutes.
    #[command(after_help = "Examples:
  headrace-lab bench
  headrace-lab bench wire --scope quick
  headrace-lab bench --compare target/bench/before.json")]
    Bench {
        /// Which parts; all of them without any.
        parts: Vec<Part>,
        /// How much: full is about twenty minutes, quick about three.
        #[arg(long, default_value = "full")]
        scope: Scope,
        /// Folder for result.json and report.html.
        #[arg(long, default_value = "target/bench")]
        output: PathBuf,
        /// An earlier result.json: print what moved beyond the noise.
        #[arg(long, value_name = "FILE")]
        compare: Option<PathBuf>,
    },
    /// Put the figures of the committed result (docs/bench/result.json) into README.md; run it in the repository.
    BenchReadme {
        /// Change nothing, fail when they are not in it.
        #[arg(long)]
        check: bool,
    },
    /// Measure Headrace beside the kernel's own path and print one table.
    Demo {
        /// Where the same is written as JSON.
        #[arg(long, default_value = "target/demo.json")]
        json: PathBuf,
        /// Measurements of each kind on each side; their median counts.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Seconds of each TCP measurement.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
        /// Workers of each dataplane.
        #[arg(long, default_value_t = 1)]
        workers: usize,
        /// What the LAN is like.
        #[arg(long, default_value = "segmented")]
        wire: Wire,
        /// Leave the lab up, with some traffic, and say where its dashboard is.
        #[arg(long)]
        keep: bool,
    },
}

#[derive(clap::Args)]
struct Up {
    /// Unique on this machine.
    #[arg(long, default_value = "lab")]
    name: String,
    /// Headrace nodes.
    #[arg(long, default_value_t = 2)]
    nodes: usize,
    /// Pods on every node.
    #[arg(long, default_value_t = 2)]
    pods: usize,
    /// Nodes that forward with the kernel, set up as flannel and kube-proxy do.
    #[arg(long, default_value_t = 0)]
    kernel_nodes: usize,
    /// Workers of each dataplane.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Between Headrace nodes.
    #[arg(long, default_value = "vxlan")]
    encapsulation: Encapsulation,
    /// Let pods be seen outside with their own addresses.
    #[arg(long)]
    no_masquerade: bool,
    /// What the LAN is like.
    #[arg(long, default_value = "segmented")]
    wire: Wire,
    /// Attach pods without superframes.
    #[arg(long)]
    no_superframes: bool,
    /// One more argument for every dataplane; may be repeated.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    dataplane_arg: Vec<String>,
    /// One more argument for every agent; may be repeated.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    agent_arg: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Carries the command out; gives the exit code.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Up(options) => up(options)?,
        Command::Down { all: true, .. } => lab_names().iter().try_for_each(|name| down(name))?,
        Command::Down { name, .. } => down(&name)?,
        Command::Status { name, output } => status(&name, output)?,
        Command::Exec { name, space, command } => exec(&name, &space, &command)?,
        Command::CniLatency { json, pods } => {
            let sound = cni_latency::run(&cni_latency::Options { json, pods })?;
            return Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Dashboard { name, node, listen } => dashboard(&name, &node, listen)?,
        Command::Bench { parts, scope, output, compare } => {
            let parts = if parts.is_empty() { Part::ALL.to_vec() } else { parts };
            let sound = bench::run(&bench::Options { parts, scope, output, compare })?;
            return Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::BenchReadme { check } => {
            let action = if check { Action::Check } else { Action::Write };
            if !readme(".".as_ref(), action)? {
                bail!("README.md has other figures than docs/bench/result.json: run `make bench-readme`");
            }
        }
        Command::Demo { json, rounds, seconds, workers, wire, keep } => {
            let sound = demo::run(&demo::Options { json, rounds, seconds, workers, wire, keep })?;
            return Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn up(options: Up) -> Result<()> {
    let config = LabConfig {
        name: options.name,
        nodes: options.nodes,
        kernel_nodes: options.kernel_nodes,
        cluster_nodes: 0,
        pods_per_node: options.pods,
        workers: options.workers,
        encapsulation: options.encapsulation,
        masquerade: !options.no_masquerade,
        wire: options.wire,
        superframes: !options.no_superframes,
        dataplane_args: options.dataplane_arg,
        node_args: std::collections::BTreeMap::new(),
        agent_args: options.agent_arg,
        kubeconfig: None,
    };
    let mut watched = false;
    let lab = Lab::up(&config, &mut |step| {
        // From the first step on the name is ours, so that nobody else's lab can be removed.
        if !std::mem::replace(&mut watched, true) {
            interrupt::remove_when_interrupted(&config.name);
        }
        eprintln!("up: {step}");
    })?;
    lab.stay()?;
    status(&config.name, Format::Text)
}

fn down(name: &str) -> Result<()> {
    if Lab::remove(name)? {
        eprintln!("lab {name} is removed");
    } else {
        eprintln!("there is no lab named {name}");
    }
    Ok(())
}

fn status(name: &str, format: Format) -> Result<()> {
    let lab = Lab::open(name)?;
    let state = lab.state();
    if matches!(format, Format::Json) {
        println!("{}", serde_json::to_string_pretty(state)?);
        return Ok(());
    }
    println!("lab {name} in {}", state.directory.display());
    println!("{:<16} {:<9} {:<14} {:<15} RUN DIRECTORY", "NAME", "KIND", "ADDRESS", "POD CIDR");
    for node in &state.nodes {
        let plan = &node.plan;
        let (kind, run_dir) = match plan.kind {
            NodeKind::Headrace => ("headrace", node.run_dir().display().to_string()),
            NodeKind::Kernel => ("kernel", "-".to_owned()),
            NodeKind::Cluster => ("cluster", "-".to_owned()),
        };
        println!("{:<16} {kind:<9} {:<14} {:<15} {run_dir}", plan.name, plan.address, plan.pod_cidr());
        for pod in &node.pods {
            println!("{:<16} {:<9} {:<14} {:<15} -", pod.name, "pod", pod.address, "-");
        }
    }
    println!(
        "{:<16} {:<9} {:<14} also {}",
        "outside",
        "host",
        lab.address("outside")?,
        headrace_lab::plan::OUTSIDE_FAR
    );
    for service in &state.services {
        println!("{:<16} {:<9} {}:{}", service.name, "service", service.cluster_ip, service.port);
    }
    Ok(())
}

fn dashboard(name: &str, node: &str, listen: u16) -> Result<()> {
    let lab = Lab::open(name)?;
    let forward = Forward::listen(lab.space(node)?, DASHBOARD, listen)?;
    println!("dashboard of {node}: http://127.0.0.1:{}/", forward.local_port()?);
    Ok(forward.run()?)
}

/// Turns into the command, so that terminal, signals and exit status are its own.
fn exec(name: &str, space: &str, command: &[String]) -> Result<()> {
    let lab = Lab::open(name)?;
    let space = lab.space(space)?;
    let [program, arguments @ ..] = command else { bail!("no command is given; put it after `--`") };
    let mut path = std::env::current_exe()?.parent().map(PathBuf::from).unwrap_or_default().into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let error = space.command().env("PATH", path).arg(program).args(arguments).exec();
    Err(error).context("cannot run nsenter; install it with `make deps`")
}
