//! `headracectl`: what an operator asks, and how the answers look.
//!
//! Each command is a module: it asks the daemon, and shows the answer as a table for people or as JSON for scripts. JSON
//! keeps its field names; streams are one object a line. Exit codes are [`CtlError::exit_code`]'s.

mod capture;
mod drops;
mod error;
mod examples;
mod explain;
mod flows;
mod output;
mod services;
mod text;
mod top;
mod trace;
mod turn;
mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::preflight::{self, PreflightArgs};
pub use error::CtlError;
pub use output::{Output, Printer};

const AFTER_HELP: &str = "\
Filters: host, net, port (each with src or dst before it), tcp, udp, icmp, proto, pod, service, state, dropped,
         joined by and, or, not and parentheses. Both sides of a translation are looked at.

Exit codes: 0 done, 1 error, 2 wrong use or an unknown name, 3 the daemon is away; of preflight also 4 limits, 5 it cannot run.

Examples:
  headracectl status
  headracectl preflight --uplink eth0 --workers 2
  headracectl top
  headracectl flows 'service default/web:http and not state closed'
  headracectl explain default/web-1 10.96.0.10:80
  headracectl trace 'host 10.244.1.7 and port 443' --count 3
  headracectl capture 'pod default/web-1' -w web.pcapng
  headracectl capture udp and port 8472 -w - | tshark -r -
  headracectl drops
  headracectl drops --once --json | jq '.[] | {reason, count}'
  headracectl --run-dir /run/headrace-b status -o json | jq '.ports[] | {interface, xdp_mode, why}'
  source <(headracectl completions bash)";

/// Looks into the Headrace daemons of this node.
#[derive(Parser)]
#[command(name = "headracectl", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// Directory of the daemons' sockets
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/run/headrace",
        env = "HEADRACE_RUN_DIR",
        global = true
    )]
    run_dir: PathBuf,

    #[command(flatten)]
    form: Form,

    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Form {
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", global = true)]
    output: Output,

    /// The same as -o json
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// What the dataplane does now: ports and their modes, workers, drops, frames, peers, flows
    #[command(after_help = examples::STATUS)]
    Status,
    /// Load and traffic of each core and port, live
    #[command(after_help = examples::TOP)]
    Top(top::TopArgs),
    /// Connections
    #[command(after_help = examples::FLOWS)]
    Flows(flows::FlowsArgs),
    /// Services: connections that are open, and all that were begun
    #[command(after_help = examples::SERVICES)]
    Services(services::ServicesArgs),
    /// Endpoints of Services: where they are, connections that are open, and all that were begun
    #[command(after_help = examples::ENDPOINTS)]
    Endpoints(services::ServicesArgs),
    /// What would become of a packet, stage by stage, without sending it
    #[command(after_help = examples::EXPLAIN)]
    Explain(explain::ExplainArgs),
    /// The next packets that match, stage by stage
    #[command(after_help = examples::TRACE)]
    Trace(trace::TraceArgs),
    /// Frames as they cross ports, as pcapng
    #[command(after_help = examples::CAPTURE)]
    Capture(capture::CaptureArgs),
    /// Drops by reason, with an example of each
    #[command(after_help = examples::DROPS)]
    Drops(drops::DropsArgs),
    /// What this node can do for Headrace and what to do about the rest; exit code 4 = limits, 5 = it cannot run
    #[command(after_help = examples::PREFLIGHT)]
    Preflight(PreflightArgs),
    /// Wait until a daemon may end without leaving the node to neither, for preStop hooks
    #[command(after_help = examples::TAKE_TURN)]
    TakeTurn(turn::TurnArgs),
    /// Versions of this tool and of the dataplane
    #[command(after_help = examples::VERSION)]
    Version,
    /// Completions for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// Carries the command out.
    pub async fn run(self) -> ExitCode {
        let json = self.form.json || self.form.output == Output::Json;
        let printer = Printer::new(json);
        if let Command::Preflight(args) = &self.command {
            return preflight(args, json);
        }
        match self.command.run(&self.run_dir, &printer).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(error.exit_code())
            }
        }
    }
}

impl Command {
    async fn run(self, run_dir: &std::path::Path, printer: &Printer) -> Result<(), CtlError> {
        match self {
            Self::Status => {
                let status = crate::status::fetch(run_dir).await?;
                printer.show(&status, |width| crate::status::table(&status, width))
            }
            Self::Top(args) => top::run(run_dir, args, printer).await,
            Self::Flows(args) => flows::run(run_dir, args, printer).await,
            Self::Services(args) => services::services(run_dir, args, printer).await,
            Self::Endpoints(args) => services::endpoints(run_dir, args, printer).await,
            Self::Explain(args) => explain::run(run_dir, args, printer).await,
            Self::Trace(args) => trace::run(run_dir, args, printer).await,
            Self::Capture(args) => capture::run(run_dir, args, printer).await,
            Self::Drops(args) => drops::run(run_dir, args, printer).await,
            Self::Preflight(_) => Ok(()),
            Self::TakeTurn(args) => turn::run(run_dir, args, printer).await,
            Self::Version => version::run(run_dir, printer).await,
            Self::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "headracectl", &mut script);
                output::write(&script)
            }
        }
    }
}

fn preflight(args: &PreflightArgs, json: bool) -> ExitCode {
    let report = preflight::run(&args.options());
    let text = if args.json || json {
        serde_json::to_string_pretty(&report).unwrap_or_default()
    } else {
        report.text()
    };
    match output::line(&text) {
        Ok(()) => ExitCode::from(report.exit_code()),
        Err(error) => ExitCode::from(error.exit_code()),
    }
}

/// A filter of several words, checked before anybody is asked.
fn filter(words: &[String]) -> Result<String, CtlError> {
    let text = words.join(" ");
    match text.parse::<headrace_api::filter::Filter>() {
        Ok(_) => Ok(text),
        Err(error) => Err(CtlError::Usage(format!("the filter cannot be read: {error}"))),
    }
}
