//! Frontends in the kernel's map: counted, written by difference, taken over from an earlier process.
//!
//! Two Services may share a key for a moment, while a NodePort passes from one to the other, and a NodePort and a hostPort
//! share the key of their port. So each key counts its holders, by place; the map holds a key as long as anybody does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use aya::maps::{HashMap, MapData, MapError};

/// Where a frontend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// At one address, the node's own or not.
    Address(Ipv4Addr),
    /// At every address of the node: a hostPort without address.
    EveryOwn,
    /// At the addresses that serve NodePorts.
    NodePort,
}

/// A destination that the dataplane translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// Where.
    pub place: Place,
    /// Destination port.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// `struct frontend` in bpf/uplink.bpf.c: address and port in network byte order, protocol, zero.
type Key = [u8; 8];

/// Holders of a key by place: bit `n` of the map's value stands for `counts[n]`.
type Counts = [u32; 3];

/// The map with what belongs into it.
pub(super) struct Frontends {
    map: HashMap<MapData, Key, u32>,
    wanted: BTreeMap<Key, Counts>,
    /// Keys whose value in the map may be another than wanted.
    dirty: BTreeSet<Key>,
    /// Keys of an earlier process that nobody has asked for yet.
    inherited: BTreeSet<Key>,
}

impl Frontends {
    pub(super) fn new(map: HashMap<MapData, Key, u32>) -> Self {
        let inherited = map.keys().filter_map(Result::ok).collect();
        Self { map, wanted: BTreeMap::new(), dirty: BTreeSet::new(), inherited }
    }

    pub(super) fn change(&mut self, removed: &[Frontend], added: &[Frontend]) -> Result<(), MapError> {
        for frontend in removed {
            self.count(frontend, |count| count.saturating_sub(1));
        }
        for frontend in added {
            self.count(frontend, |count| count + 1);
        }
        self.write()
    }

    pub(super) fn forget_inherited(&mut self) -> Result<(), MapError> {
        self.dirty.append(&mut self.inherited);
        self.write()
    }

    /// What is in the map.
    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.map.keys().filter_map(Result::ok)
    }

    /// Forgets what it has written, as a new process would.
    #[cfg(test)]
    pub(super) fn inherit(&mut self) {
        self.inherited = self.keys().collect();
        self.wanted.clear();
    }

    fn count(&mut self, frontend: &Frontend, change: impl Fn(u32) -> u32) {
        let (address, place) = match frontend.place {
            Place::Address(address) => (address, 0),
            Place::EveryOwn => (Ipv4Addr::UNSPECIFIED, 1),
            Place::NodePort => (Ipv4Addr::UNSPECIFIED, 2),
        };
        let mut keys = vec![key(address, frontend.port, frontend.protocol)];
        if !address.is_unspecified() {
            // Fragments and ICMP errors go by the address alone.
            keys.push(key(address, 0, 0));
        }
        for key in keys {
            let counts = self.wanted.entry(key).or_default();
            let before = value(counts);
            counts[place] = change(counts[place]);
            if value(counts) != before || self.inherited.remove(&key) {
                self.dirty.insert(key);
            }
            if value(counts) == 0 {
                self.wanted.remove(&key);
            }
        }
    }

    /// Brings the map in step. Keys that go make room for those that come.
    fn write(&mut self) -> Result<(), MapError> {
        let (stay, go): (Vec<Key>, Vec<Key>) =
            self.dirty.iter().copied().partition(|key| self.wanted.contains_key(key));
        for key in go {
            match self.map.remove(&key) {
                // Never written, or taken away by somebody: gone all the same.
                Err(MapError::KeyNotFound) | Ok(()) => {}
                Err(MapError::SyscallError(error))
                    if error.io_error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            self.dirty.remove(&key);
        }
        for key in stay {
            let value = self.wanted.get(&key).map_or(0, value);
            self.map.insert(key, value, 0)?;
            self.dirty.remove(&key);
        }
        Ok(())
    }
}

fn key(address: Ipv4Addr, port: u16, protocol: u8) -> Key {
    let ([a, b, c, d], [high, low]) = (address.octets(), port.to_be_bytes());
    [a, b, c, d, high, low, protocol, 0]
}

fn value(counts: &Counts) -> u32 {
    counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(place, _)| 1 << place).sum()
}
