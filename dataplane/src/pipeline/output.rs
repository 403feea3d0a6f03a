//! Last stage: carries the verdicts out. Crosses between areas, cuts to size, puts tunnels on.

use headrace_wire::Header;
use headrace_wire::ethernet::{EthernetHeader, MacAddr};
use headrace_wire::flow_hash::flow_hash;
use headrace_wire::parse::L4;
use headrace_wire::tcp::TcpHeader;
use headrace_wire::vxlan::Tunnel;

use super::{Context, hop};
use crate::burst::{Burst, Packet, Verdict};
use crate::drop_reason::DropReason;
use crate::frames::{AreaId, Checksum, Frame, Pools};
use crate::port::{LARGEST_GSO, PortIndex, PortSet};
use crate::superframe::coalesce::{Finished, Target};
use crate::superframe::segment::{Failure, Job};
use crate::superframe::{Coalescer, Envelope, complete_checksum, fragment, segment};
use crate::tables::GATEWAY_MAC;
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
    for packet in burst.drain(..) {
        cx.stats.carries(&packet);
        let packet = match packet.verdict {
            Verdict::WaitForFirst => waiting.fragments.enter(packet, cx),
            _ => Some(packet),
        };
        let Some(packet) = packet else { continue };
        match packet.verdict {
            Verdict::Forward(out) | Verdict::Reply(out) => send(packet, out, ports, coalescer, cx),
            Verdict::Punt => {
                cx.stats.hot().to_host.add(1);
                send(packet, Out::Host, ports, coalescer, cx);
            }
            Verdict::Wait(hop) => waiting.enter(hop, packet, cx),
            Verdict::Drop(reason) | Verdict::Refuse(_, reason) => end(packet, reason, cx),
            Verdict::Undecided | Verdict::WaitForFirst => end(packet, DropReason::NoRoute, cx),
        }
    }
    let stats = cx.stats;
    coalescer
        .flush(cx.pools, &mut |pools, (port, frame): Finished| ports.transmit(port, pools, frame, stats));
    stats.hot().segments_in.add(std::mem::take(&mut coalescer.merged));
    stats.carried(packets);
}

fn send(packet: Packet, out: Out, ports: &mut PortSet, coalescer: &mut Coalescer, cx: &mut Context<'_>) {
    let Some((port, envelope)) = way(&packet, out, cx) else {
        let reason = match out {
            Out::Pod(_) | Out::Host => DropReason::PortGone,
            Out::Tunnel(_) | Out::Wire(_) => DropReason::NeighborUnresolved,
        };
        return end(packet, reason, cx);
    };
    let Some(capabilities) = ports.capabilities(port) else {
        let reason = if port == PortIndex::HOST { DropReason::NoHostLink } else { DropReason::PortGone };
        return end(packet, reason, cx);
    };
    let area = if port == PortIndex::UPLINK { AreaId::Uplink } else { AreaId::Pods };
    let mtu = usize::from(hop::mtu(packet.port, out, cx.tables, cx.node));
    if packet.frame.area() == area && area == AreaId::Pods && usize::from(packet.ip.total_len) <= mtu {
        return hand_over(packet, port, &envelope, ports, cx);
    }
    let stats = cx.stats;
    if area == AreaId::Pods && capabilities.superframes {
        let target = Target { port, capabilities, envelope: &envelope };
        let mut emit = |pools: &mut Pools, (port, frame): Finished| ports.transmit(port, pools, frame, stats);
        if coalescer.offer(cx.pools, &packet.frame, &packet.ip, &target, &mut emit) {
            return cx.pools.free(packet.frame);
        }
    }
    let by_port = capabilities.cuts_segments && !envelope.is_tunnel() && is_for_a_port_to_cut(&packet);
    let job = Job {
        ip: &packet.ip,
        envelope: &envelope,
        area,
        segment: segment_size(&packet, mtu, area),
        by_port,
        keep_partial: capabilities.partial_checksums || by_port,
    };
    match make_anew(&packet, &job, mtu, port, ports, cx) {
        Ok(made) if made > 1 => stats.hot().segments_out.add(made as u64),
        Ok(_) => {}
        Err(reason) => return end(packet, reason, cx),
    }
    cx.pools.free(packet.frame);
}

/// The port and the headers of a way out.
fn way(packet: &Packet, out: Out, cx: &Context<'_>) -> Option<(PortIndex, Envelope)> {
    let node = cx.node;
    let hop_mac = |hop| cx.tables.hops.get(hop).and_then(|(_, mac): (_, Option<MacAddr>)| mac);
    Some(match out {
        Out::Pod(port) => (port, Envelope::Plain { src: GATEWAY_MAC, dst: cx.tables.ports.get(port)?.mac }),
        Out::Host => (PortIndex::HOST, Envelope::Plain { src: GATEWAY_MAC, dst: node.host_mac }),
        Out::Wire(hop) => (PortIndex::UPLINK, Envelope::Plain { src: node.uplink_mac, dst: hop_mac(hop)? }),
        Out::Tunnel(index) => {
            let peer = cx.tables.peers.get(index)?;
            let tunnel = Tunnel {
                src_mac: node.uplink_mac,
                dst_mac: hop_mac(peer.hop?)?,
                src: node.address,
                dst: peer.address,
                port: node.vxlan_port,
                vni: node.vni,
            };
            let flow_hash = flow_hash(0, &packet.ip);
            (
                PortIndex::UPLINK,
                Envelope::Tunnel { tunnel, src: node.vtep_mac, dst: peer.vtep_mac, flow_hash },
            )
        }
    })
}

/// Whether a port may cut it: a TCP superframe whose checksum is still to be completed, not larger than a device takes.
fn is_for_a_port_to_cut(packet: &Packet) -> bool {
    hop::is_segmentable(packet)
        && matches!(packet.frame.checksum, Checksum::Partial { .. })
        && EthernetHeader::LEN + usize::from(packet.ip.total_len) < LARGEST_GSO
}

/// Within one area the frame itself changes hands: no copy.
fn hand_over(
    mut packet: Packet,
    port: PortIndex,
    envelope: &Envelope,
    ports: &mut PortSet,
    cx: &mut Context<'_>,
) {
    let head = cx.pools.head_mut(&packet.frame);
    if envelope.write(head, packet.ip.total_len.into(), packet.ip.tos, 0).is_none() {
        return end(packet, DropReason::HeaderSplit, cx);
    }
    let keeps = ports.capabilities(port).is_some_and(|c| c.partial_checksums);
    if packet.frame.checksum != Checksum::AsSent && !keeps {
        let end = EthernetHeader::LEN + usize::from(packet.ip.total_len);
        complete_checksum(cx.pools, &mut packet.frame, end);
        cx.stats.hot().checksums_completed.add(1);
    }
    ports.transmit(port, cx.pools, packet.frame, cx.stats);
}

/// New frames in the other area, or of another size.
fn make_anew(
    packet: &Packet,
    job: &Job<'_>,
    mtu: usize,
    port: PortIndex,
    ports: &mut PortSet,
    cx: &mut Context<'_>,
) -> Result<usize, DropReason> {
    let (stats, state) = (cx.stats, &mut *cx.state);
    let mut next_id = || state.next_ip_id();
    let mut emit = |pools: &mut Pools, frame: Frame| ports.transmit(port, pools, frame, stats);
    let fits = usize::from(packet.ip.total_len) <= mtu || hop::is_segmentable(packet);
    let made = if fits {
        segment::run(cx.pools, &packet.frame, job, &mut next_id, &mut emit)
    } else {
        with_complete_checksum(packet, cx.pools);
        fragment::run(cx.pools, &packet.frame, job, mtu, &mut next_id, &mut emit)
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
