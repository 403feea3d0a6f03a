//! First packets: which Service, which way, which source. What is decided here, the flow remembers.

use headrace_wire::parse::L4;

use super::flow::{self, announced_mss, begins_tcp};
use super::masquerade::source;
use super::route::{self, Transit};
use super::service::{self, Target};
use super::{Context, fragment};
use crate::burst::{Burst, Packet, Verdict};
use crate::drop_reason::DropReason;
use crate::flows::{Connection, FlowKey, Seen, SourcePorts};
use crate::port::PortIndex;
use crate::tables::Route;
use crate::tables::routes::Out;

/// Decides about packets that belong to no flow, and makes one for those that leave.
pub fn run(burst: &mut Burst, cx: &mut Context<'_>) {
    for packet in burst.iter_mut().filter(|p| p.verdict == Verdict::Undecided && p.flow.is_none()) {
        packet.verdict = decide(packet, cx);
        if packet.verdict == Verdict::Punt {
            fragment::lead(packet, cx);
        }
    }
}

fn decide(packet: &mut Packet, cx: &mut Context<'_>) -> Verdict {
    // A packet before it in the burst may have made its flow.
    let verdict = flow::join(packet, &cx.flows.seek(&FlowKey::of(&packet.ip)), cx);
    if packet.flow.is_some() {
        return verdict.unwrap_or(Verdict::Undecided);
    }
    if fragment::must_wait(packet, cx) {
        return Verdict::WaitForFirst;
    }
    let target = service::target(packet, cx);
    if route::came_plain(packet) {
        let is_ours = !matches!(&target, Ok(target) if target.service.is_none());
        if !is_ours && !cx.node.pod_cidr.contains(packet.ip.dst) {
            // The XDP program stole it and no flow knows it: it is the node's.
            return Verdict::Punt;
        }
        if !may_come_plain(packet, cx) {
            return Verdict::Drop(DropReason::UntunnelledSource);
        }
    }
    let target = match target {
        Ok(target) => target,
        Err(verdict) => return verdict,
    };
    // A packet by a tunnel has arrived, but for one to a Service of this node.
    let has_arrived = packet.peer.is_some() && target.service.is_none();
    let transit = if has_arrived { Transit::Refused } else { Transit::Allowed };
    let out = match route::towards(target.rewrite.dst, transit, cx) {
        Verdict::Forward(out) => out,
        other => return other,
    };
    if packet.port == PortIndex::HOST && out == Out::Host && target.service.is_none() {
        return Verdict::Drop(DropReason::NoRoute);
    }
    if !makes_flow(packet) {
        return without_flow(packet, &target, out, cx);
    }
    connect(packet, &target, out, cx)
}

/// Who may send to this node without a tunnel: peers in direct mode, and hosts outside the cluster.
fn may_come_plain(packet: &Packet, cx: &Context<'_>) -> bool {
    match cx.tables.routes.lookup(packet.ip.src) {
        Route::Peer(peer) => {
            cx.tables.peers.get(peer).is_some_and(|p| p.direct || p.addresses.contains(&packet.ip.src))
        }
        Route::Outside(_) | Route::None => true,
        Route::Pod(_) | Route::Own | Route::Host => false,
    }
}

/// Later fragments and ICMP errors travel without a flow, and an RST makes none.
fn makes_flow(packet: &Packet) -> bool {
    match packet.ip.l4 {
        L4::Tcp { flags, .. } => !flags.contains(headrace_wire::tcp::TcpFlags::RST),
        L4::IcmpError { .. } | L4::Later => false,
        L4::Udp { .. } | L4::Sctp { .. } | L4::IcmpEcho { .. } | L4::Icmp { .. } | L4::Other => true,
    }
}

/// What cannot have a flow goes on only untranslated.
fn without_flow(packet: &Packet, target: &Target<'_>, out: Out, cx: &Context<'_>) -> Verdict {
    let (_, wants_source) = source(packet, target, out, cx);
    if target.service.is_none() && wants_source.is_none() {
        return Verdict::Forward(out);
    }
    match packet.ip.l4 {
        L4::Later => Verdict::WaitForFirst,
        L4::IcmpError { .. } => Verdict::Drop(DropReason::IcmpErrorUnrelated),
        _ => Verdict::Drop(DropReason::TcpMidStream),
    }
}

fn connect(packet: &mut Packet, target: &Target<'_>, out: Out, cx: &mut Context<'_>) -> Verdict {
    let (rewrite, ports) = source(packet, target, out, cx);
    let key = FlowKey::of(&packet.ip);
    let connection = Connection {
        key,
        rewrite,
        source_ports: ports.unwrap_or(SourcePorts::OwnOrAny),
        out,
        route_generation: cx.tables.route_generation,
        service: target.service.map(|service| service.hits),
        service_generation: cx.tables.services.generation(),
        seen: match packet.ip.l4 {
            L4::Tcp { flags, .. } => Seen::of_tcp(flags),
            _ => Seen::DATA,
        },
    };
    let hot = cx.stats.hot();
    let flow = match cx.flows.connect(&connection, cx.now, &mut cx.state.random, hot) {
        Ok(flow) => flow,
        Err(reason) => return Verdict::Drop(reason),
    };
    if begins_tcp(&packet.ip)
        && let Some(mss) = announced_mss(cx.pools, &packet.frame, &packet.ip)
    {
        cx.flows.limit_partner(&key, &flow, mss, false);
    }
    packet.flow = Some((key, flow));
    fragment::lead(packet, cx);
    // Another worker may have made it first, with another endpoint: its way out counts.
    Verdict::Undecided
}
