//! UDP sockets for a tunnel: datagrams of one size in one send (UDP_SEGMENT) and one receive (UDP_GRO).
//!
//! What is sent is gathered from chunks: queued datagrams to the same place that have the same length become one message,
//! which the kernel or the device cuts again. What comes is scattered so that each datagram lands in chunks of its own,
//! by the size that messages had of late; one of another size is put in order by a copy.
//!
//! Sockets are never connected: an ICMP error would fail the next send of a connected one (ECONNREFUSED).

use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::area::{Area, AreaHandle};
use crate::messages::{Assembly, Extra, Vectors};
use crate::packet::Sent;
use crate::sys::{self, check, set_option};

/// Messages of one system call.
pub const MESSAGES: usize = 32;
/// Datagrams of one message: UDP_MAX_SEGMENTS of kernels before 6.9, and UDP_GRO_CNT_MAX.
const DATAGRAMS: usize = 64;
/// Most bytes of a message: what IPv4 and UDP headers leave of 65 535.
const LARGEST: usize = 65_507;
/// Most pieces of a message, two for each datagram.
const PIECES: usize = 2 * DATAGRAMS;
/// Messages that may be received together.
const SLOTS: usize = 8;
/// Chunks lent for each of them: one for each of the most datagrams that fit one; larger ones are fewer.
const CHUNKS: usize = DATAGRAMS;
/// Room for what does not fit into the chunks.
const OVERFLOW: usize = 1 << 16;
/// Receive buffer, in bytes; the kernel doubles it.
const RECEIVE_BUFFER: libc::c_int = 16 << 20;
/// Send buffer of each source port, in bytes, which the kernel doubles: four full messages on their way to the wire. What is
/// more than a device's ring takes is lost there without a word, so the rest waits here.
const SEND_BUFFER: libc::c_int = 128 << 10;
/// How long a send waits for the device to make room, in milliseconds.
const PATIENCE: libc::c_int = 1;

/// `sizeof(struct cmsghdr)`.
const CONTROL_HEADER: u64 = 16;

// linux/udp.h; linux/in.h
const UDP_SEGMENT: libc::c_int = 103;
const UDP_GRO: libc::c_int = 104;
const IP_PMTUDISC_OMIT: libc::c_int = 5;

/// A UDP socket could not be had.
#[derive(Debug, thiserror::Error)]
#[error("UDP socket on {address}: {step}: {source}")]
pub struct UdpError {
    /// Where it should be.
    pub address: SocketAddrV4,
    /// What was being done.
    pub step: &'static str,
    /// The kernel's answer.
    pub source: io::Error,
}

/// A datagram's other end, and its type of service byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Receiver of what is sent, sender of what came.
    pub other: SocketAddrV4,
    /// Type of service.
    pub tos: u8,
}

/// Sends datagrams from one source port.
pub struct UdpSender {
    fd: OwnedFd,
    pieces: Vectors,
    messages: Vec<Outgoing>,
    names: Vec<libc::sockaddr_in>,
    controls: Vec<Control>,
    done: usize,
    /// Whether the device has made no room for as long as it was waited for: it is not waited for again until it has.
    stuck: bool,
    assembly: Assembly,
}

#[derive(Clone, Copy)]
struct Outgoing {
    envelope: Envelope,
    first: usize,
    count: usize,
    /// Bytes of each datagram but the last.
    size: usize,
    bytes: usize,
    datagrams: usize,
    /// A shorter datagram ends a message.
    closed: bool,
}

/// Control messages of one send, as cmsg(3) lays them out: type of service, which every message has, and segment size,
/// which single datagrams do without.
#[derive(Clone, Copy, Default)]
#[repr(C, align(8))]
struct Control([[u64; 3]; 2]);

/// Receives the datagrams of one local address.
pub struct UdpReceiver {
    fd: OwnedFd,
    area: AreaHandle,
    headroom: u32,
    room: Vectors,
    /// Bytes of a datagram for which a slot's chunks were laid out.
    layouts: [u32; SLOTS],
    missing: [u8; SLOTS],
    /// Bytes of a datagram in the messages of late.
    size: u32,
    lent: u32,
    arrivals: [Arrival; SLOTS],
    names: Box<[libc::sockaddr_in; SLOTS]>,
    controls: Box<[[u64; 8]; SLOTS]>,
    overflow: Box<[[u8; OVERFLOW]; SLOTS]>,
    scratch: Vec<u8>,
    assembly: Assembly,
}

/// A message that came.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    bytes: usize,
    size: usize,
    /// Datagrams that were taken.
    taken: usize,
    envelope: Envelope,
}

impl UdpSender {
    /// Opens a socket on a port of the kernel's choice that takes nothing.
    ///
    /// # Errors
    /// [`UdpError`].
    pub fn open(area: &AreaHandle, address: Ipv4Addr) -> Result<Self, UdpError> {
        let address = SocketAddrV4::new(address, 0);
        let fd = open(address, false, &mut |fd| {
            set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER)?;
            sys::refuse_all(fd)
        })?;
        Ok(Self {
            fd,
            pieces: Vectors::with_capacity(area, MESSAGES * PIECES),
            messages: Vec::with_capacity(MESSAGES),
            names: vec![socket_address(address); MESSAGES],
            controls: vec![Control::default(); MESSAGES],
            done: 0,
            stuck: false,
            assembly: Assembly::new(MESSAGES, MESSAGES * PIECES),
        })
    }

    /// Queues a datagram. False, with nothing changed, when there is no room, or a piece lies outside the area.
    #[must_use]
    pub fn queue(&mut self, envelope: Envelope, pieces: impl Iterator<Item = (u64, u32)>) -> bool {
        let first = self.pieces.len();
        let mut bytes = 0;
        for (addr, len) in pieces {
            if !self.pieces.has_room(1) || !self.pieces.push(addr, len) {
                self.pieces.truncate(first);
                return false;
            }
            bytes += len as usize;
        }
        let count = self.pieces.len() - first;
        let open = self.messages.len() > self.done;
        if open
            && let Some(last) = self.messages.last_mut()
            && last.takes(envelope, bytes, count)
        {
            last.count += count;
            last.bytes += bytes;
            last.datagrams += 1;
            last.closed = bytes < last.size;
            return true;
        }
        if self.messages.len() == MESSAGES {
            self.pieces.truncate(first);
            return false;
        }
        self.messages.push(Outgoing {
            envelope,
            first,
            count,
            size: bytes,
            bytes,
            datagrams: 1,
            closed: false,
        });
        true
    }

    /// Whether something waits for [`UdpSender::send`].
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Sends what is queued; waits up to [`PATIENCE`] where the device is slower. Its chunks are had by
    /// [`UdpSender::reap`].
    pub fn send(&mut self, area: &Area) -> Sent {
        let mut outcome = Sent::default();
        for (n, message) in self.messages.iter().enumerate().skip(self.done) {
            self.names[n] = socket_address(message.envelope.other);
            self.controls[n] = Control::of(message);
        }
        while self.done < self.messages.len() {
            match self.send_some(area) {
                Ok(sent) => {
                    self.done += sent;
                    self.stuck = false;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.stuck && sys::wait_writable(self.fd.as_fd(), PATIENCE) {
                        continue;
                    }
                    self.stuck = true;
                    outcome.blocked = true;
                    break;
                }
                // No route, no such neighbour, or larger than the device takes.
                Err(_) => {
                    outcome.refused += self.messages[self.done].datagrams as u32;
                    self.done += 1;
                }
            }
        }
        outcome
    }

    /// Hands the addresses of the pieces that were sent, or refused, to `done`.
    pub fn reap(&mut self, done: &mut impl FnMut(u64)) {
        let Some(last) = self.done.checked_sub(1) else { return };
        let end = self.messages[last].first + self.messages[last].count;
        (0..end).filter_map(|at| self.pieces.addr(at)).for_each(done);
        self.pieces.drain_front(end);
        self.messages.drain(..self.done);
        self.messages.iter_mut().for_each(|message| message.first -= end);
        self.done = 0;
    }

    fn send_some(&mut self, area: &Area) -> io::Result<usize> {
        let (names, controls) = (self.names.as_mut_ptr(), self.controls.as_mut_ptr());
        let extras = self.messages.iter().enumerate().skip(self.done).map(|(n, message)| Extra {
            name: (names.wrapping_add(n), size_of::<libc::sockaddr_in>()),
            control: (controls.wrapping_add(n).cast(), Control::len(message)),
            ..Extra::pieces(message.first, message.count)
        });
        // SAFETY: there are MESSAGES names and controls, and no more messages.
        unsafe { self.assembly.send(self.fd.as_fd(), &self.pieces, area, extras) }
    }
}

impl Outgoing {
    fn takes(&self, envelope: Envelope, bytes: usize, pieces: usize) -> bool {
        !self.closed
            && self.envelope == envelope
            && bytes <= self.size
            && self.bytes + bytes <= LARGEST
            && self.datagrams < DATAGRAMS
            && self.count + pieces <= PIECES
    }
}

impl Control {
    fn of(message: &Outgoing) -> Self {
        Self([
            control(libc::IPPROTO_IP, libc::IP_TOS, 4, u64::from(message.envelope.tos)),
            control(libc::IPPROTO_UDP, UDP_SEGMENT, 2, message.size as u64),
        ])
    }

    fn len(message: &Outgoing) -> usize {
        if message.datagrams > 1 { size_of::<Self>() } else { size_of::<Self>() / 2 }
    }
}

/// One cmsghdr with a value of `len` bytes, padded to 24: length, level and type, value.
fn control(level: libc::c_int, kind: libc::c_int, len: u64, value: u64) -> [u64; 3] {
    let mut words = [0; 8];
    words[..4].copy_from_slice(&level.to_ne_bytes());
    words[4..].copy_from_slice(&kind.to_ne_bytes());
    // A shorter value stands first, on either byte order.
    let value = if cfg!(target_endian = "big") { value << (64 - 8 * len) } else { value };
    [CONTROL_HEADER + len, u64::from_ne_bytes(words), value]
}

impl UdpReceiver {
    /// Opens a socket for each area on `address`; several share its datagrams by their other end (SO_REUSEPORT).
    /// Datagrams begin `headroom` bytes behind the start of a chunk.
    ///
    /// # Errors
    /// [`UdpError`]; EADDRINUSE when another socket, or a VXLAN device, has the port.
    pub fn open(areas: &[&AreaHandle], address: SocketAddrV4, headroom: u32) -> Result<Vec<Self>, UdpError> {
        let shared = areas.len() > 1;
        areas
            .iter()
            .map(|area| {
                let fd = open(address, shared, &mut |fd| {
                    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER)?;
                    set_option(fd, libc::SOL_UDP, UDP_GRO, &1i32)?;
                    set_option(fd, libc::IPPROTO_IP, libc::IP_RECVTOS, &1i32)
                })?;
                Ok(Self::new(fd, area, address, headroom))
            })
            .collect()
    }

    fn new(fd: OwnedFd, area: &AreaHandle, address: SocketAddrV4, headroom: u32) -> Self {
        let envelope = Envelope { other: address, tos: 0 };
        let arrival = Arrival { bytes: 0, size: 0, taken: 0, envelope };
        // Boxed by way of a vector: arrays of this size do not belong on the stack.
        let overflow = vec![[0; OVERFLOW]; SLOTS].into_boxed_slice().try_into();
        Self {
            fd,
            area: area.clone(),
            headroom,
            room: Vectors::empty(area, SLOTS * CHUNKS),
            layouts: [0; SLOTS],
            missing: [CHUNKS as u8; SLOTS],
            size: 0,
            lent: 0,
            arrivals: [arrival; SLOTS],
            names: Box::new([socket_address(address); SLOTS]),
            controls: Box::new([[0; 8]; SLOTS]),
            overflow: overflow.unwrap_or_else(|_| unreachable!("a vector of SLOTS elements")),
            scratch: Vec::with_capacity(OVERFLOW),
            assembly: Assembly::new(SLOTS, SLOTS * CHUNKS),
        }
    }

    /// Chunks that are lent.
    pub fn lent(&self) -> u32 {
        self.lent
    }

    /// Takes the chunks that are missing from `chunks`, which gives their addresses. Messages that were not taken whole
    /// keep theirs.
    pub fn fill(&mut self, chunks: &mut impl Iterator<Item = u64>) {
        if self.pending().is_some() {
            return;
        }
        for slot in 0..SLOTS {
            while self.missing[slot] > 0 {
                let Some(addr) = chunks.next() else { return };
                let at = slot * CHUNKS + usize::from(self.missing[slot]) - 1;
                if !self.room.set(at, addr + u64::from(self.headroom), 0) {
                    return;
                }
                self.missing[slot] -= 1;
                self.lent += 1;
                self.layouts[slot] = 0;
            }
            self.lay_out(slot, self.size);
        }
    }

    /// Receives messages, unless some are left; what came is had by [`UdpReceiver::next`]. Never waits.
    pub fn receive(&mut self, area: &mut Area) {
        if self.pending().is_some() {
            return;
        }
        let full = self.missing.iter().position(|m| *m > 0).unwrap_or(SLOTS);
        let (names, controls) = (self.names.as_mut_ptr(), self.controls.as_mut_ptr());
        let overflow = self.overflow.as_mut_ptr();
        let extras = (0..full).map(|slot| Extra {
            name: (names.wrapping_add(slot), size_of::<libc::sockaddr_in>()),
            control: (controls.wrapping_add(slot).cast(), size_of::<[u64; 8]>()),
            overflow: (overflow.wrapping_add(slot).cast(), OVERFLOW),
            ..Extra::pieces(slot * CHUNKS, CHUNKS)
        });
        let mut came = [(0, 0, 0); SLOTS];
        let mut note = |slot: usize, bytes, flags, control| came[slot] = (bytes, flags, control);
        // SAFETY: names, controls and overflow have SLOTS elements of these lengths; nobody else refers to them.
        let got = unsafe { self.assembly.receive(self.fd.as_fd(), &self.room, area, extras, &mut note) };
        for (slot, (bytes, flags, control)) in came.into_iter().take(got).enumerate() {
            let bytes = if flags & libc::MSG_TRUNC == 0 { bytes } else { 0 };
            self.arrivals[slot] = self.arrival(slot, bytes, control);
            self.put_in_order(slot, area);
        }
    }

    /// The next datagram: its pieces (address, bytes), which are not lent any more, go to `piece`. `None` when none is left
    /// of what was received.
    pub fn next(&mut self, piece: &mut impl FnMut(u64, u32)) -> Option<Envelope> {
        let slot = self.pending()?;
        let arrival = &mut self.arrivals[slot];
        let per_datagram = chunks_of(arrival.size as u32, self.area.config().chunk_size - self.headroom);
        let mut at = slot * CHUNKS + arrival.taken * per_datagram;
        let mut rest = arrival.size.min(arrival.bytes - arrival.taken * arrival.size);
        arrival.taken += 1;
        while rest > 0 {
            let len = rest.min(self.room.bytes_of(at));
            let Some(addr) = self.room.take(at).filter(|_| len > 0) else { break };
            piece(addr, len as u32);
            rest -= len;
            at += 1;
            self.lent -= 1;
        }
        self.missing[slot] = (at - slot * CHUNKS) as u8;
        Some(arrival.envelope)
    }

    /// Whether [`UdpReceiver::next`] has more to give.
    pub fn has_more(&self) -> bool {
        self.pending().is_some()
    }

    /// Datagrams that are left of the message that [`UdpReceiver::next`] takes from.
    pub fn left_of_message(&self) -> usize {
        self.pending().map_or(0, |slot| {
            let arrival = &self.arrivals[slot];
            arrival.bytes.div_ceil(arrival.size.max(1)) - arrival.taken
        })
    }

    /// The first slot with datagrams that were not taken.
    fn pending(&self) -> Option<usize> {
        self.arrivals.iter().position(|a| a.taken * a.size < a.bytes)
    }

    /// What the kernel says of a message: sender, size of its datagrams, type of service.
    fn arrival(&self, slot: usize, bytes: usize, control_len: usize) -> Arrival {
        let name = &self.names[slot];
        let address = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
        let other = SocketAddrV4::new(address, u16::from_be(name.sin_port));
        let mut arrival = Arrival { bytes, size: bytes, taken: 0, envelope: Envelope { other, tos: 0 } };
        let mut words = self.controls[slot].get(..control_len / 8).unwrap_or_default();
        while let [len, kind, value, ..] = words {
            let (kind, value) = (kind.to_ne_bytes(), value.to_ne_bytes());
            let int = |b: &[u8]| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]);
            match (int(&kind[..4]), int(&kind[4..])) {
                (libc::IPPROTO_IP, libc::IP_TOS) => arrival.envelope.tos = value[0],
                (libc::IPPROTO_UDP, UDP_GRO) => {
                    arrival.size = usize::try_from(int(&value[..4])).unwrap_or(0).clamp(1, bytes.max(1));
                }
                _ => {}
            }
            words = words.get((*len as usize).div_ceil(8).max(2)..).unwrap_or_default();
        }
        arrival
    }

    /// Makes every datagram begin in a chunk of its own, which it does already when its size was the one expected.
    fn put_in_order(&mut self, slot: usize, area: &mut Area) {
        let Arrival { bytes, size, .. } = self.arrivals[slot];
        let room = self.area.config().chunk_size - self.headroom;
        let expected = if self.layouts[slot] == 0 { room } else { self.layouts[slot] };
        if bytes > size {
            self.size = size as u32;
        }
        if size as u32 == expected || bytes == size && size as u32 <= expected {
            return;
        }
        self.scratch.clear();
        for at in slot * CHUNKS..(slot + 1) * CHUNKS {
            let len = self.room.bytes_of(at).min(bytes - self.scratch.len());
            let Some(addr) = self.room.addr(at) else { break };
            self.scratch.extend_from_slice(area.bytes(addr, len as u32));
        }
        let rest = bytes - self.scratch.len();
        self.scratch.extend_from_slice(&self.overflow[slot][..rest.min(OVERFLOW)]);
        self.lay_out(slot, size as u32);
        let per_datagram = chunks_of(size as u32, room);
        for (n, datagram) in self.scratch.chunks(size.max(1)).enumerate() {
            for (k, part) in datagram.chunks(room as usize).enumerate() {
                let at = slot * CHUNKS + n * per_datagram + k;
                let Some(addr) = self.room.addr(at) else { return };
                area.bytes_mut(addr, part.len() as u32).copy_from_slice(part);
            }
        }
    }

    /// Sets the lengths of a slot's pieces so that each datagram of `size` bytes begins a chunk; 0 = not known yet.
    fn lay_out(&mut self, slot: usize, size: u32) {
        let room = self.area.config().chunk_size - self.headroom;
        let size = if size == 0 { room } else { size };
        if self.layouts[slot] == size {
            return;
        }
        self.layouts[slot] = size;
        let per_datagram = chunks_of(size, room);
        for n in 0..CHUNKS {
            let at = slot * CHUNKS + n;
            let last = n % per_datagram == per_datagram - 1;
            let len = if last { size - (per_datagram as u32 - 1) * room } else { room };
            if let Some(addr) = self.room.addr(at) {
                self.room.set(at, addr, len);
            }
        }
    }
}

impl AsFd for UdpReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Chunks that a datagram takes.
fn chunks_of(size: u32, room: u32) -> usize {
    size.div_ceil(room).max(1) as usize
}

fn open(
    address: SocketAddrV4,
    shared: bool,
    prepare: &mut impl FnMut(BorrowedFd<'_>) -> io::Result<()>,
) -> Result<OwnedFd, UdpError> {
    let at = |step: &'static str| move |source| UdpError { address, step, source };
    let fd = sys::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 0).map_err(at("socket"))?;
    let socket = |option, value: libc::c_int| set_option(fd.as_fd(), libc::SOL_SOCKET, option, &value);
    if shared {
        socket(libc::SO_REUSEPORT, 1).map_err(at("share the port"))?;
    }
    // "Don't fragment" is not set, and no ICMP error makes packets smaller, as with Linux's VXLAN device.
    set_option(fd.as_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &IP_PMTUDISC_OMIT)
        .map_err(at("path MTU discovery"))?;
    prepare(fd.as_fd()).map_err(at("options"))?;
    let name = socket_address(address);
    let len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: a whole sockaddr_in and its size.
    check(unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&name).cast(), len) })
        .map_err(at("bind"))?;
    Ok(fd)
}

fn socket_address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}
