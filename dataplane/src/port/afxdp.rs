//! AF_XDP: the driver for veths and NICs.
//!
//! A worker's half is one socket per receive queue that falls to it; it transmits by the first. Chunks are lent to the
//! kernel by need: an idle port keeps a few, a busy one enough for a burst of superframes, so that a hundred pods do not pin
//! a hundred full rings.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use arrayvec::ArrayVec;
use headrace_xsk::{Desc, Kick, Socket, TxMetadata};

use super::{BURST, Capabilities, Port, PortIndex, Received};
use crate::frames::{AreaId, Checksum, Frame, MAX_CHUNKS, Piece, Pool};
use crate::stats::PortCounters;

/// Descriptors taken from one port at a time: a few superframes, or a burst of small frames.
const DESCRIPTORS: usize = 256;
/// Chunks an idle port keeps in its fill ring: a superframe and a burst of small frames.
const IDLE_FILL: u32 = 64;
/// Chunks the busiest port keeps there. Fewer cost a stream of superframes retransmissions.
const BUSY_FILL: u32 = 2048;
/// How many times what a turn has taken is lent for the next: a worker that shares its core may be away for some turns.
const AHEAD: u32 = 16;
/// Turns without traffic after which a port counts as idle.
const IDLE_TURNS: u32 = 10_000;
/// The part of an area's chunks that is left for idle ports and for frames on their way when busy ones take what they can.
const RESERVE: usize = 4;
/// Descriptors that may be queued before the kernel is told to begin: the segments of a burst of superframes are more
/// than there are chunks.
const QUEUED: u32 = 512;
/// Kicks in a row before other ports have their turn.
const KICKS: usize = 16;

/// One worker's sockets on one device.
pub struct AfXdpPort {
    index: PortIndex,
    area: AreaId,
    sockets: Vec<Socket>,
    capabilities: Capabilities,
    /// Chunks to keep lent, each socket.
    fill: u32,
    /// Descriptors queued since the last kick.
    queued: u32,
    quiet_turns: u32,
    counters: Arc<PortCounters>,
}

impl AfXdpPort {
    /// Over open sockets, at least one, that all live in `area`. `superframes` says what the device may be given; checksums
    /// may be left to it when its sockets carry TX metadata.
    pub fn new(index: PortIndex, area: AreaId, sockets: Vec<Socket>, superframes: bool) -> Self {
        let metadata = sockets.first().is_some_and(|s| s.granted().tx_metadata);
        let partial_checksums = metadata && area == AreaId::Pods;
        let capabilities = Capabilities { superframes, partial_checksums, cuts_segments: false };
        let fill = if index == PortIndex::UPLINK { BUSY_FILL } else { IDLE_FILL };
        Self { index, area, sockets, capabilities, fill, queued: 0, quiet_turns: 0, counters: Arc::default() }
    }

    fn count_received(&self, frame: &Frame) {
        self.counters.rx_frames.add(1);
        self.counters.rx_bytes.add(frame.len() as u64);
        if frame.chunks() > 1 {
            self.counters.rx_superframes.add(1);
        }
    }

    /// Keeps a multiple of what the busiest turn of late has taken. What is lent stays so; it is just not made up for when
    /// the port falls idle.
    fn follow_use(&mut self, descriptors: usize) {
        let wanted = (AHEAD * descriptors as u32).clamp(IDLE_FILL, BUSY_FILL);
        if descriptors > 0 {
            self.fill = self.fill.max(wanted);
            self.quiet_turns = 0;
        } else {
            self.quiet_turns = self.quiet_turns.saturating_add(1);
            if self.quiet_turns > IDLE_TURNS && self.index != PortIndex::UPLINK {
                self.fill = IDLE_FILL;
            }
        }
    }
}

impl Port for AfXdpPort {
    fn area(&self) -> AreaId {
        self.area
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn receive(&mut self, pool: &mut Pool, received: &mut Received) -> usize {
        let before = received.len();
        let mut descriptors = 0;
        for at in 0..self.sockets.len() {
            let mut taken = 0;
            while taken < DESCRIPTORS && received.remaining_capacity() >= MAX_CHUNKS {
                let mut chain: ArrayVec<Piece, MAX_CHUNKS> = ArrayVec::new();
                let room = received.remaining_capacity() as u32;
                let got = self.sockets[at].receive(room, &mut |desc: Desc| {
                    let piece = pool.received(desc.addr, desc.len);
                    if chain.try_push(piece).is_err() {
                        pool.give_back(piece);
                    }
                    if !desc.more() {
                        if let Some(frame) = pool.assemble(&chain) {
                            received.push(frame);
                        }
                        chain.clear();
                    }
                });
                taken += got as usize;
                if got == 0 {
                    break;
                }
            }
            descriptors += taken;
        }
        for frame in &received[before..] {
            self.count_received(frame);
        }
        self.follow_use(descriptors);
        received.len() - before
    }

    fn replenish(&mut self, pool: &mut Pool) {
        let index = self.index;
        for socket in &mut self.sockets {
            socket.reap(&mut |addr| pool.completed(addr, index));
            let scarce = pool.available() < pool.len() / RESERVE;
            let level = if scarce { self.fill.min(IDLE_FILL) } else { self.fill };
            let wanted = level.saturating_sub(socket.lent());
            // Refill in strides: each one is a store that the kernel's core has to fetch.
            if wanted >= (self.fill / 8).min(BURST as u32) {
                let chunks = std::iter::from_fn(|| pool.take_for_fill(index));
                let added = socket.fill(chunks.take(wanted as usize));
                debug_assert!(added <= wanted);
                if socket.receive_needs_wakeup() {
                    socket.wake_receive();
                }
            }
        }
    }

    fn transmit(&mut self, pool: &mut Pool, frame: Frame) -> Result<(), Frame> {
        let Some(socket) = self.sockets.first_mut() else { return Err(frame) };
        let mut descs: ArrayVec<Desc, MAX_CHUNKS> = ArrayVec::new();
        let count = frame.chunks();
        for (at, piece) in pool.pieces(&frame).enumerate() {
            descs.push(Desc::new(piece.addr.into(), piece.len, at + 1 < count));
        }
        if let Checksum::Partial { start, offset } = frame.checksum {
            let metadata = TxMetadata { csum_start: start, csum_offset: offset };
            if !metadata.attach(pool.area_mut(), &mut descs[0]) {
                return Err(frame);
            }
        }
        let full = self.queued >= QUEUED;
        if full || socket.transmit(&descs).is_err() {
            // Make room and try once more: the ring is drained by kicks only.
            self.queued = 0;
            self.counters.kicks.add(1);
            socket.kick();
            let index = self.index;
            socket.reap(&mut |addr| pool.completed(addr, index));
            if socket.transmit(&descs).is_err() {
                return Err(frame);
            }
        }
        self.queued += count as u32;
        self.counters.tx_frames.add(1);
        self.counters.tx_bytes.add(frame.len() as u64);
        if count > 1 {
            self.counters.tx_superframes.add(1);
        }
        pool.sent(frame, self.index);
        Ok(())
    }

    fn flush(&mut self, pool: &mut Pool) -> bool {
        self.queued = 0;
        let index = self.index;
        let Some(socket) = self.sockets.first_mut() else { return false };
        for _ in 0..KICKS {
            if !socket.needs_kick() {
                break;
            }
            self.counters.kicks.add(1);
            let kick = socket.kick();
            socket.reap(&mut |addr| pool.completed(addr, index));
            match kick {
                Kick::Done => break,
                Kick::Again => {}
                // The device is down or gone; the control thread hears of it and closes the port.
                Kick::Error(_) => return false,
            }
        }
        socket.needs_kick()
    }

    fn readiness(&self) -> Vec<BorrowedFd<'_>> {
        self.sockets.iter().map(AsFd::as_fd).collect()
    }

    fn counters(&self) -> &Arc<PortCounters> {
        &self.counters
    }

    fn zero_copy(&self) -> bool {
        self.sockets.iter().any(|s| s.granted().zero_copy)
    }

    fn publish(&mut self) {
        let (mut full, mut empty, mut invalid) = (0, 0, 0);
        for socket in &self.sockets {
            let s = socket.statistics();
            full += s.rx_ring_full;
            empty += s.fill_ring_empty;
            invalid += s.tx_invalid;
        }
        self.counters.rx_ring_full.set(full);
        self.counters.fill_ring_empty.set(empty);
        self.counters.tx_invalid.set(invalid);
    }
}
