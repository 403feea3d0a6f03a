//! The shortcut's programs (bpf/shortcut.bpf.c): packets of chosen flows go from one pod's device to the other's within the
//! kernel, past the packet sockets that serve both.
//!
//! Nothing of it is pinned but the tc program's links, which [`super::GuardProgram`] has: when the process ends, its sockets
//! go, and with them the filters without which the tc program lets nothing pass. A way counts in the generations alone for
//! which it was made, so that one store takes all of them back.

mod words;

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::{HashMap, Map, MapData, XskMap};
use aya::{Ebpf, EbpfLoader};

use super::ProgramError;
use super::load::{chain, classifier, map_fd, socket_filter};
use crate::sys;
use words::Words;

const NAME: &str = "shortcut";

/// Most directions of flows that can be in it; MAX_WAYS of bpf/shortcut.bpf.c.
pub const MAX_WAYS: u32 = 4096;

/// Packets of one direction of a flow, as a pod sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WayKey {
    /// The device by which they come in: nobody else's packets are taken for them.
    pub ifindex: u32,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// TCP or UDP, as in an IP header.
    pub protocol: u8,
}

/// Where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The device whose other end gets them.
    pub device: u32,
    /// Generation of routes in which that is right.
    pub routes: u32,
    /// Generation of Services; counts for UDP alone.
    pub services: u32,
    /// MAC address that they are sent to.
    pub destination_mac: [u8; 6],
    /// MAC address that they are sent from.
    pub source_mac: [u8; 6],
}

/// Where a direction is counted: below [`MAX_WAYS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordIndex(pub u32);

/// What went by one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Frames.
    pub frames: u64,
    /// Bytes of IP packets.
    pub bytes: u64,
    /// Frames that were longer than [`ShortcutProgram::load`] was told.
    pub superframes: u64,
    /// Whether a packet has come that ends the connection, or begins another one.
    pub ended: bool,
}

/// Both programs, for the sockets and devices of pods, and what they go by.
pub struct ShortcutProgram {
    /// For [`super::GuardProgram::with`].
    pub guard: OwnedFd,
    /// For packet sockets.
    pub filter: OwnedFd,
    /// Which flows.
    pub ways: Ways,
    /// What holds for all of them.
    pub control: Arc<ShortcutControl>,
}

/// Which flows take the shortcut. It ends for all when this is dropped.
pub struct Ways {
    map: HashMap<MapData, [u8; 20], [u8; 28]>,
    records: Words,
    _lease: OwnedFd,
}

/// What holds for all flows; any thread may change it.
pub struct ShortcutControl {
    words: Words,
    pauses: Mutex<u32>,
}

// Words of `struct control` in bpf/shortcut.bpf.c.
const GENERATIONS: usize = 0;
const PAUSED_AND_LONG: usize = 1;
const LOST: usize = 2;
/// Words of `struct record`.
const RECORD: usize = 4;

impl ShortcutProgram {
    /// Loads both programs. A frame longer than `long` bytes is a superframe.
    ///
    /// # Errors
    /// [`ProgramError::Load`], [`ProgramError::Map`].
    pub fn load(long: u32) -> Result<Self, ProgramError> {
        let object = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/shortcut.o"));
        let mut ebpf = EbpfLoader::new().btf(None).load(object).map_err(|e| refused(&e))?;
        let guard = classifier(&mut ebpf, NAME, NAME)?;
        let filter = socket_filter(&mut ebpf, NAME, "shortcut_filter")?;
        let records = Words::map(map_fd(&take(&mut ebpf, "records")?), MAX_WAYS as usize * RECORD);
        let control = Words::map(map_fd(&take(&mut ebpf, "control")?), LOST + 1);
        let mapped = |map| move |e: std::io::Error| map_error(map, e.to_string());
        let control = ShortcutControl { words: control.map_err(mapped("control"))?, pauses: Mutex::new(0) };
        control.words.set(PAUSED_AND_LONG, pair(0, long));
        let lease = lease(&mut ebpf)?;
        let map = HashMap::try_from(take(&mut ebpf, "ways")?).map_err(|e| refused(&e))?;
        let ways = Ways { map, records: records.map_err(mapped("records"))?, _lease: lease };
        Ok(Self { guard, filter, ways, control: Arc::new(control) })
    }
}

impl Ways {
    /// Lets a direction of a flow take the shortcut, or another way than before; it is counted in `record`.
    ///
    /// # Errors
    /// [`ProgramError::Map`], when there are [`MAX_WAYS`].
    pub fn set(&mut self, key: &WayKey, way: &Way, record: RecordIndex) -> Result<(), ProgramError> {
        self.map.insert(key.bytes(), way.bytes(record), 0).map_err(|e| map_error("ways", chain(&e)))
    }

    /// Takes a direction of a flow back. A packet that is on its way may still be counted for a moment.
    pub fn remove(&mut self, key: &WayKey) {
        // What is not there needs no removing.
        let _ = self.map.remove(&key.bytes());
    }

    /// What was counted in a record.
    pub fn passed(&self, record: RecordIndex) -> Passed {
        let word = |n| self.records.get(record.0 as usize * RECORD + n);
        Passed { frames: word(0), bytes: word(1), superframes: word(2), ended: word(3) != 0 }
    }

    /// Begins to count anew in a record that no way has.
    pub fn clear(&mut self, record: RecordIndex) {
        (0..RECORD).for_each(|n| self.records.set(record.0 as usize * RECORD + n, 0));
    }
}

impl ShortcutControl {
    /// The generations in force: ways made for others are none, from this moment on.
    pub fn set_generations(&self, routes: u32, services: u32) {
        self.words.set(GENERATIONS, pair(routes, services));
    }

    /// Every packet goes to the sockets until [`ShortcutControl::resume`] is called as often.
    pub fn pause(&self) {
        self.change_pauses(|n| n.saturating_add(1));
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.change_pauses(|n| n.saturating_sub(1));
    }

    /// Whether there is a pause.
    pub fn is_paused(&self) -> bool {
        *self.pauses.lock().unwrap_or_else(PoisonError::into_inner) > 0
    }

    /// Packets that were lost because their way ended while they were between the two programs.
    pub fn lost(&self) -> u64 {
        self.words.get(LOST)
    }

    fn change_pauses(&self, change: impl FnOnce(u32) -> u32) {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        *pauses = change(*pauses);
        let [_, long] = halves(self.words.get(PAUSED_AND_LONG));
        self.words.set(PAUSED_AND_LONG, pair(*pauses, long));
    }
}

impl WayKey {
    /// `struct key` of bpf/shortcut.bpf.c.
    fn bytes(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[0..4].copy_from_slice(&self.ifindex.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.source.octets());
        bytes[8..12].copy_from_slice(&self.destination.octets());
        bytes[12..14].copy_from_slice(&self.source_port.to_be_bytes());
        bytes[14..16].copy_from_slice(&self.destination_port.to_be_bytes());
        bytes[16..20].copy_from_slice(&u32::from(self.protocol).to_ne_bytes());
        bytes
    }
}

impl Way {
    /// `struct way` of bpf/shortcut.bpf.c.
    fn bytes(&self, record: RecordIndex) -> [u8; 28] {
        let mut bytes = [0; 28];
        let numbers = [self.device, record.0, self.routes, self.services];
        for (to, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            to.copy_from_slice(&number.to_ne_bytes());
        }
        bytes[16..22].copy_from_slice(&self.destination_mac);
        bytes[22..28].copy_from_slice(&self.source_mac);
        bytes
    }
}

/// Two neighbouring integers, written together.
fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn halves(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

fn take(ebpf: &mut Ebpf, map: &'static str) -> Result<Map, ProgramError> {
    ebpf.take_map(map).ok_or_else(|| map_error(map, "it is not in the program".into()))
}

/// Stands in a map for as long as the process lives.
fn lease(ebpf: &mut Ebpf) -> Result<OwnedFd, ProgramError> {
    let failed = |reason| map_error("lease", reason);
    let mut map = XskMap::try_from(take(ebpf, "lease")?).map_err(|e| failed(chain(&e)))?;
    let socket = sys::socket(libc::AF_XDP, libc::SOCK_RAW, 0).map_err(|e| failed(e.to_string()))?;
    map.set(0, socket.as_raw_fd(), 0).map_err(|e| failed(chain(&e)))?;
    Ok(socket)
}

fn refused(error: &dyn std::error::Error) -> ProgramError {
    ProgramError::Load { program: NAME, reason: chain(error) }
}

fn map_error(map: &'static str, reason: String) -> ProgramError {
    ProgramError::Map { program: NAME, map, reason }
}
