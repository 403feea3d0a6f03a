//! Services: frontends, endpoints, policies.

use std::collections::HashSet;
use std::num::NonZeroU32;

use super::faults::Faults;
use crate::proto;
use crate::state::{Endpoint, Frontend, FrontendAddress, LONGEST_AFFINITY, Refusal, Service, TrafficPolicy};

pub(super) fn service(m: proto::Service) -> Result<Service, Vec<Refusal>> {
    let mut f = Faults::of(format!("service {}", m.name));
    f.name("name", &m.name);
    f.not_empty("frontends", m.frontends.len());
    let frontends = frontends(&m.frontends, &mut f);
    let endpoints = endpoints(&m.endpoints, &mut f);
    let source_ranges = f.prefixes("source_ranges", &m.source_ranges);
    if m.affinity_seconds > LONGEST_AFFINITY {
        let reason = format!("{} is above {LONGEST_AFFINITY}, a day", m.affinity_seconds);
        f.add("affinity_seconds".into(), reason);
    }
    let built = Service {
        internal_policy: policy("internal_policy", m.internal_policy, &mut f),
        external_policy: policy("external_policy", m.external_policy, &mut f),
        affinity_seconds: NonZeroU32::new(m.affinity_seconds),
        name: m.name,
        frontends,
        endpoints,
        source_ranges,
    };
    f.finish(Some(built))
}

fn policy(field: &str, number: i32, f: &mut Faults) -> TrafficPolicy {
    match proto::TrafficPolicy::try_from(number) {
        Ok(proto::TrafficPolicy::Unspecified | proto::TrafficPolicy::Cluster) => TrafficPolicy::Cluster,
        Ok(proto::TrafficPolicy::Local) => TrafficPolicy::Local,
        Err(_) => {
            f.add(field.into(), format!("{number} is of a later contract; use CLUSTER or LOCAL"));
            TrafficPolicy::Cluster
        }
    }
}

fn frontends(messages: &[proto::Frontend], f: &mut Faults) -> Vec<Frontend> {
    let mut frontends = Vec::with_capacity(messages.len());
    for (i, m) in messages.iter().enumerate() {
        let address = frontend_address(&format!("frontends[{i}]"), m, f);
        let port = f.l4_port(&format!("frontends[{i}].port"), m.port);
        let protocol = f.protocol(&format!("frontends[{i}].protocol"), m.protocol());
        if let (Some(address), Some(port), Some(protocol)) = (address, port, protocol) {
            frontends.push(Frontend { address, port, protocol });
        }
    }
    frontends
}

fn frontend_address(field: &str, m: &proto::Frontend, f: &mut Faults) -> Option<FrontendAddress> {
    let kind = match m.kind() {
        proto::FrontendKind::Unspecified => {
            let wanted = "is not set; use CLUSTER_IP, EXTERNAL_IP, LOAD_BALANCER or NODE_PORT";
            return f.fault(&format!("{field}.kind"), wanted);
        }
        proto::FrontendKind::NodePort if m.address.is_some() => {
            let wanted = "is set, but a NODE_PORT is at every NodePort address of the node";
            return f.fault(&format!("{field}.address"), wanted);
        }
        proto::FrontendKind::NodePort => return Some(FrontendAddress::NodePort),
        proto::FrontendKind::ClusterIp => FrontendAddress::ClusterIp,
        proto::FrontendKind::ExternalIp => FrontendAddress::ExternalIp,
        proto::FrontendKind::LoadBalancer => FrontendAddress::LoadBalancer,
    };
    f.required_address(&format!("{field}.address"), m.address.as_ref()).map(kind)
}

fn endpoints(messages: &[proto::Endpoint], f: &mut Faults) -> Vec<Endpoint> {
    let mut endpoints = Vec::with_capacity(messages.len());
    let mut known = HashSet::with_capacity(messages.len());
    for (i, m) in messages.iter().enumerate() {
        let address = f.required_address(&format!("endpoints[{i}].address"), m.address.as_ref());
        let port = f.l4_port(&format!("endpoints[{i}].port"), m.port);
        let (Some(address), Some(port)) = (address, port) else { continue };
        if !known.insert((address, port)) {
            f.add(format!("endpoints[{i}]"), format!("{address} port {port} stands in the list already"));
            continue;
        }
        endpoints.push(Endpoint { address, port, cluster: m.cluster, local: m.local, serving: m.serving });
    }
    endpoints
}
