//! Last stage: carries the verdicts out. Crosses between areas, cuts to size, puts tunnels on.

use headrace_wire::Header;
use headrace_wire::ethernet::EthernetHeader;
use headrace_wire::flow_hash::flow_hash;
use headrace_wire::parse::L4;
use headrace_wire::tcp::TcpHeader;

use super::way::{Way, Ways};
use super::{Context, hop};
use crate::burst::{Burst, Packet, Verdict};
use crate::drop_reason::DropReason;
use crate::frames::{AreaId, Checksum, Frame, Pools};
use crate::port::{LARGEST_GSO, PortSet};
use crate::superframe::coalesce::{Finished, Target};
use crate::superframe::segment::{Failure, Job};
use crate::superframe::{Coalescer, complete_checksum, fragment, segment, whole};
use crate::tables::routes::Out;
use crate::worker::WaitingRoom;

/// Ends the burst: every packet leaves, waits, or is counted and freed.
pub fn run(
    burst: &mut Burst,
    ports: &mut PortSet,
    coalescer: &mut Coalescer,
    waiting: &mut WaitingRoom,
    cx: &mut Context<'_>,
) {
    let packets = burst.len();
    let mut ways = Ways::default();
    for packet in burst.drain(..) {
        cx.stats.carries(&packet);
        match packet.verdict {
            Verdict::Forward(out) | Verdict::Reply(out) => send(packet, out, &mut ways, ports, coalescer, cx),
            Verdict::Wait(hop) => waiting.enter(hop, packet, cx),
            Verdict::WaitForFirst => {
                if let Some(packet) = waiting.fragments.enter(packet, cx) {
                    stay(packet, &mut ways, ports, coalescer, cx);
                }
            }
            _ => stay(packet, &mut ways, ports, coalescer, cx),
        }
    }
    let stats = cx.stats;
    coalescer
        .flush(cx.pools, &mut |pools, (port, frame): Finished| ports.transmit(port, pools, frame, stats));
    stats.hot().segments_in.add(std::mem::take(&mut coalescer.merged));
    stats.carried(packets);
}

/// What goes no further than this node.
fn stay(
    packet: Packet,
    ways: &mut Ways,
    ports: &mut PortSet,
    coalescer: &mut Coalescer,
    cx: &mut Context<'_>,
) {
    match packet.verdict {
        Verdict::Punt => {
            cx.stats.hot().to_host.add(1);
            send(packet, Out::Host, ways, ports, coalescer, cx);
        }
        Verdict::Drop(reason) | Verdict::Refuse(_, reason) => end(packet, reason, cx),
        _ => end(packet, DropReason::NoRoute, cx),
    }
}

#[inline]
fn send(
    packet: Packet,
    out: Out,
    ways: &mut Ways,
    ports: &mut PortSet,
    coalescer: &mut Coalescer,
    cx: &mut Context<'_>,
) {
    let way = match ways.get(packet.port, out, ports, cx) {
        Ok(way) => way,
        Err(reason) => return end(packet, reason, cx),
    };
    let fits = usize::from(packet.ip.total_len) <= way.mtu;
    if packet.frame.area() == way.area && way.area == AreaId::Pods && fits {
        return hand_over(packet, way, ports, cx);
    }
    if way.envelope.is_tunnel() {
        way.envelope.set_flow_hash(flow_hash(0, &packet.ip));
    }
    let stats = cx.stats;
    if way.area == AreaId::Pods && way.capabilities.superframes {
        let target = Target { port: way.port, capabilities: way.capabilities, envelope: &way.envelope };
        let mut emit = |pools: &mut Pools, (port, frame): Finished| ports.transmit(port, pools, frame, stats);
        if coalescer.offer(cx.pools, &packet.frame, &packet.ip, &target, &mut emit) {
            return cx.pools.free(packet.frame);
        }
    }
    match make_anew(&packet, way, fits, ports, cx) {
        Ok(made) if made > 1 => stats.hot().segments_out.add(made as u64),
        Ok(_) => {}
        Err(reason) => return end(packet, reason, cx),
    }
    cx.pools.free(packet.frame);
}

/// Whether a port may cut it: a TCP superframe whose checksum is still to be completed, not larger than a device takes.
fn is_for_a_port_to_cut(packet: &Packet) -> bool {
    hop::is_segmentable(packet)
        && matches!(packet.frame.checksum, Checksum::Partial { .. })
        && EthernetHeader::LEN + usize::from(packet.ip.total_len) < LARGEST_GSO
}

/// Within one area the frame itself changes hands: no copy.
fn hand_over(mut packet: Packet, way: &Way, ports: &mut PortSet, cx: &mut Context<'_>) {
    let head = cx.pools.head_mut(&packet.frame);
    if way.envelope.write(head, packet.ip.total_len.into(), packet.ip.tos, 0).is_none() {
        return end(packet, DropReason::HeaderSplit, cx);
    }
    if packet.frame.checksum != Checksum::AsSent && !way.capabilities.partial_checksums {
        let end = EthernetHeader::LEN + usize::from(packet.ip.total_len);
        complete_checksum(cx.pools, &mut packet.frame, end);
        cx.stats.hot().checksums_completed.add(1);
    }
    ports.transmit(way.port, cx.pools, packet.frame, cx.stats);
}

/// New frames in the other area, or of another size.
fn make_anew(
    packet: &Packet,
    way: &Way,
    fits: bool,
    ports: &mut PortSet,
    cx: &mut Context<'_>,
) -> Result<usize, DropReason> {
    let (stats, state) = (cx.stats, &mut *cx.state);
    let mut next_id = || state.next_ip_id();
    let mut emit = |pools: &mut Pools, frame: Frame| ports.transmit(way.port, pools, frame, stats);
    let by_port = way.capabilities.cuts_segments && !way.envelope.is_tunnel() && is_for_a_port_to_cut(packet);
    let job = Job {
        ip: &packet.ip,
        envelope: &way.envelope,
        area: way.area,
        segment: segment_size(packet, way.mtu, way.area),
        by_port,
        keep_partial: way.capabilities.partial_checksums || by_port,
    };
    let made = if fits || hop::is_segmentable(packet) {
        if let Some(frame) = whole::run(cx.pools, &packet.frame, &job, &mut next_id) {
            emit(cx.pools, frame);
            return Ok(1);
        }
        segment::run(cx.pools, &packet.frame, &job, &mut next_id, &mut emit)
    } else {
        with_complete_checksum(packet, cx.pools);
        fragment::run(cx.pools, &packet.frame, &job, way.mtu, &mut next_id, &mut emit)
    };
    made.map_err(|failure| match failure {
        Failure::NoChunk => DropReason::NoChunk,
        Failure::BadChecksum => DropReason::BadChecksum,
        Failure::TooBig => DropReason::TooBig,
    })
}

/// Fragments carry a datagram's checksum in their first one: it must be complete before.
fn with_complete_checksum(packet: &Packet, pools: &mut Pools) {
    if let Checksum::Partial { start, offset } = packet.frame.checksum {
        let end = EthernetHeader::LEN + usize::from(packet.ip.total_len);
        crate::superframe::write_complete(pools, &packet.frame, (start, offset), end);
    }
}

/// Most payload of a segment: what the receiver announced less this segment's options (RFC 6691), and what fits the way.
/// 0 = it goes as it is.
fn segment_size(packet: &Packet, mtu: usize, area: AreaId) -> usize {
    let L4::Tcp { header_len, .. } = packet.ip.l4 else { return 0 };
    if packet.ip.is_fragment() {
        return 0;
    }
    let fits = mtu.saturating_sub(packet.ip.payload_offset()).max(1);
    let announced = packet.flow.as_ref().map_or(0, |(_, flow)| usize::from(flow.mss));
    let options = usize::from(header_len) - TcpHeader::LEN;
    if announced <= options || area == AreaId::Pods {
        return fits;
    }
    fits.min(announced - options)
}

fn end(packet: Packet, reason: DropReason, cx: &mut Context<'_>) {
    cx.stats.end(packet.port, cx.pools, packet.frame, reason);
}
