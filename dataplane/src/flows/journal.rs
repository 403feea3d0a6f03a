//! Connections that begin and end, told to whoever listens; and any connection as a whole, both directions together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use crossbeam::channel::{Sender, TrySendError};
use headrace_api::filter::State;
use headrace_wire::ipv4::Protocol;
use headrace_wire::nat::Rewrite;

use super::counts::Carried;
use super::{Flow, FlowKey, Flows, Kind, Seconds, Seen};
use crate::tables::routes::Out;

/// A connection, both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// IP protocol.
    pub protocol: Protocol,
    /// As the client sends it.
    pub client: Rewrite,
    /// As the server gets it.
    pub server: Rewrite,
    /// Whether it was addressed to a Service.
    pub service: bool,
    /// The way of its packets to the server.
    pub out: Option<Out>,
    /// How far it is.
    pub state: State,
    /// Packets to the server.
    pub to_server: Carried,
    /// Packets to the client.
    pub to_client: Carried,
    /// When its last packet came.
    pub last_seen: Seconds,
}

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// One begins.
    Began,
    /// One is over: expired, evicted, or replaced.
    Ended,
}

/// Somebody who listens.
#[derive(Clone)]
pub struct Listener {
    /// By which it is taken away again.
    pub id: u64,
    /// Where events go.
    pub to: Sender<(Event, Record)>,
    /// Events for which there was no room.
    pub lost: Arc<AtomicU64>,
}

/// Who listens; nobody, mostly.
#[derive(Default)]
pub(super) struct Journal {
    heard: AtomicBool,
    listeners: ArcSwap<Vec<Listener>>,
}

impl Journal {
    pub(super) fn is_heard(&self) -> bool {
        self.heard.load(Relaxed)
    }

    fn tell(&self, event: Event, record: &Record) {
        for listener in self.listeners.load().iter() {
            if let Err(TrySendError::Full(_)) = listener.to.try_send((event, *record)) {
                listener.lost.fetch_add(1, Relaxed);
            }
        }
    }
}

impl Flows {
    /// Begins to tell somebody of connections.
    pub fn listen(&self, listener: &Listener) {
        self.journal.listeners.rcu(|list| {
            let mut list = Vec::clone(list);
            list.push(listener.clone());
            list
        });
        self.journal.heard.store(true, Relaxed);
    }

    /// Tells somebody no more.
    pub fn unlisten(&self, id: u64) {
        self.journal
            .listeners
            .rcu(|list| list.iter().filter(|listener| listener.id != id).cloned().collect::<Vec<_>>());
        self.journal.heard.store(!self.journal.listeners.load().is_empty(), Relaxed);
    }

    /// Whether somebody is told of connections.
    pub fn is_heard(&self) -> bool {
        self.journal.is_heard()
    }

    /// All connections that are in the table now.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.map.iter().filter_map(|entry| {
            let key = FlowKey::unpack(&entry.key)?;
            let flow = Flow::unpack(entry.slot, entry.value);
            let told_once = flow.original && key.kind == Kind::Ports;
            told_once.then(|| self.record(&key, &flow, entry.last_seen))
        })
    }

    /// The flow of a key, without marking it as used.
    pub fn peek(&self, key: &FlowKey) -> Option<Flow> {
        self.peek_entry(key).map(|(flow, _)| flow)
    }

    /// How far the connection of a flow is.
    pub fn state(&self, key: &FlowKey, flow: &Flow) -> State {
        let partner = self.peek(&flow.partner_key(key));
        state(key.protocol, flow.seen, partner.map_or(Seen::NOTHING, |p| p.seen))
    }

    pub(super) fn note(&self, event: Event, key: &FlowKey, flow: &Flow, last_seen: Seconds) {
        if self.journal.is_heard() && key.kind == Kind::Ports {
            self.journal.tell(event, &self.record(key, flow, last_seen));
        }
    }

    fn peek_entry(&self, key: &FlowKey) -> Option<(Flow, Seconds)> {
        let packed = key.pack();
        let found = self.map.lookup(&packed, self.map.hash(&packed))?;
        Some((Flow::unpack(found.slot, found.value), found.last_seen))
    }

    fn record(&self, key: &FlowKey, flow: &Flow, last_seen: Seconds) -> Record {
        let partner_key = flow.partner_key(key);
        let partner = self.peek_entry(&partner_key);
        let carried = |flow: &Flow| self.counts.get(flow.slot);
        let theirs = partner.map(|(flow, _)| carried(&flow)).unwrap_or_default();
        let (to_server, to_client) =
            if flow.original { (carried(flow), theirs) } else { (theirs, carried(flow)) };
        let (client, server) = if flow.original {
            (key.tuple, flow.rewrite)
        } else {
            (flow.rewrite.reversed(), key.tuple.reversed())
        };
        let onward = if flow.original { Some(*flow) } else { partner.map(|(flow, _)| flow) };
        Record {
            protocol: key.protocol,
            client,
            server,
            service: flow.service,
            out: onward.and_then(|flow| flow.out),
            state: state(key.protocol, flow.seen, partner.map_or(Seen::NOTHING, |(p, _)| p.seen)),
            to_server,
            to_client,
            last_seen: partner.map_or(last_seen, |(_, seen)| seen.max(last_seen)),
        }
    }
}

fn state(protocol: Protocol, one: Seen, other: Seen) -> State {
    let either = one.and(other);
    let both = one.has(Seen::DATA) && other.has(Seen::DATA);
    if protocol != Protocol::TCP {
        return if both { State::Established } else { State::OneWay };
    }
    match (one.has(Seen::FIN), other.has(Seen::FIN)) {
        _ if either.has(Seen::RST) => State::Reset,
        (true, true) => State::Closed,
        (true, false) | (false, true) => State::Closing,
        (false, false) if both => State::Established,
        (false, false) => State::New,
    }
}
