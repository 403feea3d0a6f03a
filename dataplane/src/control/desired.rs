//! The desired state: keyed resources, and the checks that need more than one of them.
//!
//! A change is taken whole or refused whole. It is first drawn up as a plan of what really differs, then checked against
//! what stays ([`claims`] holds who owns what, so one Service among ten thousand costs no walk), then carried out; nothing
//! is touched before the last check has passed, so a refusal has nothing to undo.

mod check;
mod claims;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use headrace_api::state::{Change, Key, Peer, Port, PortId, Refusal, Resource, Service, Settings};

use claims::{Claims, Ranges};

/// The name of any resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The node itself.
    Settings,
    /// A pod's port.
    Port(PortId),
    /// Another node, by name.
    Peer(String),
    /// One port of a Service, by name.
    Service(String),
}

/// What a change did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// The settings are others, or gone.
    pub settings: bool,
    /// Some peer is another, new, or gone.
    pub peers: bool,
    /// Ports that are others, new, or gone.
    pub ports: BTreeSet<PortId>,
    /// Addresses of ports that are gone.
    pub left: Vec<IpAddr>,
    /// Services that are others, new, or gone.
    pub services: Vec<ServiceChange>,
}

/// A Service before and after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceChange {
    /// `None` = it is new.
    pub old: Option<Arc<Service>>,
    /// `None` = it is gone.
    pub new: Option<Arc<Service>>,
}

impl Diff {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        !self.beyond_services() && self.services.is_empty()
    }

    /// Whether anything but Services changed.
    pub fn beyond_services(&self) -> bool {
        self.settings || self.peers || !self.ports.is_empty()
    }
}

/// All resources, with an index of what each of them claims for itself.
#[derive(Debug, Default)]
pub struct Desired {
    settings: Option<Settings>,
    ports: BTreeMap<PortId, Port>,
    peers: BTreeMap<String, Peer>,
    services: HashMap<String, Arc<Service>>,
    endpoints: usize,
    claims: Claims,
    ranges: Ranges,
}

/// All resources at one moment.
#[derive(Debug)]
pub struct Resources {
    /// All but Services.
    pub others: Vec<Resource>,
    /// Services.
    pub services: Vec<Arc<Service>>,
}

/// What each resource that differs is to become; `None` = it goes.
type Plan = BTreeMap<Owner, Option<Resource>>;

impl Desired {
    /// The node itself.
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    /// Pod ports.
    pub fn ports(&self) -> &BTreeMap<PortId, Port> {
        &self.ports
    }

    /// Other nodes.
    pub fn peers(&self) -> &BTreeMap<String, Peer> {
        &self.peers
    }

    /// How many Services there are, and how many endpoints they have together.
    pub fn service_counts(&self) -> (usize, usize) {
        (self.services.len(), self.endpoints)
    }

    /// All Services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// Every resource, to be read on another thread: Services are shared, not copied.
    pub fn shared(&self) -> Resources {
        let settings = self.settings.iter().cloned().map(Resource::Settings);
        let ports = self.ports.values().cloned().map(Resource::Port);
        let peers = self.peers.values().cloned().map(Resource::Peer);
        Resources {
            others: settings.chain(ports).chain(peers).collect(),
            services: self.services.values().cloned().collect(),
        }
    }

    /// Every resource, as a snapshot has them.
    #[cfg(test)]
    pub fn resources(&self) -> impl Iterator<Item = Resource> + '_ {
        let settings = self.settings.iter().cloned().map(Resource::Settings);
        let ports = self.ports.values().cloned().map(Resource::Port);
        let peers = self.peers.values().cloned().map(Resource::Peer);
        let services = self.services.values().map(|s| Resource::Service(Service::clone(s)));
        settings.chain(ports).chain(peers).chain(services)
    }

    /// Carries out a change.
    ///
    /// # Errors
    /// Every conflict found; the state is then what it was.
    pub fn apply(&mut self, change: Change) -> Result<Diff, Vec<Refusal>> {
        let plan = self.plan(change)?;
        let ranges = self.check(&plan)?;
        Ok(self.carry_out(plan, ranges))
    }

    /// What of a change differs from what is there.
    fn plan(&self, change: Change) -> Result<Plan, Vec<Refusal>> {
        let mut plan = Plan::new();
        let upserts = match change {
            Change::Snapshot(resources) => {
                plan.extend(self.owners().map(|owner| (owner, None)));
                resources
            }
            Change::Delta { upserts, deletes } => {
                plan.extend(deletes.into_iter().map(|key| (Owner::from(key), None)));
                upserts
            }
        };
        let mut refusals = Vec::new();
        for resource in upserts {
            let owner = Owner::of(&resource);
            if let Some(Some(_)) = plan.insert(owner.clone(), Some(resource)) {
                refusals.push(owner.refuse("name", "stands twice in the request; send each resource once"));
            }
        }
        if !refusals.is_empty() {
            return Err(refusals);
        }
        plan.retain(|owner, wanted| !self.is(owner, wanted.as_ref()));
        Ok(plan)
    }

    /// Whether the resource of that name is already as wanted.
    fn is(&self, owner: &Owner, wanted: Option<&Resource>) -> bool {
        match (owner, wanted) {
            (Owner::Settings, None) => self.settings.is_none(),
            (Owner::Port(id), None) => !self.ports.contains_key(id),
            (Owner::Peer(name), None) => !self.peers.contains_key(name),
            (Owner::Service(name), None) => !self.services.contains_key(name),
            (_, Some(Resource::Settings(wanted))) => self.settings.as_ref() == Some(wanted),
            (_, Some(Resource::Port(wanted))) => self.ports.get(&wanted.id) == Some(wanted),
            (_, Some(Resource::Peer(wanted))) => self.peers.get(&wanted.name) == Some(wanted),
            (_, Some(Resource::Service(wanted))) => {
                self.services.get(&wanted.name).is_some_and(|s| **s == *wanted)
            }
        }
    }

    fn owners(&self) -> impl Iterator<Item = Owner> + '_ {
        let settings = self.settings.iter().map(|_| Owner::Settings);
        let ports = self.ports.keys().map(|id| Owner::Port(*id));
        let peers = self.peers.keys().cloned().map(Owner::Peer);
        settings.chain(ports).chain(peers).chain(self.services.keys().cloned().map(Owner::Service))
    }

    fn carry_out(&mut self, plan: Plan, ranges: Option<Ranges>) -> Diff {
        let mut diff = Diff::default();
        // All old claims go before any new one comes: an address may pass from one port to another.
        for owner in plan.keys() {
            self.claims.release(owner);
        }
        if let Some(ranges) = ranges {
            self.ranges = ranges;
        }
        for (owner, wanted) in plan {
            if let Some(resource) = &wanted {
                self.claims.take(&owner, resource);
            }
            self.set(owner, wanted, &mut diff);
        }
        diff
    }

    fn set(&mut self, owner: Owner, wanted: Option<Resource>, diff: &mut Diff) {
        match (owner, wanted) {
            (Owner::Service(name), wanted) => {
                let new = match wanted {
                    Some(Resource::Service(service)) => Some(Arc::new(service)),
                    _ => None,
                };
                let old = match &new {
                    Some(new) => self.services.insert(name, Arc::clone(new)),
                    None => self.services.remove(&name),
                };
                self.endpoints += new.as_ref().map_or(0, |s| s.endpoints.len());
                self.endpoints -= old.as_ref().map_or(0, |s| s.endpoints.len());
                diff.services.push(ServiceChange { old, new });
            }
            (Owner::Port(id), wanted) => {
                diff.ports.insert(id);
                match wanted {
                    Some(Resource::Port(port)) => drop(self.ports.insert(id, port)),
                    _ => diff.left.extend(self.ports.remove(&id).into_iter().flat_map(|port| port.addresses)),
                }
            }
            (Owner::Peer(name), wanted) => {
                diff.peers = true;
                match wanted {
                    Some(Resource::Peer(peer)) => self.peers.insert(name, peer),
                    _ => self.peers.remove(&name),
                };
            }
            (Owner::Settings, wanted) => {
                diff.settings = true;
                self.settings = match wanted {
                    Some(Resource::Settings(settings)) => Some(settings),
                    _ => None,
                };
            }
        }
    }
}

impl Owner {
    fn of(resource: &Resource) -> Self {
        match resource {
            Resource::Settings(_) => Self::Settings,
            Resource::Port(port) => Self::Port(port.id),
            Resource::Peer(peer) => Self::Peer(peer.name.clone()),
            Resource::Service(service) => Self::Service(service.name.clone()),
        }
    }

    fn refuse(&self, field: impl fmt::Display, reason: impl Into<String>) -> Refusal {
        Refusal { resource: self.to_string(), field: field.to_string(), reason: reason.into() }
    }
}

impl From<Key> for Owner {
    fn from(key: Key) -> Self {
        match key {
            Key::Port(id) => Self::Port(id),
            Key::Peer(name) => Self::Peer(name),
            Key::Service(name) => Self::Service(name),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings => f.write_str("settings"),
            Self::Port(id) => write!(f, "port {id}"),
            Self::Peer(name) => write!(f, "peer {name}"),
            Self::Service(name) => write!(f, "service {name}"),
        }
    }
}
