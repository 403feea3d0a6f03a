//! Packet sockets with virtio-net headers: frames of a veth with their checksum state and segment size.
//!
//! A socket takes copies of what comes in by a device, or two do, one of them bulk ([`Lanes`]); the kernel's own copy is stopped by
//! [`crate::program::GuardProgram`]. Messages are scattered over chunks that are lent beforehand, as to the fill ring of an
//! AF_XDP socket, so that a frame of 64 KiB needs no other memory; what is sent is gathered from chunks and copied within
//! the call, after which they are free again. One recvmmsg(2) or sendmmsg(2) moves up to [`MESSAGES`] frames.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::area::{Area, AreaHandle};
use crate::device;
use crate::messages::{Assembly, Extra, Vectors};
use crate::program::LanesProgram;
use crate::sys::{self, check, set_option};

/// Most frames of one system call. 64 instead of 8 gave 10 to 25 % on a TCP stream.
pub const MESSAGES: usize = 64;
/// Most chunks of a frame.
pub const MAX_PIECES: usize = 18;
/// Socket buffers, in bytes: some hundred superframes while the worker is away. The kernel doubles it.
const BUFFER: libc::c_int = 16 << 20;

// linux/if_packet.h
const PACKET_FANOUT_HASH: u32 = 0;
const PACKET_FANOUT_EBPF: u32 = 7;
const PACKET_FANOUT_DATA: libc::c_int = 22;
const PACKET_FANOUT_FLAG_UNIQUEID: u32 = 0x2000;
const PACKET_FANOUT_FLAG_IGNORE_OUTGOING: u32 = 0x4000;
// linux/virtio_net.h
const NEEDS_CSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const GSO_ECN: u8 = 0x80;

/// What travels beside a frame: `struct virtio_net_hdr` of linux/virtio_net.h, in the machine's byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct VnetHeader {
    flags: u8,
    gso_type: u8,
    header_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

impl VnetHeader {
    const LEN: usize = size_of::<Self>();

    /// The checksum from byte `start` on is left to the receiver; the field `offset` bytes behind holds the pseudo
    /// header's sum.
    pub fn partial(start: u16, offset: u16) -> Self {
        Self { flags: NEEDS_CSUM, csum_start: start, csum_offset: offset, ..Self::default() }
    }

    /// The frame is a TCP superframe: headers of `header_len` bytes, then segments of `size` bytes. `cwr` = its TCP header
    /// has the CWR flag.
    #[must_use]
    pub fn tcp_segments(self, header_len: u16, size: u16, cwr: bool) -> Self {
        let gso_type = GSO_TCPV4 | if cwr { GSO_ECN } else { 0 };
        Self { gso_type, header_len, gso_size: size, ..self }
    }

    /// Start and offset of a checksum that the sender left to its device.
    pub fn partial_checksum(&self) -> Option<(u16, u16)> {
        (self.flags & NEEDS_CSUM != 0).then_some((self.csum_start, self.csum_offset))
    }

    /// Payload bytes of a segment of a TCP superframe; 0 = the frame is none.
    pub fn segment(&self) -> u16 {
        if self.gso_type & !GSO_ECN == GSO_TCPV4 { self.gso_size } else { 0 }
    }
}

/// A packet socket could not be had.
#[derive(Debug, thiserror::Error)]
#[error("packet socket on {device}: {step}: {source}; run as root (CAP_NET_RAW, CAP_NET_ADMIN)")]
pub struct PacketError {
    /// Name of the device, or its index.
    pub device: String,
    /// What was being done.
    pub step: &'static str,
    /// The kernel's answer.
    pub source: io::Error,
}

/// What became of queued frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames the kernel would not take, for other reasons than room.
    pub refused: u32,
    /// Whether frames are left, for which there was no room.
    pub blocked: bool,
}

/// One worker's socket on one device.
pub struct PacketSocket {
    fd: OwnedFd,
    area: AreaHandle,
    inbox: Inbox,
    outbox: Outbox,
}

/// One worker's two sockets on one device, over which [`LanesProgram`] sorts frames.
pub struct Lanes {
    /// Takes flows that send little, in frames of one chunk.
    pub light: PacketSocket,
    /// Takes all others.
    pub bulk: PacketSocket,
}

/// Which frames sockets take.
#[derive(Clone, Copy)]
enum Frames<'a> {
    /// All of them.
    All,
    /// Those that pass a filter.
    Passing(BorrowedFd<'a>),
    /// All, or those that pass a filter, in two lanes.
    Sorted(&'a LanesProgram, Option<BorrowedFd<'a>>),
}

/// Chunks lent for messages to come: `pieces` for each of [`MESSAGES`] slots.
struct Inbox {
    room: Vectors,
    pieces: usize,
    headroom: u32,
    headers: Box<[VnetHeader; MESSAGES]>,
    /// Chunks that a slot lacks, from its first on.
    missing: [u8; MESSAGES],
    /// Slots that are kept filled.
    slots: usize,
    lent: u32,
    lengths: [u32; MESSAGES],
    assembly: Assembly,
}

struct Outbox {
    pieces: Vectors,
    headers: Vec<VnetHeader>,
    /// Where each message's pieces end.
    ends: Vec<usize>,
    /// Messages from the front that are done with.
    done: usize,
    assembly: Assembly,
}

impl PacketSocket {
    /// Opens a socket for each area on device `ifindex`. Several share the device's frames by flow (PACKET_FANOUT). A
    /// message is scattered over `pieces` chunks, behind `headroom` bytes of each. Only frames are taken that pass `filter`, a
    /// BPF program; without one all are, and frames that are sent go past the queueing discipline.
    ///
    /// # Errors
    /// [`PacketError`] names device and step; no socket stays open then.
    pub fn open(
        areas: &[&AreaHandle],
        ifindex: u32,
        pieces: usize,
        headroom: u32,
        filter: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<Self>, PacketError> {
        let places: Vec<_> = areas.iter().map(|area| (*area, pieces)).collect();
        Self::open_together(&places, ifindex, headroom, filter.map_or(Frames::All, Frames::Passing))
    }

    /// Opens two sockets for each area on device `ifindex`, over which `program` sorts all frames, or those that pass `filter`;
    /// frames that are sent go past the queueing discipline. A bulk message is scattered over `pieces` chunks, another one has one.
    ///
    /// # Errors
    /// As for [`PacketSocket::open`].
    pub fn open_lanes(
        areas: &[&AreaHandle],
        ifindex: u32,
        pieces: usize,
        headroom: u32,
        program: &LanesProgram,
        filter: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<Lanes>, PacketError> {
        let places: Vec<_> = areas.iter().flat_map(|area| [(*area, 1), (*area, pieces)]).collect();
        let sockets = Self::open_together(&places, ifindex, headroom, Frames::Sorted(program, filter))?;
        let mut sockets = sockets.into_iter();
        let pair = || Some(Lanes { light: sockets.next()?, bulk: sockets.next()? });
        Ok(std::iter::from_fn(pair).collect())
    }

    fn open_together(
        places: &[(&AreaHandle, usize)],
        ifindex: u32,
        headroom: u32,
        frames: Frames<'_>,
    ) -> Result<Vec<Self>, PacketError> {
        let failed = |(step, source): (&'static str, io::Error)| {
            let device = device::name(ifindex).unwrap_or_else(|_| format!("device {ifindex}"));
            PacketError { device, step, source }
        };
        let mut sockets = Vec::new();
        for (area, pieces) in places {
            let fd = open_one(ifindex, !matches!(frames, Frames::Passing(_))).map_err(failed)?;
            sockets.push(Self::new(fd, area, (*pieces).clamp(1, MAX_PIECES), headroom));
        }
        let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        share(&fds, frames).map_err(failed)?;
        for fd in fds {
            // Nothing was taken until here, so that nothing came twice.
            let set = match frames {
                Frames::Passing(filter) | Frames::Sorted(_, Some(filter)) => {
                    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &filter.as_raw_fd())
                }
                Frames::All | Frames::Sorted(_, None) => {
                    set_option(fd, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0)
                }
            };
            set.map_err(|e| failed(("filter", e)))?;
        }
        Ok(sockets)
    }

    fn new(fd: OwnedFd, area: &AreaHandle, pieces: usize, headroom: u32) -> Self {
        let slots = pieces * MESSAGES;
        let inbox = Inbox {
            room: Vectors::empty(area, slots),
            pieces,
            headroom,
            headers: Box::new([VnetHeader::default(); MESSAGES]),
            missing: [pieces as u8; MESSAGES],
            slots: 0,
            lent: 0,
            lengths: [0; MESSAGES],
            assembly: Assembly::new(MESSAGES, slots),
        };
        let outbox = Outbox {
            pieces: Vectors::with_capacity(area, MESSAGES * MAX_PIECES),
            headers: Vec::with_capacity(MESSAGES),
            ends: Vec::with_capacity(MESSAGES),
            done: 0,
            assembly: Assembly::new(MESSAGES, MESSAGES * MAX_PIECES),
        };
        Self { fd, area: area.clone(), inbox, outbox }
    }

    /// Chunks that are lent.
    pub fn lent(&self) -> u32 {
        self.inbox.lent
    }

    /// Whether [`PacketSocket::fill`] for `slots` messages would do nothing.
    pub fn is_filled(&self, slots: usize) -> bool {
        self.inbox.slots == slots && self.inbox.missing[..slots.min(MESSAGES)].iter().all(|m| *m == 0)
    }

    /// Keeps chunks for `slots` messages lent: takes what is missing from `chunks`, which gives their addresses, and hands
    /// what is too much to `back`. Where chunks are short, the first slots come first.
    pub fn fill(&mut self, slots: usize, chunks: &mut impl Iterator<Item = u64>, back: &mut impl FnMut(u64)) {
        let inbox = &mut self.inbox;
        let capacity = self.area.config().chunk_size - inbox.headroom;
        for slot in slots.min(MESSAGES)..inbox.slots.max(slots) {
            inbox.empty(slot, back);
        }
        inbox.slots = slots.min(MESSAGES);
        for slot in 0..inbox.slots {
            while inbox.missing[slot] > 0 {
                let Some(addr) = chunks.next().or_else(|| inbox.borrow_from_behind(slot)) else { return };
                let at = slot * inbox.pieces + usize::from(inbox.missing[slot]) - 1;
                if !inbox.room.set(at, addr + u64::from(inbox.headroom), capacity) {
                    back(addr);
                    return;
                }
                inbox.missing[slot] -= 1;
                inbox.lent += 1;
            }
        }
    }

    /// Receives up to `most` frames into lent chunks; what came is had by [`PacketSocket::take`]. Never waits. Returns how
    /// many came.
    pub fn receive(&mut self, area: &mut Area, most: usize) -> usize {
        let inbox = &mut self.inbox;
        let full = inbox.missing[..inbox.slots].iter().position(|m| *m > 0).unwrap_or(inbox.slots);
        let headers = inbox.headers.as_mut_ptr();
        let pieces = inbox.pieces;
        let extras = (0..full.min(most)).map(|slot| Extra {
            prefix: (headers.wrapping_add(slot).cast(), VnetHeader::LEN),
            ..Extra::pieces(slot * pieces, pieces)
        });
        let lengths = &mut inbox.lengths;
        let mut came =
            |slot: usize, len: usize, flags, _| lengths[slot] = if is_whole(flags) { len as u32 } else { 0 };
        // SAFETY: `headers` has MESSAGES elements, and slots are fewer; nobody else refers to them during the call.
        unsafe { inbox.assembly.receive(self.fd.as_fd(), &inbox.room, area, extras, &mut came) }
    }

    /// The frame in slot `slot` of those that came last: its pieces (address, bytes) go to `piece`, and are not lent any
    /// more. `None` for one that was cut off: its chunks stay lent.
    pub fn take(&mut self, slot: usize, piece: &mut impl FnMut(u64, u32)) -> Option<VnetHeader> {
        let inbox = &mut self.inbox;
        let mut rest = (inbox.lengths.get(slot).copied()? as usize).checked_sub(VnetHeader::LEN)?;
        let mut at = slot * inbox.pieces;
        while rest > 0 && inbox.missing[slot] < inbox.pieces as u8 {
            let len = rest.min(inbox.room.bytes_of(at));
            let addr = inbox.room.take(at)?;
            piece(addr, len as u32);
            rest -= len;
            at += 1;
            inbox.missing[slot] += 1;
            inbox.lent -= 1;
        }
        Some(inbox.headers[slot])
    }

    /// Queues a frame. False, with nothing changed, when there is no room, or a piece lies outside the area.
    #[must_use]
    pub fn queue(&mut self, header: VnetHeader, pieces: impl Iterator<Item = (u64, u32)>) -> bool {
        let outbox = &mut self.outbox;
        if outbox.headers.len() == MESSAGES || !outbox.pieces.has_room(MAX_PIECES) {
            return false;
        }
        let before = outbox.pieces.len();
        for (addr, len) in pieces {
            if outbox.pieces.len() - before == MAX_PIECES || !outbox.pieces.push(addr, len) {
                outbox.pieces.truncate(before);
                return false;
            }
        }
        outbox.headers.push(header);
        outbox.ends.push(outbox.pieces.len());
        true
    }

    /// Frames that wait for [`PacketSocket::send`].
    pub fn queued(&self) -> usize {
        self.outbox.headers.len()
    }

    /// Sends what is queued. Its chunks are had by [`PacketSocket::reap`].
    pub fn send(&mut self, area: &Area) -> Sent {
        let mut outcome = Sent::default();
        let outbox = &mut self.outbox;
        while outbox.done < outbox.headers.len() {
            match outbox.send(self.fd.as_fd(), area) {
                Ok(sent) => outbox.done += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    outcome.blocked = true;
                    break;
                }
                // The first of them cannot go: the device is down or gone, its queue is full, or the frame is too large.
                Err(_) => {
                    outcome.refused += 1;
                    outbox.done += 1;
                }
            }
        }
        outcome
    }

    /// Hands the addresses of the pieces that were sent, or refused, to `done`.
    pub fn reap(&mut self, done: &mut impl FnMut(u64)) {
        let outbox = &mut self.outbox;
        let Some(last) = outbox.done.checked_sub(1) else { return };
        let end = outbox.ends[last];
        (0..end).filter_map(|at| outbox.pieces.addr(at)).for_each(done);
        outbox.pieces.drain_front(end);
        outbox.headers.drain(..outbox.done);
        outbox.ends.drain(..outbox.done);
        outbox.ends.iter_mut().for_each(|e| *e -= end);
        outbox.done = 0;
    }

    /// Frames lost since the last call because the socket's buffer was full.
    pub fn lost(&self) -> u64 {
        // SAFETY: tpacket_stats is two integers.
        let stats: io::Result<libc::tpacket_stats> =
            unsafe { sys::get_option(self.fd.as_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS) };
        stats.map_or(0, |s| s.tp_drops.into())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Inbox {
    /// Gives back what a slot has.
    fn empty(&mut self, slot: usize, back: &mut impl FnMut(u64)) {
        if slot >= MESSAGES {
            return;
        }
        for at in slot * self.pieces..(slot + 1) * self.pieces {
            if let Some(addr) = self.room.take(at) {
                back(addr);
                self.lent -= 1;
            }
        }
        self.missing[slot] = self.pieces as u8;
    }

    /// A chunk of the last slot that has one, for an earlier one.
    fn borrow_from_behind(&mut self, slot: usize) -> Option<u64> {
        let donor = (slot + 1..self.slots).rev().find(|s| usize::from(self.missing[*s]) < self.pieces)?;
        let at = donor * self.pieces + usize::from(self.missing[donor]);
        let addr = self.room.take(at)? - u64::from(self.headroom);
        self.missing[donor] += 1;
        self.lent -= 1;
        Some(addr)
    }
}

impl Outbox {
    fn send(&mut self, fd: BorrowedFd<'_>, area: &Area) -> io::Result<usize> {
        let (headers, ends) = (self.headers.as_mut_ptr(), &self.ends);
        let extras = (self.done..ends.len()).map(|n| {
            let first = n.checked_sub(1).map_or(0, |before| ends[before]);
            Extra {
                prefix: (headers.wrapping_add(n).cast(), VnetHeader::LEN),
                ..Extra::pieces(first, ends[n] - first)
            }
        });
        // SAFETY: `headers` has as many elements as `ends`, valid for VnetHeader::LEN bytes each.
        unsafe { self.assembly.send(fd, &self.pieces, area, extras) }
    }
}

fn is_whole(flags: libc::c_int) -> bool {
    flags & libc::MSG_TRUNC == 0
}

type Step = (&'static str, io::Error);

fn at(step: &'static str) -> impl Fn(io::Error) -> Step {
    move |error| (step, error)
}

/// A socket that is bound and takes nothing yet.
fn open_one(ifindex: u32, bypass: bool) -> Result<OwnedFd, Step> {
    let fd = sys::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, 0).map_err(at("socket"))?;
    sys::refuse_all(fd.as_fd()).map_err(at("filter"))?;
    let packet = |option, name| set_option(fd.as_fd(), libc::SOL_PACKET, option, &1i32).map_err(at(name));
    packet(libc::PACKET_VNET_HDR, "virtio-net headers")?;
    packet(libc::PACKET_IGNORE_OUTGOING, "incoming frames only")?;
    // Superframes that the device would have to cut are dropped by it; a veth never has to.
    if bypass {
        packet(libc::PACKET_QDISC_BYPASS, "past the queueing discipline")?;
    }
    let socket = |option, name| set_option(fd.as_fd(), libc::SOL_SOCKET, option, &BUFFER).map_err(at(name));
    socket(libc::SO_RCVBUFFORCE, "receive buffer")?;
    socket(libc::SO_SNDBUFFORCE, "send buffer")?;
    // SAFETY: all-zero is a valid sockaddr_ll, a struct of integers.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = ifindex as i32;
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: a whole sockaddr_ll and its size.
    check(unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&address).cast(), len) })
        .map_err(at("bind"))?;
    Ok(fd)
}

/// Lets several sockets share a device's frames: all of a flow go to the same worker.
fn share(sockets: &[BorrowedFd<'_>], frames: Frames<'_>) -> Result<(), Step> {
    let [first, rest @ ..] = sockets else { return Ok(()) };
    if rest.is_empty() {
        return Ok(());
    }
    let kind = if matches!(frames, Frames::Sorted(..)) { PACKET_FANOUT_EBPF } else { PACKET_FANOUT_HASH };
    let mode = kind | PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
    let join = |fd: BorrowedFd<'_>, id: u32, flags: u32| {
        set_option(fd, libc::SOL_PACKET, libc::PACKET_FANOUT, &(id | (mode | flags) << 16))
            .map_err(at("fanout"))
    };
    join(*first, 0, PACKET_FANOUT_FLAG_UNIQUEID)?;
    // SAFETY: an integer.
    let group: u32 =
        unsafe { sys::get_option(*first, libc::SOL_PACKET, libc::PACKET_FANOUT) }.map_err(at("fanout"))?;
    rest.iter().try_for_each(|fd| join(*fd, group & 0xffff, 0))?;
    let Frames::Sorted(program, _) = frames else { return Ok(()) };
    let program = program.as_fd().as_raw_fd();
    set_option(*first, libc::SOL_PACKET, PACKET_FANOUT_DATA, &program)
        .map_err(at("sort frames (PACKET_FANOUT_DATA)"))
}
