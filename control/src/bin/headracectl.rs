//! `headracectl`: the operator's tool.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use headrace_control::preflight::{self, PreflightArgs};
use headrace_control::status::{self, Status, StatusError};

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 error, 2 wrong use, 3 the daemon is away.

Examples:
  headracectl status
  headracectl preflight --uplink eth0 --workers 2
  headracectl --run-dir /run/headrace-b status -o json | jq '.ports[] | {interface, xdp_mode, why}'";

/// Looks into the Headrace daemons of this node.
#[derive(Parser)]
#[command(name = "headracectl", version, after_help = AFTER_HELP)]
struct Cli {
    /// Directory of the daemons' sockets
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/run/headrace",
        env = "HEADRACE_RUN_DIR",
        global = true
    )]
    run_dir: PathBuf,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What the dataplane does now: ports and their modes, workers, drops, frames, peers, flows
    Status(StatusArgs),

    /// What this node can do for Headrace and what to do about the rest; exit code 4 = limits, 5 = it cannot run
    Preflight(PreflightArgs),
}

#[derive(Args)]
struct StatusArgs {
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,

    /// The same as -o json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let args = match cli.command {
        Command::Status(args) => args,
        Command::Preflight(args) => return preflight(&args),
    };
    match status::fetch(&cli.run_dir).await {
        Ok(status) => print(&status, args.json || args.output == Output::Json),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if matches!(error, StatusError::Away(_)) { 3 } else { 1 })
        }
    }
}

fn preflight(args: &PreflightArgs) -> ExitCode {
    let report = preflight::run(&args.options());
    let text =
        if args.json { serde_json::to_string_pretty(&report).unwrap_or_default() } else { report.text() };
    let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{text}\n").as_bytes());
    ExitCode::from(report.exit_code())
}

fn print(status: &Status, as_json: bool) -> ExitCode {
    let text = if as_json {
        match serde_json::to_string_pretty(status) {
            Ok(json) => json,
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
        }
    } else {
        status::table(status, terminal_width())
    };
    // A reader that has seen enough, like head(1), is no error.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{}\n", text.trim_end()).as_bytes());
    ExitCode::SUCCESS
}

/// `None` when the output goes to a file or a pipe: then lines are as long as they are.
fn terminal_width() -> Option<u16> {
    rustix::termios::tcgetwinsize(std::io::stdout())
        .ok()
        .map(|size| size.ws_col)
        .filter(|columns| *columns > 0)
}
