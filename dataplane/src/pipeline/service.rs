//! First packets to a Service: who serves, or what the client gets instead.
//!
//! The order is kube-proxy's: source ranges before anything is translated, then endpoints by policy, then refusals
//! (kubernetes, pkg/proxy/nftables/proxier.go).

use std::net::Ipv4Addr;

use headrace_wire::icmp4::IcmpError;
use headrace_wire::nat::Rewrite;
use headrace_wire::parse::L4;

use super::Context;
use super::flow::{begins_tcp, frontend_key};
use crate::burst::{Packet, Verdict};
use crate::drop_reason::DropReason;
use crate::flows::Choice;
use crate::port::PortIndex;
use crate::tables::service::{Endpoint, Frontend, FrontendKind, Hits, Origin, choose};

/// Where a connection goes, before its way is known.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The destination it leaves with; the source is still its own.
    pub rewrite: Rewrite,
    /// How its destination was translated; `None` = it is no Service's.
    pub service: Option<Translated<'a>>,
}

/// What a Service says of a connection to it.
#[derive(Clone, Copy, Debug)]
pub struct Translated<'a> {
    /// Generation of Services in which its endpoint was chosen.
    pub generation: u32,
    /// Whether the endpoint must not see the client's address, so that it answers through this node.
    pub masquerade: bool,
    /// Where its connections are counted.
    pub hits: &'a Hits,
}

/// The endpoint, when the destination is a Service's; else the destination itself.
///
/// # Errors
/// The verdict on packets to a Service that are not let in, and to addresses of Services at which nobody is.
pub fn target<'a>(packet: &Packet, cx: &mut Context<'a>) -> Result<Target<'a>, Verdict> {
    let ip = &packet.ip;
    let mut rewrite = Rewrite::unchanged(ip);
    let key = match ip.l4 {
        L4::Tcp { dst_port, .. } | L4::Udp { dst_port, .. } | L4::Sctp { dst_port, .. } => {
            Some(frontend_key(ip.dst, dst_port, ip.protocol))
        }
        _ => None,
    };
    let Some(frontend) = key.and_then(|key| cx.tables.frontend(cx.node, key)) else {
        return match unserved(packet, cx) {
            Some(verdict) => Err(verdict),
            None => Ok(Target { rewrite, service: None }),
        };
    };
    let origin = origin(packet, cx);
    if frontend.kind == FrontendKind::LoadBalancer && !admitted(frontend, ip.src, ip.dst, origin, cx) {
        return Err(Verdict::Drop(DropReason::SourceNotAllowed));
    }
    let usable = frontend.service.usable(frontend.kind, origin);
    if usable.is_empty() {
        return Err(nobody(frontend));
    }
    if matches!(ip.l4, L4::Tcp { .. }) && !begins_tcp(ip) {
        return Err(Verdict::Drop(DropReason::TcpMidStream));
    }
    let Some((address, port)) = endpoint(frontend, usable, ip.src, cx) else { return Err(nobody(frontend)) };
    (rewrite.dst, rewrite.dst_port) = (address, port);
    let generation = cx.tables.services.generation();
    Ok(Target {
        rewrite,
        service: Some(Translated {
            generation,
            masquerade: masquerades(frontend, origin, cx),
            hits: &frontend.service.hits,
        }),
    })
}

/// From whom a packet comes. Other nodes' pods translate at home: what comes from them by the wire or a tunnel is from
/// outside, whatever the local detector says, since its answer must return through here.
fn origin(packet: &Packet, cx: &Context<'_>) -> Origin {
    let src = packet.ip.src;
    match packet.port {
        PortIndex::UPLINK => Origin::Outside,
        PortIndex::HOST if cx.node.has(src) => Origin::Node,
        _ if cx.node.local_sources.iter().any(|range| range.contains(src)) => Origin::Pod,
        _ => Origin::Outside,
    }
}

/// Source ranges know the node by its address; it may also come from the pods' side, or from the load balancer's address
/// when the node has that too (kubernetes, pkg/proxy/iptables/proxier.go, allowFromNode).
fn admitted(frontend: &Frontend, src: Ipv4Addr, dst: Ipv4Addr, from: Origin, cx: &Context<'_>) -> bool {
    let as_node = from == Origin::Node && (src == cx.node.s0 || src == dst);
    frontend.service.admits(src) || as_node && frontend.service.admits(cx.node.address)
}

/// Without endpoints anywhere the client is told; without local ones it is left to try another node.
fn nobody(frontend: &Frontend) -> Verdict {
    if frontend.service.has_any {
        Verdict::Drop(DropReason::NoLocalEndpoint)
    } else {
        Verdict::Refuse(IcmpError::PortUnreachable, DropReason::NoEndpoint)
    }
}

/// One of the usable endpoints: that of the client's other connections when the Service wants it so.
fn endpoint(
    frontend: &Frontend,
    usable: &[Endpoint],
    client: Ipv4Addr,
    cx: &mut Context<'_>,
) -> Option<Endpoint> {
    let chosen = choose(usable, cx.state.random.word())?;
    let Some(timeout) = frontend.service.affinity else { return Some(chosen) };
    let choice = Choice { service: frontend.service.id, client, timeout: timeout.get(), usable, chosen };
    Some(cx.flows.affinity().stick(&choice, cx.now))
}

/// kube-proxy's truth table (kubernetes, pkg/proxy/iptables/proxier_test.go, TestInternalExternalMasquerade).
fn masquerades(frontend: &Frontend, from: Origin, cx: &Context<'_>) -> bool {
    use headrace_api::state::TrafficPolicy::{Cluster, Local};
    let detects = !cx.node.local_sources.is_empty();
    match (frontend.kind, frontend.service.external_policy) {
        (FrontendKind::HostPort, _) => false,
        (FrontendKind::ClusterIp, _) => cx.node.masquerade_all || detects && from != Origin::Pod,
        (_, Cluster) => true,
        (_, Local) => from == Origin::Node,
    }
}

/// The verdict on a packet to an address of Services at which no Service is; `None` = it goes on as what it is. External
/// addresses stay what they are besides their ports: one may well be the node's.
fn unserved(packet: &Packet, cx: &Context<'_>) -> Option<Verdict> {
    let uses = cx.tables.services.uses(packet.ip.dst);
    if uses.cluster > 0 {
        return Some(Verdict::Refuse(IcmpError::PortUnreachable, DropReason::NoServicePort));
    }
    if cx.node.service_ranges.iter().any(|range| range.contains(packet.ip.dst)) {
        return Some(Verdict::Drop(DropReason::NoService));
    }
    let without_ports = packet.ip.l4.ports().is_none() || matches!(packet.ip.l4, L4::IcmpEcho { .. });
    let only_services = uses.external > 0 && !cx.node.has(packet.ip.dst);
    (without_ports && only_services).then_some(Verdict::Drop(DropReason::NoService))
}
