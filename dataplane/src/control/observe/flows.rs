//! Connections, and what Services have of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam::channel;
use headrace_api::filter::{Filter, Subject};
use headrace_api::proto;
use headrace_wire::ipv4::Protocol;
use headrace_wire::nat::Rewrite;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::describe;
use super::filters::ip;
use super::pump::{self, Gone, Outlet};
use super::watch::Ear;
use super::{Replies, Sight};
use crate::flows::{Carried, Event, Record, Seconds};
use crate::observe::view::tuple;
use crate::tables::Route;
use crate::tables::service::Hits;
use crate::worker::uptime;

/// Events that wait for this side.
const EVENTS: usize = 8192;

/// The stream of `Flows`.
pub(super) fn stream(
    sight: Sight,
    filter: Filter,
    request: &proto::FlowsRequest,
    permit: OwnedSemaphorePermit,
) -> Result<Replies<proto::FlowRecord>, Status> {
    let (follow, limit) = (request.follow, request.limit);
    pump::start("flows", permit, move |outlet| {
        let (to, events) = channel::bounded(EVENTS);
        let lost = Arc::new(AtomicU64::new(0));
        // Listens before it lists: no connection falls in between.
        let _ear = follow.then(|| Ear::listen(&sight, to, Arc::clone(&lost)));
        list(&sight, &filter, limit, outlet)?;
        if !follow {
            return Ok(());
        }
        loop {
            let clock = WallClock::now();
            for (event, record) in events.try_iter().filter(|(_, r)| holds(&filter, r)) {
                let mut message = message(&sight, &record, event.into(), &clock);
                message.lost = lost.load(Ordering::Relaxed);
                outlet.put(message)?;
            }
            outlet.rest(pump::PERIOD)?;
        }
    })
}

fn list(sight: &Sight, filter: &Filter, limit: u64, outlet: &Outlet<proto::FlowRecord>) -> Result<(), Gone> {
    let limit = if limit == 0 { usize::MAX } else { limit as usize };
    let clock = WallClock::now();
    for record in sight.shared.flows.records().filter(|r| holds(filter, r)).take(limit) {
        outlet.put(message(sight, &record, proto::FlowEvent::Listed, &clock))?;
    }
    Ok(())
}

/// Services with what their connections tell.
pub(super) fn services(sight: &Sight, services: Vec<proto::Service>) -> proto::ServicesReply {
    let mut active: HashMap<(Ipv4Addr, u16, u8), u64> = HashMap::new();
    for record in sight.shared.flows.records().filter(|record| record.service) {
        let server = (record.server.dst, record.server.dst_port, record.protocol.0);
        *active.entry(server).or_default() += 1;
    }
    let tables = sight.shared.tables.load();
    // Those of a Service that has no IPv4 frontend are not counted.
    let nothing = Hits::default();
    let hits: HashMap<&str, &Hits> =
        tables.services.iter().map(|(_, f)| (f.service.name.as_str(), &f.service.hits)).collect();
    let record = |service: proto::Service| {
        let hits = hits.get(service.name.as_str()).copied().unwrap_or(&nothing);
        let protocol = service.frontends.first().map_or(0, |f| f.protocol as u8);
        let used = Used { protocol, active: &active, hits };
        let endpoints = service.endpoints.iter().map(|e| endpoint(sight, e, &used)).collect();
        proto::ServiceRecord {
            name: service.name.clone(),
            frontends: service.frontends.clone(),
            endpoints,
            begun: hits.all(),
            desired: Some(service),
        }
    };
    proto::ServicesReply { services: services.into_iter().map(record).collect() }
}

/// How a Service's endpoints are used.
struct Used<'a> {
    protocol: u8,
    /// Open connections, by the server's address, port and protocol.
    active: &'a HashMap<(Ipv4Addr, u16, u8), u64>,
    hits: &'a Hits,
}

fn endpoint(sight: &Sight, endpoint: &proto::Endpoint, used: &Used<'_>) -> proto::EndpointRecord {
    let v4 = endpoint.address.as_ref().and_then(ip).and_then(|address| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    let server = v4.map(|address| (address, endpoint.port as u16));
    let active = |(address, port)| used.active.get(&(address, port, used.protocol)).copied();
    proto::EndpointRecord {
        address: endpoint.address.clone(),
        port: endpoint.port,
        place: v4.map(|address| place(sight, address)).unwrap_or_default(),
        active: server.and_then(active).unwrap_or(0),
        begun: server.map_or(0, |server| used.hits.of_endpoint(server)),
    }
}

/// Where an address is.
fn place(sight: &Sight, address: Ipv4Addr) -> String {
    let (tables, directory) = (sight.shared.tables.load(), sight.directory.load());
    match tables.routes.lookup(address) {
        Route::Pod(port) => directory.port(port),
        Route::Own | Route::Host => "host".into(),
        Route::Peer(index) => {
            tables.peers.get(index).map_or_else(String::new, |peer| directory.peer(peer.address))
        }
        Route::Outside(_) => "outside".into(),
        Route::None => "nowhere".into(),
    }
}

fn holds(filter: &Filter, record: &Record) -> bool {
    filter.matches(&Subject {
        protocol: record.protocol.0,
        tuples: [tuple(&record.client), tuple(&record.server)],
        state: Some(record.state),
        dropped: false,
    })
}

/// A connection as the contract has it.
pub(in crate::control) fn message(
    sight: &Sight,
    record: &Record,
    event: proto::FlowEvent,
    clock: &WallClock,
) -> proto::FlowRecord {
    let (tables, directory) = (sight.shared.tables.load(), sight.directory.load());
    let began = record.to_server.since;
    let service = describe::service(&tables, &record.client, record.protocol).filter(|_| record.service);
    proto::FlowRecord {
        event: event.into(),
        protocol: record.protocol.0.into(),
        client: Some(tuple_message(&record.client)),
        server: Some(tuple_message(&record.server)),
        state: state(record),
        way: record.out.map(|out| directory.way(out, &tables)).unwrap_or_default(),
        client_pod: directory.pod(record.client.src).into(),
        server_pod: directory.pod(record.server.dst).into(),
        service: service.unwrap_or_default().into(),
        to_server: Some(counters(record.to_server)),
        to_client: Some(counters(record.to_client)),
        age_seconds: clock.uptime.saturating_sub(began).into(),
        idle_seconds: clock.uptime.saturating_sub(record.last_seen).into(),
        began: clock.unix(began),
        last_seen: clock.unix(record.last_seen),
        lost: 0,
    }
}

fn state(record: &Record) -> String {
    match record.protocol {
        Protocol::TCP | Protocol::UDP | Protocol::ICMP => record.state.to_string(),
        other => format!("{} (protocol {})", record.state, other.0),
    }
}

fn tuple_message(t: &Rewrite) -> proto::Tuple {
    let address = |a: Ipv4Addr| Some(proto::Address { octets: a.octets().to_vec() });
    proto::Tuple {
        source: address(t.src),
        source_port: t.src_port.into(),
        destination: address(t.dst),
        destination_port: t.dst_port.into(),
    }
}

fn counters(carried: Carried) -> proto::FlowCounters {
    proto::FlowCounters { frames: carried.frames, bytes: carried.bytes }
}

/// The flows' clock beside people's.
pub(in crate::control) struct WallClock {
    uptime: Seconds,
    unix: u64,
}

impl WallClock {
    pub(in crate::control) fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        Self { uptime: uptime().as_secs() as Seconds, unix }
    }

    fn unix(&self, at: Seconds) -> u64 {
        self.unix.saturating_sub(self.uptime.saturating_sub(at).into())
    }
}

impl From<Event> for proto::FlowEvent {
    fn from(event: Event) -> Self {
        match event {
            Event::Began => Self::Began,
            Event::Ended => Self::Ended,
        }
    }
}
