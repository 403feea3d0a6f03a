//! ICMP errors about known connections: translated like the packets they quote, and heard.
//!
//! The quoted packet is one of the other direction, as it was when it left here; the entry that its answer would hit says
//! how to translate the error (RFC 5508 4.2).

use headrace_wire::Header;
use headrace_wire::checksum::Delta;
use headrace_wire::ethernet::EthernetHeader;
use headrace_wire::icmp4::{
    DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED, IcmpHeader, Quoted, quoted, rewrite_quoted,
};
use headrace_wire::ipv4::Ipv4Header;
use headrace_wire::nat::Rewrite;
use headrace_wire::parse::L4;

use super::Context;
use super::route::{self, Transit};
use crate::burst::{Burst, Packet, Verdict};
use crate::drop_reason::DropReason;
use crate::flows::{Flow, FlowKey, Kind};
use crate::port::PortIndex;

/// TCP and IPv4 headers without options: what a path's MTU is larger than its MSS.
const TCP_IP_HEADERS: u16 = 40;
/// The least path MTU that an error can teach, as Linux's net.ipv4.route.min_pmtu: a forged one must not cut a superframe
/// into thousands of segments.
const LEAST_PATH_MTU: u16 = 552;

/// Translates errors about flows; those about nothing that is known go on only where no translation can be meant.
pub fn run(burst: &mut Burst, cx: &mut Context<'_>) {
    for packet in burst.iter_mut().filter(|p| p.verdict == Verdict::Undecided) {
        if let L4::IcmpError { icmp_type, code } = packet.ip.l4 {
            packet.verdict = translate(packet, (icmp_type, code), cx);
        }
    }
}

fn translate(packet: &mut Packet, kind: (u8, u8), cx: &mut Context<'_>) -> Verdict {
    let message_at = EthernetHeader::LEN + packet.ip.l4_offset();
    let end = EthernetHeader::LEN + usize::from(packet.ip.total_len);
    let bytes = cx.pools.head(&packet.frame);
    let Some(message) = bytes.get(message_at..end.min(bytes.len())) else {
        return Verdict::Drop(DropReason::IcmpErrorMalformed);
    };
    let Some(quote) = quoted(message) else { return Verdict::Drop(DropReason::IcmpErrorMalformed) };
    // A pod is no router: it can only speak of what it has received itself.
    if cx.tables.ports.get(packet.port).is_some() && packet.ip.src != quote.dst {
        return Verdict::Drop(DropReason::IcmpErrorUnrelated);
    }
    let Some((key, flow)) = flow_of(&quote, cx) else { return unrelated(packet, &quote) };
    // An error goes to the sender of what it quotes; any other is a forgery.
    if packet.ip.dst != quote.src {
        return Verdict::Drop(DropReason::IcmpErrorUnrelated);
    }
    if kind == (DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED)
        && let Some(icmp) = IcmpHeader::of(message)
        && icmp.next_hop_mtu() > 0
    {
        let mss = icmp.next_hop_mtu().max(LEAST_PATH_MTU) - TCP_IP_HEADERS;
        cx.flows.limit_partner(&key, &flow, mss, true);
    }
    let answer = flow.rewrite;
    let way = route::resolved(route::towards(answer.dst, Transit::Allowed, cx), cx);
    if matches!(way, Verdict::Wait(_)) {
        return way;
    }
    // The quote lies in the first chunk; a long error may go on in others.
    let head = cx.pools.head_mut(&packet.frame);
    let end = end.min(head.len());
    let bytes = &mut head[..end];
    rewrite_quoted(&mut bytes[message_at..], &quote, &answer.reversed());
    // Routers on the way keep their address; the other end of the connection is known by its translated one.
    let src = if packet.ip.src == quote.dst { answer.src } else { packet.ip.src };
    let delta = Delta::of_addr(packet.ip.src, src).and(Delta::of_addr(packet.ip.dst, answer.dst));
    if let Some(header) = Ipv4Header::of_mut(&mut bytes[EthernetHeader::LEN..]) {
        header.set_addresses(src, answer.dst, delta);
    }
    packet.ip.src = src;
    packet.ip.dst = answer.dst;
    way
}

/// The flow of packets that answer the quoted one.
fn flow_of(quote: &Quoted, cx: &Context<'_>) -> Option<(FlowKey, Flow)> {
    let (src_port, dst_port) = quote.l4.ports()?;
    let tuple = Rewrite { src: quote.src, dst: quote.dst, src_port, dst_port }.reversed();
    let key = FlowKey { tuple, protocol: quote.protocol, kind: Kind::Ports };
    cx.flows.find(&key, cx.now).map(|flow| (key, flow))
}

/// About a packet that no flow knows. It may still be one carried without a flow, when it speaks of its receiver; from
/// the wire it is the node's own affair.
fn unrelated(packet: &Packet, quote: &Quoted) -> Verdict {
    if packet.port == PortIndex::UPLINK && packet.peer.is_none() {
        return Verdict::Punt;
    }
    if quote.src == packet.ip.dst {
        return Verdict::Undecided;
    }
    Verdict::Drop(DropReason::IcmpErrorUnrelated)
}
