//! Desired states as messages: a whole one, and what leads from one to another.

use std::sync::Arc;

use headrace_api::proto;
use headrace_api::state::{Key, Port, PortId, Resource};
use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use crate::desired::Desired;
use crate::seam::Ports;

/// How refusals name the settings.
pub(super) const SETTINGS: &str = "settings";

/// Everything.
pub(super) fn snapshot(desired: &Desired) -> proto::Snapshot {
    proto::Snapshot { resources: resources(desired).map(|r| (&r).into()).collect() }
}

/// What leads from one state to the other; `None` when they are equal. Settings can be replaced, not deleted.
pub(super) fn delta(from: &Desired, to: &Desired) -> Option<proto::Delta> {
    let mut delta = proto::Delta::default();
    if let Some(settings) = to.settings.as_ref().filter(|s| from.settings.as_ref() != Some(s)) {
        delta.upserts.push((&Resource::Settings(settings.as_ref().clone())).into());
    }
    compare_ports(&from.ports, &to.ports, &mut delta);
    compare(&from.peers, &to.peers, |name| Key::Peer(name.clone()), Resource::Peer, &mut delta);
    compare(&from.services, &to.services, |name| Key::Service(name.clone()), Resource::Service, &mut delta);
    (delta != proto::Delta::default()).then_some(delta)
}

/// All resources, settings first.
pub(super) fn resources(desired: &Desired) -> impl Iterator<Item = Resource> + '_ {
    let settings = desired.settings.iter().map(|s| Resource::Settings(s.as_ref().clone()));
    let ports = desired.ports.values().cloned().map(Resource::Port);
    let peers = desired.peers.values().map(|p| Resource::Peer(p.as_ref().clone()));
    let services = desired.services.values().map(|s| Resource::Service(s.as_ref().clone()));
    settings.chain(ports).chain(peers).chain(services)
}

/// How refusals name a resource.
pub(super) fn title(resource: &Resource) -> String {
    match resource {
        Resource::Settings(_) => SETTINGS.into(),
        Resource::Port(p) => port_title(p.id),
        Resource::Peer(p) => format!("peer {}", p.name),
        Resource::Service(s) => format!("service {}", s.name),
    }
}

/// How refusals name a port.
pub(super) fn port_title(id: PortId) -> String {
    format!("port {id}")
}

fn compare_ports(from: &Ports, to: &Ports, delta: &mut proto::Delta) {
    if Arc::ptr_eq(from, to) {
        return;
    }
    let changed = to.iter().filter(|(id, port)| from.get(id) != Some(port));
    let upsert = |port: &Port| proto::Resource::from(&Resource::Port(port.clone()));
    delta.upserts.extend(changed.map(|(_, port)| upsert(port)));
    let gone = from.keys().filter(|id| !to.contains_key(id));
    delta.deletes.extend(gone.map(|id| proto::Key::from(&Key::Port(*id))));
}

/// What both maps share is not looked at.
fn compare<K: Ord, V: Clone + PartialEq>(
    from: &OrdMap<K, Arc<V>>,
    to: &OrdMap<K, Arc<V>>,
    key: impl Fn(&K) -> Key,
    resource: impl Fn(V) -> Resource,
    delta: &mut proto::Delta,
) {
    for item in from.diff(to) {
        match item {
            DiffItem::Add(_, value) | DiffItem::Update { new: (_, value), .. } => {
                delta.upserts.push((&resource(value.as_ref().clone())).into());
            }
            DiffItem::Remove(name, _) => delta.deletes.push((&key(name)).into()),
        }
    }
}
