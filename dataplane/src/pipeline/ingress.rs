//! First stage: from received frames to packets. Checks who may send what, takes tunnels off, answers ARP.

use std::net::Ipv4Addr;

use arrayvec::ArrayVec;
use headrace_flowmap::prefetch_read;
use headrace_wire::Header;
use headrace_wire::arp::{self, ArpPacket};
use headrace_wire::ethernet::{EtherType, EthernetHeader};
use headrace_wire::ipv4::{Ipv4Header, Protocol, is_valid_source};
use headrace_wire::parse::{Fragment, Ipv4Packet, L4, ParseError, parse_ethernet, parse_ipv4};
use headrace_wire::partial;
use headrace_wire::vxlan::{VxlanHeader, decap_tos};

use super::Context;
use crate::burst::{Burst, Packet, Verdict};
use crate::drop_reason::DropReason;
use crate::frames::{Checksum, Frame};
use crate::observe::StageId;
use crate::port::{BURST, PortIndex, Received};
use crate::tables::{GATEWAY_MAC, POD_GATEWAY, PeerIndex};

const ETHERNET: usize = EthernetHeader::LEN;

/// Frames that go back by the port they came in by.
pub type Answers = ArrayVec<(PortIndex, Frame), BURST>;

/// What a frame turned out to be.
struct Admitted {
    /// Bytes of tunnel headers to take off.
    tunnel: usize,
    peer: Option<PeerIndex>,
    ip: Ipv4Packet,
}

enum Admission {
    Packet(Admitted),
    /// Answered in place.
    Answer,
}

/// Admits what `port` received into the burst; counts and ends the rest.
pub fn run(
    received: &mut Received,
    port: PortIndex,
    burst: &mut Burst,
    answers: &mut Answers,
    cx: &mut Context<'_>,
) {
    prefetch_headers(received, cx);
    for frame in received.drain(..) {
        let admission = match port {
            PortIndex::UPLINK => from_uplink(&frame, cx),
            PortIndex::HOST => from_host(&frame, cx),
            _ => from_pod(&frame, port, cx),
        };
        match admission {
            Ok(Admission::Packet(Admitted { tunnel, peer, ip })) => {
                let verdict = Verdict::Undecided;
                // Changed where it stays: what is written in parts and copied at once waits until all of them have left the
                // processor's store buffer.
                burst.push(Packet { frame, port, peer, ip, flow: None, verdict, mark: 0 });
                if let Some(packet) = burst.last_mut() {
                    settle(packet, tunnel, cx);
                }
            }
            Ok(Admission::Answer) => answers.push((port, frame)),
            Err(reason) => cx.stats.end(port, cx.pools, frame, reason),
        }
    }
    cx.stats.walked(StageId::INGRESS, burst);
}

/// Takes the tunnel and padding off a packet's frame, and sees what its checksum is.
#[inline]
fn settle(packet: &mut Packet, tunnel: usize, cx: &mut Context<'_>) {
    let frame = &mut packet.frame;
    if tunnel > 0 && !frame.pull(tunnel) {
        unreachable!("the inner headers lie behind the tunnel's in the first chunk");
    }
    cx.pools.trim(frame, ETHERNET + usize::from(packet.ip.total_len));
    frame.checksum = checksum_state(cx.pools.head(frame), &packet.ip);
    packet.mark = cx.stats.admitted(packet);
}

/// Headers were last written by another core, or by the device: begin to load them all before the first is read.
fn prefetch_headers(received: &Received, cx: &Context<'_>) {
    for frame in received {
        let bytes = cx.pools.head(frame);
        // A tunnel's headers and the inner ones take two cache lines.
        for line in bytes.chunks(64).take(2) {
            prefetch_read(line);
        }
    }
}

/// A pod may send IPv4 from its own addresses to its gateway's MAC address, and ask who has the gateway.
#[inline(always)]
fn from_pod(frame: &Frame, port: PortIndex, cx: &mut Context<'_>) -> Result<Admission, DropReason> {
    let Some(pod) = cx.tables.ports.get(port) else { return Err(DropReason::PortGone) };
    let bytes = cx.pools.head(frame);
    let ether = parse_ethernet(bytes, frame.len()).map_err(reason)?;
    if ether.ethertype == EtherType::ARP {
        return answer_arp(frame, &[POD_GATEWAY, cx.node.own], cx);
    }
    if ether.ethertype != EtherType::IPV4 {
        return Err(DropReason::NotIpv4);
    }
    if ether.dst != GATEWAY_MAC {
        return Err(if ether.dst.is_multicast() { DropReason::Multicast } else { DropReason::NotToGateway });
    }
    let ip = inner_packet(&bytes[ETHERNET..], ether.l3_len)?;
    if !pod.addresses.contains(&ip.src) {
        return Err(DropReason::SpoofedSource);
    }
    Ok(Admission::Packet(Admitted { tunnel: 0, peer: None, ip }))
}

/// The node's own stack may send from any address: it may also forward for others.
fn from_host(frame: &Frame, cx: &mut Context<'_>) -> Result<Admission, DropReason> {
    let bytes = cx.pools.head(frame);
    let ether = parse_ethernet(bytes, frame.len()).map_err(reason)?;
    if ether.ethertype == EtherType::ARP {
        return answer_arp(frame, &[POD_GATEWAY, cx.node.own], cx);
    }
    if ether.ethertype != EtherType::IPV4 {
        return Err(DropReason::NotIpv4);
    }
    if ether.dst.is_multicast() {
        return Err(DropReason::Multicast);
    }
    let ip = parse_ipv4(&bytes[ETHERNET..], ether.l3_len).map_err(reason)?;
    let within_node = ip.src.is_loopback() && ip.dst.is_loopback();
    if !(within_node && cx.node.node_port_loopback) {
        check_addresses(&ip)?;
    }
    Ok(Admission::Packet(Admitted { tunnel: 0, peer: None, ip }))
}

/// The uplink's XDP program has stolen this: a tunnel packet, or one that flows and routes will know or give back.
fn from_uplink(frame: &Frame, cx: &mut Context<'_>) -> Result<Admission, DropReason> {
    let bytes = cx.pools.head(frame);
    let ether = parse_ethernet(bytes, frame.len()).map_err(reason)?;
    if ether.ethertype != EtherType::IPV4 {
        return Err(DropReason::NotIpv4);
    }
    let outer = parse_ipv4(&bytes[ETHERNET..], ether.l3_len).map_err(reason)?;
    let is_tunnel = matches!(outer.l4, L4::Udp { dst_port, .. } if dst_port == cx.node.vxlan_port)
        && outer.fragment == Fragment::Whole
        && cx.node.local.contains(&outer.dst);
    if is_tunnel {
        return decapsulate(frame, &outer, cx);
    }
    if !is_valid_source(outer.src) {
        return Err(DropReason::InvalidSource);
    }
    // Pods and the node itself are on this side: nobody on the wire may speak for them, not even in a known flow.
    if cx.node.pod_cidr.contains(outer.src) || cx.node.local.contains(&outer.src) {
        return Err(DropReason::SpoofedSource);
    }
    if outer.dst.is_loopback() {
        return Err(DropReason::LoopbackDestination);
    }
    Ok(Admission::Packet(Admitted { tunnel: 0, peer: None, ip: outer }))
}

/// Takes VXLAN off (RFC 7348): only from known peers, only our network, only to our inner MAC address, only from
/// addresses that are the peer's.
fn decapsulate(frame: &Frame, outer: &Ipv4Packet, cx: &mut Context<'_>) -> Result<Admission, DropReason> {
    let node = cx.node;
    let index = *cx.tables.peers.by_address.get(&outer.src).ok_or(DropReason::UnknownPeer)?;
    let peer = cx.tables.peers.get(index).ok_or(DropReason::UnknownPeer)?;
    let bytes = cx.pools.head(frame);
    let vxlan_at = ETHERNET + outer.payload_offset();
    let inner_at = vxlan_at + VxlanHeader::LEN;
    let inner_len = outer.payload_len().checked_sub(VxlanHeader::LEN).ok_or(DropReason::BadVxlanHeader)?;
    let vxlan = bytes.get(vxlan_at..).and_then(VxlanHeader::of).ok_or(DropReason::Truncated)?;
    if vxlan.vni().ok_or(DropReason::BadVxlanHeader)? != node.vni {
        return Err(DropReason::WrongVni);
    }
    let inner = bytes.get(inner_at..).ok_or(DropReason::Truncated)?;
    let ether = parse_ethernet(inner, inner_len).map_err(reason)?;
    if ether.dst != node.vtep_mac {
        return Err(DropReason::WrongInnerMac);
    }
    if ether.ethertype != EtherType::IPV4 {
        return Err(DropReason::NotIpv4);
    }
    let mut ip = inner_packet(&inner[ETHERNET..], ether.l3_len)?;
    if !peer.owns(ip.src) {
        return Err(DropReason::ForeignInnerSource);
    }
    let tos = decap_tos(outer.tos, ip.tos).ok_or(DropReason::CongestionNotEcn)?;
    if tos != ip.tos {
        ip.tos = tos;
        let at = inner_at + ETHERNET;
        if let Some(header) = Ipv4Header::of_mut(&mut cx.pools.head_mut(frame)[at..]) {
            header.set_tos(tos);
        }
    }
    Ok(Admission::Packet(Admitted { tunnel: inner_at, peer: Some(index), ip }))
}

#[inline(always)]
fn inner_packet(bytes: &[u8], l3_len: usize) -> Result<Ipv4Packet, DropReason> {
    let ip = parse_ipv4(bytes, l3_len).map_err(reason)?;
    check_addresses(&ip).map(|()| ip)
}

#[inline(always)]
fn check_addresses(ip: &Ipv4Packet) -> Result<(), DropReason> {
    if !is_valid_source(ip.src) {
        return Err(DropReason::InvalidSource);
    }
    if ip.dst.is_multicast() || ip.dst.is_broadcast() {
        return Err(DropReason::Multicast);
    }
    // Addresses within a host shall not appear outside of it (RFC 1122 3.2.1.3); the host link may take them all the same.
    if ip.dst.is_loopback() {
        return Err(DropReason::LoopbackDestination);
    }
    Ok(())
}

fn answer_arp(frame: &Frame, gateways: &[Ipv4Addr], cx: &mut Context<'_>) -> Result<Admission, DropReason> {
    let bytes = cx.pools.head_mut(frame);
    let request = bytes.get(ETHERNET..).and_then(ArpPacket::parse).ok_or(DropReason::ArpIgnored)?;
    if request.operation() != arp::REQUEST || !gateways.contains(&request.target_ip()) {
        return Err(DropReason::ArpIgnored);
    }
    let ether = EthernetHeader::new(GATEWAY_MAC, request.sender_mac, EtherType::ARP);
    let reply = request.reply(GATEWAY_MAC);
    let written = ether.put(bytes).and_then(|()| reply.put(&mut bytes[ETHERNET..]));
    written.map(|()| Admission::Answer).map_err(|_| DropReason::Truncated)
}

/// A sender on this machine leaves checksums to its device, and AF_XDP does not say so.
#[inline(always)]
fn checksum_state(bytes: &[u8], ip: &Ipv4Packet) -> Checksum {
    let l3 = &bytes[ETHERNET..];
    match (partial::stored_checksum(l3, ip), ip.l4_checksum_offset()) {
        (Some(stored), Some(at)) if partial::is_partial(ip, stored) && !is_exempt(ip, stored) => {
            Checksum::Partial {
                start: (ETHERNET + ip.l4_offset()) as u16,
                offset: (at - ip.l4_offset()) as u16,
            }
        }
        _ => Checksum::AsSent,
    }
}

/// UDP over IPv4 may go without a checksum (RFC 768). A datagram shorter than its packet, of which only forgers know, has
/// a checksum that ends before the packet does.
fn is_exempt(ip: &Ipv4Packet, stored: u16) -> bool {
    ip.protocol == Protocol::UDP && stored == 0
        || matches!(ip.l4, L4::Udp { length, .. } if length != ip.l4_len())
}

fn reason(error: ParseError) -> DropReason {
    match error {
        ParseError::TruncatedEthernet | ParseError::TruncatedIpv4 => DropReason::Truncated,
        ParseError::HeaderSplit => DropReason::HeaderSplit,
        ParseError::NotIpv4 | ParseError::BadIhl | ParseError::BadTotalLength => DropReason::BadIpv4Header,
        ParseError::BadIpv4Checksum => DropReason::BadIpv4Checksum,
        ParseError::BadOptions | ParseError::SourceRoute => DropReason::BadIpv4Options,
        ParseError::BadFragment | ParseError::TinyFragment => DropReason::BadFragment,
        ParseError::TruncatedL4 | ParseError::BadTcpHeaderLength | ParseError::BadUdpLength => {
            DropReason::BadTransportHeader
        }
    }
}
