//! The IPv4 part of Services, and host ports as Services of one endpoint.

use std::net::Ipv4Addr;
use std::sync::Arc;

use headrace_api::state::{self, FrontendAddress, TrafficPolicy};

use super::{v4, v4_ranges};
use crate::tables::HostPorts;
use crate::tables::service::{Endpoint, Frontend, FrontendKind, Hits, Service, ServiceId};
use crate::tables::services::FrontendKey;

/// The IPv4 frontends of a Service; none when it has none.
pub fn service(wanted: &state::Service) -> Vec<(FrontendKey, Frontend)> {
    changed_service(wanted, None)
}

/// The same of a Service that goes on with the counts it had.
pub fn changed_service(wanted: &state::Service, before: Option<&Hits>) -> Vec<(FrontendKey, Frontend)> {
    let keys = keys(wanted);
    if keys.is_empty() {
        return Vec::new();
    }
    let mut service = ipv4(wanted);
    if let Some(before) = before {
        service.hits = service.hits.after(before);
    }
    let service = Arc::new(service);
    keys.into_iter().map(|(key, kind)| (key, Frontend { kind, service: Arc::clone(&service) })).collect()
}

/// Where a Service is reached by IPv4.
pub fn frontend_keys(wanted: &state::Service) -> Vec<FrontendKey> {
    keys(wanted).into_iter().map(|(key, _)| key).collect()
}

/// Host ports of pods.
pub(super) fn host_ports<'a>(ports: impl Iterator<Item = &'a state::Port>) -> HostPorts {
    let mut all = HostPorts::default();
    for port in ports {
        let Some(pod) = port.addresses.iter().find_map(|a| v4(*a)) else { continue };
        for wanted in &port.host_ports {
            let address = match wanted.address {
                None => Some(Ipv4Addr::UNSPECIFIED),
                Some(address) => v4(address),
            };
            let Some(address) = address else { continue };
            let key = FrontendKey { address, port: wanted.port.get(), protocol: wanted.protocol.number() };
            let service = Arc::new(of_pod(&port.label, (pod, wanted.pod_port.get())));
            all.insert(key, Frontend { kind: FrontendKind::HostPort, service });
        }
    }
    all
}

/// In order of keys, each once.
fn keys(wanted: &state::Service) -> Vec<(FrontendKey, FrontendKind)> {
    let key = |f: &state::Frontend| {
        let (kind, address) = match f.address {
            FrontendAddress::ClusterIp(address) => (FrontendKind::ClusterIp, v4(address)?),
            FrontendAddress::ExternalIp(address) => (FrontendKind::ExternalIp, v4(address)?),
            FrontendAddress::LoadBalancer(address) => (FrontendKind::LoadBalancer, v4(address)?),
            FrontendAddress::NodePort => (FrontendKind::NodePort, Ipv4Addr::UNSPECIFIED),
        };
        Some((FrontendKey { address, port: f.port.get(), protocol: f.protocol.number() }, kind))
    };
    let mut keys: Vec<_> = wanted.frontends.iter().filter_map(key).collect();
    // The greatest kind of a key first: that one stays.
    keys.sort_unstable_by_key(|(key, kind)| (*key, std::cmp::Reverse(*kind)));
    keys.dedup_by_key(|(key, _)| *key);
    keys
}

fn ipv4(wanted: &state::Service) -> Service {
    let ipv4 = |e: &state::Endpoint| Some((v4(e.address)?, e.port.get()));
    let having = |has: fn(&state::Endpoint) -> bool| -> Box<[Endpoint]> {
        let mut list: Vec<_> = wanted.endpoints.iter().filter(|e| has(e)).filter_map(ipv4).collect();
        list.sort_unstable();
        list.into()
    };
    Service {
        name: wanted.name.clone(),
        id: ServiceId::of(&wanted.name),
        cluster: having(|e| e.cluster),
        local: having(|e| e.local),
        serving: having(|e| e.serving),
        has_any: wanted.endpoints.iter().any(|e| e.address.is_ipv4()),
        internal_policy: wanted.internal_policy,
        external_policy: wanted.external_policy,
        affinity: wanted.affinity_seconds,
        source_ranges: v4_ranges(&wanted.source_ranges).collect(),
        hits: Hits::of(wanted.endpoints.iter().filter_map(ipv4)),
    }
}

fn of_pod(label: &str, endpoint: Endpoint) -> Service {
    Service {
        name: label.to_owned(),
        id: ServiceId::of(label),
        cluster: [endpoint].into(),
        local: [endpoint].into(),
        serving: [endpoint].into(),
        has_any: true,
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity: None,
        source_ranges: [].into(),
        hits: Hits::of([endpoint].into_iter()),
    }
}
