//! The log on standard error: for people, or one JSON object a line.

use clap::ValueEnum;
use headrace_api::log::Limited;
use tracing_subscriber::EnvFilter;

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// How much the log tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// What went wrong.
    Error,
    /// And what may go wrong.
    Warn,
    /// And what has changed.
    Info,
    /// And why.
    Debug,
    /// And every step.
    Trace,
}

/// Starts the log of this process; a second call changes nothing.
pub fn start(format: Format, level: Level) {
    let (ours, others) = match level {
        Level::Error => ("error", "error"),
        Level::Warn => ("warn", "warn"),
        Level::Info => ("info", "warn"),
        Level::Debug => ("debug", "info"),
        Level::Trace => ("trace", "debug"),
    };
    // Matches all targets that begin with "headrace"; HTTP/2's own debug lines would bury them.
    let filter = EnvFilter::new(format!("{others},headrace={ours}"));
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(Limited::new(format == Format::Json));
    // The only error is that a log has been started before.
    let _ = match format {
        Format::Human => {
            let colors = std::io::IsTerminal::is_terminal(&std::io::stderr());
            log.with_target(false).with_ansi(colors).try_init()
        }
        Format::Json => log.json().try_init(),
    };
}
