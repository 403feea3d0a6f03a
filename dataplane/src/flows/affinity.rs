//! Session affinity: which endpoint a client of a Service got last.
//!
//! It lies in the flow table beside the connections, so it is bounded with them, shared by all workers and outlives the
//! process. A client has one entry per Service port, whatever frontend it comes by, and every new connection refreshes it.

use std::net::Ipv4Addr;

use headrace_flowmap::{Insert, Value};
use headrace_wire::ipv4::Protocol;
use headrace_wire::nat::Rewrite;

use super::{FlowKey, Flows, Kind, Seconds};
use crate::stats::Hot;
use crate::tables::service::{Endpoint, ServiceId};

/// A new connection of a client to a Service that wants it to keep its endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The Service port.
    pub service: ServiceId,
    /// Its client.
    pub client: Ipv4Addr,
    /// For how many seconds without a new connection the client keeps its endpoint.
    pub timeout: Seconds,
    /// Who may get the connection, sorted: an endpoint that is not among them is forgotten.
    pub usable: &'a [Endpoint],
    /// Who gets it when the client has none yet.
    pub chosen: Endpoint,
}

/// What the table holds of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) endpoint: Endpoint,
    pub(super) timeout: Seconds,
}

impl Kept {
    /// Address and port in the first word, the timeout in the second.
    pub(super) fn pack(self) -> Value {
        let (address, port) = self.endpoint;
        Value([u64::from(u32::from(address)) << 16 | u64::from(port), u64::from(self.timeout), 0, 0, 0])
    }

    pub(super) fn unpack(value: Value) -> Self {
        let [end, timeout, ..] = value.0;
        Self { endpoint: (Ipv4Addr::from((end >> 16) as u32), end as u16), timeout: timeout as Seconds }
    }
}

impl FlowKey {
    /// The key of a client's affinity to a Service port.
    pub fn of_client(service: ServiceId, client: Ipv4Addr) -> Self {
        let ServiceId(id) = service;
        let dst = Ipv4Addr::from(id as u32);
        let tuple = Rewrite { src: client, dst, src_port: (id >> 48) as u16, dst_port: (id >> 32) as u16 };
        Self { tuple, protocol: Protocol(0), kind: Kind::Affinity }
    }
}

impl Flows {
    /// The endpoint of a client's new connection: its last one while that may be used, else the one chosen.
    pub fn stick(&self, choice: &Choice<'_>, now: Seconds, stats: &Hot) -> Endpoint {
        let key = FlowKey::of_client(choice.service, choice.client);
        let packed = key.pack();
        let usable = |value| {
            let endpoint = Kept::unpack(value).endpoint;
            choice.usable.binary_search(&endpoint).is_ok().then_some(endpoint)
        };
        let held = self.map.lookup(&packed, self.map.hash(&packed));
        if let Some(found) = held
            && now.saturating_sub(found.last_seen) < choice.timeout
            && let Some(endpoint) = usable(found.value)
        {
            self.map.touch(found.slot, &packed, now);
            return endpoint;
        }
        let fresh = Kept { endpoint: choice.chosen, timeout: choice.timeout }.pack();
        match self.insert_value(&key, fresh, now, stats) {
            // Another worker has just made it.
            Insert::Exists { value, .. } if held.is_none() && usable(value).is_some() => {
                Kept::unpack(value).endpoint
            }
            Insert::Exists { slot, .. } => {
                self.map.update(slot, &packed, |value| *value = fresh);
                self.map.touch(slot, &packed, now);
                choice.chosen
            }
            Insert::New { .. } => choice.chosen,
        }
    }

    /// Makes all clients of a Service forget some of its endpoints: who comes back later is another. It looks at the whole
    /// table, so it is for endpoints of Services with affinity alone, and not for workers.
    pub fn forget_endpoints(&self, service: ServiceId, gone: &[Endpoint]) {
        for entry in self.map.iter() {
            let of_service = FlowKey::unpack(&entry.key)
                .is_some_and(|key| key == FlowKey::of_client(service, key.tuple.src));
            if of_service && gone.contains(&Kept::unpack(entry.value).endpoint) {
                self.map.remove_key(&entry.key);
            }
        }
    }
}
