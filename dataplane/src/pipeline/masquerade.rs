//! The source that a receiver sees.
//!
//! Towards pods and processes of this node a masqueraded source is the dataplane's own address, the second of the pod
//! range; towards everything else it is the node's, with a port of the reserved range. Either way the answer comes back here.

use headrace_wire::nat::Rewrite;

use super::Context;
use super::service::{Target, Translated};
use crate::burst::Packet;
use crate::flows::SourcePorts;
use crate::tables::routes::Out;

/// The tuple with its source, and which source ports it may have: `None` = the sender's own.
pub fn source<'a>(
    packet: &Packet,
    target: &Target<'_>,
    out: Out,
    cx: &Context<'a>,
) -> (Rewrite, Option<SourcePorts<'a>>) {
    let mut rewrite = target.rewrite;
    let near = matches!(out, Out::Pod(_) | Out::Host);
    if target.service.is_some_and(|service| hides_client(packet, target, service, out, cx)) {
        if near {
            rewrite.src = cx.node.own;
            return (rewrite, Some(SourcePorts::OwnOrAny));
        }
        rewrite.src = cx.node.address;
        return (rewrite, Some(SourcePorts::Of(cx.node.snat_ports.usable())));
    }
    if leaves_cluster(packet, &rewrite, out, cx) {
        rewrite.src = cx.node.address;
        return (rewrite, Some(SourcePorts::Of(cx.node.snat_ports.usable())));
    }
    (rewrite, None)
}

fn hides_client(
    packet: &Packet,
    target: &Target<'_>,
    service: Translated<'_>,
    out: Out,
    cx: &Context<'_>,
) -> bool {
    let hairpin = match out {
        // The endpoint itself: its answer must come back here.
        Out::Pod(port) => port == packet.port,
        // The node's stack takes no packet that carries its own address.
        Out::Host => cx.node.has(packet.ip.src),
        Out::Tunnel(_) | Out::Wire(_) => target.rewrite.dst == packet.ip.src,
    };
    // Loopback addresses mean the node only within it.
    service.masquerade || hairpin || packet.ip.src.is_loopback()
}

fn leaves_cluster(packet: &Packet, rewrite: &Rewrite, out: Out, cx: &Context<'_>) -> bool {
    let node = cx.node;
    matches!(out, Out::Wire(_))
        && node.masquerade
        && node.pod_cidr.contains(packet.ip.src)
        && !node.plain_ranges.iter().any(|r| r.contains(rewrite.dst))
        && !cx.tables.peers.list.iter().any(|p| p.owns(rewrite.dst))
}
