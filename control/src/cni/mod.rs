//! The CNI server: attaches pods and detaches them.
//!
//! ```text
//! connection (socket, credentials) --> server --> attach | detach | check
//!                                                   |-- ipam    addresses, host-local's files
//!                                                   |-- pod     the link's end in the pod's namespace
//!                                                   `-- store   attachments on disk, published as ports
//! ```
//!
//! Requests of one interface are taken one after another, those of different ones at the same time. ADD answers only when
//! the dataplane has the port open, and undoes everything when it cannot; DEL succeeds whatever is left to undo.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tracing::{info, warn};

use crate::node::rtnl::Rtnl;
use crate::seam::{Directories, FactsWatch, PortGate, PortsPublisher};

mod asked;
mod attach;
mod attachment;
mod check;
mod connection;
mod detach;
mod errors;
mod ipam;
mod netns;
mod owner;
mod pod;
mod queues;
mod server;
mod store;
#[cfg(test)]
mod tests;
mod turns;

use server::Server;
use store::Store;

/// How pods are attached on this node.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Queues of every pod's port; `None` = as many as the dataplane has workers, since each one serves a queue.
    pub queues: Option<NonZeroU32>,
    /// How long the dataplane may take to open a port before ADD is undone.
    pub port_patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { queues: None, port_patience: Duration::from_secs(10) }
    }
}

/// [`serve_with`] the default options.
///
/// # Errors
/// As [`serve_with`].
pub async fn serve(
    directories: Directories,
    facts: FactsWatch,
    gate: PortGate,
    ports: PortsPublisher,
) -> anyhow::Result<()> {
    serve_with(directories, facts, gate, ports, Options::default()).await
}

/// Serves `cni.sock` in the run directory until the process ends.
///
/// Reads the attachments of earlier runs and publishes their ports first, then after every change.
///
/// # Errors
/// What keeps the server from serving: a socket or a directory that cannot be made, another agent on the socket.
pub async fn serve_with(
    directories: Directories,
    facts: FactsWatch,
    gate: PortGate,
    ports: PortsPublisher,
    options: Options,
) -> anyhow::Result<()> {
    let store = Store::open(&directories.state, ports)?;
    let rtnl = Rtnl::connect()?;
    report_orphans(&store, &rtnl).await;
    let path = headrace_cni::protocol::socket_path(&directories.run);
    let listener = connection::listen(&path).with_context(|| format!("listening on {}", path.display()))?;
    info!("serving CNI requests on {}", path.display());
    let server = Server::new(rtnl, store, directories, facts, gate, options);
    connection::accept(listener, Arc::new(server)).await
}

/// Pods whose link went while no agent ran, as at a reboot. They stay until the runtime deletes them.
async fn report_orphans(store: &Store, rtnl: &Rtnl) {
    for attachment in store.all() {
        if let Ok(None) = rtnl.link(&attachment.host_link).await {
            warn!(
                "pod {}: its link {} is gone; it has no network until the runtime makes it anew",
                attachment.label, attachment.host_link
            );
        }
    }
}
