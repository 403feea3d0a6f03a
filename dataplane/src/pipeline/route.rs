//! The way out: cached in the flow, found anew when routes have changed, and never without a MAC address to send to.

use std::net::Ipv4Addr;

use headrace_wire::icmp4::IcmpError;

use super::Context;
use crate::burst::{Burst, Packet, Verdict};
use crate::drop_reason::DropReason;
use crate::port::PortIndex;
use crate::tables::routes::Out;
use crate::tables::{HopIndex, Peer, PeerIndex, Route};

/// Gives packets of known flows their way out, then makes every packet that leaves by the uplink sure of its next hop.
pub fn run(burst: &mut Burst, cx: &mut Context<'_>) {
    // Of the packets of a burst many take one way.
    let mut sure = None;
    for packet in burst.iter_mut() {
        if packet.verdict == Verdict::Undecided {
            packet.verdict = by_flow(packet, cx);
        }
        if let Verdict::Forward(out) | Verdict::Reply(out) = packet.verdict
            && sure != Some(out)
        {
            let verdict = resolved(packet.verdict, cx);
            if verdict == packet.verdict {
                sure = Some(out);
            }
            packet.verdict = verdict;
        }
    }
}

/// Whether a packet may go on to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transit {
    /// It may: it began on this node, or answers what went through it.
    Allowed,
    /// What came by a tunnel has arrived: sending it on would make loops of peers that disagree.
    Refused,
}

/// The verdict for a packet that goes to `destination`, whatever it was sent to.
pub fn towards(destination: Ipv4Addr, transit: Transit, cx: &Context<'_>) -> Verdict {
    match (cx.tables.routes.lookup(destination), transit) {
        (Route::Pod(port), _) => Verdict::Forward(Out::Pod(port)),
        (Route::Host, _) => Verdict::Forward(Out::Host),
        (Route::Own, _) => Verdict::Drop(DropReason::ToGateway),
        (Route::None, Transit::Allowed) => Verdict::Refuse(IcmpError::HostUnreachable, DropReason::NoRoute),
        (Route::Peer(_) | Route::Outside(_) | Route::None, Transit::Refused) => {
            Verdict::Drop(DropReason::TunnelTransit)
        }
        (Route::Peer(peer), Transit::Allowed) => to_peer(peer, cx),
        (Route::Outside(gateway), Transit::Allowed) => to_hop(gateway.unwrap_or(destination), cx),
    }
}

fn by_flow(packet: &mut Packet, cx: &mut Context<'_>) -> Verdict {
    let Some((key, flow)) = &mut packet.flow else { return Verdict::Undecided };
    let generation = cx.tables.route_generation;
    if flow.route_generation == generation
        && let Some(out) = flow.out
    {
        return Verdict::Forward(out);
    }
    let answers = !flow.original || flow.service || packet.peer.is_none();
    let transit = if answers { Transit::Allowed } else { Transit::Refused };
    let verdict = towards(flow.rewrite.dst, transit, cx);
    if let Verdict::Forward(out) = verdict {
        cx.flows.set_route(key, flow, out, generation);
    }
    verdict
}

fn to_peer(index: PeerIndex, cx: &Context<'_>) -> Verdict {
    match cx.tables.peers.get(index) {
        Some(Peer { hop: Some(hop), direct: true, .. }) => Verdict::Forward(Out::Wire(*hop)),
        Some(Peer { hop: Some(_), direct: false, .. }) => Verdict::Forward(Out::Tunnel(index)),
        Some(Peer { hop: None, .. }) | None => Verdict::Drop(DropReason::NoRoute),
    }
}

fn to_hop(address: Ipv4Addr, cx: &Context<'_>) -> Verdict {
    match cx.tables.hops.find(address) {
        Some(hop) => Verdict::Forward(Out::Wire(hop)),
        None => Verdict::Wait(address),
    }
}

fn hop_of(out: Out, cx: &Context<'_>) -> Option<HopIndex> {
    match out {
        Out::Wire(hop) => Some(hop),
        Out::Tunnel(peer) => cx.tables.peers.get(peer)?.hop,
        Out::Pod(_) | Out::Host => None,
    }
}

/// The verdict itself, or [`Verdict::Wait`] when the next hop's MAC address is not known yet. Stages that write an answer
/// or a translation ask before they do, since a packet that waits begins again with the bytes it came in with.
pub fn resolved(verdict: Verdict, cx: &Context<'_>) -> Verdict {
    let (Verdict::Forward(out) | Verdict::Reply(out)) = verdict else { return verdict };
    let Some(hop) = hop_of(out, cx) else { return verdict };
    match cx.tables.hops.get(hop) {
        Some((_, Some(_))) => verdict,
        Some((address, None)) => Verdict::Wait(address),
        None => Verdict::Drop(DropReason::NoRoute),
    }
}

/// Whether a packet came over the wire without a tunnel.
pub fn came_plain(packet: &Packet) -> bool {
    packet.port == PortIndex::UPLINK && packet.peer.is_none()
}
