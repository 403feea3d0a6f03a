//! Finds the flow of each packet and keeps its connection's state.

use std::net::Ipv4Addr;

use arrayvec::ArrayVec;
use headrace_wire::Header;
use headrace_wire::ethernet::EthernetHeader;
use headrace_wire::ipv4::Protocol;
use headrace_wire::parse::{Ipv4Packet, L4};
use headrace_wire::tcp::{self, TcpFlags, TcpHeader};

use super::{Context, fragment};
use crate::burst::{Burst, Packet, Verdict};
use crate::drop_reason::DropReason;
use crate::flows::{Flow, FlowKey, Reset, Seen, Segment, Sought};
use crate::frames::{Frame, Pools};
use crate::port::BURST;
use crate::tables::services::FrontendKey;

/// Gives every undecided packet its flow, if it has one. Memory is asked for all buckets, then for all entries, before the
/// first of them is read.
pub fn run(burst: &mut Burst, cx: &mut Context<'_>) {
    let mut sought: ArrayVec<Sought, BURST> =
        burst.iter().map(|packet| cx.flows.seek(&FlowKey::of(&packet.ip))).collect();
    sought.iter_mut().for_each(|sought| cx.flows.prefetch(sought));
    let (mut hits, mut misses) = (0, 0);
    for (packet, sought) in burst.iter_mut().zip(&sought).filter(|(p, _)| p.verdict == Verdict::Undecided) {
        let verdict = join(packet, sought, cx);
        fragment::lead(packet, cx);
        packet.verdict = verdict.unwrap_or(packet.verdict);
        *if packet.flow.is_some() { &mut hits } else { &mut misses } += 1;
    }
    cx.stats.hot().flow_hits.add(hits);
    cx.stats.hot().flow_misses.add(misses);
}

/// Gives a packet its flow and notes what it says of its connection. The verdict when that alone decides.
pub fn join(packet: &mut Packet, sought: &Sought, cx: &mut Context<'_>) -> Option<Verdict> {
    packet.flow = None;
    // ICMP errors belong to none.
    if matches!(packet.ip.l4, L4::IcmpError { .. }) {
        return None;
    }
    // Written where it stays; see ingress.
    packet.flow = Some((sought.key, cx.flows.find_sought(sought, cx.now)?));
    let Packet { frame, ip, flow: Some((key, flow)), .. } = packet else { return None };
    if is_over(ip, key, flow, cx) {
        cx.flows.end(key, flow);
        packet.flow = None;
        return None;
    }
    match ip.l4 {
        // A later fragment of a datagram that is the node's own.
        _ if flow.punted => Some(Verdict::Punt),
        L4::Tcp { flags, .. } => follow_tcp(frame, ip, flags, key, flow, cx),
        _ if !flow.seen.has(Seen::DATA) => {
            cx.flows.saw(key, flow, Seen::DATA);
            None
        }
        _ => None,
    }
}

/// Whether a packet shows that its flow is over.
#[inline]
fn is_over(ip: &Ipv4Packet, key: &FlowKey, flow: &mut Flow, cx: &Context<'_>) -> bool {
    match ip.l4 {
        L4::Tcp { flags, .. } => opens_anew(flags, flow, key, cx),
        L4::Udp { .. } => flow.original && !still_goes_there(key, flow, cx),
        _ => false,
    }
}

/// A client that uses the ports of a closed connection again opens a new one: it may get another endpoint.
fn opens_anew(flags: TcpFlags, flow: &Flow, key: &FlowKey, cx: &Context<'_>) -> bool {
    let opens = flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK);
    if !opens {
        return false;
    }
    let other = cx.flows.find(&flow.partner_key(key), cx.now);
    let seen = other.map_or(flow.seen, |o| o.seen.and(flow.seen));
    seen.has(Seen::RST) || seen.has(Seen::FIN)
}

/// Keeps a TCP connection's state. The verdict on what does not belong to it.
fn follow_tcp(
    frame: &Frame,
    ip: &Ipv4Packet,
    flags: TcpFlags,
    key: &FlowKey,
    flow: &mut Flow,
    cx: &mut Context<'_>,
) -> Option<Verdict> {
    let segment = segment(frame, ip, flags, cx.pools)?;
    if flags.contains(TcpFlags::RST) {
        let reset = cx.flows.reset(key, flow, &segment);
        return (reset == Reset::Foreign).then_some(Verdict::Drop(DropReason::TcpResetForeign));
    }
    if flow.seen.has(Seen::RST)
        || flow.seen.has(Seen::WAS_RESET) && !cx.flows.fits_what_was_reset(key, flow, &segment)
    {
        return Some(Verdict::Drop(DropReason::TcpAfterReset));
    }
    cx.flows.advance(flow, &segment);
    let seen = Seen::of_tcp(flags);
    if !flow.seen.has(seen) {
        cx.flows.saw(key, flow, seen);
    }
    if flags.contains(TcpFlags::SYN)
        && let Some(mss) = announced_mss(cx.pools, frame, ip)
    {
        cx.flows.limit_partner(key, flow, mss, false);
    }
    None
}

/// What a TCP packet's header says; `None` when it is not at hand, and the packet is dropped further on.
#[inline]
fn segment(frame: &Frame, ip: &Ipv4Packet, flags: TcpFlags, pools: &Pools) -> Option<Segment> {
    let l4 = pools.head(frame).get(EthernetHeader::LEN + ip.l4_offset()..)?;
    let header = TcpHeader::of(l4)?;
    Some(Segment {
        flags,
        sequence: header.sequence.get(),
        acknowledgment: header.acknowledgment.get(),
        payload: ip.payload_len() as u32,
    })
}

/// The least MSS that counts, as Linux's net.ipv4.route.min_adv_mss: a smaller one would cut a superframe into thousands of
/// segments (CVE-2019-11479).
const LEAST_MSS: u16 = 256;

/// The MSS that a SYN announces: it limits what the other direction may send.
pub fn announced_mss(pools: &Pools, frame: &Frame, ip: &Ipv4Packet) -> Option<u16> {
    let l4 = EthernetHeader::LEN + ip.l4_offset();
    let announced = tcp::mss(pools.head(frame).get(l4..)?)?;
    Some(announced.max(LEAST_MSS))
}

/// UDP follows the endpoints of its Service, and a Service that comes to be at its destination; it is asked once per change
/// of Services, not per packet.
fn still_goes_there(key: &FlowKey, flow: &mut Flow, cx: &Context<'_>) -> bool {
    let generation = cx.tables.services.generation();
    if flow.service_generation == generation {
        return true;
    }
    let destination = frontend_key(key.tuple.dst, key.tuple.dst_port, key.protocol);
    let goes_there = match cx.tables.frontend(cx.node, destination) {
        Some(frontend) => frontend.service.keeps((flow.rewrite.dst, flow.rewrite.dst_port)),
        None => !flow.service,
    };
    if goes_there {
        cx.flows.set_service_generation(key, flow, generation);
    }
    goes_there
}

/// The frontend key of a destination.
pub fn frontend_key(address: Ipv4Addr, port: u16, protocol: Protocol) -> FrontendKey {
    FrontendKey { address, port, protocol: protocol.0 }
}

/// Whether a packet begins a TCP connection.
pub fn begins_tcp(ip: &Ipv4Packet) -> bool {
    matches!(ip.l4, L4::Tcp { flags, .. } if flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK))
}
