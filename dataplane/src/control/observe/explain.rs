//! What would become of a packet: a worker of its own, with ports in memory, over the tables in force and a copy of the
//! flows, is given that one packet. So the answer cannot differ from what really happens, and nothing is sent or remembered.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use arc_swap::ArcSwap;
use crossbeam::channel;
use etherparse::{Ethernet2Header, IpHeaders, IpNumber, Ipv4Header, PacketBuilder};
use headrace_api::filter::Filter;
use headrace_api::proto;
use headrace_wire::ethernet::MacAddr;
use headrace_wire::ipv4::Protocol;
use headrace_wire::nat::Rewrite;
use headrace_wire::vxlan::{ENCAP_LEN, Inner, Tunnel, encap_header};
use tonic::Status;

use super::filters::{ip, is_called};
use super::{Observatory, Sight, describe};
use crate::drop_reason::DropReason;
use crate::flows::{FlowKey, Flows, Kind, Seconds};
use crate::frames::{AreaId, Pool, Pools};
use crate::observe::tap::{Sink, Tap, Walk};
use crate::port::memory::{MemoryPort, Outside, Sent};
use crate::port::{Capabilities, PortIndex};
use crate::stats::WorkerStats;
use crate::tables::{GATEWAY_MAC, Ports, Route, Tables};
use crate::worker::{Shared, Worker, WorkerId, uptime};

/// Chunks of each area: the longest packet there is, whole and in small segments.
const CHUNKS: u32 = 512;

/// A packet to be explained, without the place where it comes in.
pub(super) struct Probe {
    src: Ipv4Addr,
    dst: Ipv4Addr,
    request: proto::ExplainRequest,
}

/// What became of a packet.
pub struct Outcome {
    /// Its way through the stages; `None` when it did not come so far.
    pub walk: Option<Walk>,
    /// What left.
    pub sent: Vec<(PortIndex, Sent)>,
    /// What was dropped.
    pub drops: Vec<DropReason>,
}

/// Sends a frame through a worker of its own.
///
/// # Errors
/// There is no memory for that.
pub fn walk(
    tables: &Arc<Tables>,
    flows: &Flows,
    ports: &BTreeMap<PortIndex, Capabilities>,
    at: PortIndex,
    frame: Vec<u8>,
    now: Seconds,
) -> anyhow::Result<Outcome> {
    let (asked, _questions) = channel::bounded(1);
    let tables = apart(tables);
    let shared = Arc::new(Shared { tables: Arc::new(ArcSwap::new(tables)), flows: flows.copy()?, asked });
    let pools = Pools { pods: Pool::new(AreaId::Pods, CHUNKS)?, uplink: Pool::new(AreaId::Uplink, CHUNKS)? };
    let stats = WorkerStats::new();
    let mut worker = Worker::new(Arc::clone(&shared), pools, Arc::clone(&stats));
    let mut outsides: Vec<(PortIndex, Outside)> = Vec::new();
    for (index, capabilities) in ports {
        let area = if *index == PortIndex::UPLINK { AreaId::Uplink } else { AreaId::Pods };
        let (port, outside) = MemoryPort::new(area, *capabilities);
        worker.attach(*index, Box::new(port));
        outsides.push((*index, outside));
    }
    let (to, walks) = channel::bounded(1);
    let sink = Sink::Walks { left: Arc::new(AtomicU32::new(1)), to };
    worker.observer().watch(Tap { id: 1, worker: WorkerId(0), filter: Filter::All, shared, sink });
    if let Some((_, outside)) = outsides.iter().find(|(index, _)| *index == at) {
        outside.put(frame);
    }
    worker.turn(now);
    let sent = |(index, outside): &(PortIndex, Outside)| {
        outside.take().into_iter().map(|sent| (*index, sent)).collect::<Vec<_>>()
    };
    let drops = DropReason::ALL.iter().filter(|reason| stats.drops(**reason) > 0).copied().collect();
    Ok(Outcome { walk: walks.try_recv().ok(), sent: outsides.iter().flat_map(sent).collect(), drops })
}

/// The same tables without bandwidth limits and with counts of their own: what is explained must not use up what pods may
/// send, nor count as sent.
fn apart(tables: &Arc<Tables>) -> Arc<Tables> {
    let mut apart = Tables { peers: Arc::new(tables.peers.apart()), ..Tables::clone(tables) };
    if tables.ports.limited {
        apart.ports = Arc::new(Ports { limited: false, ..Ports::clone(&tables.ports) });
    }
    Arc::new(apart)
}

impl Observatory {
    /// Finds the ends that a request names.
    pub(super) async fn probe(&self, request: &proto::ExplainRequest) -> Result<Probe, Status> {
        let mut request = request.clone();
        let src = self.address(&request.source)?;
        let dst = match self.address(&request.destination) {
            Ok(address) => address,
            Err(unknown) if request.destination.contains('/') => {
                let services = self.services(&request.destination).await?;
                let frontend = services
                    .iter()
                    .filter(|service| is_called(&service.name, &request.destination))
                    .flat_map(|service| &service.frontends)
                    .find_map(|f| Some((v4(ip(f.address.as_ref()?)?)?, f)));
                let (address, frontend) = frontend.ok_or(unknown)?;
                request.destination_port = frontend.port;
                request.protocol = frontend.protocol as u32;
                address
            }
            Err(unknown) => return Err(unknown),
        };
        for (what, value, most) in [
            ("destination port", request.destination_port, 65_535),
            ("source port", request.source_port, 65_535),
            ("size", request.size, 65_535),
            ("protocol", request.protocol, 255),
        ] {
            if value > most {
                return Err(Status::invalid_argument(format!("{what} {value} is more than {most}")));
            }
        }
        Ok(Probe { src, dst, request })
    }

    /// An address, or that of a pod of this node.
    fn address(&self, text: &str) -> Result<Ipv4Addr, Status> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return v4(address).ok_or_else(|| Status::unimplemented("IPv6 is not forwarded yet"));
        }
        let directory = self.sight.directory.load();
        let pod = directory.pods.iter().find(|(_, label)| *label == text);
        pod.map(|(address, _)| *address).ok_or_else(|| {
            Status::not_found(format!("{text:?} is no IPv4 address, no pod of this node and no Service"))
        })
    }
}

/// The reply of `Explain`.
pub(super) fn reply(sight: &Sight, probe: &Probe) -> Result<proto::ExplainReply, Status> {
    let tables = sight.shared.tables.load_full();
    let directory = sight.directory.load_full();
    let Some(node) = tables.node.clone() else { return Ok(not_configured()) };
    let arrival = arrival(&tables, probe)?;
    let packet = packet(sight, probe, &arrival)?;
    let ports = directory.ports.iter().map(|(index, open)| (*index, open.capabilities)).collect();
    let outcome = walk(&tables, &sight.shared.flows, &ports, arrival.port, packet, now())
        .map_err(|error| Status::resource_exhausted(error.to_string()))?;
    let Some(walk) = outcome.walk else {
        let what = directory.port(arrival.port);
        return Err(Status::failed_precondition(format!(
            "the packet would come in by {what}, which is not open"
        )));
    };
    let told = describe::walk(&walk, &tables, &directory, None);
    let departure = |(port, sent): &(PortIndex, Sent)| proto::Departure {
        port: directory.port(*port),
        summary: describe::bytes_in_words(&sent.bytes, sent.bytes.len(), node.vxlan_port),
        frame: sent.bytes.clone(),
    };
    let mut notes = vec![format!("{} comes in by {}", describe::packet(&walk.ip), arrival.words)];
    notes.extend(arrival.note.map(str::to_owned));
    Ok(proto::ExplainReply {
        steps: told.steps,
        verdict: told.verdict.into(),
        reason: told.reason.map(|r| r.label().into()).unwrap_or_default(),
        meaning: told.reason.map(|r| r.meaning().into()).unwrap_or_default(),
        departures: outcome.sent.iter().map(departure).collect(),
        notes,
    })
}

fn not_configured() -> proto::ExplainReply {
    let reason = DropReason::NotConfigured;
    proto::ExplainReply {
        verdict: "drop".into(),
        reason: reason.label().into(),
        meaning: reason.meaning().into(),
        ..proto::ExplainReply::default()
    }
}

/// Where a packet comes in, and what is around it there.
struct Arrival {
    port: PortIndex,
    src: MacAddr,
    dst: MacAddr,
    tunnel: Option<(Tunnel, Ethernet2Header)>,
    words: String,
    note: Option<&'static str>,
}

/// Where packets of this source come in.
fn arrival(tables: &Tables, probe: &Probe) -> Result<Arrival, Status> {
    let node = tables.node.as_deref().ok_or_else(|| Status::unavailable("the node has no settings"))?;
    let on_wire = Arrival {
        port: PortIndex::UPLINK,
        src: MacAddr([2, 0, 0, 0, 0, 1]),
        dst: node.uplink_mac,
        tunnel: None,
        words: "the uplink".into(),
        note: Some(
            "the uplink's program hands over only what is for pods, Services or connections of the dataplane",
        ),
    };
    let route = if node.local.contains(&probe.src) { Route::Host } else { tables.routes.lookup(probe.src) };
    match route {
        Route::Pod(port) => {
            let pod = tables.ports.get(port).ok_or_else(|| Status::not_found("that pod's port is closed"))?;
            let words = "its pod's port".into();
            Ok(Arrival { port, src: pod.mac, dst: GATEWAY_MAC, tunnel: None, words, note: None })
        }
        Route::Own => Err(Status::invalid_argument(format!(
            "{} is the dataplane's own address: nobody sends from it",
            probe.src
        ))),
        Route::Host => {
            let (src, words) = (node.host_mac, "the host link".into());
            let port = PortIndex::HOST;
            Ok(Arrival { port, src, dst: GATEWAY_MAC, tunnel: None, words, note: None })
        }
        Route::Peer(index) => match tables.peers.get(index) {
            Some(peer) if !peer.direct => {
                let tunnel = Tunnel {
                    src_mac: on_wire.src,
                    dst_mac: node.uplink_mac,
                    src: peer.address,
                    dst: node.address,
                    port: node.vxlan_port,
                    vni: node.vni,
                };
                let inner = Ethernet2Header {
                    source: peer.vtep_mac.0,
                    destination: node.vtep_mac.0,
                    ether_type: etherparse::EtherType::IPV4,
                };
                let words = format!("the tunnel from {}", peer.address);
                Ok(Arrival { tunnel: Some((tunnel, inner)), words, note: None, ..on_wire })
            }
            _ => Ok(on_wire),
        },
        Route::Outside(_) | Route::None => Ok(on_wire),
    }
}

fn packet(sight: &Sight, probe: &Probe, arrival: &Arrival) -> Result<Vec<u8>, Status> {
    let (src, dst) = match &arrival.tunnel {
        Some((_, inner)) => (inner.source, inner.destination),
        None => (arrival.src.0, arrival.dst.0),
    };
    let frame = build(sight, probe, src, dst).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let Some((tunnel, _)) = &arrival.tunnel else { return Ok(frame) };
    let mut outer = [0; ENCAP_LEN];
    let inner = Inner { frame_len: frame.len(), tos: 0, flow_hash: 0, id: 0 };
    encap_header(&mut outer, tunnel, &inner)
        .map_err(|_| Status::invalid_argument("too long for a tunnel"))?;
    Ok([outer.as_slice(), &frame].concat())
}

fn build(sight: &Sight, probe: &Probe, src: [u8; 6], dst: [u8; 6]) -> anyhow::Result<Vec<u8>> {
    let Probe { src: from, dst: to, request } = probe;
    let mut header = Ipv4Header::new(0, 64, IpNumber::TCP, from.octets(), to.octets())?;
    header.dont_fragment = request.dont_fragment;
    let builder = PacketBuilder::ethernet2(src, dst).ip(IpHeaders::Ipv4(header, <_>::default()));
    let destination = request.destination_port as u16;
    let protocol = match request.protocol as u8 {
        0 if destination != 0 => Protocol::TCP,
        0 => Protocol::ICMP,
        other => Protocol(other),
    };
    let source = match request.source_port as u16 {
        0 => free_port(sight, probe, protocol),
        port => port,
    };
    let payload = |headers: usize| vec![0; (request.size as usize).saturating_sub(headers)];
    let mut frame = Vec::new();
    match protocol {
        Protocol::TCP if request.established => {
            builder.tcp(source, destination, 1, u16::MAX).ack(1).write(&mut frame, &payload(40))?;
        }
        Protocol::TCP => {
            builder.tcp(source, destination, 1, u16::MAX).syn().write(&mut frame, &payload(40))?;
        }
        Protocol::UDP => builder.udp(source, destination).write(&mut frame, &payload(28))?,
        Protocol::ICMP => builder.icmpv4_echo_request(source, 1).write(&mut frame, &payload(28))?,
        Protocol(other) => builder.write(&mut frame, IpNumber(other), &payload(20))?,
    }
    Ok(frame)
}

/// A source port that makes a new connection.
fn free_port(sight: &Sight, probe: &Probe, protocol: Protocol) -> u16 {
    let is_free = |port: &u16| {
        let dst_port = probe.request.destination_port as u16;
        let tuple = Rewrite { src: probe.src, dst: probe.dst, src_port: *port, dst_port };
        sight.shared.flows.peek(&FlowKey { tuple, protocol, kind: Kind::Ports }).is_none()
    };
    (49_152..=u16::MAX).find(is_free).unwrap_or(49_152)
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn now() -> Seconds {
    uptime().as_secs() as Seconds
}
