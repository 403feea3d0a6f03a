//! The XDP programs (C in bpf/, compiled by build.rs) and their lives on devices.
//!
//! [`PodProgram`] serves all pod ports and the host link, [`UplinkProgram`] the node's NIC, at XDP or at tc ingress,
//! [`GuardProgram`] at tc ingress the ports that have packet sockets, over which [`LanesProgram`] sorts frames and past which
//! [`ShortcutProgram`] carries some. Links and
//! maps may be pinned in a directory of a bpffs: then they stay when the process ends, and the next process takes
//! them over without ever detaching. A foreign program on a device is never replaced.

mod attach;
mod guard;
mod lanes;
mod links;
mod load;
mod pod;
mod query;
mod shortcut;
mod tcx;
mod uplink;

use std::io;

pub use attach::{Attached, XdpMode};
pub use guard::GuardProgram;
pub use lanes::LanesProgram;
pub use pod::PodProgram;
pub use query::{OnDevice, program_on};
pub use shortcut::{MAX_WAYS, Passed, RecordIndex, ShortcutControl, ShortcutProgram, Way, WayKey, Ways};
pub use uplink::{Frontend, Place, Preference, Prefix, Snat, UplinkConfig, UplinkCounters, UplinkProgram};

/// What can go wrong with an XDP program.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The kernel refused the program or its maps.
    #[error("cannot load the {program} BPF program: {reason}; run as root on Linux 5.18 or later")]
    Load {
        /// Which program.
        program: &'static str,
        /// The loader's words.
        reason: String,
    },
    /// The directory for pins is of no use.
    #[error("cannot keep pins in {path}: {source}; it must be inside a BPF file system (mount -t bpf)")]
    Pin {
        /// Directory or pin.
        path: std::path::PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another program is on the device.
    #[error(
        "{device} has a foreign XDP program: {name} (id {id}); remove it (ip link set dev {device} xdp off, \
         or whoever installed it; see bpftool net) or take another device"
    )]
    Foreign {
        /// The device.
        device: String,
        /// Id of its program.
        id: u32,
        /// Name of its program.
        name: String,
    },
    /// No mode worked.
    #[error("cannot attach a BPF program to {device}: {reason}")]
    Attach {
        /// The device.
        device: String,
        /// Every mode tried, and the kernel's answer to it.
        reason: String,
    },
    /// A map did not take an entry.
    #[error("cannot change the {map} map of the {program} XDP program: {reason}")]
    Map {
        /// Which program.
        program: &'static str,
        /// Which map.
        map: &'static str,
        /// The kernel's answer, or what is full.
        reason: String,
    },
    /// The device is not attached.
    #[error("device {0} is not attached to this program; attach it first")]
    NotAttached(u32),
    /// The kernel does not tell what is on a device.
    #[error("cannot ask for the XDP program of device {ifindex}: {source}")]
    Query {
        /// Index of the device.
        ifindex: u32,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The object of bpf/pass.bpf.c, whose program `pass` passes every packet: for the far end of a veth in tests.
pub fn pass_object() -> &'static [u8] {
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pass.o"))
}
