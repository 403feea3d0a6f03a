//! Desired states as messages: a whole one, and what leads from one to another.

use std::collections::BTreeMap;

use headrace_api::proto;
use headrace_api::state::{Key, PortId, Resource};

use crate::desired::Desired;

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
        delta.upserts.push((&Resource::Settings(settings.clone())).into());
    }
    compare(&from.ports, &to.ports, |id| Key::Port(*id), Resource::Port, &mut delta);
    compare(&from.peers, &to.peers, |name| Key::Peer(name.clone()), Resource::Peer, &mut delta);
    compare(&from.services, &to.services, |name| Key::Service(name.clone()), Resource::Service, &mut delta);
    (delta != proto::Delta::default()).then_some(delta)
}

/// All resources, settings first.
pub(super) fn resources(desired: &Desired) -> impl Iterator<Item = Resource> + '_ {
    let settings = desired.settings.iter().cloned().map(Resource::Settings);
    let ports = desired.ports.values().cloned().map(Resource::Port);
    let peers = desired.peers.values().cloned().map(Resource::Peer);
    let services = desired.services.values().cloned().map(Resource::Service);
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

fn compare<K: Ord, V: Clone + PartialEq>(
    from: &BTreeMap<K, V>,
    to: &BTreeMap<K, V>,
    key: impl Fn(&K) -> Key,
    resource: impl Fn(V) -> Resource,
    delta: &mut proto::Delta,
) {
    let changed = to.iter().filter(|(k, v)| from.get(k) != Some(v));
    delta.upserts.extend(changed.map(|(_, v)| proto::Resource::from(&resource(v.clone()))));
    let gone = from.keys().filter(|k| !to.contains_key(k));
    delta.deletes.extend(gone.map(|k| proto::Key::from(&key(k))));
}
