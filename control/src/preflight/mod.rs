//! What this node can do for Headrace, feature by feature, and what to do about the rest.
//!
//! The same checks serve `headracectl preflight` and the agent when it starts, in the same words. They look and try, and change
//! nothing: what cannot be known without trying is tried on a veth pair in a network namespace of its own. Files are read below
//! [`Options::root`], so that a container can look at its host and tests at files of their own.

mod cli;
mod conflicts;
mod kernel;
mod nic;
mod probe;
mod report;
mod system;

use std::path::PathBuf;

pub use cli::PreflightArgs;
pub use report::{Finding, Report, Severity};
use system::System;

/// What to look at.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the host's files are: `/`, or where a container has them.
    pub root: PathBuf,
    /// The NIC that carries pods' packets; `None` = that of the default route.
    pub uplink: Option<String>,
    /// Workers that the dataplane shall have.
    pub workers: u32,
    /// The runtime's plugins.
    pub bin_dir: PathBuf,
    /// The runtime's network configurations.
    pub conf_dir: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root: "/".into(),
            uplink: None,
            workers: 1,
            bin_dir: "/opt/cni/bin".into(),
            conf_dir: "/etc/cni/net.d".into(),
        }
    }
}

/// Makes all checks. Takes some tens of milliseconds, for the trials.
pub fn run(options: &Options) -> Report {
    let mut findings = kernel::rights(&System::new(&options.root));
    findings.extend(probe::check());
    findings.extend(of_node(options).findings);
    Report { findings }
}

/// The checks of the kernel alone: an error among them lasts until another kernel runs.
pub fn of_kernel(options: &Options) -> Report {
    Report { findings: kernel::check(&System::new(&options.root)) }
}

/// The checks that do not depend on what this process may do: those for the agent, which needs less than the dataplane.
pub fn of_node(options: &Options) -> Report {
    let system = System::new(&options.root);
    let mut findings = kernel::check(&system);
    findings.extend(nic::check(&system, options));
    findings.extend(conflicts::check(&system, options));
    Report { findings }
}

#[cfg(test)]
mod tests;
