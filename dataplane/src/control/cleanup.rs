//! Removes everything that outlives the process, for labs and for taking Headrace off a node.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::kernel::{Kernel, KernelError, Resolver};
use super::node_rules::{self, NodeRulesError};
use super::pins::{self, PinError};
use super::snat_ports::{self, ReserveError};
use super::socket::is_served;
use super::{host_link, saved, start};
use crate::config::Config;

/// Something could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// The dataplane runs.
    #[error("a headrace-dataplane serves {0}: stop it first")]
    Running(PathBuf),
    /// Threads or sockets of the runtime.
    #[error("cannot speak to the kernel: {0}")]
    Runtime(io::Error),
    /// Pins of XDP programs.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Rules of the node's processes.
    #[error(transparent)]
    NodeRules(#[from] NodeRulesError),
    /// Reserved ports.
    #[error(transparent)]
    Ports(#[from] ReserveError),
    /// A file of the run directory.
    #[error("cannot remove {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Takes XDP programs off their devices, removes the host link, the node's rules, our neighbour entries, the reservation of ports and the
/// files of the run directory. What is not there is no error.
///
/// # Errors
/// [`CleanupError::Running`] while the dataplane runs; otherwise the first thing that could not be removed.
pub fn cleanup(config: &Config) -> Result<(), CleanupError> {
    if is_served(&config.run_dir) {
        return Err(CleanupError::Running(config.run_dir.clone()));
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CleanupError::Runtime)?;
    pins::remove(&config.run_dir)?;
    runtime.block_on(remove_from_kernel(config))?;
    if config.run_dir.exists() {
        snat_ports::reserve(&config.run_dir, &BTreeSet::new())?;
        remove_files(&config.run_dir)?;
    }
    Ok(())
}

async fn remove_from_kernel(config: &Config) -> Result<(), CleanupError> {
    let kernel = Kernel::open().await?;
    node_rules::remove(kernel.handle()).await?;
    host_link::remove(&kernel, &config.host_link).await?;
    let nothing = std::collections::BTreeSet::new();
    Resolver::new().resolve(kernel.handle(), kernel.view(), None, &nothing).await;
    Ok(())
}

fn remove_files(run_dir: &Path) -> Result<(), CleanupError> {
    for name in [start::FLOWS, start::AFFINITY, saved::FILE, snat_ports::RECORD, headrace_api::client::SOCKET]
    {
        let path = run_dir.join(name);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(CleanupError::File { path, source });
            }
            _ => {}
        }
    }
    // Others may keep files there, such as the agent.
    let _ = std::fs::remove_dir(run_dir);
    Ok(())
}
