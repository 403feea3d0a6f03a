//! The contract between the dataplane and its controller.
//!
//! `proto/dataplane.proto` is the contract itself, `proto/observe.proto` what can be asked about connections and packets.
//! [`proto`] is the code generated from them: anything may stand in its messages. [`state`] holds the checked resources made from them at the edge, which cannot hold an illegal state; behind
//! the edge nobody checks again. [`client`] and the generated server live on either end of the Unix socket.

pub mod check;
pub mod client;
pub mod filter;
pub mod log;
pub mod state;

/// Code generated from `proto/*.proto`; the comments there are its documentation.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("headrace.v1");
}

/// Version of the contract. It changes when an older end would misread a newer one; the dataplane refuses another one.
pub const API_VERSION: u32 = 2;
