//! The control thread: makes ports, tables and kernel settings follow what the controller wants and what the kernel does.
//!
//! [`server`] takes requests from the socket, [`desired`] checks and holds the desired state, [`kernel`] the kernel's;
//! [`reconcile`] brings the rest in line with both: [`uplink`], [`host_link`], [`node_rules`], [`ports`], and by [`publish`]
//! the tables.
//! All of it runs on one thread and may take its time; workers never wait for it.

pub mod asked;
pub mod cleanup;
pub mod desired;
pub mod frontends;
pub mod host_link;
pub mod kernel;
#[cfg(test)]
mod namespace;
pub mod node_rules;
pub mod observe;
pub mod pins;
pub mod ports;
pub mod publish;
pub mod queues;
pub mod reconcile;
pub mod retry;
pub mod saved;
pub mod server;
pub mod shortcut;
pub mod snat_ports;
pub mod socket;
pub mod start;
pub mod state_file;
pub mod status;
pub mod uplink;
mod uplink_queues;
pub mod veth;
pub mod warnings;
pub mod workers;

pub use start::{StartError, run};
