//! Packets to the dataplane itself: the pods' gateway answers ping and nothing else.

use headrace_wire::Header;
use headrace_wire::ethernet::EthernetHeader;
use headrace_wire::icmp4::{IcmpError, echo_reply_in_place};
use headrace_wire::parse::L4;

use super::Context;
use super::route::{self, Transit};
use crate::burst::{Burst, Packet, Verdict};
use crate::drop_reason::DropReason;

/// Decides about packets to an address of our own that belong to no flow.
pub fn run(burst: &mut Burst, cx: &mut Context<'_>) {
    for packet in burst.iter_mut().filter(|p| p.verdict == Verdict::Undecided && p.flow.is_none()) {
        if cx.tables.routes.is_own(packet.ip.dst) {
            packet.verdict = answer(packet, cx);
        }
    }
}

fn answer(packet: &mut Packet, cx: &mut Context<'_>) -> Verdict {
    match packet.ip.l4 {
        L4::IcmpEcho { request: true, .. } if !packet.ip.is_fragment() => {}
        L4::Tcp { .. } | L4::Udp { .. } | L4::Sctp { .. } => {
            return Verdict::Refuse(IcmpError::PortUnreachable, DropReason::ToGateway);
        }
        L4::Later if packet.ip.dst == cx.node.own => return Verdict::WaitForFirst,
        _ => return Verdict::Drop(DropReason::ToGateway),
    }
    let way = route::resolved(route::towards(packet.ip.src, Transit::Allowed, cx), cx);
    let Verdict::Forward(out) = way else { return way };
    let bytes = &mut cx.pools.head_mut(&packet.frame)[EthernetHeader::LEN..];
    if echo_reply_in_place(bytes, &packet.ip).is_err() {
        return Verdict::Drop(DropReason::HeaderSplit);
    }
    std::mem::swap(&mut packet.ip.src, &mut packet.ip.dst);
    Verdict::Reply(out)
}
