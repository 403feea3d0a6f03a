//! Finds the flow of each packet and keeps its connection's state.

use std::net::Ipv4Addr;

use headrace_wire::Header;
use headrace_wire::ethernet::EthernetHeader;
use headrace_wire::ipv4::Protocol;
use headrace_wire::parse::{Ipv4Packet, L4};
use headrace_wire::tcp::{self, TcpFlags};

use super::{Context, fragment};
use crate::burst::{Burst, Packet, Verdict};
use crate::flows::{Flow, FlowKey, Seen};
use crate::frames::Pools;
use crate::tables::services::FrontendKey;

/// Gives every undecided packet its flow, if it has one.
pub fn run(burst: &mut Burst, cx: &mut Context<'_>) {
    for packet in burst.iter() {
        let key = FlowKey::of(&packet.ip).pack();
        cx.flows.map().prefetch(cx.flows.map().hash(&key));
    }
    let (mut hits, mut misses) = (0, 0);
    for packet in burst.iter_mut().filter(|p| p.verdict == Verdict::Undecided) {
        packet.flow = find(packet, cx);
        fragment::lead(packet, cx);
        packet.verdict = punt(packet).unwrap_or(packet.verdict);
        *if packet.flow.is_some() { &mut hits } else { &mut misses } += 1;
    }
    cx.stats.hot().flow_hits.add(hits);
    cx.stats.hot().flow_misses.add(misses);
}

/// The flow of a packet, with what the packet says of its connection noted. ICMP errors belong to none.
pub fn find(packet: &Packet, cx: &mut Context<'_>) -> Option<(FlowKey, Flow)> {
    if matches!(packet.ip.l4, L4::IcmpError { .. }) {
        return None;
    }
    let key = FlowKey::of(&packet.ip);
    let mut flow = cx.flows.find(&key, cx.now)?;
    match packet.ip.l4 {
        L4::Tcp { flags, .. } => {
            if opens_anew(flags, &flow, &key, cx) {
                cx.flows.end(&key, &flow);
                return None;
            }
            follow_tcp(packet, flags, &key, &mut flow, cx);
        }
        L4::Udp { .. } => {
            if flow.original && !still_goes_there(&key, &mut flow, cx) {
                cx.flows.end(&key, &flow);
                return None;
            }
            if !flow.seen.has(Seen::DATA) {
                cx.flows.saw(&key, &mut flow, Seen::DATA);
            }
        }
        L4::Sctp { .. } | L4::IcmpEcho { .. } | L4::IcmpError { .. } => {}
        L4::Icmp { .. } | L4::Other | L4::Later => {}
    }
    Some((key, flow))
}

/// The verdict on a later fragment of a datagram that is the node's own.
pub fn punt(packet: &Packet) -> Option<Verdict> {
    packet.flow.filter(|(_, flow)| flow.punted).map(|_| Verdict::Punt)
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

fn follow_tcp(packet: &Packet, flags: TcpFlags, key: &FlowKey, flow: &mut Flow, cx: &mut Context<'_>) {
    let seen = Seen::of_tcp(flags);
    if !flow.seen.has(seen) {
        cx.flows.saw(key, flow, seen);
    }
    if flags.contains(TcpFlags::SYN)
        && let Some(mss) = announced_mss(cx.pools, packet)
    {
        cx.flows.limit_partner(key, flow, mss, false);
    }
}

/// The least MSS that counts, as Linux's net.ipv4.route.min_adv_mss: a smaller one would cut a superframe into thousands of
/// segments (CVE-2019-11479).
const LEAST_MSS: u16 = 256;

/// The MSS that a SYN announces: it limits what the other direction may send.
pub fn announced_mss(pools: &Pools, packet: &Packet) -> Option<u16> {
    let l4 = EthernetHeader::LEN + packet.ip.l4_offset();
    let announced = tcp::mss(pools.head(&packet.frame).get(l4..)?)?;
    Some(announced.max(LEAST_MSS))
}

/// UDP follows the endpoints of its Service, and a Service that comes to be at its destination; it is asked once per change
/// of Services, not per packet.
fn still_goes_there(key: &FlowKey, flow: &mut Flow, cx: &mut Context<'_>) -> bool {
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
