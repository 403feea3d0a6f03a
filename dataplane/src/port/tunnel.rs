//! The tunnel over UDP sockets: many segments cross the kernel's stack as one datagram train (UDP_SEGMENT, UDP_GRO).
//!
//! Frames look the same as on AF_XDP, with outer Ethernet, IPv4 and UDP headers: of those that leave, receiver, type of
//! service and source port are read; to those that came, headers with sender and type of service are put. Whether the
//! sender is a peer is the pipeline's to say. Several sockets are several source ports, by which receivers spread flows.

use std::net::SocketAddrV4;
use std::os::fd::{AsFd, BorrowedFd};

use arrayvec::ArrayVec;
use headrace_wire::Header;
use headrace_wire::ethernet::{EtherType, EthernetHeader, MacAddr};
use headrace_wire::ipv4::{Ipv4Header, NewHeader, Protocol};
use headrace_wire::udp::UdpHeader;
use headrace_wire::vxlan;
use headrace_xsk::AreaHandle;
use headrace_xsk::udp::{Envelope, UdpError, UdpReceiver, UdpSender};

use super::{PortIndex, Received};
use crate::frames::{Frame, HEADROOM, MAX_CHUNKS, Piece, Pool};
use crate::stats::PortCounters;

/// Outer Ethernet, IPv4 and UDP headers.
const OUTER: usize = vxlan::ENCAP_LEN - size_of::<vxlan::VxlanHeader>();
const UDP_AT: usize = EthernetHeader::LEN + Ipv4Header::LEN;
/// Source ports of a worker.
const SENDERS: usize = 4;
/// Datagrams that may be queued before they are sent: the segments of some superframes, so that they are still in the
/// cache, and chunks do not run out within a burst of superframes.
const QUEUED: u32 = 256;

/// One worker's sockets.
pub struct Tunnel {
    local: SocketAddrV4,
    receiver: UdpReceiver,
    senders: Vec<UdpSender>,
    queued: u32,
}

impl Tunnel {
    /// Opens the sockets of all workers, whose memory is given: datagrams to `local` come in, those that leave are sent
    /// from other ports of its address.
    ///
    /// # Errors
    /// [`UdpError`]; EADDRINUSE when another tunnel has the port.
    pub fn open(areas: &[&AreaHandle], local: SocketAddrV4) -> Result<Vec<Self>, UdpError> {
        let receivers = UdpReceiver::open(areas, local, HEADROOM + OUTER as u32)?;
        let half = |(receiver, area): (UdpReceiver, &&AreaHandle)| {
            let senders =
                (0..SENDERS).map(|_| UdpSender::open(area, *local.ip())).collect::<Result<_, _>>()?;
            Ok(Self { local, receiver, senders, queued: 0 })
        };
        receivers.into_iter().zip(areas).map(half).collect()
    }

    /// See [`super::Port::receive`].
    pub(super) fn receive(&mut self, pool: &mut Pool, received: &mut Received, counters: &PortCounters) {
        self.receiver.receive(pool.area_mut());
        let before = received.len();
        loop {
            // The segments of a superframe come as one message: taken in two bursts they would become two superframes.
            let (left, room) = (self.receiver.left_of_message(), received.remaining_capacity());
            if left == 0 || room == 0 || left > room && received.len() > before {
                break;
            }
            for _ in 0..left.min(room) {
                if let Some(frame) = self.take(pool) {
                    counters.rx_frames.add(1);
                    counters.rx_bytes.add(frame.len() as u64);
                    received.push(frame);
                }
            }
        }
    }

    /// The next datagram as a frame; `None` when it is too large for one.
    fn take(&mut self, pool: &mut Pool) -> Option<Frame> {
        let mut chain: ArrayVec<Piece, MAX_CHUNKS> = ArrayVec::new();
        let envelope = self.receiver.next(&mut |addr, len| {
            let headers = if chain.is_empty() { OUTER as u32 } else { 0 };
            let piece = pool.received(addr - u64::from(headers), len + headers);
            if chain.try_push(piece).is_err() {
                pool.give_back(piece);
            }
        })?;
        let frame = pool.assemble(&chain)?;
        let len = frame.len() - OUTER;
        if write_headers(pool.head_mut(&frame), envelope, self.local, len).is_none() {
            pool.free(frame);
            return None;
        }
        Some(frame)
    }

    /// See [`super::Port::replenish`].
    pub(super) fn replenish(&mut self, pool: &mut Pool, index: PortIndex) {
        self.receiver.fill(&mut std::iter::from_fn(|| pool.take_for_fill(index)));
    }

    /// See [`super::Port::transmit`].
    pub(super) fn transmit(
        &mut self,
        pool: &mut Pool,
        frame: Frame,
        index: PortIndex,
        counters: &PortCounters,
    ) -> Result<(), Frame> {
        let Some((envelope, source_port)) = read_headers(pool.head(&frame)) else { return Err(frame) };
        let sender = usize::from(source_port) % self.senders.len();
        if self.queued >= QUEUED || !self.senders[sender].queue(envelope, payload(pool, &frame)) {
            self.flush(pool, index, counters);
            if !self.senders[sender].queue(envelope, payload(pool, &frame)) {
                return Err(frame);
            }
        }
        self.queued += 1;
        counters.tx_frames.add(1);
        counters.tx_bytes.add(frame.len() as u64);
        pool.sent(frame, index);
        Ok(())
    }

    /// See [`super::Port::flush`].
    pub(super) fn flush(&mut self, pool: &mut Pool, index: PortIndex, counters: &PortCounters) -> bool {
        let mut left = false;
        for sender in self.senders.iter_mut().filter(|sender| !sender.is_empty()) {
            counters.kicks.add(1);
            let sent = sender.send(pool.area());
            counters.tx_invalid.add(sent.refused.into());
            sender.reap(&mut |addr| pool.completed(addr, index));
            left |= sent.blocked;
        }
        self.queued = 0;
        left
    }

    /// Whether datagrams are left that the kernel has handed over.
    pub(super) fn has_more(&self) -> bool {
        self.receiver.has_more()
    }

    /// Becomes readable when a datagram arrives.
    pub(super) fn readiness(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

/// What the kernel has to be told of a frame, and its source port.
fn read_headers(head: &[u8]) -> Option<(Envelope, u16)> {
    let ip = Ipv4Header::of(head.get(EthernetHeader::LEN..)?)?;
    let udp = UdpHeader::of(head.get(UDP_AT..)?)?;
    // The inner headers must lie in the first chunk too.
    head.get(OUTER)?;
    let other = SocketAddrV4::new(ip.dst(), udp.dst_port.get());
    Some((Envelope { other, tos: ip.tos }, udp.src_port.get()))
}

/// What a socket sends of a frame.
fn payload(pool: &Pool, frame: &Frame) -> impl Iterator<Item = (u64, u32)> {
    let mut headers = OUTER as u32;
    pool.pieces(frame).map(move |piece| {
        let skip = std::mem::take(&mut headers);
        (u64::from(piece.addr + skip), piece.len - skip)
    })
}

/// Puts in front of a datagram of `len` bytes what stood there on the wire, but for Ethernet addresses.
fn write_headers(out: &mut [u8], from: Envelope, to: SocketAddrV4, len: usize) -> Option<()> {
    let udp_len = u16::try_from(UdpHeader::LEN + len).ok()?;
    let ip = NewHeader {
        src: *from.other.ip(),
        dst: *to.ip(),
        protocol: Protocol::UDP,
        tos: from.tos,
        ttl: 1,
        id: 0,
        total_len: udp_len.checked_add(Ipv4Header::LEN as u16)?,
    };
    let udp = UdpHeader {
        src_port: from.other.port().into(),
        dst_port: to.port().into(),
        length: udp_len.into(),
        checksum: 0.into(),
    };
    EthernetHeader::new(MacAddr([0; 6]), MacAddr([0; 6]), EtherType::IPV4).put(out).ok()?;
    Ipv4Header::from(ip).put(out.get_mut(EthernetHeader::LEN..)?).ok()?;
    udp.put(out.get_mut(UDP_AT..)?).ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use headrace_wire::parse::{L4, parse_ethernet, parse_ipv4};

    use super::*;

    #[test]
    fn headers_of_what_came_are_those_of_what_was_sent() {
        let other = SocketAddrV4::new(Ipv4Addr::new(172, 30, 0, 2), 40_000);
        let local = SocketAddrV4::new(Ipv4Addr::new(172, 30, 0, 1), 8472);
        let mut frame = [0xaa; OUTER + 100];
        write_headers(&mut frame, Envelope { other, tos: 3 }, local, 100).unwrap();
        let ether = parse_ethernet(&frame, frame.len()).unwrap();
        let ip = parse_ipv4(&frame[EthernetHeader::LEN..], ether.l3_len).unwrap();
        assert_eq!((ip.src, ip.dst, ip.tos, ip.payload_len()), (*other.ip(), *local.ip(), 3, 100));
        assert!(matches!(ip.l4, L4::Udp { src_port: 40_000, dst_port: 8472, .. }), "{:?}", ip.l4);
        assert!(frame[OUTER..].iter().all(|byte| *byte == 0xaa));
        let (envelope, source_port) = read_headers(&frame).unwrap();
        assert_eq!((envelope, source_port), (Envelope { other: local, tos: 3 }, 40_000));
        assert!(read_headers(&frame[..OUTER]).is_none(), "no byte to send");
        assert!(write_headers(&mut frame, envelope, local, 65_530).is_none(), "longer than IPv4 has");
    }
}
