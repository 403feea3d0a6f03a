//! headrace-dataplane: reads its configuration, sets logging up, and runs the dataplane.

use std::io::IsTerminal;
use std::process::ExitCode;

use headrace_api::log::Limited;
use headrace_dataplane::config::{Config, LogFormat, Task};
use headrace_dataplane::control;
use headrace_dataplane::control::pins::{self, PinError};

/// What sysexits.h calls EX_USAGE is 64; tools of this kind use 2.
const WRONG_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let task = match Task::read(std::env::args_os(), &|name| std::env::var_os(name)) {
        Ok(task) => task,
        Err(error) => {
            eprintln!("headrace-dataplane: {error}");
            return ExitCode::from(WRONG_CONFIGURATION);
        }
    };
    let outcome = match task {
        Task::Run(config) => {
            start_log(&config);
            control::run(config).map_err(|error| error.to_string())
        }
        Task::Prepare(config) => {
            start_log(&config);
            prepare().map_err(|error| error.to_string())
        }
        Task::Cleanup(config) => {
            start_log(&config);
            control::cleanup::cleanup(&config).map_err(|error| error.to_string())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn prepare() -> Result<(), PinError> {
    let state = if pins::mount()? { "mounted" } else { "mounted already" };
    tracing::info!("the BPF file system is {state}");
    Ok(())
}

fn start_log(config: &Config) {
    let log = tracing_subscriber::fmt()
        .with_writer(Limited::new(config.log == LogFormat::Json))
        .with_max_level(config.log_level);
    match config.log {
        LogFormat::Human => log.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
}
