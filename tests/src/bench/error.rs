//! What can go wrong with a benchmark. Every message names the thing and the remedy.

use std::path::PathBuf;

use crate::LabError;

/// No result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The lab, or traffic in it.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Client, server and forwarder would wait for each other.
    #[error(
        "a benchmark needs {needed} cores, this machine gives {cores}: use another, or give this one more"
    )]
    TooFewCores {
        /// Cores of this machine.
        cores: usize,
        /// Cores that would do.
        needed: usize,
    },
    /// A file is not a result of this benchmark.
    #[error("{} is no result that can be used: {problem}; `make bench` writes one to target/bench/result.json", file.display())]
    NoResult {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// README has no place for figures.
    #[error("{} has no place for figures: its two markers `<!-- figures: ... -->` and `<!-- end of figures -->` are missing", file.display())]
    NoMarkers {
        /// The file.
        file: PathBuf,
    },
    /// A file could not be read or written.
    #[error("cannot read or write {}: {cause}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A program that belongs to a part failed.
    #[error("{program} failed ({status}):\n{output}")]
    Program {
        /// Its command line.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        output: String,
    },
}
