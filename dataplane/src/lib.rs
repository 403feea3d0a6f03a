//! The dataplane: moves packets between pods, the node and other nodes, and knows nothing of Kubernetes.
//!
//! Reading order: [`worker`] is the loop, [`pipeline`] the stages in order, [`pipeline::connect`] one stage. What a packet
//! is on the way is in [`burst`]; the memory it lies in, in [`frames`]; what was decided for its connection, in [`flows`];
//! what the decisions are made from, in [`tables`]; what can be seen of it all, in [`observe`]. [`control`] feeds all that from the contract and from the kernel.

pub mod burst;
pub mod config;
pub mod control;
pub mod drop_reason;
pub mod flows;
pub mod frames;
pub mod observe;
pub mod pipeline;
pub mod port;
pub mod random;
pub mod stats;
pub mod superframe;
pub mod tables;
pub mod worker;
