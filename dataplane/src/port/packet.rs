//! Packet sockets: the driver for veths whose frames the kernel has to copy anyway.
//!
//! Checksum state and segment size travel beside the frame (virtio-net header), so nobody on this node completes or
//! verifies a sum of a packet that stays here. Receiving and sending are one system call a burst. Chunks are lent by need:
//! an idle port keeps enough for two frames, a busy one for [`MESSAGES`].
//!
//! Flows that send little have a socket of their own, which is asked first: a request does not wait behind bulk. Of bulk so
//! much is taken at a time as does not keep the others waiting long.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use arrayvec::ArrayVec;
use headrace_wire::Header;
use headrace_wire::tcp::{self, TcpFlags, TcpHeader};
use headrace_xsk::packet::{Lanes, MESSAGES, PacketSocket, VnetHeader};

use super::{Capabilities, LARGEST_GSO, Port, PortIndex, Received};
use crate::frames::{AreaId, Checksum, Frame, MAX_CHUNKS, Piece, Pool};
use crate::stats::PortCounters;

/// Messages an idle port can take at a time, by both its sockets together: hundreds of idle pods must not use the memory up.
const IDLE: usize = 2;
/// The part of an area's chunks that is left for idle ports and for frames on their way when busy ones take what they can.
const RESERVE: usize = 4;

/// Bytes of bulk that are taken at a time.
const BULK: usize = 128 << 10;
/// Turns in which light flows alone are asked while they have something: bulk needs a system call of its own.
const LIGHT_TURNS: u8 = 8;

/// One worker's sockets on one device.
pub struct PacketPort {
    index: PortIndex,
    area: AreaId,
    light: Option<Inlet>,
    bulk: Inlet,
    light_turns: u8,
    capabilities: Capabilities,
    counters: Arc<PortCounters>,
}

/// A socket that frames come by.
struct Inlet {
    socket: PacketSocket,
    /// Messages that it keeps chunks lent for while nothing comes.
    idle: usize,
    /// Messages to keep chunks lent for.
    slots: usize,
    /// Messages to take at a time, by the size that they had of late.
    most: usize,
    /// Whether frames came since the last [`Port::publish`].
    busy: bool,
}

impl PacketPort {
    /// Over open sockets whose chunks are those of the pods' area.
    pub fn new(index: PortIndex, lanes: Lanes, superframes: bool) -> Self {
        let capabilities = Capabilities { superframes, partial_checksums: true, cuts_segments: false };
        let light = Some(Inlet::new(lanes.light, IDLE / 2));
        Self { light, ..Self::over(index, AreaId::Pods, Inlet::new(lanes.bulk, IDLE / 2), capabilities) }
    }

    /// Over an open socket of the uplink, whose chunks are those of the uplink's area. Frames that come are as large as the
    /// kernel has merged them; those that leave
    /// fit the wire, or the kernel cuts them.
    pub fn of_uplink(socket: PacketSocket) -> Self {
        let capabilities = Capabilities { cuts_segments: true, ..Capabilities::default() };
        Self::over(PortIndex::UPLINK, AreaId::Uplink, Inlet::new(socket, IDLE), capabilities)
    }

    fn over(index: PortIndex, area: AreaId, bulk: Inlet, capabilities: Capabilities) -> Self {
        Self { index, area, light: None, bulk, light_turns: 0, capabilities, counters: Arc::default() }
    }

    /// Chunks that a message is scattered over.
    pub fn chunks(superframes: bool) -> usize {
        if superframes { MAX_CHUNKS } else { 1 }
    }

    /// Sends what is queued; returns whether something is left.
    fn send(&mut self, pool: &mut Pool) -> bool {
        self.counters.kicks.add(1);
        let sent = self.bulk.socket.send(pool.area());
        self.counters.tx_invalid.add(sent.refused.into());
        let index = self.index;
        self.bulk.socket.reap(&mut |addr| pool.completed(addr, index));
        sent.blocked
    }

    fn inlets(&mut self) -> impl Iterator<Item = &mut Inlet> {
        self.light.iter_mut().chain(Some(&mut self.bulk))
    }
}

impl Inlet {
    fn new(socket: PacketSocket, idle: usize) -> Self {
        Self { socket, idle, slots: idle, most: MESSAGES, busy: false }
    }

    /// Takes frames; returns how many came.
    fn receive(&mut self, pool: &mut Pool, received: &mut Received, counters: &PortCounters) -> usize {
        let most = received.remaining_capacity().min(self.most);
        let came = self.socket.receive(pool.area_mut(), most);
        if came == 0 {
            return 0;
        }
        self.busy = true;
        if came >= self.slots {
            self.slots = (self.slots * 2).min(MESSAGES);
        }
        let (before, mut bytes) = (received.len(), 0);
        for slot in 0..came {
            let mut chain: ArrayVec<Piece, MAX_CHUNKS> = ArrayVec::new();
            let header = self.socket.take(slot, &mut |addr, len| {
                let piece = pool.received(addr, len);
                if chain.try_push(piece).is_err() {
                    pool.give_back(piece);
                }
            });
            let Some(header) = header else {
                // Longer than its room, which only a device with another MTU than it was opened with gives.
                counters.fill_ring_empty.add(1);
                continue;
            };
            if let Some(mut frame) = pool.assemble(&chain) {
                frame.segment = header.segment();
                bytes += frame.len();
                count_received(counters, &frame);
                received.push(frame);
            }
        }
        self.most = (BULK * came / bytes.max(1)).clamp(1, MESSAGES);
        received.len() - before
    }

    fn replenish(&mut self, pool: &mut Pool, index: PortIndex) {
        let scarce = pool.available() < pool.len() / RESERVE;
        let slots = if scarce { self.idle } else { self.slots };
        if self.socket.is_filled(slots) {
            return;
        }
        let pool = std::cell::RefCell::new(pool);
        let mut chunks = std::iter::from_fn(|| pool.borrow_mut().take_for_fill(index));
        self.socket.fill(slots, &mut chunks, &mut |addr| pool.borrow_mut().untake(addr));
    }
}

fn count_received(counters: &PortCounters, frame: &Frame) {
    counters.rx_frames.add(1);
    counters.rx_bytes.add(frame.len() as u64);
    if frame.chunks() > 1 {
        counters.rx_superframes.add(1);
    }
}

impl Port for PacketPort {
    fn area(&self) -> AreaId {
        self.area
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn receive(&mut self, pool: &mut Pool, received: &mut Received) -> usize {
        let before = received.len();
        if let Some(light) = &mut self.light {
            let came = light.receive(pool, received, &self.counters);
            self.light_turns += 1;
            if came > 0 && self.light_turns < LIGHT_TURNS {
                return came;
            }
            self.light_turns = 0;
        }
        self.bulk.receive(pool, received, &self.counters);
        received.len() - before
    }

    fn replenish(&mut self, pool: &mut Pool) {
        let index = self.index;
        self.inlets().for_each(|inlet| inlet.replenish(pool, index));
    }

    fn transmit(&mut self, pool: &mut Pool, frame: Frame) -> Result<(), Frame> {
        let header = vnet_header(pool, &frame);
        let pieces = || pool.pieces(&frame).map(|piece| (piece.addr.into(), piece.len));
        if !self.bulk.socket.queue(header, pieces()) {
            self.send(pool);
            let pieces = pool.pieces(&frame).map(|piece| (piece.addr.into(), piece.len));
            if !self.bulk.socket.queue(header, pieces) {
                return Err(frame);
            }
        }
        self.counters.tx_frames.add(1);
        self.counters.tx_bytes.add(frame.len() as u64);
        if frame.chunks() > 1 {
            self.counters.tx_superframes.add(1);
        }
        pool.sent(frame, self.index);
        Ok(())
    }

    fn flush(&mut self, pool: &mut Pool) -> bool {
        self.bulk.socket.queued() > 0 && self.send(pool)
    }

    fn readiness(&self) -> Vec<BorrowedFd<'_>> {
        self.light.iter().chain(Some(&self.bulk)).map(|inlet| inlet.socket.as_fd()).collect()
    }

    fn asks_the_kernel(&self) -> bool {
        true
    }

    fn counters(&self) -> &Arc<PortCounters> {
        &self.counters
    }

    fn publish(&mut self) {
        let counters = Arc::clone(&self.counters);
        for inlet in self.inlets() {
            counters.rx_ring_full.add(inlet.socket.lost());
            // A second without traffic: what is lent for more than a few frames goes back.
            if !std::mem::take(&mut inlet.busy) {
                inlet.slots = inlet.idle;
            }
        }
    }
}

/// What the receiver is told beside the frame: that its checksum is left to it, and the segments of a TCP superframe.
fn vnet_header(pool: &Pool, frame: &Frame) -> VnetHeader {
    let Checksum::Partial { start, offset } = frame.checksum else { return VnetHeader::default() };
    let header = VnetHeader::partial(start, offset);
    let is_tcp = usize::from(offset) == tcp::CHECKSUM_OFFSET;
    if frame.segment == 0 || !is_tcp || frame.len() >= LARGEST_GSO {
        return header;
    }
    let Some(tcp) = pool.head(frame).get(start.into()..).and_then(TcpHeader::of) else { return header };
    let header_len = usize::from(start) + tcp.header_len();
    if header_len + usize::from(frame.segment) >= frame.len() {
        return header;
    }
    header.tcp_segments(header_len as u16, frame.segment, tcp.flags().contains(TcpFlags::CWR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::testing::{assert_all_free, pools, store};

    /// A frame of `payload` bytes behind Ethernet, IPv4 and a TCP header of 32 bytes with `flags`.
    fn header_of(payload: usize, segment: u16, offset: u16, flags: u16) -> VnetHeader {
        let mut pools = pools(40);
        let mut bytes = vec![0; 66 + payload];
        bytes[46..48].copy_from_slice(&(0x8000 | flags).to_be_bytes());
        let mut frame = store(&mut pools.pods, &bytes, &[]);
        frame.checksum = Checksum::Partial { start: 34, offset };
        frame.segment = segment;
        let header = vnet_header(&pools.pods, &frame);
        pools.free(frame);
        assert_all_free(&pools);
        header
    }

    #[test]
    fn only_tcp_superframes_are_said_to_be_some() {
        let partial = VnetHeader::partial(34, 16);
        assert_eq!(header_of(3000, 1400, 16, 0x10), partial.tcp_segments(66, 1400, false));
        assert_eq!(header_of(3000, 1400, 16, 0x90), partial.tcp_segments(66, 1400, true));
        assert_eq!(header_of(1400, 1400, 16, 0x10), partial, "one segment");
        assert_eq!(header_of(3000, 0, 16, 0x10), partial, "no size is known");
        assert_eq!(header_of(65_480, 1400, 16, 0x10), partial, "more than a device takes");
        assert_eq!(header_of(3000, 1400, 6, 0x10), VnetHeader::partial(34, 6), "UDP");
    }

    #[test]
    fn a_complete_checksum_is_nobodys_task() {
        let mut pools = pools(40);
        let frame = store(&mut pools.pods, &[0; 200], &[]);
        assert_eq!(vnet_header(&pools.pods, &frame), VnetHeader::default());
        pools.free(frame);
    }
}
