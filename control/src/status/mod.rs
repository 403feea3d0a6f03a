//! What `headracectl status` shows: the dataplane's status in a form that stays stable for scripts.
//!
//! The JSON is written from [`Status`]: field names do not change, addresses are text, fields are only ever added. The
//! table for people is written from the same in [`table`].

mod table;

use std::net::IpAddr;
use std::path::Path;

use headrace_api::client::ConnectError;
use headrace_api::proto;
use headrace_wire::ethernet::MacAddr;
use serde::Serialize;

pub use self::table::table;
use crate::report;

/// No status to be had.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Nobody serves the socket.
    #[error(transparent)]
    Away(#[from] ConnectError),
    /// The dataplane answered with an error.
    #[error("the dataplane does not tell its status: {}", .0.message())]
    Refused(#[from] tonic::Status),
}

/// Asks the dataplane that serves `run_dir`.
///
/// # Errors
/// [`StatusError`].
pub async fn fetch(run_dir: &Path) -> Result<Status, StatusError> {
    let mut client = headrace_api::client::connect(run_dir).await?;
    let reply = client.status(proto::StatusRequest {}).await?;
    let mut status = Status::from(reply.into_inner());
    status.agent_problems = report::read(run_dir);
    Ok(status)
}

/// The dataplane's status; the meaning of each field is told in the contract (dataplane.proto, StatusReply).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Status {
    pub version: String,
    pub api_version: u32,
    pub uptime_seconds: u64,
    pub generation: u64,
    pub state_source: String,
    pub services: u32,
    pub endpoints: u32,
    pub ports: Vec<Port>,
    pub workers: Vec<Worker>,
    pub peers: Vec<Peer>,
    pub flows: Flows,
    pub tables: Tables,
    pub shortcut: Shortcut,
    pub most_used_services: Vec<ServiceUse>,
    pub last_refusals: Vec<Refusal>,
    pub warnings: Vec<String>,
    /// Not from the dataplane: what of its input the agent cannot use.
    pub agent_problems: Vec<String>,
}

/// ServiceUse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct ServiceUse {
    pub name: String,
    pub connections: u64,
}

/// TablesStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Tables {
    pub updates: u64,
    pub route_generation: u32,
    pub service_generation: u32,
    pub age_seconds: u64,
    pub frontends: u32,
    pub next_hops: u32,
}

/// PortStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Port {
    pub id: u32,
    pub interface: String,
    pub role: String,
    pub label: String,
    pub ready: bool,
    pub problem: String,
    pub driver: String,
    pub xdp_mode: String,
    pub copy_mode: String,
    pub frags: bool,
    pub superframes: bool,
    pub tx_metadata: bool,
    pub queues: u32,
    pub why: String,
    pub mtu: u32,
    pub mac: String,
    pub addresses: Vec<String>,
    /// "192.0.2.1:8080/tcp -> 80".
    pub host_ports: Vec<String>,
    pub bandwidth: Bandwidth,
    pub counters: Counters,
    pub by_worker: Vec<Counters>,
    pub drops: Vec<Drop>,
}

/// Bandwidth: bits per second, 0 = no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Bandwidth {
    pub ingress: u64,
    pub egress: u64,
}

/// PortCounters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Counters {
    pub rx_frames: u64,
    pub rx_bytes: u64,
    pub tx_frames: u64,
    pub tx_bytes: u64,
    pub rx_superframes: u64,
    pub tx_superframes: u64,
    pub rx_ring_full: u64,
    pub fill_ring_empty: u64,
    pub tx_invalid: u64,
    pub kicks: u64,
    pub tx_ring_full: u64,
}

/// WorkerStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Worker {
    pub id: u32,
    pub core: u32,
    pub pinned: bool,
    pub loops: u64,
    pub bursts: u64,
    pub frames: u64,
    pub sleeps: u64,
    pub kicks: u64,
    pub flow_hits: u64,
    pub flow_misses: u64,
    pub segments_out: u64,
    pub segments_in: u64,
    pub checksums_completed: u64,
    pub drops: Vec<Drop>,
    pub frames_ledger: Vec<Ledger>,
    pub busy_ns: u64,
    pub alive_ns: u64,
    pub burst_sizes: Vec<u64>,
    pub turn_durations: Vec<u64>,
    pub stages: Vec<Stage>,
    pub flows_inserted: u64,
    pub flows_evicted: u64,
    pub flows_expired: u64,
    pub icmp_errors_sent: u64,
    pub icmp_errors_withheld: u64,
    pub to_host: u64,
    pub service_connections: u64,
}

/// StageCost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Stage {
    pub stage: String,
    pub ns: u64,
    pub packets: u64,
}

/// Frames dropped for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Drop {
    pub reason: String,
    pub meaning: String,
    pub count: u64,
}

/// FrameLedger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Ledger {
    pub area: String,
    pub total: u64,
    pub free: u64,
    pub fill: u64,
    pub tx: u64,
    pub in_hand: u64,
    pub quarantined: u64,
}

/// PeerStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Peer {
    pub name: String,
    pub address: String,
    pub path: String,
    pub neighbor: String,
    /// Absent before its path is in the tables.
    pub traffic: Option<Traffic>,
}

/// PeerCounters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Traffic {
    pub rx_frames: u64,
    pub rx_bytes: u64,
    pub tx_frames: u64,
    pub tx_bytes: u64,
}

/// FlowTableStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Flows {
    pub path: String,
    pub capacity: u64,
    pub live: u64,
    pub inserted: u64,
    pub evicted: u64,
    pub expired: u64,
    pub taken_over: u64,
}

/// ShortcutStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Shortcut {
    pub state: String,
    pub ways: u64,
    pub frames: u64,
    pub bytes: u64,
    pub lost: u64,
}

/// Why a request was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Refusal {
    pub resource: String,
    pub field: String,
    pub reason: String,
}

impl From<proto::StatusReply> for Status {
    fn from(m: proto::StatusReply) -> Self {
        Self {
            version: m.version,
            api_version: m.api_version,
            uptime_seconds: m.uptime_seconds,
            generation: m.generation,
            state_source: m.state_source,
            services: m.services,
            endpoints: m.endpoints,
            ports: m.ports.into_iter().map(Into::into).collect(),
            workers: m.workers.into_iter().map(Into::into).collect(),
            peers: m.peers.into_iter().map(Into::into).collect(),
            flows: m.flows.unwrap_or_default().into(),
            tables: m.tables.unwrap_or_default().into(),
            shortcut: m.shortcut.unwrap_or_default().into(),
            most_used_services: m.most_used_services.into_iter().map(service_use).collect(),
            last_refusals: m.last_refusals.into_iter().map(Into::into).collect(),
            warnings: m.warnings,
            agent_problems: Vec::new(),
        }
    }
}

impl From<proto::ShortcutStatus> for Shortcut {
    fn from(m: proto::ShortcutStatus) -> Self {
        Self { state: m.state, ways: m.ways, frames: m.frames, bytes: m.bytes, lost: m.lost }
    }
}

impl From<proto::PortStatus> for Port {
    fn from(m: proto::PortStatus) -> Self {
        Self {
            id: m.id,
            interface: m.interface,
            role: m.role,
            label: m.label,
            ready: m.ready,
            problem: m.problem,
            driver: m.driver,
            xdp_mode: m.xdp_mode,
            copy_mode: m.copy_mode,
            frags: m.frags,
            superframes: m.superframes,
            tx_metadata: m.tx_metadata,
            queues: m.queues,
            why: m.why,
            mtu: m.mtu,
            mac: mac(&m.mac),
            addresses: m.addresses.iter().map(address).collect(),
            host_ports: m.host_ports.iter().map(host_port).collect(),
            bandwidth: m.bandwidth.unwrap_or_default().into(),
            counters: m.counters.unwrap_or_default().into(),
            by_worker: m.by_worker.into_iter().map(Into::into).collect(),
            drops: m.drops.into_iter().map(drop).collect(),
        }
    }
}

impl From<proto::Bandwidth> for Bandwidth {
    fn from(m: proto::Bandwidth) -> Self {
        let rate = |limit: Option<proto::RateLimit>| limit.map_or(0, |limit| limit.rate);
        Self { ingress: rate(m.ingress), egress: rate(m.egress) }
    }
}

impl From<proto::PortCounters> for Counters {
    fn from(m: proto::PortCounters) -> Self {
        Self {
            rx_frames: m.rx_frames,
            rx_bytes: m.rx_bytes,
            tx_frames: m.tx_frames,
            tx_bytes: m.tx_bytes,
            rx_superframes: m.rx_superframes,
            tx_superframes: m.tx_superframes,
            rx_ring_full: m.rx_ring_full,
            fill_ring_empty: m.fill_ring_empty,
            tx_invalid: m.tx_invalid,
            kicks: m.kicks,
            tx_ring_full: m.tx_ring_full,
        }
    }
}

impl From<proto::WorkerStatus> for Worker {
    fn from(m: proto::WorkerStatus) -> Self {
        let stage = |s: proto::StageCost| Stage { stage: s.stage, ns: s.ns, packets: s.packets };
        Self {
            id: m.id,
            core: m.core,
            pinned: m.pinned,
            loops: m.loops,
            bursts: m.bursts,
            frames: m.frames,
            sleeps: m.sleeps,
            kicks: m.kicks,
            flow_hits: m.flow_hits,
            flow_misses: m.flow_misses,
            segments_out: m.segments_out,
            segments_in: m.segments_in,
            checksums_completed: m.checksums_completed,
            drops: m.drops.into_iter().map(drop).collect(),
            frames_ledger: m.frames_ledger.into_iter().map(Into::into).collect(),
            busy_ns: m.busy_ns,
            alive_ns: m.alive_ns,
            burst_sizes: m.burst_sizes,
            turn_durations: m.turn_durations,
            stages: m.stages.into_iter().map(stage).collect(),
            flows_inserted: m.flows_inserted,
            flows_evicted: m.flows_evicted,
            flows_expired: m.flows_expired,
            icmp_errors_sent: m.icmp_errors_sent,
            icmp_errors_withheld: m.icmp_errors_withheld,
            to_host: m.to_host,
            service_connections: m.service_connections,
        }
    }
}

fn drop(m: proto::Count) -> Drop {
    Drop { reason: m.name, meaning: m.meaning, count: m.count }
}

impl From<proto::FrameLedger> for Ledger {
    fn from(m: proto::FrameLedger) -> Self {
        Self {
            area: m.area,
            total: m.total,
            free: m.free,
            fill: m.fill,
            tx: m.tx,
            in_hand: m.in_hand,
            quarantined: m.quarantined,
        }
    }
}

impl From<proto::PeerStatus> for Peer {
    fn from(m: proto::PeerStatus) -> Self {
        let address = m.address.as_ref().map(address).unwrap_or_default();
        let traffic = m.traffic.map(|t| Traffic {
            rx_frames: t.rx_frames,
            rx_bytes: t.rx_bytes,
            tx_frames: t.tx_frames,
            tx_bytes: t.tx_bytes,
        });
        Self { name: m.name, address, path: m.path, neighbor: m.neighbor, traffic }
    }
}

impl From<proto::FlowTableStatus> for Flows {
    fn from(m: proto::FlowTableStatus) -> Self {
        Self {
            path: m.path,
            capacity: m.capacity,
            live: m.live,
            inserted: m.inserted,
            evicted: m.evicted,
            expired: m.expired,
            taken_over: m.taken_over,
        }
    }
}

impl From<proto::TablesStatus> for Tables {
    fn from(m: proto::TablesStatus) -> Self {
        Self {
            updates: m.updates,
            route_generation: m.route_generation,
            service_generation: m.service_generation,
            age_seconds: m.age_seconds,
            frontends: m.frontends,
            next_hops: m.next_hops,
        }
    }
}

impl From<proto::Refusal> for Refusal {
    fn from(m: proto::Refusal) -> Self {
        Self { resource: m.resource, field: m.field, reason: m.reason }
    }
}

fn service_use(m: proto::ServiceUse) -> ServiceUse {
    ServiceUse { name: m.name, connections: m.connections }
}

/// Empty when the message holds no address.
fn host_port(m: &proto::HostPort) -> String {
    let protocol = match m.protocol() {
        proto::Protocol::Tcp => "tcp",
        proto::Protocol::Udp => "udp",
        proto::Protocol::Sctp => "sctp",
        proto::Protocol::Unspecified => "?",
    };
    let address = m.address.as_ref().map(|a| format!("{}:", address(a))).unwrap_or_default();
    format!("{address}{}/{protocol} -> {}", m.port, m.pod_port)
}

pub(crate) fn address(message: &proto::Address) -> String {
    let octets = message.octets.as_slice();
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| v6()).map(|a| a.to_string()).unwrap_or_default()
}

/// Empty when the message holds no MAC address.
fn mac(octets: &[u8]) -> String {
    <[u8; 6]>::try_from(octets).map(|m| MacAddr(m).to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
