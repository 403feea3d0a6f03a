//! `headrace-lab`: nodes, a LAN and pods on this machine, for trying, testing and measuring.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("headrace-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
