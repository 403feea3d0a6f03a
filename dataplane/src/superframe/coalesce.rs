//! In-order TCP segments of one burst into superframes (GRO).
//!
//! Segments merge when all but sequence number, IP identification, lengths and PSH are equal, and only bare ACK data:
//! the rules of Linux's tcp_gro_receive. Every segment's own checksum is verified while its payload is copied, so a
//! corrupt one goes on alone and still fails at its receiver.

use std::net::Ipv4Addr;

use arrayvec::ArrayVec;
use headrace_wire::Header;
use headrace_wire::checksum::{PieceSum, Sum, pseudo_header, sum};
use headrace_wire::ethernet::EthernetHeader;
use headrace_wire::ipv4::{Ipv4Header, Protocol};
use headrace_wire::parse::{Fragment, Ipv4Packet, L4};
use headrace_wire::tcp::{self, TcpFlags, TcpHeader};

use super::envelope::Envelope;
use crate::frames::{AreaId, Checksum, Cursor, Frame, Pools, Writer};
use crate::port::{Capabilities, PortIndex};

/// Flows that are merged at a time; more in one burst flush each other.
const OPEN: usize = 8;
const ETHERNET: usize = EthernetHeader::LEN;
const IPV4: usize = Ipv4Header::LEN;
const TCP_AT: usize = ETHERNET + IPV4;
const HEADERS: usize = TCP_AT + tcp::MAX_HEADER_LEN;

/// Superframes that are being built.
#[derive(Default)]
pub struct Coalescer {
    open: ArrayVec<Open, OPEN>,
    /// Segments merged into a frame that was there already.
    pub merged: u64,
}

/// A finished frame and the port it leaves by.
pub type Finished = (PortIndex, Frame);

struct Open {
    port: PortIndex,
    capabilities: Capabilities,
    headers: [u8; HEADERS],
    header_len: usize,
    writer: Writer,
    next_sequence: u32,
    payload: usize,
    sum: PieceSum,
    segment: usize,
    /// A short segment or PSH ends a superframe.
    closed: bool,
}

/// Where a packet goes once it is merged.
pub struct Target<'a> {
    /// The port it leaves by.
    pub port: PortIndex,
    /// What that port can do.
    pub capabilities: Capabilities,
    /// The Ethernet header it leaves with.
    pub envelope: &'a Envelope,
}

impl Coalescer {
    /// Takes a packet's bytes into a superframe if it may be merged. Returns false when the caller has to send it by
    /// itself; packets of its flow that came before it have then been handed to `emit`.
    pub fn offer(
        &mut self,
        pools: &mut Pools,
        frame: &Frame,
        ip: &Ipv4Packet,
        target: &Target<'_>,
        emit: &mut impl FnMut(&mut Pools, Finished),
    ) -> bool {
        let mut headers = [0; HEADERS];
        let Some(header_len) = copy_headers(pools, frame, ip, target.envelope, &mut headers) else {
            self.finish_between(target.port, ip, pools, emit);
            return false;
        };
        let at = self.open.iter().position(|o| o.port == target.port && o.is_of(&headers));
        // What the kernel has merged already goes on as it is.
        let eligible = is_eligible(ip) && frame.segment == 0;
        if let Some(at) = at {
            let open = &mut self.open[at];
            if eligible && open.takes(&headers, header_len, ip) && open.merge(pools, frame, &headers, ip) {
                self.merged += 1;
                return true;
            }
            let open = self.open.swap_remove(at);
            open.finish(pools, emit);
        }
        if !eligible {
            return false;
        }
        if self.open.is_full() {
            self.open.swap_remove(0).finish(pools, emit);
        }
        match Open::begin(pools, frame, ip, target, headers, header_len) {
            Some(open) => {
                self.open.push(open);
                true
            }
            None => false,
        }
    }

    /// A TCP packet that is not even looked at must not overtake its connection's packets that are being merged.
    fn finish_between(
        &mut self,
        port: PortIndex,
        ip: &Ipv4Packet,
        pools: &mut Pools,
        emit: &mut impl FnMut(&mut Pools, Finished),
    ) {
        let overtakes = |open: &Open| {
            ip.protocol == Protocol::TCP && open.port == port && open.is_between(ip.src, ip.dst)
        };
        while let Some(at) = self.open.iter().position(overtakes) {
            self.open.swap_remove(at).finish(pools, emit);
        }
    }

    /// Hands out everything: the burst is over.
    pub fn flush(&mut self, pools: &mut Pools, emit: &mut impl FnMut(&mut Pools, Finished)) {
        for open in self.open.drain(..) {
            open.finish(pools, emit);
        }
    }
}

impl Open {
    fn begin(
        pools: &mut Pools,
        frame: &Frame,
        ip: &Ipv4Packet,
        target: &Target<'_>,
        headers: [u8; HEADERS],
        header_len: usize,
    ) -> Option<Self> {
        let mut writer = Writer::new(pools.get_mut(AreaId::Pods), &headers[..header_len])?;
        let mut cursor = payload_cursor(pools, frame, ip);
        let len = ip.payload_len();
        let payload = writer.append(pools, frame.area(), &mut cursor, len);
        let Some(payload) = payload.filter(|p| is_right(frame, &headers[..header_len], ip, *p)) else {
            writer.abandon(pools.get_mut(AreaId::Pods));
            return None;
        };
        let tcp = TcpHeader::of(&headers[TCP_AT..])?;
        let mut sum = PieceSum::default();
        sum.push_sum(payload, len);
        Some(Self {
            port: target.port,
            capabilities: target.capabilities,
            header_len,
            writer,
            next_sequence: tcp.sequence.get().wrapping_add(len as u32),
            payload: len,
            sum,
            segment: len,
            closed: tcp.flags().contains(TcpFlags::PSH),
            headers,
        })
    }

    /// Whether a packet with these headers belongs to the same flow.
    fn is_of(&self, headers: &[u8; HEADERS]) -> bool {
        // Addresses and ports lie together when there are no options.
        const TUPLE: std::ops::Range<usize> = ETHERNET + 12..TCP_AT + 4;
        self.headers[TUPLE] == headers[TUPLE]
    }

    /// Whether its packets have these addresses.
    fn is_between(&self, src: Ipv4Addr, dst: Ipv4Addr) -> bool {
        Ipv4Header::of(&self.headers[ETHERNET..]).is_some_and(|ip| (ip.src(), ip.dst()) == (src, dst))
    }

    /// Whether it is the next segment, with headers that say nothing new.
    fn takes(&self, headers: &[u8; HEADERS], header_len: usize, ip: &Ipv4Packet) -> bool {
        let (Some(ours), Some(its)) =
            (TcpHeader::of(&self.headers[TCP_AT..]), TcpHeader::of(&headers[TCP_AT..]))
        else {
            return false;
        };
        let flags = |tcp: &TcpHeader| tcp.flags().without(TcpFlags::PSH);
        let ip_at = |at: usize| self.headers[ETHERNET + at] == headers[ETHERNET + at];
        !self.closed
            && self.header_len == header_len
            && its.sequence.get() == self.next_sequence
            && its.acknowledgment == ours.acknowledgment
            && its.window == ours.window
            && flags(its) == flags(ours)
            && ip_at(1)
            && ip_at(6)
            && ip_at(8)
            && self.headers[TCP_AT + TcpHeader::LEN..header_len]
                == headers[TCP_AT + TcpHeader::LEN..header_len]
            && ip.payload_len() <= self.segment
            && header_len - ETHERNET + self.payload + ip.payload_len() <= usize::from(u16::MAX)
    }

    fn merge(&mut self, pools: &mut Pools, frame: &Frame, headers: &[u8; HEADERS], ip: &Ipv4Packet) -> bool {
        let mark = self.writer.mark();
        let len = ip.payload_len();
        let mut cursor = payload_cursor(pools, frame, ip);
        let payload = self.writer.append(pools, frame.area(), &mut cursor, len);
        let Some(payload) = payload.filter(|p| is_right(frame, &headers[..self.header_len], ip, *p)) else {
            self.writer.cut_back(pools.get_mut(AreaId::Pods), mark);
            return false;
        };
        self.sum.push_sum(payload, len);
        self.payload += len;
        self.next_sequence = self.next_sequence.wrapping_add(len as u32);
        let push = TcpHeader::of(&headers[TCP_AT..]).is_some_and(|t| t.flags().contains(TcpFlags::PSH));
        self.closed = push || len < self.segment;
        if push && let Some(tcp) = TcpHeader::of_mut(&mut self.headers[TCP_AT..]) {
            tcp.set_flags(TcpFlags(tcp.flags().0 | TcpFlags::PSH.0));
        }
        true
    }

    /// Completes the headers and hands the frame out.
    fn finish(mut self, pools: &mut Pools, emit: &mut impl FnMut(&mut Pools, Finished)) {
        let header_len = self.header_len;
        let l4_len = (header_len - TCP_AT + self.payload) as u16;
        let headers = &mut self.headers[..header_len];
        if let Some(ip) = Ipv4Header::of_mut(&mut headers[ETHERNET..]) {
            ip.set_total_len(IPV4 as u16 + l4_len);
        }
        let addresses = Ipv4Header::of(&headers[ETHERNET..]).map(|ip| (ip.src(), ip.dst()));
        let Some((src, dst)) = addresses else { unreachable!("headers hold an IPv4 header") };
        let pseudo = pseudo_header(src, dst, Protocol::TCP, l4_len);
        let field = TCP_AT + tcp::CHECKSUM_OFFSET;
        let (value, state) = if self.capabilities.partial_checksums {
            let offset = tcp::CHECKSUM_OFFSET as u16;
            (pseudo.fold(), Checksum::Partial { start: TCP_AT as u16, offset })
        } else {
            headers[field..field + 2].fill(0);
            ((pseudo + sum(&headers[TCP_AT..]) + self.sum.sum()).finish(), Checksum::AsSent)
        };
        headers[field..field + 2].copy_from_slice(&value.to_be_bytes());
        let pool = pools.get_mut(AreaId::Pods);
        self.writer.headers(pool, header_len).copy_from_slice(headers);
        let mut frame = self.writer.finish(pool);
        frame.checksum = state;
        frame.segment = self.segment as u16;
        emit(pools, (self.port, frame));
    }
}

fn is_eligible(ip: &Ipv4Packet) -> bool {
    let plain = TcpFlags(TcpFlags::ACK.0 | TcpFlags::PSH.0);
    matches!(ip.l4, L4::Tcp { flags, .. }
        if flags.contains(TcpFlags::ACK) && flags.without(plain) == TcpFlags::NONE)
        && ip.fragment == Fragment::Whole
        && ip.payload_len() > 0
        && usize::from(ip.header_len) == IPV4
}

/// The headers as they will leave; `None` for packets that have no TCP header behind a plain IPv4 one.
fn copy_headers(
    pools: &Pools,
    frame: &Frame,
    ip: &Ipv4Packet,
    envelope: &Envelope,
    headers: &mut [u8; HEADERS],
) -> Option<usize> {
    if ip.protocol != Protocol::TCP || usize::from(ip.header_len) != IPV4 || ip.is_fragment() {
        return None;
    }
    let len = ETHERNET + ip.payload_offset();
    headers[..len].copy_from_slice(pools.head(frame).get(..len)?);
    envelope.write(headers, ip.total_len.into(), ip.tos, 0)?;
    Some(len)
}

fn payload_cursor(pools: &Pools, frame: &Frame, ip: &Ipv4Packet) -> Cursor {
    Cursor::new(pools.get(frame.area()), frame, ETHERNET + ip.payload_offset())
}

/// Whether the segment's checksum is right, given its payload's sum. A partial one is this machine's own.
fn is_right(frame: &Frame, headers: &[u8], ip: &Ipv4Packet, payload: Sum) -> bool {
    if frame.checksum != Checksum::AsSent {
        return true;
    }
    let Some(header) = Ipv4Header::of(&headers[ETHERNET..]) else { return false };
    let pseudo = pseudo_header(header.src(), header.dst(), Protocol::TCP, ip.l4_len());
    (pseudo + sum(&headers[TCP_AT..]) + payload).finish() == 0
}
