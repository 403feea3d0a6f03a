//! Service frontends and their endpoints.
//!
//! Frontends are spread over shards that snapshots share: a change copies the shards it touches. The rest of kube-proxy's
//! behaviour (traffic policies, affinity, node ports, source ranges) belongs into [`Service`] and [`Service::choose`].

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

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

/// One port of a Service, IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// "namespace/name:port".
    pub name: String,
    /// Who may get new connections.
    pub endpoints: Box<[(Ipv4Addr, u16)]>,
}

impl Service {
    /// The endpoint for a new connection, evenly by `random`; `None` when there is none.
    pub fn choose(&self, random: u64) -> Option<(Ipv4Addr, u16)> {
        let count = self.endpoints.len() as u64;
        // Multiply instead of divide: maps a uniform 32-bit number evenly onto 0..count.
        let index = ((random & 0xffff_ffff) * count) >> 32;
        self.endpoints.get(index as usize).copied()
    }

    /// Whether the endpoint may still get traffic of an existing UDP flow.
    pub fn serves(&self, endpoint: (Ipv4Addr, u16)) -> bool {
        self.endpoints.contains(&endpoint)
    }
}

type Shard = HashMap<FrontendKey, Arc<Service>>;

/// All frontends of a snapshot.
#[derive(Clone)]
pub struct Services {
    shards: Vec<Arc<Shard>>,
    generation: u16,
}

impl Default for Services {
    fn default() -> Self {
        Self { shards: vec![Arc::default(); SHARDS], generation: 0 }
    }
}

impl Services {
    /// None yet. A process begins with a generation that flows of an earlier one do not have.
    pub fn beginning_at(generation: u16) -> Self {
        Self { generation, ..Self::default() }
    }

    /// The Service behind a frontend.
    pub fn get(&self, key: &FrontendKey) -> Option<&Arc<Service>> {
        self.shards[shard(key)].get(key)
    }

    /// Changes with every change of any Service: UDP flows that cached another one check their endpoint.
    pub fn generation(&self) -> u16 {
        self.generation
    }

    /// A copy with other frontends: removals first, then insertions.
    pub fn with(&self, remove: &[FrontendKey], insert: &[(FrontendKey, Arc<Service>)]) -> Self {
        let mut next = self.clone();
        next.generation = self.generation.wrapping_add(1);
        for key in remove {
            Arc::make_mut(&mut next.shards[shard(key)]).remove(key);
        }
        for (key, service) in insert {
            Arc::make_mut(&mut next.shards[shard(key)]).insert(*key, Arc::clone(service));
        }
        next
    }

    /// How many frontends there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|s| s.is_empty())
    }
}

/// Spreads neighbouring addresses and ports; need not resist anybody, since only the controller inserts.
fn shard(key: &FrontendKey) -> usize {
    let word = u64::from(u32::from(key.address)) << 32 | u64::from(key.port) << 8 | u64::from(key.protocol);
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}

#[cfg(test)]
mod tests;
