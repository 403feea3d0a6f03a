//! `headracectl`: the operator's tool; [`headrace_control::ctl`] is all of it.

use std::process::ExitCode;

use clap::Parser;
use headrace_control::ctl::Cli;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    Cli::parse().run().await
}
