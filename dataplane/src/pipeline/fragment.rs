//! Later fragments, which have no ports: they follow the first one of their datagram, which may come after them.

use headrace_wire::parse::{Fragment, L4};

use super::{Context, route};
use crate::burst::{Packet, Verdict};
use crate::flows::{Flow, FlowKey};

/// What was decided for a first fragment holds for the later ones of its datagram; what was decided for an earlier datagram
/// of the same identification does not.
pub fn lead(packet: &Packet, cx: &mut Context<'_>) {
    if packet.ip.fragment != Fragment::First {
        return;
    }
    let fragments = FlowKey::of_fragments(&packet.ip);
    match &packet.flow {
        Some((key, flow)) if flow.translates(key) || is_ambiguous(packet, cx) => {
            cx.flows.follow_fragments(&fragments, flow, cx.now, cx.stats.hot());
        }
        Some(_) => cx.flows.forget_fragments(&fragments),
        None if packet.verdict == Verdict::Punt => {
            cx.flows.follow_fragments(&fragments, &Flow::punted(&fragments), cx.now, cx.stats.hot());
        }
        None => cx.flows.forget_fragments(&fragments),
    }
}

/// Whether a later fragment of which no first one is known has to wait for it, since it may be to be translated.
pub fn must_wait(packet: &Packet, cx: &Context<'_>) -> bool {
    matches!(packet.ip.l4, L4::Later) && is_ambiguous(packet, cx)
}

/// Whether the destination alone does not say that nothing is translated.
fn is_ambiguous(packet: &Packet, cx: &Context<'_>) -> bool {
    let (node, dst) = (cx.node, packet.ip.dst);
    let uses = cx.tables.services.uses(dst);
    route::came_plain(packet) && !node.pod_cidr.contains(dst)
        || uses.cluster + uses.external > 0
        || node.service_ranges.iter().any(|range| range.contains(dst))
        // Answers to masqueraded connections, NodePorts and host ports.
        || dst == node.own
        || node.has(dst)
}
