//! One port of a Service: who may serve whom.
//!
//! What kube-proxy decides by chains of rules is decided here by a few comparisons (kubernetes, pkg/proxy/nftables/
//! proxier.go, syncProxyRules): the kind of the frontend chooses the policy, the policy and the client's origin choose the
//! list of endpoints, and both say whether the endpoint sees the client.

mod hits;

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::Arc;

use headrace_api::state::TrafficPolicy;
use ipnetwork::Ipv4Network;

pub use hits::Hits;

/// Address and port that serve.
pub type Endpoint = (Ipv4Addr, u16);

/// What kind of address a connection came to. Of several that a Service has at one address, the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontendKind {
    /// A port of the node that leads to one pod.
    HostPort,
    /// A NodePort address of the node.
    NodePort,
    /// One of externalIPs.
    ExternalIp,
    /// A load balancer's address.
    LoadBalancer,
    /// A clusterIP.
    ClusterIp,
}

/// From whom a connection comes, as policies see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A pod of this node, by the local detector.
    Pod,
    /// The node itself.
    Node,
    /// Anybody else.
    Outside,
}

/// A Service as one of its frontends shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// What kind of address it is.
    pub kind: FrontendKind,
    /// The Service behind it.
    pub service: Arc<Service>,
}

/// One port of a Service, IPv4. Lists of endpoints are sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// "namespace/name:port".
    pub name: String,
    /// Tells Services apart in session affinity, also after a restart.
    pub id: ServiceId,
    /// Who gets new connections under policy Cluster.
    pub cluster: Box<[Endpoint]>,
    /// Who gets new connections under policy Local.
    pub local: Box<[Endpoint]>,
    /// Who keeps the UDP flows that it has.
    pub serving: Box<[Endpoint]>,
    /// Whether there is any endpoint anywhere.
    pub has_any: bool,
    /// For clusterIPs.
    pub internal_policy: TrafficPolicy,
    /// For all other frontends.
    pub external_policy: TrafficPolicy,
    /// For how many seconds without a new connection a client keeps its endpoint.
    pub affinity: Option<NonZeroU32>,
    /// Who may use load-balancer addresses; empty = everyone.
    pub source_ranges: Box<[Ipv4Network]>,
    /// How often it was used.
    pub hits: Hits,
}

/// A number made of a Service's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceId(pub u64);

impl ServiceId {
    /// FNV-1a: the same in every process. Names are the controller's, so nobody profits from two with one number.
    pub fn of(name: &str) -> Self {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, step))
    }
}

impl Service {
    /// Who may get a new connection by a frontend of that kind. What pods and the node itself send to an external address
    /// is not bound to policy Local, as if it went out to a load balancer and came back in.
    pub fn usable(&self, kind: FrontendKind, from: Origin) -> &[Endpoint] {
        let policy = match (kind, from) {
            (FrontendKind::HostPort, _) => TrafficPolicy::Cluster,
            (FrontendKind::ClusterIp, _) => self.internal_policy,
            (_, Origin::Pod | Origin::Node) => TrafficPolicy::Cluster,
            (_, Origin::Outside) => self.external_policy,
        };
        match policy {
            TrafficPolicy::Cluster => &self.cluster,
            TrafficPolicy::Local => &self.local,
        }
    }

    /// Whether a load-balancer address may be used from there.
    pub fn admits(&self, source: Ipv4Addr) -> bool {
        self.source_ranges.is_empty() || self.source_ranges.iter().any(|range| range.contains(source))
    }

    /// Whether a UDP flow may keep its endpoint, which may also be the untranslated destination. A Service without serving
    /// endpoints changes nothing (kubernetes, pkg/proxy/conntrack/cleanup.go).
    pub fn keeps(&self, endpoint: Endpoint) -> bool {
        self.serving.is_empty() || self.serving.binary_search(&endpoint).is_ok()
    }
}

/// One of the endpoints, evenly by `random`; `None` when there is none.
pub fn choose(endpoints: &[Endpoint], random: u64) -> Option<Endpoint> {
    // Multiply instead of divide: maps a uniform 32-bit number evenly onto 0..len.
    let index = ((random & 0xffff_ffff) * endpoints.len() as u64) >> 32;
    endpoints.get(index as usize).copied()
}

#[cfg(test)]
mod tests;
