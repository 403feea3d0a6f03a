//! Addresses, ports and time to live of packets that leave.

use headrace_wire::Header;
use headrace_wire::checksum::L4Checksum;
use headrace_wire::ethernet::EthernetHeader;
use headrace_wire::ipv4::Ipv4Header;
use headrace_wire::nat::{self, Rewrite};
use headrace_wire::parse::{Fragment, L4};

use super::Context;
use crate::burst::{Burst, Packet, Verdict};
use crate::drop_reason::DropReason;
use crate::frames::Checksum;
use crate::port::PortIndex;
use crate::tables::PeerTally;
use crate::tables::routes::Out;

/// Rewrites what is forwarded. Answers are complete already, and what is handed back to the node stays as it came.
pub fn run(burst: &mut Burst, cx: &mut Context<'_>) {
    let flows = cx.flows;
    let tally = flows.tally();
    let mut peers = PeerTally::new(cx.tables);
    let mut within_node = None;
    for packet in burst.iter_mut().filter(|p| matches!(p.verdict, Verdict::Forward(_))) {
        let from = peers.origin(packet);
        if spoils_crc(packet) {
            packet.verdict = Verdict::Drop(DropReason::SctpFragment);
        } else if rewrite(packet, cx).is_none() {
            packet.verdict = Verdict::Drop(DropReason::HeaderSplit);
            continue;
        }
        let bytes = packet.ip.total_len;
        if let Some((key, flow)) = &packet.flow {
            tally.add(flow.slot, bytes);
            if flows.takes_offers() && is_within_node(packet) {
                within_node = Some(*key);
            }
        }
        peers.carried(from, packet);
    }
    // One of a burst: what is busy comes up soon enough.
    if let Some(key) = within_node {
        flows.offer(&key);
    }
}

fn is_within_node(packet: &Packet) -> bool {
    packet.port >= PortIndex::FIRST_POD && matches!(packet.verdict, Verdict::Forward(Out::Pod(_)))
}

/// SCTP's CRC covers the ports, and bringing it up to date takes the packet's length, which a first fragment does not tell.
fn spoils_crc(packet: &Packet) -> bool {
    let (L4::Sctp { src_port, dst_port }, Fragment::First) = (packet.ip.l4, packet.ip.fragment) else {
        return false;
    };
    let stays = |new: &Rewrite| (new.src_port, new.dst_port) == (src_port, dst_port);
    !packet.flow.as_ref().is_none_or(|(_, flow)| stays(&flow.rewrite))
}

fn rewrite(packet: &mut Packet, cx: &mut Context<'_>) -> Option<()> {
    let l3 = cx.pools.head_mut(&packet.frame).get_mut(EthernetHeader::LEN..)?;
    if let Some((key, flow)) = &packet.flow
        && flow.translates(key)
    {
        let state = match packet.frame.checksum {
            Checksum::AsSent => L4Checksum::Complete,
            Checksum::Partial { .. } => L4Checksum::Partial,
        };
        nat::apply(l3, &packet.ip, &flow.rewrite, flow.deltas, state).ok()?;
        packet.ip.src = flow.rewrite.src;
        packet.ip.dst = flow.rewrite.dst;
    }
    packet.ip.ttl = Ipv4Header::of_mut(l3)?.decrement_ttl().ok()?;
    Some(())
}
