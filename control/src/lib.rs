//! The node's controller: it turns Kubernetes objects and attached pods into the dataplane's desired state.
//!
//! ```text
//! source (manifests) --Objects--+
//! cni (attached pods) --Ports---+--> desired (pure) --> push --> dataplane.sock
//! identity (VTEP MAC) ----------+
//! ```
//!
//! [`agent`] joins the parts; [`seam`] is what [`cni`] and [`node`] share with the rest. Nothing here touches a packet:
//! when the agent is away, the dataplane goes on with the last state it was given.

pub mod agent;
pub mod cni;
pub mod config;
pub mod ctl;
pub mod desired;
mod files;
pub mod health;
pub mod http;
pub mod identity;
pub mod install;
pub mod log;
pub mod metrics;
pub mod node;
pub mod objects;
pub mod observe;
pub mod preflight;
pub mod push;
pub mod report;
pub mod seam;
pub mod source;
pub mod status;
