//! All Services, kept up to date change by change.
//!
//! The cost of a change follows the change: the difference of two sets of objects names the Services it touches; each is
//! derived anew by itself, and so are those that want an address of a touched one. What always holds: the outcome is
//! that of deriving everything from nothing. Of Services that want the same address, port and protocol, the oldest has
//! it (`creationTimestamp`, then the name; objects without one come last); the others keep what else they have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use headrace_api::state::{self, Frontend, Protocol};
use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::service::{HealthCheck, Unit, is_ours, unit};
use super::{Context, Problem, Problems};
use crate::objects::{EndpointSlice, ObjectMap, ObjectName, Objects};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Service ports by "namespace/name:port".
pub type ServicePorts = OrdMap<String, Arc<state::Service>>;
/// Where load balancers ask about Services.
pub type HealthChecks = OrdMap<ObjectName, HealthCheck>;

#[derive(Debug, Default)]
pub(super) struct Services {
    /// What the dataplane should hold.
    pub(super) ports: ServicePorts,
    /// What load balancers should be told.
    pub(super) health_checks: HealthChecks,
    /// Names of the slices of every Service, whether the Service is there or not.
    slices: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    held: BTreeMap<ObjectName, Held>,
    claims: BTreeMap<Claim, BTreeSet<Claimant>>,
}

/// What is known of one Service object.
#[derive(Debug, Default)]
struct Held {
    /// How problems call it.
    title: String,
    unit: Unit,
    age: Age,
    /// Names in [`Services::ports`].
    ports: Vec<String>,
    /// Addresses that others have.
    conflicts: Vec<Problem>,
}

/// An address, port and protocol; without the address, a port of the node.
type Claim = (Option<IpAddr>, NonZeroU16, Protocol);
/// Whether there is no timestamp, then the timestamp: the oldest first.
type Age = (bool, String);
/// The first of a claim's claimants has it.
type Claimant = (Age, ObjectName);

impl Services {
    /// Goes from `old` objects to `new` ones. With `everything`, what has not changed is derived anew too.
    pub(super) fn update(
        &mut self,
        old: &Objects,
        new: &Objects,
        context: &Context,
        everything: bool,
        problems: &mut Problems,
    ) {
        let mut touched = self.touched(old, new, problems);
        if everything {
            touched.extend(new.services.keys().chain(self.slices.keys()).cloned());
        }
        let mut unsettled = BTreeSet::new();
        for name in touched {
            self.derive(&name, new, context, problems, &mut unsettled);
            unsettled.insert(name);
        }
        for name in unsettled {
            self.settle(&name, problems);
        }
    }

    /// Services that a change is about. Keeps the index of slices.
    fn touched(&mut self, old: &Objects, new: &Objects, problems: &mut Problems) -> BTreeSet<ObjectName> {
        let mut touched: BTreeSet<ObjectName> =
            changed(&old.services, &new.services).map(|(name, _, _)| name.clone()).collect();
        for (name, before, after) in changed(&old.slices, &new.slices) {
            problems.remove(&before.and_then(unlabelled).into_iter().collect::<Vec<_>>());
            problems.add(&after.and_then(unlabelled).into_iter().collect::<Vec<_>>());
            if let Some(service) = before.and_then(service_of) {
                self.forget_slice(&service, name);
                touched.insert(service);
            }
            if let Some(service) = after.and_then(service_of) {
                self.slices.entry(service.clone()).or_default().insert(name.clone());
                touched.insert(service);
            }
        }
        touched
    }

    fn forget_slice(&mut self, service: &ObjectName, slice: &ObjectName) {
        if let Some(slices) = self.slices.get_mut(service) {
            slices.remove(slice);
            if slices.is_empty() {
                self.slices.remove(service);
            }
        }
    }

    /// Derives one Service, and names those that its claims are about in `unsettled`.
    fn derive(
        &mut self,
        name: &ObjectName,
        objects: &Objects,
        context: &Context,
        problems: &mut Problems,
        unsettled: &mut BTreeSet<ObjectName>,
    ) {
        let service = objects.services.get(name);
        let slices: Vec<&Arc<EndpointSlice>> =
            self.slices.get(name).into_iter().flatten().filter_map(|s| objects.slices.get(s)).collect();
        let unit = unit(name, service.map(Arc::as_ref), &slices, context);
        let created = service.and_then(|s| s.metadata.creation_timestamp.clone());
        let age = (created.is_none(), created.unwrap_or_default());
        problems.add(&unit.problems);
        match unit.health_check {
            Some(check) => drop(self.health_checks.insert(name.clone(), check)),
            None => drop(self.health_checks.remove(name)),
        }
        let held = self.held.entry(name.clone()).or_default();
        problems.remove(&held.unit.problems);
        let before = (std::mem::replace(&mut held.age, age.clone()), claims(&held.unit));
        let after = (age, claims(&unit));
        held.title = service.map(|s| s.metadata.title("Service")).unwrap_or_default();
        held.unit = unit;
        if before != after {
            self.claim(name, before, after, unsettled);
        }
    }

    fn claim(
        &mut self,
        name: &ObjectName,
        (old_age, old): (Age, BTreeSet<Claim>),
        (age, new): (Age, BTreeSet<Claim>),
        unsettled: &mut BTreeSet<ObjectName>,
    ) {
        let old_claimant = (old_age, name.clone());
        for claim in &old {
            let Some(claimants) = self.claims.get_mut(claim) else { continue };
            claimants.remove(&old_claimant);
            unsettled.extend(claimants.iter().map(|(_, other)| other.clone()));
            if claimants.is_empty() {
                self.claims.remove(claim);
            }
        }
        for claim in new {
            let claimants = self.claims.entry(claim).or_default();
            unsettled.extend(claimants.iter().map(|(_, other)| other.clone()));
            claimants.insert((age.clone(), name.clone()));
        }
    }

    /// Puts what a Service may have into the outcome.
    fn settle(&mut self, name: &ObjectName, problems: &mut Problems) {
        let Some(held) = self.held.get_mut(name) else { return };
        problems.remove(&held.conflicts);
        held.conflicts.clear();
        let former = std::mem::take(&mut held.ports);
        for port in &held.unit.ports {
            let settled = without_others(port, (name, &held.title), &self.claims, &mut held.conflicts);
            if !settled.frontends.is_empty() {
                held.ports.push(settled.name.clone());
                // An equal one keeps its place, and the snapshot is the one it was.
                if self.ports.get(&settled.name) != Some(&settled) {
                    self.ports.insert(settled.name.clone(), settled);
                }
            }
        }
        for gone in former.iter().filter(|port| !held.ports.contains(port)) {
            self.ports.remove(gone);
        }
        problems.add(&held.conflicts);
        if held.unit == Unit::default() {
            self.held.remove(name);
        }
    }
}

/// The port with the frontends that no older Service has.
fn without_others(
    port: &Arc<state::Service>,
    (name, title): (&ObjectName, &str),
    claims: &BTreeMap<Claim, BTreeSet<Claimant>>,
    conflicts: &mut Vec<Problem>,
) -> Arc<state::Service> {
    let holder = |frontend: &Frontend| {
        let first = claims.get(&claim(frontend)).and_then(BTreeSet::first);
        first.map(|(_, holder)| holder).filter(|holder| *holder != name)
    };
    if port.frontends.iter().all(|f| holder(f).is_none()) {
        return Arc::clone(port);
    }
    let mut settled = state::Service::clone(port);
    settled.frontends.retain(|frontend| {
        let Some(holder) = holder(frontend) else { return true };
        let what = format!("{} port {} is that of Service {holder} already", frontend.address, frontend.port);
        let remedy = "give every Service addresses and node ports of its own; the oldest has them";
        conflicts.push(Problem::new(title, what, remedy));
        false
    });
    Arc::new(settled)
}

fn claims(unit: &Unit) -> BTreeSet<Claim> {
    unit.ports.iter().flat_map(|port| &port.frontends).map(claim).collect()
}

fn claim(frontend: &Frontend) -> Claim {
    (frontend.address.ip(), frontend.port, frontend.protocol)
}

/// Objects that differ: name, before, after.
fn changed<'a, V: PartialEq>(
    old: &'a ObjectMap<ObjectName, V>,
    new: &'a ObjectMap<ObjectName, V>,
) -> impl Iterator<Item = (&'a ObjectName, Option<&'a V>, Option<&'a V>)> {
    old.diff(new).map(|item| match item {
        DiffItem::Add(name, value) => (name, None, Some(value.as_ref())),
        DiffItem::Update { old: (_, old), new: (name, new) } => {
            (name, Some(old.as_ref()), Some(new.as_ref()))
        }
        DiffItem::Remove(name, value) => (name, Some(value.as_ref()), None),
    })
}

/// The Service of a slice that is for this proxy and says so.
fn service_of(slice: &EndpointSlice) -> Option<ObjectName> {
    let service = slice.metadata.labels.get(SERVICE_NAME).filter(|_| is_ours(&slice.metadata))?;
    Some(ObjectName { namespace: slice.metadata.object_name().namespace, name: service.clone() })
}

fn unlabelled(slice: &EndpointSlice) -> Option<Problem> {
    let lost = is_ours(&slice.metadata) && !slice.metadata.labels.contains_key(SERVICE_NAME);
    let title = || slice.metadata.title("EndpointSlice");
    let what = format!("has no label {SERVICE_NAME}, so it belongs to no Service");
    lost.then(|| Problem::new(title(), what, "add the label"))
}
