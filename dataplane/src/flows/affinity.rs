//! Session affinity: which endpoint a client of a Service got last.
//!
//! It lies in a table of its own, so that neither many connections push clients out nor many clients connections; full, it
//! forgets those that have been away longest. Shared by all workers, it outlives the process. A client has one entry per
//! Service port, whatever frontend it comes by, and every new connection refreshes it.

use std::net::Ipv4Addr;
use std::num::NonZeroU64;

use headrace_flowmap::{Cursor, EvictionRank, FlowMap, Geometry, Insert, Key, OpenError, Sweep, Value};

use super::Seconds;
use crate::tables::service::{Endpoint, ServiceId};

/// Version of what keys and values mean; it must change with them.
pub const AFFINITY_VERSION: u32 = 1;

/// The clients of Services with session affinity.
pub struct Affinity {
    map: FlowMap,
}

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
struct Kept {
    endpoint: Endpoint,
    timeout: Seconds,
}

impl Kept {
    /// Address and port in the first word, the timeout in the second.
    fn pack(self) -> Value {
        let (address, port) = self.endpoint;
        Value([u64::from(u32::from(address)) << 16 | u64::from(port), u64::from(self.timeout), 0, 0, 0])
    }

    fn unpack(value: Value) -> Self {
        let [end, timeout, ..] = value.0;
        Self { endpoint: (Ipv4Addr::from((end >> 16) as u32), end as u16), timeout: timeout as Seconds }
    }
}

/// A client of a Service port. The first word is the Service's: an identifier of nought would be a chance of one in 2^64,
/// and shares its clients with that of one.
fn key(service: ServiceId, client: Ipv4Addr) -> Key {
    Key::new(NonZeroU64::new(service.0).unwrap_or(NonZeroU64::MIN), u32::from(client).into())
}

impl Affinity {
    /// Over a table that was opened or made.
    pub fn new(map: FlowMap) -> Self {
        Self { map }
    }

    /// The table beneath.
    pub fn map(&self) -> &FlowMap {
        &self.map
    }

    /// A table of the same size with the same clients, to try things on.
    pub(super) fn copy(&self) -> Result<Self, OpenError> {
        let geometry = Geometry { capacity: self.map.capacity(), content_version: AFFINITY_VERSION };
        let copy = Self::new(FlowMap::anonymous(&geometry)?);
        for entry in &self.map {
            copy.insert(&entry.key, entry.value, entry.last_seen);
        }
        Ok(copy)
    }

    /// The endpoint of a client's new connection: its last one while that may be used, else the one chosen.
    pub fn stick(&self, choice: &Choice<'_>, now: Seconds) -> Endpoint {
        let key = key(choice.service, choice.client);
        let usable = |value| {
            let endpoint = Kept::unpack(value).endpoint;
            choice.usable.binary_search(&endpoint).is_ok().then_some(endpoint)
        };
        let held = self.map.lookup(&key, self.map.hash(&key));
        if let Some(found) = held
            && now.saturating_sub(found.last_seen) < choice.timeout
            && let Some(endpoint) = usable(found.value)
        {
            self.map.touch(found.slot, &key, now);
            return endpoint;
        }
        let fresh = Kept { endpoint: choice.chosen, timeout: choice.timeout }.pack();
        match self.insert(&key, fresh, now) {
            // Another worker has just made it.
            Insert::Exists { value, .. } if held.is_none() && usable(value).is_some() => {
                Kept::unpack(value).endpoint
            }
            Insert::Exists { slot, .. } => {
                self.map.update(slot, &key, |value| *value = fresh);
                self.map.touch(slot, &key, now);
                choice.chosen
            }
            Insert::New { .. } => choice.chosen,
        }
    }

    /// Makes all clients of a Service forget some of its endpoints: who comes back later is another. It looks at the whole
    /// table, so it is for endpoints of Services with affinity alone, and not for workers.
    pub fn forget_endpoints(&self, service: ServiceId, gone: &[Endpoint]) {
        let [of_service, _] = key(service, Ipv4Addr::UNSPECIFIED).words();
        for entry in &self.map {
            let [held_by, _] = entry.key.words();
            if held_by == of_service && gone.contains(&Kept::unpack(entry.value).endpoint) {
                self.map.remove_key(&entry.key);
            }
        }
    }

    /// Looks at the next `buckets` buckets and forgets who has been away for too long.
    pub(super) fn expire(&self, cursor: &mut Cursor, buckets: usize, now: Seconds) -> usize {
        self.map.sweep(cursor, buckets, |entry| {
            let is_over = entry.idle(now) >= Kept::unpack(entry.value).timeout;
            if is_over { Sweep::Remove } else { Sweep::Keep }
        })
    }

    fn insert(&self, key: &Key, value: Value, now: Seconds) -> Insert {
        let hash = self.map.hash(key);
        self.map.insert(key, hash, value, now, |_, _, idle| EvictionRank(idle.into()))
    }
}
