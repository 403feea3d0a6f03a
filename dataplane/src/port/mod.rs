//! Ports: where frames come from and go to.
//!
//! A worker owns its half of every port (its own queues); nothing here is shared between workers. The seam is [`Port`]:
//! a driver moves frames between its rings and the worker's pools and does with a frame's checksum state and segment size
//! what its side still needs. [`afxdp`] is the driver for NICs and veths, [`packet`] the
//! faster one for veths, [`tunnel`] for tunnelled packets on NICs without zero-copy, [`memory`] the one for tests and benchmarks.

pub mod afxdp;
pub mod memory;
pub mod packet;
mod set;
pub mod tunnel;
pub mod uplink;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::frames::{AreaId, Frame, Pool};
use crate::stats::PortCounters;
pub use set::PortSet;

/// Most frames a worker takes from one port at a time.
pub const BURST: usize = 64;

/// The kernel's limit on what a device is given to segment (GSO_LEGACY_MAX_SIZE); larger frames go as they are.
pub const LARGEST_GSO: usize = 65_536;

/// Frames received together.
pub type Received = ArrayVec<Frame, BURST>;

/// A port's slot in every worker; slots are reused, port ids are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortIndex(pub u16);

impl PortIndex {
    /// The host link's slot.
    pub const HOST: Self = Self(0);
    /// The uplink's slot.
    pub const UPLINK: Self = Self(1);
    /// The first slot for pods.
    pub const FIRST_POD: Self = Self(2);
}

impl fmt::Display for PortIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a port can carry out on a frame that leaves by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether frames may be up to 64 KiB.
    pub superframes: bool,
    /// Whether a partial checksum may be left to it.
    pub partial_checksums: bool,
    /// Whether it cuts TCP superframes that are in no tunnel, and completes the segments' checksums.
    pub cuts_segments: bool,
}

/// One worker's half of a port.
pub trait Port: Send {
    /// The area its frames live in.
    fn area(&self) -> AreaId;

    /// What may be left to it.
    fn capabilities(&self) -> Capabilities;

    /// Moves received frames into `received`, as many as are there and fit. Never waits. Returns how many came.
    fn receive(&mut self, pool: &mut Pool, received: &mut Received) -> usize;

    /// Gives the driver free chunks to receive into and takes back those it has sent.
    fn replenish(&mut self, pool: &mut Pool);

    /// Queues a frame for transmission.
    ///
    /// # Errors
    /// The frame comes back when there is no room for it.
    fn transmit(&mut self, pool: &mut Pool, frame: Frame) -> Result<(), Frame>;

    /// Starts transmission of what is queued. Returns whether something is still waiting.
    fn flush(&mut self, pool: &mut Pool) -> bool;

    /// Descriptors that become readable when a frame arrives; none when the driver cannot wait.
    fn readiness(&self) -> Vec<BorrowedFd<'_>>;

    /// Whether only a system call can tell if there are frames: it is asked for some when a descriptor is readable.
    fn asks_the_kernel(&self) -> bool {
        false
    }

    /// Counters that the driver keeps and readers may read at any time.
    fn counters(&self) -> &Arc<PortCounters>;

    /// Brings counters up to date that cost a system call; called about once a second.
    fn publish(&mut self) {}

    /// Whether the device may still write to chunks after the port is closed.
    fn zero_copy(&self) -> bool {
        false
    }
}
