//! Which flows may take the shortcut, and where they go: those that the pipeline would forward from one pod's port to
//! another's without changing more than it must.

use headrace_wire::ipv4::Protocol;
use headrace_xsk::program::{Way, WayKey};

use super::Places;
use crate::flows::{FlowKey, Flows};
use crate::pipeline::flow::frontend_key;
use crate::port::PortIndex;
use crate::tables::{GATEWAY_MAC, PodPort, Route, Tables};

/// A direction of a flow that may take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passage {
    /// The port by which its packets come.
    pub(super) from: PortIndex,
    /// The port by which they leave.
    pub(super) to: PortIndex,
    /// How its packets are known.
    pub(super) key: WayKey,
    /// Where they go.
    pub(super) way: Way,
}

/// The passage of a direction of a flow; `None` = the workers carry it.
pub(super) fn passage(key: &FlowKey, flows: &Flows, tables: &Tables, places: &Places) -> Option<Passage> {
    if !matches!(key.protocol, Protocol::TCP | Protocol::UDP) {
        return None;
    }
    let flow = flows.plain_and_established(key)?;
    if key.protocol == Protocol::UDP && flow.original && is_service(key, tables) {
        return None;
    }
    let (source, destination) = (key.tuple.src, key.tuple.dst);
    let (Route::Pod(from), Route::Pod(to)) =
        (tables.routes.lookup(source), tables.routes.lookup(destination))
    else {
        return None;
    };
    let (sender, receiver) = (unlimited(from, tables)?, unlimited(to, tables)?);
    // What comes in by this port with this source was sent by the pod itself.
    if from == to || !sender.addresses.contains(&source) {
        return None;
    }
    let (in_by, out_by) = (places.get(&from)?, places.get(&to)?);
    Some(Passage {
        from,
        to,
        key: WayKey {
            ifindex: in_by.ifindex,
            source,
            destination,
            source_port: key.tuple.src_port,
            destination_port: key.tuple.dst_port,
            protocol: key.protocol.0,
        },
        way: Way {
            device: out_by.ifindex,
            routes: tables.route_generation,
            services: tables.services.generation(),
            destination_mac: receiver.mac.0,
            source_mac: GATEWAY_MAC.0,
        },
    })
}

/// A pod whose packets need no cutting, as to size, and no counting, as to bandwidth.
fn unlimited(port: PortIndex, tables: &Tables) -> Option<&PodPort> {
    let pod = tables.ports.get(port)?;
    (pod.superframes && pod.ingress.is_none() && pod.egress.is_none()).then_some(pod)
}

/// UDP follows a Service that comes to be at its destination.
fn is_service(key: &FlowKey, tables: &Tables) -> bool {
    let destination = frontend_key(key.tuple.dst, key.tuple.dst_port, key.protocol);
    tables.node.as_deref().is_none_or(|node| tables.frontend(node, destination).is_some())
}

#[cfg(test)]
mod tests;
