//! The CNI plugin as a library: what the binary `headrace-cni` does, and the types it shares with the agent.
//!
//! A container runtime starts the binary once per verb with the request in `CNI_*` variables and on stdin (CNI SPEC
//! 1.1.0). It checks the request, opens the pod's network namespace, hands both to the agent over `RUN_DIR/cni.sock`
//! ([`protocol`]) and prints the answer in the words of the requested spec version. It keeps no state and changes nothing
//! itself, so there is nothing to repair when it is killed; where the configuration names an IPAM plugin, it calls that one.
//!
//! No async runtime and no Kubernetes client here: a node starts this binary for every pod, often many at once.

pub mod agent;
pub mod conf;
mod delegate;
pub mod env;
pub mod error;
pub mod options;
pub mod plugin;
pub mod protocol;
pub mod result;
pub mod version;

pub use conf::NetworkConfig;
pub use env::{Command, Environment};
pub use error::{CniError, ErrorCode};
pub use result::CniResult;
pub use version::SpecVersion;
