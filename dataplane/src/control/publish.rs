//! From desired state, kernel facts and open ports to the tables that workers read.
//!
//! A change of Services alone shares everything else with the snapshot before. The route generation moves only when a
//! cached route may be wrong, since every flow then looks its way up again: new MAC addresses of next hops do not count,
//! nor next hops added behind the others.
//!
//! Snapshots are freed here too: a worker that picks up the next one never is the last who has the former.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headrace_api::state::Service;

use super::desired::ServiceChange;
use super::shortcut::Shortcut;
use crate::random::Random;
use crate::tables::build::{self, KernelFacts, Wanted};
use crate::tables::service::{Endpoint, ServiceId};
use crate::tables::services::FrontendKey;
use crate::tables::{Hops, Services, Tables};
use crate::worker::Shared;

/// Writes the tables; the only one who does.
pub struct Publisher {
    shared: Arc<Shared>,
    shortcut: Option<Arc<Shortcut>>,
    /// How many snapshots were published, and when the last one was.
    updates: Cell<(u64, Instant)>,
    /// Snapshots that some worker may have still.
    former: RefCell<Vec<Arc<Tables>>>,
}

impl Publisher {
    /// Takes over the tables as they are.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, shortcut: None, updates: Cell::new((0, Instant::now())), former: RefCell::default() }
    }

    /// Tells the shortcut of every change, if there is one.
    #[must_use]
    pub fn telling(self, shortcut: Option<Arc<Shortcut>>) -> Self {
        Self { shortcut, ..self }
    }

    /// How many snapshots were published, and how old the last one is.
    pub fn updates(&self) -> (u64, Duration) {
        let (updates, last) = self.updates.get();
        (updates, last.elapsed())
    }

    /// Frees snapshots that no worker has any more.
    pub fn free_former(&self) {
        self.former.borrow_mut().retain(|tables| Arc::strong_count(tables) > 1);
    }

    fn store(&self, tables: Tables) {
        self.free_former();
        let tables = Arc::new(tables);
        self.former.borrow_mut().push(self.shared.tables.swap(Arc::clone(&tables)));
        if let Some(shortcut) = &self.shortcut {
            shortcut.follow(&tables);
        }
        self.updates.set((self.updates.get().0 + 1, Instant::now()));
    }

    /// Publishes a change of Services and nothing else.
    pub fn services(&self, changes: &[ServiceChange]) {
        if let Some(services) = changed(&self.shared.tables.load().services, changes) {
            let current = self.shared.tables.load();
            self.store(Tables { services, ..Tables::clone(&current) });
        }
        for (service, gone) in changes.iter().filter_map(no_longer_kept) {
            self.shared.flows.affinity().forget_endpoints(service, &gone);
        }
    }

    /// Publishes everything but Services anew, if it differs. Without settings nothing is forwarded.
    pub fn rest(&self, wanted: Option<&Wanted<'_>>, facts: &KernelFacts) {
        let current = self.shared.tables.load();
        let (services, generation) = (current.services.clone(), current.route_generation);
        let built = match wanted {
            Some(wanted) => build::tables(wanted, facts, services, generation),
            None => Tables { services, ..Tables::empty(generation) },
        };
        if let Some(next) = next(&current, built) {
            self.store(next);
        }
    }
}

/// A route generation to begin with: flows of an earlier process must not take it for theirs.
pub fn first_generation() -> u32 {
    Random::new().word() as u32
}

/// Services after some changes; `None` when no IPv4 frontend is concerned.
fn changed(services: &Services, changes: &[ServiceChange]) -> Option<Services> {
    let mut remove: Vec<FrontendKey> = Vec::new();
    let mut insert = Vec::new();
    for change in changes {
        let old = change.old.as_deref().map(build::frontend_keys).unwrap_or_default();
        if let Some(new) = change.new.as_deref() {
            let before = old.iter().find_map(|key| services.get(key));
            insert.extend(build::changed_service(new, before.map(|f| &f.service.hits)));
        }
        remove.extend(old);
    }
    (!remove.is_empty() || !insert.is_empty()).then(|| services.with(&remove, &insert))
}

/// Endpoints that clients of a Service with affinity keep no longer.
fn no_longer_kept(change: &ServiceChange) -> Option<(ServiceId, Vec<Endpoint>)> {
    let old = change.old.as_deref().filter(|old| old.affinity_seconds.is_some())?;
    let usable = |service: &Service| -> BTreeSet<Endpoint> {
        let usable = service.endpoints.iter().filter(|e| e.cluster || e.local);
        usable.filter_map(|e| Some((build::v4(e.address)?, e.port.get()))).collect()
    };
    let stay = change.new.as_deref().map(usable).unwrap_or_default();
    let gone: Vec<_> = usable(old).difference(&stay).copied().collect();
    (!gone.is_empty()).then(|| (ServiceId::of(&old.name), gone))
}

/// The snapshot to publish, which shares what did not change; `None` when nothing did.
fn next(current: &Tables, mut built: Tables) -> Option<Tables> {
    Arc::make_mut(&mut built.ports).keep_buckets(&current.ports);
    Arc::make_mut(&mut built.peers).keep_traffic(&current.peers);
    let same = share(&current.ports, &mut built.ports)
        & share(&current.routes, &mut built.routes)
        & share(&current.peers, &mut built.peers)
        & share(&current.host_ports, &mut built.host_ports)
        & same_node(current, &mut built);
    if same && current.hops == built.hops {
        return None;
    }
    if !same {
        // NodePort addresses or host ports may be others: UDP flows look whether they still go there.
        built.services = built.services.with(&[], &[]);
    }
    if !same || !continues(&current.hops, &built.hops) {
        built.route_generation = current.route_generation.wrapping_add(1);
    }
    Some(built)
}

/// Keeps the current part when the new one is equal to it.
fn share<T: PartialEq>(current: &Arc<T>, built: &mut Arc<T>) -> bool {
    let same = current == built;
    if same {
        *built = Arc::clone(current);
    }
    same
}

fn same_node(current: &Tables, built: &mut Tables) -> bool {
    match (&current.node, &mut built.node) {
        (Some(current), Some(built)) => share(current, built),
        (None, None) => true,
        _ => false,
    }
}

/// Whether every next hop still has its index.
fn continues(current: &Hops, built: &Hops) -> bool {
    let mut built = built.iter().map(|(address, _)| address);
    current.iter().all(|(address, _)| built.next() == Some(address))
}

#[cfg(test)]
mod tests;
