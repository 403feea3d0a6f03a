//! Frames as filters see them.

use std::net::{IpAddr, Ipv4Addr};

use headrace_api::filter::{self, Subject};
use headrace_wire::Header;
use headrace_wire::ethernet::EthernetHeader;
use headrace_wire::nat::Rewrite;
use headrace_wire::parse::{Fragment, Ipv4Packet, L4, parse_ethernet, parse_ipv4};
use headrace_wire::vxlan::{ENCAP_LEN, VxlanHeader};

use crate::flows::{FlowKey, Flows};
use crate::frames::{Frame, Pool};

/// Appends a frame's bytes, at most `limit`.
pub(super) fn copy(pool: &Pool, frame: &Frame, limit: usize, bytes: &mut Vec<u8>) {
    for piece in pool.pieces(frame) {
        let left = limit.saturating_sub(bytes.len());
        let piece = pool.bytes(piece);
        bytes.extend_from_slice(&piece[..piece.len().min(left)]);
    }
}

/// The IP packet of a frame, the inner one where there is a tunnel to `vxlan_port`. `None` = it is no IPv4 that can be read.
pub fn packet(bytes: &[u8], frame_len: usize, vxlan_port: u16) -> Option<Ipv4Packet> {
    let outer = bare(bytes, frame_len)?;
    let tunnelled = matches!(outer.l4, L4::Udp { dst_port, .. } if dst_port == vxlan_port)
        && outer.fragment == Fragment::Whole
        && EthernetHeader::LEN + outer.payload_offset() + VxlanHeader::LEN == ENCAP_LEN;
    let inner = || bare(bytes.get(ENCAP_LEN..)?, frame_len.checked_sub(ENCAP_LEN)?);
    if tunnelled && let Some(inner) = inner() { Some(inner) } else { Some(outer) }
}

fn bare(bytes: &[u8], frame_len: usize) -> Option<Ipv4Packet> {
    let ether = parse_ethernet(bytes, frame_len).ok()?;
    parse_ipv4(bytes.get(EthernetHeader::LEN..)?, ether.l3_len).ok()
}

/// What a filter is asked about a packet: with the tuple that it has on the other side of its translation.
pub(super) fn subject(ip: &Ipv4Packet, flows: &Flows, leaves: bool, dropped: bool) -> Subject {
    let key = FlowKey::of(ip);
    let ours = key.tuple;
    let back = FlowKey { tuple: ours.reversed(), ..key };
    let known = if leaves { None } else { flows.peek(&key).map(|flow| (key, flow, flow.rewrite)) };
    // A packet that was translated answers to the flow of its answer.
    let known = known.or_else(|| flows.peek(&back).map(|flow| (back, flow, flow.rewrite.reversed())));
    let theirs = known.map_or(ours, |(_, _, other)| other);
    Subject {
        protocol: ip.protocol.0,
        tuples: [tuple(&ours), tuple(&theirs)],
        state: known.map(|(key, flow, _)| flows.state(&key, &flow)),
        dropped,
    }
}

/// Addresses and ports in the terms of filters.
pub fn tuple(t: &Rewrite) -> filter::Tuple {
    let end = |address: Ipv4Addr, port| (IpAddr::V4(address), port);
    filter::Tuple { source: end(t.src, t.src_port), destination: end(t.dst, t.dst_port) }
}
