//! Packet formats of the dataplane: header views, the parser, checksums, address translation, ICMP errors,
//! fragments and VXLAN, for IPv4 over Ethernet.
//!
//! Everything here is a pure function over byte slices: no I/O, no allocation, no clock, no state, no `unsafe`.
//! The pipeline calls it for every packet; the test suites call it to build and to check packets.
//!
//! What always holds: bytes from the network never make these functions panic, loop or read out of bounds;
//! a header is read only after its length was checked against the bytes at hand.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod flow_hash;
pub mod fragment;
mod header;
pub mod icmp4;
pub mod ipv4;
pub mod nat;
pub mod parse;
pub mod partial;
pub mod sctp;
pub mod tcp;
#[cfg(test)]
mod testing;
pub mod udp;
pub mod vxlan;

pub use header::{Header, NoRoom};
pub use zerocopy::network_endian::{U16, U32};
