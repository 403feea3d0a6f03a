//! AF_XDP, packet and UDP sockets, their memory, and the BPF programs around them.
//!
//! This is one of the two crates with `unsafe` code; what it shows outside is safe. From the bottom up:
//! [`Area`] is the memory frames live in, [`Socket`] one (device, queue) with its four rings, [`packet`] and [`udp`]
//! the sockets for devices without zero-copy, [`program`] the BPF programs that steer packets, [`device`] and [`offloads`] the few device
//! settings that need an ioctl.
//!
//! The rings are our own rather than those of `xsk-rs`: version 0.11 of that crate can neither describe data
//! at an address of our choosing, nor carry TX metadata, nor use a memory region of ours, and it keeps a
//! handle for every socket ever opened on a region.
//!
//! What always holds: every address is checked against its area before it is used, no call panics, and
//! nothing on the packet path allocates or locks, and the kernel is entered once a burst.

#[cfg(test)]
extern crate self as headrace_xsk;

mod area;
mod bounds;
mod bpf;
pub mod bpffs;
pub mod device;
mod error;
pub mod limits;
mod mapping;
mod messages;
pub mod offloads;
mod open;
pub mod packet;
pub mod program;
mod ring;
mod socket;
pub mod spread;
mod sys;
pub mod sysctl;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod testing;
pub mod udp;

pub use area::{Area, AreaConfig, AreaError, AreaHandle, TxMetadata};
pub use error::OpenError;
pub use open::{Granted, Mode, SocketConfig};
pub use socket::{Desc, Kick, MAX_CHAIN, Refused, Socket, Statistics};
