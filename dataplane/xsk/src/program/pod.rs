//! The program of pod ports and of the host link's dataplane end (bpf/pod.bpf.c).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use aya::maps::{HashMap, MapData, MapError, XskMap};

use super::ProgramError;
use super::attach::{Attached, Attachments, Rung, XdpMode};
use super::load::Loaded;

/// Entries of the socket map, `sockets` in bpf/pod.bpf.c.
const SOCKETS: u32 = 16384;

/// Generic first: native XDP on a veth takes segmentation offload away from the pod. Without multi-buffer
/// support superframes are impossible anyway, and native is faster with plain frames.
const LADDER: [Rung; 3] = [
    Rung { mode: XdpMode::Generic, frags: true },
    Rung { mode: XdpMode::Native, frags: false },
    Rung { mode: XdpMode::Generic, frags: false },
];

/// `struct port` in bpf/pod.bpf.c.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Port {
    base: u32,
    queues: u32,
}

// SAFETY: two integers without padding.
unsafe impl aya::Pod for Port {}

/// One program for all pod ports. Every packet goes to the port's socket of its queue, or is dropped.
///
/// Unpinned, all ports are detached when this is dropped; pinned, they stay and drop every packet until the
/// next process has taken over.
pub struct PodProgram {
    attachments: Attachments,
    ports: HashMap<MapData, u32, Port>,
    sockets: XskMap<MapData>,
    queues: u32,
    /// Slot of each device; its sockets stand from `slot * queues` on.
    slots: BTreeMap<u32, u32>,
}

impl PodProgram {
    /// Loads the program for ports with up to `queues` receive queues each, without pins.
    ///
    /// # Errors
    /// [`ProgramError::Load`].
    pub fn load(queues: u32) -> Result<Self, ProgramError> {
        Self::new(None, queues)
    }

    /// Loads the program with its links and maps pinned in `dir`, inside a bpffs (see [`crate::bpffs::ensure`]),
    /// and takes over what is pinned there. Devices found attached keep running the old program, and drop
    /// their packets, until [`PodProgram::attach`] and [`PodProgram::set_socket`] renew them.
    ///
    /// # Errors
    /// [`ProgramError::Load`], [`ProgramError::Pin`].
    pub fn load_or_take_over(dir: &Path, queues: u32) -> Result<Self, ProgramError> {
        Self::new(Some(dir), queues)
    }

    fn new(dir: Option<&Path>, queues: u32) -> Result<Self, ProgramError> {
        let object = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pod.o"));
        let mut loaded = Loaded::new("pod", object, &["ports", "sockets"], dir)?;
        let ports = loaded.map("ports")?;
        let sockets = loaded.map("sockets")?;
        let attachments = Attachments::new("pod", loaded.programs, dir)?;
        let queues = queues.clamp(1, SOCKETS);
        let mut program = Self { attachments, ports, sockets, queues, slots: BTreeMap::new() };
        program.take_over_ports()?;
        Ok(program)
    }

    /// Devices that are attached, with those taken over; detach what is no port any more.
    pub fn devices(&self) -> impl Iterator<Item = u32> {
        self.attachments.devices()
    }

    /// Attaches to device `ifindex`, or renews the program there. Its packets are dropped until it has sockets.
    ///
    /// # Errors
    /// [`ProgramError::Foreign`], [`ProgramError::Attach`], [`ProgramError::Map`] when there are too many ports.
    pub fn attach(&mut self, ifindex: u32) -> Result<Attached, ProgramError> {
        let slot = match self.slots.get(&ifindex) {
            Some(slot) => *slot,
            None => self.free_slot()?,
        };
        let attached = self.attachments.attach(ifindex, &LADDER)?;
        let port = Port { base: slot * self.queues, queues: self.queues };
        self.ports.insert(ifindex, port, 0).map_err(|error| map_error("ports", &error))?;
        self.slots.insert(ifindex, slot);
        Ok(attached)
    }

    /// Detaches from device `ifindex`, at once; nothing happens when it is not attached. Also for devices that
    /// are gone.
    pub fn detach(&mut self, ifindex: u32) {
        self.attachments.detach(ifindex);
        let _ = self.ports.remove(&ifindex);
        if let Some(slot) = self.slots.remove(&ifindex) {
            for queue in 0..self.queues {
                let _ = self.sockets.unset(slot * self.queues + queue);
            }
        }
    }

    /// Sends the packets of a device's receive queue to a socket bound to that queue. The entry goes when the
    /// socket is closed.
    ///
    /// # Errors
    /// [`ProgramError::NotAttached`], [`ProgramError::Map`].
    pub fn set_socket(&mut self, ifindex: u32, queue: u32, socket: impl AsFd) -> Result<(), ProgramError> {
        let slot = *self.slots.get(&ifindex).ok_or(ProgramError::NotAttached(ifindex))?;
        if queue >= self.queues {
            let reason = format!("queue {queue} of a port with {} queues", self.queues);
            return Err(ProgramError::Map { program: "pod", map: "sockets", reason });
        }
        self.sockets
            .set(slot * self.queues + queue, socket.as_fd().as_raw_fd(), 0)
            .map_err(|error| map_error("sockets", &error))
    }

    /// Keeps the entries of devices that are still attached, if they were made for as many queues.
    fn take_over_ports(&mut self) -> Result<(), ProgramError> {
        let attached: Vec<u32> = self.devices().collect();
        let entries: Vec<(u32, Port)> = self.ports.iter().filter_map(Result::ok).collect();
        for (ifindex, port) in entries {
            let slot = port.base / self.queues;
            let fits = port == Port { base: slot * self.queues, queues: self.queues }
                && slot < self.slot_count()
                && !self.slots.values().any(|taken| *taken == slot);
            if fits && attached.contains(&ifindex) {
                self.slots.insert(ifindex, slot);
            } else {
                self.ports.remove(&ifindex).map_err(|error| map_error("ports", &error))?;
            }
        }
        Ok(())
    }

    fn slot_count(&self) -> u32 {
        SOCKETS / self.queues
    }

    fn free_slot(&self) -> Result<u32, ProgramError> {
        let taken: std::collections::BTreeSet<u32> = self.slots.values().copied().collect();
        (0..self.slot_count()).find(|slot| !taken.contains(slot)).ok_or_else(|| {
            let reason = format!("all {} ports are taken", self.slot_count());
            ProgramError::Map { program: "pod", map: "sockets", reason }
        })
    }
}

fn map_error(map: &'static str, error: &MapError) -> ProgramError {
    ProgramError::Map { program: "pod", map, reason: super::load::chain(error) }
}
