//! What benchmarks of the pipeline share: a node in memory whose ports cost next to nothing, the packets it gets, and the list
//! of cases.
//!
//! Receiving (a copy of a template, whose ports are made those of the next flow) and freeing are part of every figure; the case
//! "port alone" shows what they cost.

pub mod cases;
mod loop_port;
mod node;
pub mod packets;

use std::net::Ipv4Addr;

use headrace_dataplane::worker::Worker;
use headrace_wire::ethernet::MacAddr;

pub use loop_port::{LoopPort, Source, Vary};
pub use node::{Node, Size};
pub use packets::udp;

/// This node's address on the uplink.
pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The other node's.
pub const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// A pod of this node.
pub const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
/// Another pod of this node.
pub const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 3);
/// A pod of the other node.
pub const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 2);
/// A Service, port 80 and the [`packets::PORTS`] - 1 behind it, whose endpoints are [`REMOTE`], port 8080 and those behind it.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The MAC address of [`POD`].
pub const POD_MAC: [u8; 6] = [2, 0, 0, 0, 3, 1];
/// This node's inner MAC address.
pub const VTEP: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
/// The other node's.
pub const PEER_VTEP: MacAddr = MacAddr([2, 0, 0, 0, 2, 1]);

/// A worker of a node with two pods, a peer and a Service. `from_pod` arrive from [`POD`], `from_wire` by the uplink.
///
/// # Panics
/// When memory is short.
pub fn node(from_pod: Vec<Vec<u8>>, from_wire: Vec<Vec<u8>>) -> Worker {
    let source = |templates| Source { templates, ..Source::default() };
    Node::new(&Size::default()).worker(source(from_pod), source(from_wire)).0
}
