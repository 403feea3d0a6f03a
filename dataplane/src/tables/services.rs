//! All Service frontends, by address, port and protocol.
//!
//! They are spread over shards that snapshots share: a change copies the shards it touches, so its cost does not grow with
//! a cluster of ten thousand Services. NodePorts stand under the unspecified address, once for all addresses of the node.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::Map;
use super::service::{Frontend, FrontendKind};

const SHARDS: usize = 256;

/// Address, port and protocol at which a Service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrontendKey {
    /// Destination address.
    pub address: Ipv4Addr,
    /// Destination port.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl FrontendKey {
    /// The same port at whatever address of the node.
    #[must_use]
    pub const fn at_node(self) -> Self {
        Self { address: Ipv4Addr::UNSPECIFIED, ..self }
    }
}

/// How many frontends an address has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Those by which it is a clusterIP.
    pub cluster: u32,
    /// All others.
    pub external: u32,
}

type Shard<K, V> = Arc<Map<K, V>>;

/// All frontends of a snapshot.
#[derive(Clone)]
pub struct Services {
    frontends: Vec<Shard<FrontendKey, Frontend>>,
    addresses: Vec<Shard<Ipv4Addr, Uses>>,
    generation: u32,
}

impl Default for Services {
    fn default() -> Self {
        let addresses = vec![Arc::default(); SHARDS];
        Self { frontends: vec![Arc::default(); SHARDS], addresses, generation: 0 }
    }
}

impl Services {
    /// None yet. A process begins with a generation that flows of an earlier one do not have.
    pub fn beginning_at(generation: u32) -> Self {
        Self { generation, ..Self::default() }
    }

    /// The frontend of exactly that address.
    pub fn get(&self, key: &FrontendKey) -> Option<&Frontend> {
        self.frontends[shard_of_key(key)].get(key)
    }

    /// What an address is used for; nothing when no Service has it.
    pub fn uses(&self, address: Ipv4Addr) -> Uses {
        self.addresses[shard_of_address(address)].get(&address).copied().unwrap_or_default()
    }

    /// Whether any Service has a NodePort.
    pub fn has_node_ports(&self) -> bool {
        self.uses(Ipv4Addr::UNSPECIFIED).external > 0
    }

    /// Changes with every change of any Service: UDP flows that cached another one check their endpoint.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// A copy with other frontends: removals first, then insertions.
    #[must_use]
    pub fn with(&self, remove: &[FrontendKey], insert: &[(FrontendKey, Frontend)]) -> Self {
        let mut next = self.clone();
        next.generation = self.generation.wrapping_add(1);
        for key in remove {
            let gone = Arc::make_mut(&mut next.frontends[shard_of_key(key)]).remove(key);
            next.count(key.address, gone.map(|f| f.kind), None);
        }
        for (key, frontend) in insert {
            let shard = Arc::make_mut(&mut next.frontends[shard_of_key(key)]);
            let gone = shard.insert(*key, frontend.clone());
            next.count(key.address, gone.map(|f| f.kind), Some(frontend.kind));
        }
        next
    }

    fn count(&mut self, address: Ipv4Addr, gone: Option<FrontendKind>, came: Option<FrontendKind>) {
        if gone == came {
            return;
        }
        let shard = Arc::make_mut(&mut self.addresses[shard_of_address(address)]);
        let uses = shard.entry(address).or_default();
        if let Some(kind) = gone {
            *uses.of(kind) -= 1;
        }
        if let Some(kind) = came {
            *uses.of(kind) += 1;
        }
        if *uses == Uses::default() {
            shard.remove(&address);
        }
    }

    /// All frontends, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&FrontendKey, &Frontend)> {
        self.frontends.iter().flat_map(|shard| shard.iter())
    }

    /// How many frontends there are.
    pub fn len(&self) -> usize {
        self.frontends.iter().map(|s| s.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.frontends.iter().all(|s| s.is_empty())
    }
}

impl Uses {
    fn of(&mut self, kind: FrontendKind) -> &mut u32 {
        if kind == FrontendKind::ClusterIp { &mut self.cluster } else { &mut self.external }
    }
}

fn shard_of_key(key: &FrontendKey) -> usize {
    spread(u64::from(u32::from(key.address)) << 32 | u64::from(key.port) << 8 | u64::from(key.protocol))
}

fn shard_of_address(address: Ipv4Addr) -> usize {
    spread(u64::from(u32::from(address)))
}

/// Spreads neighbouring addresses and ports; need not resist anybody, since only the controller inserts.
fn spread(word: u64) -> usize {
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}

#[cfg(test)]
mod tests;
