//! Opens veths, by the driver that was chosen for them: packet sockets, or AF_XDP.
//!
//! Whichever it is, a program on the device keeps frames from the node's own stack from before the first socket is open
//! until the device is gone: a pod never reaches the node past the dataplane. When the driver changes over a restart, the
//! new program is there before the old one goes.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use headrace_xsk::packet::{PacketError, PacketSocket};
use headrace_xsk::program::{Attached, GuardProgram, LanesProgram, PodProgram, ProgramError};
use headrace_xsk::{AreaHandle, Granted, Mode, SocketConfig};

use super::kernel::{Link, View};
use super::queues::{Queues, QueuesError};
use super::shortcut::Shortcut;
use super::workers::{Half, Workers};
use crate::config::PodDriver;
use crate::frames::{AreaId, HEADROOM};
use crate::port::PortIndex;
use crate::port::packet::PacketPort;
use crate::stats::PortCounters;

/// Most receive queues of a port: devices may have been made for more workers than there are now, and this number stays
/// the same over restarts, so that what the XDP program knows of its ports stays good.
const QUEUES: u32 = 32;

/// Why `auto` takes packet sockets.
const FASTEST: &str = "auto: the fastest measured on veths";

/// How frames get in and out of a device.
#[derive(Clone, Debug)]
pub enum Driver {
    /// AF_XDP sockets.
    AfXdp {
        /// How the XDP program is attached.
        attached: Attached,
        /// What the sockets got.
        granted: Granted,
        /// Why it is this driver.
        why: String,
    },
    /// Packet sockets with virtio-net headers.
    Packet {
        /// Why it is this driver.
        why: String,
    },
}

/// An open device.
pub struct Opened {
    /// Its driver.
    pub driver: Driver,
    /// How many sockets there are.
    pub queues: u32,
    /// Whether frames of up to 64 KiB pass.
    pub superframes: bool,
    /// Counters of each worker's half.
    pub counters: Vec<Arc<PortCounters>>,
    /// Counters of what passes the workers by; only where something may.
    pub elsewhere: Option<Arc<PortCounters>>,
    /// What is wrong with it all the same, with the remedy.
    pub problem: Option<String>,
}

/// A device could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum VethError {
    /// A BPF program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// An AF_XDP socket.
    #[error(transparent)]
    Queues(#[from] QueuesError),
    /// A packet socket.
    #[error(transparent)]
    Packet(#[from] PacketError),
}

/// The programs of all veths.
pub struct Veths {
    choice: PodDriver,
    xdp: PodProgram,
    guard: GuardProgram,
    lanes: LanesProgram,
    shortcut: Option<Arc<Shortcut>>,
}

impl Veths {
    /// Loads the programs, or takes over those of an earlier process with the devices they are attached to. With a shortcut
    /// its program is the guard.
    ///
    /// # Errors
    /// [`ProgramError`] when one cannot be loaded or pinned.
    pub fn new(
        pins: &Path,
        workers: u32,
        choice: PodDriver,
        shortcut: Option<(Arc<Shortcut>, OwnedFd)>,
    ) -> Result<Self, ProgramError> {
        let xdp = PodProgram::load_or_take_over(pins, workers.max(QUEUES))?;
        let (guard, shortcut) = match shortcut {
            Some((shortcut, program)) => (GuardProgram::with(program, Some(pins))?, Some(shortcut)),
            None => (GuardProgram::load_or_take_over(pins)?, None),
        };
        let lanes = LanesProgram::load()?;
        Ok(Self { choice, xdp, guard, lanes, shortcut })
    }

    /// Opens a device for all workers.
    ///
    /// # Errors
    /// [`VethError`]; no socket stays open then, and the device stays guarded.
    pub fn open(
        &mut self,
        index: PortIndex,
        link: &Link,
        superframes: bool,
        workers: &Workers,
    ) -> Result<Opened, VethError> {
        match self.choice {
            PodDriver::AfXdp => self.over_xdp(index, link, superframes, workers, String::new()),
            PodDriver::AfPacket => self.over_packets(index, link, superframes, workers, String::new()),
            PodDriver::Auto => {
                let packets = self.over_packets(index, link, superframes, workers, FASTEST.into());
                packets.or_else(|error| {
                    self.over_xdp(index, link, superframes, workers, format!("auto: {error}"))
                })
            }
        }
    }

    /// Takes what the programs know of devices that are gone out of their maps.
    pub fn forget_gone(&mut self, view: &View) {
        let gone = |ifindex: &u32| view.link_by_index(*ifindex).is_none();
        let xdp: Vec<u32> = self.xdp.devices().filter(gone).collect();
        xdp.into_iter().for_each(|ifindex| self.xdp.detach(ifindex));
        let guarded: Vec<u32> = self.guard.devices().filter(gone).collect();
        guarded.into_iter().for_each(|ifindex| self.guard.detach(ifindex));
    }

    fn over_packets(
        &mut self,
        index: PortIndex,
        link: &Link,
        superframes: bool,
        workers: &Workers,
        why: String,
    ) -> Result<Opened, VethError> {
        self.guard.attach(link.index)?;
        // It sees frames before packet sockets do.
        self.xdp.detach(link.index);
        let areas: Vec<&AreaHandle> = workers.areas(AreaId::Pods).collect();
        let filter = self.shortcut.as_ref().map(|shortcut| shortcut.filter());
        let pieces = PacketPort::chunks(superframes);
        let sockets = PacketSocket::open_lanes(&areas, link.index, pieces, HEADROOM, &self.lanes, filter)?;
        let queues = sockets.len() as u32;
        let half = |lanes| Half::of(PacketPort::new(index, lanes, superframes));
        let counters = workers.attach(index, sockets.into_iter().map(half));
        let elsewhere = self.shortcut.as_ref().map(|_| Arc::default());
        let driver = Driver::Packet { why };
        Ok(Opened { driver, queues, superframes, counters, elsewhere, problem: None })
    }

    fn over_xdp(
        &mut self,
        index: PortIndex,
        link: &Link,
        superframes: bool,
        workers: &Workers,
        why: String,
    ) -> Result<Opened, VethError> {
        let attached = self.xdp.attach(link.index)?;
        self.guard.detach(link.index);
        let config =
            SocketConfig { mode: Mode::Copy, multi_buffer: attached.frags, ..SocketConfig::default() };
        let program = &mut self.xdp;
        let wanted = link.rx_queues.clamp(1, workers.count().max(QUEUES));
        let queues = Queues::open(workers, AreaId::Pods, link.index, wanted, &config, |queue, socket| {
            program.set_socket(link.index, queue, socket)
        })?;
        let problem = (!queues.serve_everybody()).then(|| {
            let (name, count, workers) = (&link.name, queues.count, workers.count());
            format!(
                "device {name} has {count} queues for {workers} workers, some of which cannot send to it; make the pod \
                 anew, or run {count} workers"
            )
        });
        let superframes = superframes && attached.frags && queues.granted.multi_buffer;
        let (granted, count) = (queues.granted.clone(), queues.count);
        let half = |sockets| Half::of_sockets(index, AreaId::Pods, sockets, superframes);
        let counters = workers.attach(index, queues.sockets.into_iter().map(half));
        let driver = Driver::AfXdp { attached, granted, why };
        Ok(Opened { driver, queues: count, superframes, counters, elsewhere: None, problem })
    }
}
