//! What changed between two looks, in sentences: the timeline of table updates, of daemons and of warnings.
//!
//! A pure function of the two statuses. Changes that came and went between two looks are not seen; generations tell that
//! something did.

use std::collections::BTreeSet;

use headrace_api::proto::{PortStatus, StatusReply};
use serde::Serialize;

/// Names in one sentence; the others are counted.
const NAMES: usize = 3;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Since 1970, in milliseconds.
    pub at: u64,
    /// What it is about.
    pub kind: Kind,
    /// For people.
    pub text: String,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The desired state moved.
    Tables,
    /// Pods came or went.
    Ports,
    /// Nodes came or went.
    Peers,
    /// A daemon came or went.
    Daemons,
    /// Something needs attention.
    Warning,
    /// Something that needed attention is gone.
    Solved,
}

type Look = Result<StatusReply, String>;

/// What changed from `old` (`None` = first look) to `new`, in the order in which it is told.
pub fn events(at: u64, old: Option<&Look>, new: &Look) -> Vec<Event> {
    let mut list = List { at, events: Vec::new() };
    match (old, new) {
        (None, Ok(status)) => list.add(Kind::Daemons, running(status)),
        (None, Err(problem)) => list.add(Kind::Warning, problem.clone()),
        (Some(Err(_)), Ok(status)) => list.add(Kind::Daemons, running(status)),
        (Some(Ok(_)), Err(problem)) => list.add(Kind::Warning, problem.clone()),
        (Some(Err(_)), Err(_)) => {}
        (Some(Ok(old)), Ok(new)) => list.compare(old, new),
    }
    list.events
}

fn running(status: &StatusReply) -> String {
    format!("dataplane {} runs", status.version)
}

struct List {
    at: u64,
    events: Vec<Event>,
}

impl List {
    fn add(&mut self, kind: Kind, text: String) {
        self.events.push(Event { at: self.at, kind, text });
    }

    fn compare(&mut self, old: &StatusReply, new: &StatusReply) {
        if new.uptime_seconds < old.uptime_seconds {
            self.add(Kind::Daemons, format!("dataplane was started again; {}", running(new)));
        }
        if new.state_source != old.state_source {
            self.add(Kind::Daemons, source(&new.state_source));
        }
        let pods = |s: &StatusReply| names(s.ports.iter().filter(|p| p.id != 0).map(pod_name));
        self.difference(Kind::Ports, "pod", &pods(old), &pods(new));
        let peers = |s: &StatusReply| names(s.peers.iter().map(|p| p.name.clone()));
        self.difference(Kind::Peers, "node", &peers(old), &peers(new));
        self.tables(old, new);
        let warnings =
            |s: &StatusReply| names(s.warnings.iter().cloned().chain(refusals(s)).chain(not_ready(s)));
        for text in warnings(new).difference(&warnings(old)) {
            self.add(Kind::Warning, text.clone());
        }
        for text in warnings(old).difference(&warnings(new)) {
            self.add(Kind::Solved, format!("no longer: {text}"));
        }
    }

    fn difference(&mut self, kind: Kind, what: &str, old: &BTreeSet<String>, new: &BTreeSet<String>) {
        for (verb, changed) in [("added", new.difference(old)), ("removed", old.difference(new))] {
            let changed: Vec<&str> = changed.map(String::as_str).collect();
            if !changed.is_empty() {
                self.add(kind, format!("{what} {verb}: {}", enumerate(&changed)));
            }
        }
    }

    fn tables(&mut self, old: &StatusReply, new: &StatusReply) {
        if new.generation == old.generation {
            return;
        }
        let count = |what: &str, from: u32, to: u32| match i64::from(to) - i64::from(from) {
            0 => format!("{to} {what}{}", plural(to)),
            change => format!("{to} {what}{} ({change:+})", plural(to)),
        };
        let services = count("service", old.services, new.services);
        let endpoints = count("endpoint", old.endpoints, new.endpoints);
        self.add(Kind::Tables, format!("tables changed: {services}, {endpoints}"));
    }
}

fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn source(source: &str) -> String {
    match source {
        "controller" => "the agent feeds the dataplane".into(),
        "saved" => "the dataplane goes on with saved tables".into(),
        "file" => "the dataplane runs by its state file".into(),
        _ => "the dataplane has no tables".into(),
    }
}

fn refusals(status: &StatusReply) -> impl Iterator<Item = String> {
    status.last_refusals.iter().map(|r| format!("refused: {}: {}: {}", r.resource, r.field, r.reason))
}

fn not_ready(status: &StatusReply) -> impl Iterator<Item = String> {
    let ports = status.ports.iter().filter(|p| !p.ready && !p.problem.is_empty());
    ports.map(|p| format!("{} is not ready: {}", p.interface, p.problem))
}

fn pod_name(port: &PortStatus) -> String {
    if port.label.is_empty() { port.interface.clone() } else { port.label.clone() }
}

fn names(all: impl Iterator<Item = String>) -> BTreeSet<String> {
    all.collect()
}

fn enumerate(names: &[&str]) -> String {
    let shown = names[..names.len().min(NAMES)].join(", ");
    match names.len().saturating_sub(NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
