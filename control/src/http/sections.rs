//! The parts of the stream that are only asked for while a page shows them: connections and Services.
//!
//! The dataplane may hold millions; a page is shown the busiest [`SHOWN`] of the first [`READ`] that match, so neither
//! memory nor time grows with the tables. What cannot be had is said in words in the section itself.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use headrace_api::client;
use headrace_api::proto::observe_client::ObserveClient;
use headrace_api::proto::{self, FlowRecord, FlowsRequest, ServicesRequest};

use serde::Serialize;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Channel;

use super::Node;
use super::stream::Wanted;
use crate::status::address;

/// Connections that are read for one page.
const READ: usize = 2000;
/// Connections, and Services, that one page shows.
const SHOWN: usize = 200;
/// Endpoints of one Service that are shown.
const ENDPOINTS: usize = 32;
/// Longest text to search for.
const LONGEST_SEARCH: usize = 256;
/// Time for the dataplane to answer.
const PATIENCE: Duration = Duration::from_millis(800);

/// Asks the dataplane for one page.
pub(super) struct Sections {
    run_dir: PathBuf,
    client: Option<ObserveClient<Channel>>,
    moved: Moved,
}

/// Bytes of the connections that were read last, to tell which ones move.
#[derive(Default)]
struct Moved {
    /// To the server, to the client.
    bytes: HashMap<Key, [u64; 2]>,
    asked: Option<Instant>,
}

type Key = (u32, Option<proto::Tuple>);

impl Moved {
    /// Takes the records that were read now; gives bits a second of each, to the server and to the client.
    fn take(&mut self, records: &[FlowRecord]) -> Vec<[f64; 2]> {
        let elapsed = self.asked.replace(Instant::now()).map(|then| then.elapsed().as_secs_f64());
        let rate = |old: u64, new: u64| match elapsed {
            Some(elapsed) if elapsed > 0.0 => (new.saturating_sub(old) as f64 * 8.0 / elapsed).round(),
            _ => 0.0,
        };
        let rates = records.iter().map(|record| {
            let new = bytes(record);
            let old = self.bytes.get(&key(record)).copied().unwrap_or(new);
            [rate(old[0], new[0]), rate(old[1], new[1])]
        });
        let rates = rates.collect();
        self.bytes = records.iter().map(|record| (key(record), bytes(record))).collect();
        rates
    }
}

/// A section: what was found, or why nothing was.
#[derive(Serialize)]
struct Section<T> {
    problem: Option<String>,
    /// How many matched, of those read.
    found: usize,
    /// Whether there may be more than were read.
    more: bool,
    list: Vec<T>,
}

/// A connection, for people.
#[derive(Debug, Default, Serialize)]
struct Flow {
    protocol: &'static str,
    client: String,
    destination: String,
    server: String,
    state: String,
    way: String,
    client_pod: String,
    server_pod: String,
    service: String,
    bytes: u64,
    frames: u64,
    bps: f64,
    age: u64,
    idle: u64,
}

/// A Service port, for people.
#[derive(Debug, Default, Serialize)]
struct Service {
    name: String,
    frontends: Vec<String>,
    /// Connections that are open.
    active: u64,
    /// All that were begun since the dataplane runs.
    begun: u64,
    endpoints: Vec<Endpoint>,
    more_endpoints: usize,
}

/// Where connections go.
#[derive(Debug, Default, Serialize)]
struct Endpoint {
    address: String,
    place: String,
    active: u64,
    begun: u64,
}

impl Sections {
    pub(super) fn new(node: &Node) -> Self {
        Self { run_dir: node.run_dir.clone(), client: None, moved: Moved::default() }
    }

    /// What the page wants now, by name, as JSON.
    pub(super) async fn ask(&mut self, wanted: &Wanted) -> Vec<(&'static str, String)> {
        let mut sections = Vec::new();
        if let Some(filter) = &wanted.flows {
            let flows = timeout(PATIENCE, self.flows(filter)).await;
            sections.push(("flows", self.section(flows)));
        }
        if let Some(name) = &wanted.services {
            let services = timeout(PATIENCE, self.services(name)).await;
            sections.push(("services", self.section(services)));
        }
        sections
    }

    fn section<T: Serialize>(&mut self, answer: Result<Result<Section<T>, String>, impl Sized>) -> String {
        let answer =
            answer.unwrap_or_else(|_| Err(format!("the dataplane does not answer within {PATIENCE:?}")));
        let section = answer.unwrap_or_else(|problem| {
            self.client = None;
            Section { problem: Some(problem), found: 0, more: false, list: Vec::new() }
        });
        serde_json::to_string(&section).unwrap_or_else(|_| "null".into())
    }

    async fn client(&mut self) -> Result<&mut ObserveClient<Channel>, String> {
        match &mut self.client {
            Some(client) => Ok(client),
            none => Ok(none.insert(client::observe(&self.run_dir).await.map_err(|e| e.to_string())?)),
        }
    }

    async fn flows(&mut self, filter: &str) -> Result<Section<Flow>, String> {
        let records = self.read(filter, READ).await?;
        let (found, more) = (records.len(), records.len() == READ);
        let rates = self.moved.take(&records);
        let mut list: Vec<Flow> = records.into_iter().zip(rates).map(flow).collect();
        list.sort_by(|a, b| b.bps.total_cmp(&a.bps).then(a.idle.cmp(&b.idle)).then(b.bytes.cmp(&a.bytes)));
        list.truncate(SHOWN);
        Ok(Section { problem: None, found, more, list })
    }

    /// The first `limit` connections that match.
    async fn read(&mut self, filter: &str, limit: usize) -> Result<Vec<FlowRecord>, String> {
        let request = FlowsRequest { filter: bounded(filter)?, limit: limit as u64, follow: false };
        let mut stream = self.client().await?.flows(request).await.map_err(|e| words(&e))?.into_inner();
        let mut records = Vec::new();
        while records.len() < limit
            && let Some(record) = stream.message().await.map_err(|e| words(&e))?
        {
            records.push(record);
        }
        Ok(records)
    }

    async fn services(&mut self, name: &str) -> Result<Section<Service>, String> {
        let request = ServicesRequest { name: bounded(name)? };
        let reply = self.client().await?.services(request).await.map_err(|e| words(&e))?.into_inner();
        let found = reply.services.len();
        let mut records = reply.services;
        let busiest = |record: &proto::ServiceRecord| std::cmp::Reverse((active(record), record.begun));
        records.sort_by(|a, b| busiest(a).cmp(&busiest(b)).then_with(|| a.name.cmp(&b.name)));
        let list = records.into_iter().take(SHOWN).map(service).collect();
        Ok(Section { problem: None, found, more: false, list })
    }
}

fn flow((record, rates): (FlowRecord, [f64; 2])) -> Flow {
    let bytes = bytes(&record).iter().sum();
    let frames = record.to_server.map_or(0, |c| c.frames) + record.to_client.map_or(0, |c| c.frames);
    let (client, server) = (record.client.unwrap_or_default(), record.server.unwrap_or_default());
    Flow {
        protocol: protocol(record.protocol),
        client: end(client.source.as_ref(), client.source_port),
        destination: end(client.destination.as_ref(), client.destination_port),
        server: end(server.destination.as_ref(), server.destination_port),
        state: record.state,
        way: record.way,
        client_pod: record.client_pod,
        server_pod: record.server_pod,
        service: record.service,
        bytes,
        frames,
        bps: rates.iter().sum(),
        age: record.age_seconds,
        idle: record.idle_seconds,
    }
}

/// Connections that a Service has now.
fn active(record: &proto::ServiceRecord) -> u64 {
    record.endpoints.iter().map(|endpoint| endpoint.active).sum()
}

fn service(record: proto::ServiceRecord) -> Service {
    let endpoint = |e: &proto::EndpointRecord| Endpoint {
        address: end(e.address.as_ref(), e.port),
        place: e.place.clone(),
        active: e.active,
        begun: e.begun,
    };
    let frontend = |f: &proto::Frontend| {
        format!("{} {}", end(f.address.as_ref(), f.port), protocol(f.protocol.cast_unsigned()))
    };
    Service {
        active: active(&record),
        begun: record.begun,
        name: record.name,
        frontends: record.frontends.iter().take(ENDPOINTS).map(frontend).collect(),
        endpoints: record.endpoints.iter().take(ENDPOINTS).map(endpoint).collect(),
        more_endpoints: record.endpoints.len().saturating_sub(ENDPOINTS),
    }
}

fn bounded(text: &str) -> Result<String, String> {
    if text.len() > LONGEST_SEARCH {
        return Err(format!("the text is longer than {LONGEST_SEARCH} characters"));
    }
    Ok(text.to_owned())
}

fn key(record: &FlowRecord) -> Key {
    (record.protocol, record.client.clone())
}

/// To the server, to the client.
fn bytes(record: &FlowRecord) -> [u64; 2] {
    [record.to_server, record.to_client].map(|counters| counters.map_or(0, |c| c.bytes))
}

fn end(of: Option<&proto::Address>, port: u32) -> String {
    let address = of.map(address).unwrap_or_default();
    match (port, address.contains(':')) {
        (0, _) => address,
        (port, true) => format!("[{address}]:{port}"),
        (port, false) => format!("{address}:{port}"),
    }
}

/// IANA's numbers.
fn protocol(number: u32) -> &'static str {
    match number {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "icmpv6",
        132 => "sctp",
        _ => "other",
    }
}

fn words(status: &tonic::Status) -> String {
    match status.code() {
        Code::Unimplemented => "the dataplane is of an older release and cannot tell".into(),
        _ => status.message().to_owned(),
    }
}
