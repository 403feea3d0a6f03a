//! What the dataplane does now, for people and for the controller.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use headrace_api::state::{Peer, Port, PortId};
use headrace_api::{API_VERSION, proto};
use headrace_xsk::Granted;
use headrace_xsk::program::Attached;

use super::kernel::{Link, NeighborState, View};
use super::reconcile::Reconciler;
use super::uplink::{copy, join};
use super::veth::{Driver, Opened};
use super::{ports, uplink};
use crate::drop_reason::DropReason;
use crate::frames::{AreaId, Ledger};
use crate::observe::{StageId, Ticks};
use crate::stats::{PortCounters, WorkerStats};
use crate::tables::build::{self, KernelFacts};
use crate::tables::{Services, Traffic};
use crate::worker::WorkerHandle;

/// Services that a reply names.
const MOST_USED: usize = 32;

/// The whole reply. The workers are not asked: what is not a counter they publish once a second.
pub fn reply(r: &Reconciler) -> proto::StatusReply {
    let (services, endpoints) = r.desired.service_counts();
    proto::StatusReply {
        version: env!("CARGO_PKG_VERSION").into(),
        api_version: API_VERSION,
        uptime_seconds: r.started.elapsed().as_secs(),
        generation: r.generation.0,
        state_source: r.source.to_string(),
        ports: ports(r),
        workers: r.workers.handles().map(|handle| worker(r, handle)).collect(),
        peers: r.desired.peers().values().map(|peer| self::peer(r, peer)).collect(),
        flows: Some(flows(r)),
        last_refusals: r.last_refusals.iter().map(Into::into).collect(),
        warnings: r.warnings.all(),
        services: services as u32,
        endpoints: endpoints as u32,
        tables: Some(tables(r)),
        most_used_services: most_used(&r.flows.shared.tables.load().services),
        shortcut: Some(shortcut(r)),
    }
}

/// Whether a pod port is open; what a controller waits for.
pub fn port_state(r: &Reconciler, id: PortId) -> proto::PortState {
    let problem = match r.ports.pod(id) {
        Ok(open) => {
            let down = r.desired.ports().get(&id).and_then(|port| down(r.kernel.view(), port));
            down.or_else(|| open.device.problem.clone()).unwrap_or_default()
        }
        Err(problem) => problem.to_owned(),
    };
    proto::PortState { id: id.get(), ready: problem.is_empty(), problem }
}

fn down(view: &View, port: &Port) -> Option<String> {
    let up = view.link(&port.interface).is_some_and(|link| link.up);
    (!up).then(|| format!("device {0} is down (ip link set dev {0} up)", port.interface))
}

fn ports(r: &Reconciler) -> Vec<proto::PortStatus> {
    let mut list = vec![host_link(r)];
    list.extend(wants_uplink(r).then(|| uplink(r)));
    list.extend(r.desired.ports().values().map(|port| pod(r, port)));
    list
}

fn host_link(r: &Reconciler) -> proto::PortStatus {
    let names = &r.config.host_link;
    let device = device("host link", &names.dataplane, r.kernel.view().link(&names.dataplane));
    match r.ports.host() {
        Ok(open) => with_port(device, open),
        Err(problem) => proto::PortStatus { problem: problem.into(), ..device },
    }
}

fn pod(r: &Reconciler, port: &Port) -> proto::PortStatus {
    let state = port_state(r, port.id);
    let device = proto::PortStatus {
        id: port.id.get(),
        label: port.label.clone(),
        ready: state.ready,
        problem: state.problem,
        mac: port.mac.0.to_vec(),
        addresses: port.addresses.iter().map(|a| (*a).into()).collect(),
        host_ports: port.host_ports.iter().map(Into::into).collect(),
        bandwidth: Some(port.bandwidth.into()),
        ..device("pod", &port.interface, r.kernel.view().link(&port.interface))
    };
    match r.ports.pod(port.id) {
        Ok(open) => {
            let (ready, problem) = (device.ready, device.problem.clone());
            proto::PortStatus { ready, problem, ..with_port(device, open) }
        }
        Err(_) => device,
    }
}

/// A forwarder between its own ports needs none.
fn wants_uplink(r: &Reconciler) -> bool {
    r.uplink.open().is_ok() || r.config.uplink.is_some() || !r.is_forwarder()
}

fn uplink(r: &Reconciler) -> proto::PortStatus {
    let name = r.uplink.open().map_or(r.config.uplink.as_deref().unwrap_or_default(), |open| &open.name);
    let device = device("uplink", name, r.kernel.view().link(name));
    match r.uplink.open() {
        Ok(uplink::Open { driver, queues, counters, tunnel, .. }) => {
            let why = join([tunnel.why, &tunnel.problem]);
            let status = with_counters(device, *queues, counters);
            match driver {
                uplink::Driver::AfXdp { attached, granted } => with_xdp(status, attached, granted, &why),
                uplink::Driver::Packet => proto::PortStatus {
                    driver: "af_packet, tunnel udp".into(),
                    copy_mode: "copy".into(),
                    frags: true,
                    why,
                    ..status
                },
            }
        }
        Err(problem) => proto::PortStatus { problem: problem.into(), ..device },
    }
}

fn device(role: &str, name: &str, link: Option<&Link>) -> proto::PortStatus {
    proto::PortStatus {
        interface: name.into(),
        role: role.into(),
        mtu: link.map_or(0, |link| link.mtu),
        mac: link.map_or_else(Vec::new, |link| link.mac.0.to_vec()),
        ..proto::PortStatus::default()
    }
}

fn with_port(device: proto::PortStatus, open: &ports::Open) -> proto::PortStatus {
    let Opened { driver, queues, counters, elsewhere, superframes, .. } = &open.device;
    let all: Vec<_> = counters.iter().chain(elsewhere).cloned().collect();
    let status = proto::PortStatus {
        superframes: *superframes,
        counters: Some(self::counters(&all)),
        ..with_counters(device, *queues, counters)
    };
    match driver {
        Driver::AfXdp { attached, granted, why } => with_xdp(status, attached, granted, why),
        Driver::Packet { why } => proto::PortStatus {
            driver: "af_packet".into(),
            copy_mode: "copy".into(),
            frags: true,
            tx_metadata: true,
            why: why.clone(),
            ..status
        },
    }
}

fn with_counters(device: proto::PortStatus, queues: u32, halves: &[Arc<PortCounters>]) -> proto::PortStatus {
    let by_worker = halves.iter().map(|half| counters(std::slice::from_ref(half))).collect();
    let dropped = |reason: DropReason| halves.iter().map(|half| half.drops.of(reason)).sum();
    let (counters, drops) = (Some(counters(halves)), drops(dropped));
    proto::PortStatus { ready: true, queues, counters, by_worker, drops, ..device }
}

/// Those above 0.
fn drops(of: impl Fn(DropReason) -> u64) -> Vec<proto::Count> {
    let count = |reason: &DropReason| proto::Count {
        name: reason.label().into(),
        meaning: reason.meaning().into(),
        count: of(*reason),
    };
    DropReason::ALL.iter().map(count).filter(|drop| drop.count > 0).collect()
}

fn with_xdp(
    status: proto::PortStatus,
    attached: &Attached,
    granted: &Granted,
    why: &str,
) -> proto::PortStatus {
    proto::PortStatus {
        driver: "af_xdp".into(),
        xdp_mode: attached.mode.to_string(),
        copy_mode: copy(granted).into(),
        frags: attached.frags && granted.multi_buffer,
        tx_metadata: granted.tx_metadata,
        why: join([why, attached.why.as_str(), granted.note.as_deref().unwrap_or_default()]),
        ..status
    }
}

/// Sums over workers.
fn counters(halves: &[Arc<PortCounters>]) -> proto::PortCounters {
    let sum = |of: fn(&PortCounters) -> u64| halves.iter().map(|half| of(half)).sum();
    proto::PortCounters {
        rx_frames: sum(|c| c.rx_frames.get()),
        rx_bytes: sum(|c| c.rx_bytes.get()),
        tx_frames: sum(|c| c.tx_frames.get()),
        tx_bytes: sum(|c| c.tx_bytes.get()),
        rx_superframes: sum(|c| c.rx_superframes.get()),
        tx_superframes: sum(|c| c.tx_superframes.get()),
        rx_ring_full: sum(|c| c.rx_ring_full.get()),
        fill_ring_empty: sum(|c| c.fill_ring_empty.get()),
        tx_invalid: sum(|c| c.tx_invalid.get()),
        kicks: sum(|c| c.kicks.get()),
        tx_ring_full: sum(|c| c.tx_ring_full.get()),
    }
}

fn worker(r: &Reconciler, handle: &WorkerHandle) -> proto::WorkerStatus {
    let (stats, hot, (core, pinned)) = (handle.stats(), handle.stats().hot(), handle.core());
    let (busy_ns, alive_ns) = stats.load();
    let area = |(area, name): (AreaId, &str)| stats.ledger(area).map(|ledger| self::ledger(name, &ledger));
    proto::WorkerStatus {
        id: handle.id().0.into(),
        core: core.unwrap_or(0) as u32,
        pinned,
        loops: hot.loops.get(),
        bursts: hot.bursts.get(),
        frames: hot.frames.get(),
        sleeps: hot.sleeps.get(),
        kicks: kicks(r, usize::from(handle.id().0)),
        flow_hits: hot.flow_hits.get(),
        flow_misses: hot.flow_misses.get(),
        segments_out: hot.segments_out.get(),
        segments_in: hot.segments_in.get(),
        checksums_completed: hot.checksums_completed.get(),
        drops: drops(|reason| stats.drops(reason)),
        frames_ledger: [(AreaId::Pods, "pods"), (AreaId::Uplink, "uplink")]
            .into_iter()
            .filter_map(area)
            .collect(),
        busy_ns,
        alive_ns,
        burst_sizes: hot.burst_sizes.classes(),
        turn_durations: hot.turn_durations.classes(),
        stages: StageId::all().map(|stage| self::stage(stats, stage)).collect(),
        flows_inserted: hot.flows_inserted.get(),
        flows_evicted: hot.flows_evicted.get(),
        flows_expired: hot.flows_expired.get(),
        icmp_errors_sent: hot.icmp_errors_sent.get(),
        icmp_errors_withheld: hot.icmp_errors_withheld.get(),
        to_host: hot.to_host.get(),
        service_connections: hot.service_connections.get(),
    }
}

fn shortcut(r: &Reconciler) -> proto::ShortcutStatus {
    let state = if r.config.shortcut { "unavailable" } else { "off" };
    let none = || proto::ShortcutStatus { state: state.into(), ..proto::ShortcutStatus::default() };
    r.shortcut.as_ref().map_or_else(none, |shortcut| shortcut.status())
}

fn stage(stats: &WorkerStats, stage: StageId) -> proto::StageCost {
    let cost = stats.stage(stage);
    proto::StageCost {
        stage: stage.to_string(),
        ns: stats.clock().nanoseconds(Ticks(cost.ticks.get())),
        packets: cost.packets.get(),
    }
}

fn tables(r: &Reconciler) -> proto::TablesStatus {
    let (updates, age) = r.updates();
    let tables = r.flows.shared.tables.load();
    proto::TablesStatus {
        updates,
        route_generation: tables.route_generation,
        service_generation: tables.services.generation(),
        age_seconds: age.as_secs(),
        frontends: tables.services.len() as u32,
        next_hops: tables.hops.iter().count() as u32,
    }
}

/// Kicks of one worker's halves of the ports that are open now.
fn kicks(r: &Reconciler, worker: usize) -> u64 {
    let host = r.ports.host().ok().map(|open| &open.device.counters);
    let uplink = r.uplink.open().ok().map(|open| &open.counters);
    let pods = r.ports.open_pods().map(|(_, open)| &open.device.counters);
    let halves = host.into_iter().chain(uplink).chain(pods).filter_map(|halves| halves.get(worker));
    halves.map(|half| half.kicks.get()).sum()
}

fn ledger(area: &str, ledger: &Ledger) -> proto::FrameLedger {
    proto::FrameLedger {
        area: area.into(),
        total: ledger.total.into(),
        free: ledger.free.into(),
        fill: ledger.fill.into(),
        tx: ledger.tx.into(),
        in_hand: ledger.in_hand.into(),
        quarantined: ledger.quarantined.into(),
    }
}

fn peer(r: &Reconciler, peer: &Peer) -> proto::PeerStatus {
    let address = build::v4(peer.address);
    let hop = address.and_then(|address| r.facts.next_hop(address));
    let peers = Arc::clone(&r.flows.shared.tables.load().peers);
    let published = address.and_then(|address| peers.get(*peers.by_address.get(&address)?));
    proto::PeerStatus {
        name: peer.name.clone(),
        address: Some(peer.address.into()),
        path: if r.is_direct(peer) { "direct" } else { "vxlan" }.into(),
        neighbor: neighbor(r.kernel.view(), r.uplink.open().ok().map(|open| open.ifindex), &r.facts, hop),
        traffic: published.map(|peer| self::traffic(&peer.traffic)),
    }
}

fn traffic(traffic: &Traffic) -> proto::PeerCounters {
    proto::PeerCounters {
        rx_frames: traffic.rx_frames.get(),
        rx_bytes: traffic.rx_bytes.get(),
        tx_frames: traffic.tx_frames.get(),
        tx_bytes: traffic.tx_bytes.get(),
    }
}

/// By connections begun, those that have any.
fn most_used(services: &Services) -> Vec<proto::ServiceUse> {
    let used = services.iter().filter(|(_, frontend)| frontend.service.hits.all() > 0);
    let by_name: HashMap<&str, u64> =
        used.map(|(_, frontend)| (frontend.service.name.as_str(), frontend.service.hits.all())).collect();
    let mut list: Vec<_> =
        by_name.into_iter().map(|(name, connections)| (Reverse(connections), name)).collect();
    list.sort_unstable();
    list.truncate(MOST_USED);
    list.into_iter()
        .map(|(Reverse(connections), name)| proto::ServiceUse { name: name.into(), connections })
        .collect()
}

fn neighbor(view: &View, uplink: Option<u32>, facts: &KernelFacts, hop: Option<Ipv4Addr>) -> String {
    let (Some(uplink), Some(hop)) = (uplink, hop) else { return "no route by the uplink".into() };
    let state = match view.neighbor(uplink, hop).map(|neighbor| neighbor.state) {
        Some(NeighborState::Permanent | NeighborState::Reachable) => "reachable",
        Some(NeighborState::Stale) => "stale",
        Some(NeighborState::Unresolved) | None => "unresolved",
    };
    match facts.neighbors.get(&hop) {
        Some(mac) => format!("{state} {mac} via {hop}"),
        None => format!("{state} via {hop}"),
    }
}

fn flows(r: &Reconciler) -> proto::FlowTableStatus {
    let table = &r.flows;
    let sum = |of: fn(&crate::stats::Hot) -> u64| r.workers.handles().map(|h| of(h.stats().hot())).sum();
    proto::FlowTableStatus {
        path: table.path.display().to_string(),
        capacity: table.capacity() as u64,
        live: table.live() as u64,
        inserted: sum(|hot| hot.flows_inserted.get()),
        evicted: sum(|hot| hot.flows_evicted.get()),
        expired: sum(|hot| hot.flows_expired.get()),
        taken_over: table.taken_over as u64,
    }
}

#[cfg(test)]
mod tests;
