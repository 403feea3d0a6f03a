//! One stream's state: what the dataplane has accepted, what is in flight, what it refused.
//!
//! A request is refused whole, so a resource that was refused is held back, in its last accepted form if there is one,
//! and the rest is sent again. It is tried again when it changes, and on the next stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use headrace_api::state::{Generation, Port, PortId, Refusal, Resource};
use headrace_api::{API_VERSION, proto};
use imbl::OrdMap;
use tracing::{error, info, warn};

use super::diff;
use super::gate::{PortAnswer, PortBoard};
use crate::desired::Desired;
use crate::seam::Ports;

pub(super) struct Progress {
    /// What the dataplane holds; `None` before the first snapshot is accepted.
    accepted: Option<Desired>,
    in_flight: Option<InFlight>,
    /// Refused resources by title.
    held: BTreeMap<String, Resource>,
    /// A state whose refusal named nothing that can be held back.
    stuck: Option<Desired>,
    /// What the others see.
    pub(super) board: PortBoard,
}

struct InFlight {
    generation: Generation,
    target: Desired,
}

/// The dataplane does not keep to the contract.
#[derive(Debug, thiserror::Error)]
#[error("the dataplane answered generation {got} instead of {expected}; run daemons of one release")]
pub(super) struct UnexpectedReply {
    got: u64,
    expected: u64,
}

impl Progress {
    /// A new stream; `board` is that of the streams before it.
    pub(super) fn new(board: PortBoard) -> Self {
        Self { accepted: None, in_flight: None, held: BTreeMap::new(), stuck: None, board }
    }

    /// The next request, if one is due. It then is in flight until [`Progress::take`].
    pub(super) fn next(&mut self, desired: &Desired, generation: Generation) -> Option<proto::SyncRequest> {
        if self.in_flight.is_some() {
            return None;
        }
        let target = self.without_held(desired);
        if self.stuck.as_ref() == Some(&target) {
            return None;
        }
        use proto::sync_request::Change;
        let change = match &self.accepted {
            None => Change::Snapshot(diff::snapshot(&target)),
            Some(accepted) => Change::Delta(diff::delta(accepted, &target)?),
        };
        let before = self.accepted.as_ref().map(|a| &a.ports);
        for (id, port) in target.ports.iter() {
            if before.and_then(|b| b.get(id)) != Some(port) {
                // A port that was open stays so in others' eyes while a new stream repeats it.
                let answer = self.board.ports.entry(*id).or_insert(PortAnswer::Sent);
                if before.is_some() || *answer != PortAnswer::Ready {
                    *answer = PortAnswer::Sent;
                }
            }
        }
        self.stuck = None;
        self.in_flight = Some(InFlight { generation, target });
        Some(proto::SyncRequest { api_version: API_VERSION, generation: generation.0, change: Some(change) })
    }

    /// Whether nothing is on its way or stuck since the last [`Progress::next`].
    pub(super) fn is_done(&self) -> bool {
        self.in_flight.is_none() && self.stuck.is_none() && self.accepted.is_some()
    }

    /// Takes the answer to the request in flight.
    pub(super) fn take(&mut self, reply: proto::SyncReply) -> Result<(), UnexpectedReply> {
        let expected = self.in_flight.as_ref().map_or(0, |f| f.generation.0);
        let Some(in_flight) = self.in_flight.take_if(|f| f.generation.0 == reply.generation) else {
            return Err(UnexpectedReply { got: reply.generation, expected });
        };
        self.board.away = None;
        if reply.accepted {
            self.accept(in_flight.target, reply.ports);
        } else {
            let refusal =
                |r: proto::Refusal| Refusal { resource: r.resource, field: r.field, reason: r.reason };
            self.refuse(in_flight.target, reply.refusals.into_iter().map(refusal).collect());
        }
        Ok(())
    }

    fn accept(&mut self, target: Desired, ports: Vec<proto::PortState>) {
        for state in ports {
            let Some(id) = PortId::new(state.id) else { continue };
            let answer = if state.ready { PortAnswer::Ready } else { PortAnswer::NotReady(state.problem) };
            if let PortAnswer::NotReady(problem) = &answer {
                warn!("the dataplane cannot open port {id}: {problem}");
            }
            self.board.ports.insert(id, answer);
        }
        let held = &self.held;
        self.board
            .ports
            .retain(|id, _| target.ports.contains_key(id) || held.contains_key(&diff::port_title(*id)));
        for answer in self.board.ports.values_mut().filter(|a| **a == PortAnswer::Sent) {
            *answer =
                PortAnswer::NotReady("the dataplane accepted it but did not say whether it is open".into());
        }
        if self.accepted.is_none() {
            info!(
                ports = target.ports.len(),
                peers = target.peers.len(),
                services = target.services.len(),
                "the dataplane has the whole state"
            );
        }
        self.board.synced = true;
        if self.held.is_empty() {
            self.board.refusals.clear();
        }
        self.accepted = Some(target);
    }

    fn refuse(&mut self, target: Desired, refusals: Vec<Refusal>) {
        let mut changed = self.changed(&target);
        let mut holding = false;
        for refusal in &refusals {
            error!("the dataplane refused {refusal}");
            if let Some(resource) = changed.remove(&refusal.resource) {
                holding |= self.hold_back(resource, refusal);
            }
        }
        // What is named may have been there before, in conflict with new settings: then they are at fault.
        if !holding
            && let (Some(settings), Some(refusal)) = (changed.remove(diff::SETTINGS), refusals.first())
        {
            holding = self.hold_back(settings, refusal);
        }
        if !holding {
            self.give_up(target, refusals.first());
        }
        self.board.refusals = refusals;
    }

    /// What the target has that the dataplane has not, by title.
    fn changed(&self, target: &Desired) -> BTreeMap<String, Resource> {
        let titled = |desired: &Desired| -> BTreeMap<String, Resource> {
            diff::resources(desired).map(|r| (diff::title(&r), r)).collect()
        };
        let accepted = self.accepted.as_ref().map(titled).unwrap_or_default();
        titled(target).into_iter().filter(|(title, r)| accepted.get(title) != Some(r)).collect()
    }

    /// Keeps a refused resource out of the next requests. `false` when the dataplane can do nothing without it.
    fn hold_back(&mut self, resource: Resource, refusal: &Refusal) -> bool {
        match &resource {
            Resource::Settings(_) if self.accepted.as_ref().is_none_or(|a| a.settings.is_none()) => {
                return false;
            }
            Resource::Port(p) => drop(self.board.ports.insert(p.id, PortAnswer::Refused(refusal.clone()))),
            Resource::Settings(_) | Resource::Peer(_) | Resource::Service(_) => {}
        }
        self.held.insert(diff::title(&resource), resource);
        true
    }

    /// Waits for another target.
    fn give_up(&mut self, target: Desired, refusal: Option<&Refusal>) {
        let unknown = || Refusal {
            resource: "request".into(),
            field: "change".into(),
            reason: "refused without a reason".into(),
        };
        let refusal = refusal.cloned().unwrap_or_else(unknown);
        for answer in self.board.ports.values_mut().filter(|a| **a == PortAnswer::Sent) {
            *answer = PortAnswer::Refused(refusal.clone());
        }
        self.stuck = Some(target);
    }

    /// The desired state with what was refused, and has not changed since, as the dataplane last accepted it.
    fn without_held(&mut self, desired: &Desired) -> Desired {
        let mut target = desired.clone();
        let accepted = self.accepted.as_ref();
        self.held.retain(|_, resource| match resource {
            Resource::Port(p) => hold_port(&mut target.ports, accepted.map(|a| &a.ports), p),
            Resource::Peer(p) => hold(&mut target.peers, accepted.map(|a| &a.peers), &p.name, p),
            Resource::Service(s) => hold(&mut target.services, accepted.map(|a| &a.services), &s.name, s),
            Resource::Settings(s) => {
                let wanted = target.settings.as_deref() == Some(s);
                if wanted {
                    target.settings = accepted.and_then(|a| a.settings.clone());
                }
                wanted
            }
        });
        target
    }
}

/// Puts the accepted value in the refused one's place. `false` when the refused one is no longer wanted.
fn hold<V: PartialEq>(
    target: &mut OrdMap<String, Arc<V>>,
    accepted: Option<&OrdMap<String, Arc<V>>>,
    key: &String,
    refused: &V,
) -> bool {
    if target.get(key).map(Arc::as_ref) != Some(refused) {
        return false;
    }
    match accepted.and_then(|a| a.get(key)) {
        Some(last) => target.insert(key.clone(), Arc::clone(last)),
        None => target.remove(key),
    };
    true
}

/// The same for ports.
fn hold_port(target: &mut Ports, accepted: Option<&Ports>, refused: &Port) -> bool {
    if target.get(&refused.id) != Some(refused) {
        return false;
    }
    let ports = Arc::make_mut(target);
    match accepted.and_then(|a| a.get(&refused.id)) {
        Some(last) => ports.insert(refused.id, last.clone()),
        None => ports.remove(&refused.id),
    };
    true
}
