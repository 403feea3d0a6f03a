//! First packets: which Service, which way, which source. What is decided here, the flow remembers.
//!
//! The rest of kube-proxy's behaviour (node ports, external addresses, traffic policies, affinity, source ranges) belongs
//! into [`to_service`] and [`source`].

use headrace_wire::icmp4::IcmpError;
use headrace_wire::nat::Rewrite;
use headrace_wire::parse::{Fragment, L4};

use super::Context;
use super::flow::{self, announced_mss, begins_tcp, frontend};
use super::route::{self, Transit};
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
    }
}

/// Where a connection goes, before its way is known.
struct Target {
    rewrite: Rewrite,
    /// Generation of Services in which its endpoint was chosen.
    service: Option<u16>,
}

fn decide(packet: &mut Packet, cx: &mut Context<'_>) -> Verdict {
    // A packet before it in the burst may have made its flow.
    packet.flow = flow::find(packet, cx);
    if packet.flow.is_some() {
        return Verdict::Undecided;
    }
    if route::came_plain(packet) {
        if !cx.node.pod_cidr.contains(packet.ip.dst) {
            // The XDP program stole it and no flow knows it: it is the node's.
            return Verdict::Punt;
        }
        if !may_come_plain(packet, cx) {
            return Verdict::Drop(DropReason::UntunnelledSource);
        }
    }
    let target = match to_service(packet, cx) {
        Ok(target) => target,
        Err(verdict) => return verdict,
    };
    let transit = if packet.peer.is_some() { Transit::Refused } else { Transit::Allowed };
    let out = match route::towards(target.rewrite.dst, transit, cx) {
        Verdict::Forward(out) => out,
        other => return other,
    };
    if packet.port == PortIndex::HOST && out == Out::Host && target.service.is_none() {
        return Verdict::Drop(DropReason::NoRoute);
    }
    if !makes_flow(packet) {
        let (_, wants_source) = source(packet, &target, out, cx);
        let translated = target.service.is_some() || wants_source.is_some();
        return if translated { Verdict::Drop(untranslatable(packet)) } else { Verdict::Forward(out) };
    }
    connect(packet, &target, out, cx)
}

/// Who may send to a pod of this node without a tunnel: peers in direct mode, and hosts outside the cluster.
fn may_come_plain(packet: &Packet, cx: &Context<'_>) -> bool {
    match cx.tables.routes.lookup(packet.ip.src) {
        Route::Peer(peer) => {
            cx.tables.peers.get(peer).is_some_and(|p| p.direct || p.addresses.contains(&packet.ip.src))
        }
        Route::Outside(_) | Route::None => true,
        Route::Pod(_) | Route::Own | Route::Host => false,
    }
}

/// The endpoint, when the destination is a Service; else the destination itself.
fn to_service(packet: &Packet, cx: &mut Context<'_>) -> Result<Target, Verdict> {
    let ip = &packet.ip;
    let mut rewrite = Rewrite::unchanged(ip);
    // Peers translate their own clients' packets: an address of a Service never comes by the wire.
    if packet.port == PortIndex::UPLINK {
        return Ok(Target { rewrite, service: None });
    }
    let service = match ip.l4 {
        L4::Tcp { dst_port, .. } | L4::Udp { dst_port, .. } => {
            cx.tables.services.get(&frontend(&ip.dst, dst_port, ip.protocol))
        }
        _ => None,
    };
    let Some(service) = service else {
        let in_range = cx.node.service_ranges.iter().any(|r| r.contains(ip.dst));
        return match (in_range, ip.fragment) {
            (true, Fragment::Later { .. }) => Err(Verdict::Drop(DropReason::FragmentUnknown)),
            (true, _) => Err(Verdict::Drop(DropReason::NoService)),
            (false, _) => Ok(Target { rewrite, service: None }),
        };
    };
    let Some((address, port)) = service.choose(cx.state.random.word()) else {
        return Err(Verdict::Refuse(IcmpError::PortUnreachable, DropReason::NoEndpoint));
    };
    if matches!(ip.l4, L4::Tcp { .. }) && !begins_tcp(ip) {
        return Err(Verdict::Drop(DropReason::TcpMidStream));
    }
    rewrite.dst = address;
    rewrite.dst_port = port;
    Ok(Target { rewrite, service: Some(cx.tables.services.generation()) })
}

/// The source that the receiver sees, and which ports it may have: `None` = the sender's own.
fn source<'a>(
    packet: &Packet,
    target: &Target,
    out: Out,
    cx: &Context<'a>,
) -> (Rewrite, Option<SourcePorts<'a>>) {
    let node = cx.node;
    let mut rewrite = target.rewrite;
    let own_source = target.service.is_some()
        && match out {
            // The endpoint itself: its answer must come back here.
            Out::Pod(port) => port == packet.port,
            // The node's stack takes no packet that carries its own address.
            Out::Host => node.local.contains(&packet.ip.src),
            Out::Tunnel(_) | Out::Wire(_) => false,
        };
    if own_source {
        rewrite.src = node.own;
        return (rewrite, Some(SourcePorts::OwnOrAny));
    }
    let leaves = matches!(out, Out::Wire(_))
        && !node.plain_ranges.iter().any(|r| r.contains(rewrite.dst))
        && !cx.tables.peers.list.iter().any(|p| p.owns(rewrite.dst));
    if node.masquerade && leaves && node.pod_cidr.contains(packet.ip.src) {
        rewrite.src = node.address;
        return (rewrite, Some(SourcePorts::Of(node.snat_ports.usable())));
    }
    (rewrite, None)
}

/// Later fragments and ICMP errors travel without a flow, and an RST makes none.
fn makes_flow(packet: &Packet) -> bool {
    match packet.ip.l4 {
        L4::Tcp { flags, .. } => !flags.contains(headrace_wire::tcp::TcpFlags::RST),
        L4::IcmpError { .. } | L4::Later => false,
        L4::Udp { .. } | L4::IcmpEcho { .. } | L4::Icmp { .. } | L4::Other => true,
    }
}

fn untranslatable(packet: &Packet) -> DropReason {
    match packet.ip.l4 {
        L4::Later => DropReason::FragmentUnknown,
        L4::IcmpError { .. } => DropReason::IcmpErrorUnrelated,
        _ => DropReason::TcpMidStream,
    }
}

fn connect(packet: &mut Packet, target: &Target, out: Out, cx: &mut Context<'_>) -> Verdict {
    let (rewrite, ports) = source(packet, target, out, cx);
    let key = FlowKey::of(&packet.ip);
    let connection = Connection {
        key,
        rewrite,
        source_ports: ports.unwrap_or(SourcePorts::OwnOrAny),
        out,
        route_generation: cx.tables.route_generation,
        service_generation: target.service,
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
        && let Some(mss) = announced_mss(cx.pools, packet)
    {
        cx.flows.limit_partner(&key, &flow, mss, false);
    }
    packet.flow = Some((key, flow));
    flow::lead_fragments(packet, cx);
    // Another worker may have made it first, with another endpoint: its way out counts.
    Verdict::Undecided
}
