//! The lab: several nodes on one machine, joined by a LAN, with pods attached by the real CNI plugin.
//!
//! Every node is a network namespace and a mount namespace ([`machine`]). A Headrace node runs both daemons
//! ([`headrace_node`]); a kernel node ([`kernel_node`]) has what flannel and kube-proxy would set up and no part of
//! Headrace. The LAN ([`lan`]) is a bridge in a namespace of its own, and an outside host hangs on it.
//!
//! [`Lab`] is the fixture of the tests and the body of the `headrace-lab` command. What always holds: nothing of a lab
//! lives in the host's own network or mount namespace except one directory below [`ROOT`], and every process of a lab
//! carries its name in the environment. So ending these processes and removing this directory leaves nothing behind, also
//! when the process that made the lab is long dead.

pub mod bench;
mod cgroup;
pub mod cluster;
pub mod cni;
pub mod cni_latency;
pub mod command;
pub mod config;
pub mod control_plane;
pub mod counters;
pub mod daemon;
pub mod dataplane;
pub mod demo;
mod error;
pub mod flanneld;
pub mod forward;
pub mod headrace_node;
pub mod interrupt;
pub mod kernel_node;
mod lab;
pub mod lan;
pub mod leg;
pub mod machine;
pub mod manifests;
pub mod plan;
pub mod pod;
pub mod process;
pub mod service;
pub mod space;
pub mod standalone;
pub mod state;
pub mod statistics;
pub mod traffic;

pub use config::{Encapsulation, LabConfig, Wire};
pub use error::LabError;
pub use lab::Lab;
pub use service::{Policy, Service};
pub use space::Space;
pub use state::ROOT;
