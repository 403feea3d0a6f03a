//! Services and their endpoints, as kube-proxy selects them (kubernetes, pkg/proxy: serviceport.go,
//! endpointslicecache.go, topology.go).
//!
//! So far: cluster addresses. Node ports, external addresses, traffic policies, topology hints and session affinity are
//! to come; [`categorize`] knows them already.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;

use headrace_api::state::{Endpoint, Frontend, Protocol, Service};

use super::categorize::{Candidate, Policies, categorize};
use super::{NodeConfig, Problem, address};
use crate::objects::{
    self, AddressType, EndpointSlice, Metadata, ObjectName, Objects, ServicePort, ServiceType,
};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Objects with one of these labels are another proxy's, or nobody's.
const NOT_OURS: [&str; 2] = ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"];

/// One entry for every port of every Service that has a cluster address.
pub(super) fn services(
    objects: &Objects,
    node: &NodeConfig,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Service> {
    let slices = slices_by_service(objects, problems);
    let mut derived: BTreeMap<String, Service> = BTreeMap::new();
    let mut holders: BTreeMap<Frontend, String> = BTreeMap::new();
    for (name, service) in objects.services.iter().filter(|(_, s)| is_proxied(s)) {
        let of_service = slices.get(name).map_or(&[][..], Vec::as_slice);
        for port in &service.spec.ports {
            let full_name = port_name(name, port);
            let title = format!("Service {full_name}");
            if derived.contains_key(&full_name) {
                problems.push(Problem::new(
                    title,
                    "has two ports of this name",
                    "name every port differently",
                ));
                continue;
            }
            let mut frontends = frontends(name, service, port, node, problems);
            frontends.retain(|f| match holders.get(f) {
                Some(holder) => {
                    let what = format!("{} port {} is that of Service {holder} already", f.address, f.port);
                    problems.push(Problem::new(&title, what, "give every Service its own clusterIP"));
                    false
                }
                None => true,
            });
            if frontends.is_empty() {
                continue;
            }
            holders.extend(frontends.iter().map(|f| (*f, full_name.clone())));
            let endpoints = usable_endpoints(&merged(of_service, port, &node.name, problems), node);
            derived.insert(full_name.clone(), Service::new(full_name, frontends, endpoints));
        }
    }
    derived
}

/// "namespace/name:port", and "namespace/name" for a port without a name, as kube-proxy writes it.
fn port_name(service: &ObjectName, port: &ServicePort) -> String {
    if port.name.is_empty() { service.to_string() } else { format!("{service}:{}", port.name) }
}

fn is_ours(metadata: &Metadata) -> bool {
    !NOT_OURS.iter().any(|label| metadata.labels.contains_key(*label))
}

fn is_proxied(service: &objects::Service) -> bool {
    let headless = service.spec.cluster_ip.as_deref() == Some("None")
        || service.spec.cluster_ips.first().is_some_and(|ip| ip == "None");
    is_ours(&service.metadata) && service.spec.kind != ServiceType::ExternalName && !headless
}

/// Where clients connect to for one port.
fn frontends(
    name: &ObjectName,
    service: &objects::Service,
    port: &ServicePort,
    node: &NodeConfig,
    problems: &mut Vec<Problem>,
) -> Vec<Frontend> {
    let title = format!("Service {name}");
    let spec = &service.spec;
    let texts = if spec.cluster_ips.is_empty() { spec.cluster_ip.as_slice() } else { &spec.cluster_ips };
    if texts.iter().all(String::is_empty) {
        let remedy = "set spec.clusterIP: outside of a cluster nobody allocates one";
        problems.push(Problem::new(title, "has no clusterIP", remedy));
        return Vec::new();
    }
    let Some(number) = NonZeroU16::new(port.port) else {
        problems.push(Problem::new(title, format!("port {:?} is number 0", port.name), "use 1 to 65535"));
        return Vec::new();
    };
    let mut frontends = Vec::new();
    for text in texts {
        match address::host(text) {
            Ok(address) if address.is_ipv4() => {
                if !node.cluster.service_cidrs.iter().any(|c| c.contains(address)) {
                    let what = format!("clusterIP {address} is outside of the Service ranges");
                    let remedy = "set --service-cidr on all nodes to the range of all clusterIPs";
                    problems.push(Problem::new(&title, what, remedy));
                }
                frontends.push(Frontend::cluster_ip(address, number, protocol(port.protocol)));
            }
            Ok(_) => problems.push(ipv6_problem()),
            Err(what) => problems.push(Problem::new(&title, what, "correct spec.clusterIPs")),
        }
    }
    frontends
}

/// The IPv4 slices of every Service, in order of their names.
fn slices_by_service<'a>(
    objects: &'a Objects,
    problems: &mut Vec<Problem>,
) -> BTreeMap<ObjectName, Vec<&'a Arc<EndpointSlice>>> {
    let mut by_service: BTreeMap<ObjectName, Vec<_>> = BTreeMap::new();
    for (name, slice) in objects.slices.iter().filter(|(_, s)| is_ours(&s.metadata)) {
        let Some(service) = slice.metadata.labels.get(SERVICE_NAME) else {
            let what = format!("has no label {SERVICE_NAME}, so it belongs to no Service");
            problems.push(Problem::new(format!("EndpointSlice {name}"), what, "add the label"));
            continue;
        };
        match slice.address_type {
            AddressType::IPv4 => {
                let service = ObjectName { namespace: name.namespace.clone(), name: service.clone() };
                by_service.entry(service).or_default().push(slice);
            }
            AddressType::IPv6 => problems.push(ipv6_problem()),
            AddressType::Fqdn => {}
        }
    }
    by_service
}

/// Who may get new connections.
fn usable_endpoints(merged: &BTreeMap<Endpoint, Candidate<'_>>, node: &NodeConfig) -> Vec<Endpoint> {
    let (endpoints, candidates): (Vec<_>, Vec<_>) = merged.iter().map(|(e, c)| (*e, *c)).unzip();
    let found = categorize(&candidates, Policies::default(), &node.name, "");
    found.cluster.into_iter().map(|i| endpoints[i]).collect()
}

/// All endpoints of one Service port, merged over the slices; of two with one address and port, the local one stays.
fn merged(
    slices: &[&Arc<EndpointSlice>],
    port: &ServicePort,
    node_name: &str,
    problems: &mut Vec<Problem>,
) -> BTreeMap<Endpoint, Candidate<'static>> {
    let mut merged: BTreeMap<Endpoint, Candidate<'static>> = BTreeMap::new();
    for slice in slices {
        let matching = slice.ports.iter().filter(|p| p.name == port.name && p.protocol == port.protocol);
        let numbers: BTreeSet<NonZeroU16> = matching.filter_map(|p| NonZeroU16::new(p.port?)).collect();
        if numbers.is_empty() {
            continue;
        }
        for server in &slice.endpoints {
            let address = match server.addresses.first().map(|text| address::host(text)) {
                Some(Ok(address)) if address.is_ipv4() => address,
                Some(Err(what)) => {
                    let title = format!("EndpointSlice {}", slice.metadata.object_name());
                    problems.push(Problem::new(title, what, "the endpoint is left out"));
                    continue;
                }
                Some(Ok(_)) | None => continue,
            };
            for number in &numbers {
                let endpoint = Endpoint::ready(address, *number);
                let candidate = Candidate {
                    ready: server.conditions.ready.unwrap_or(true),
                    serving: server.conditions.serving.unwrap_or(true),
                    terminating: server.conditions.terminating.unwrap_or(false),
                    local: server.node_name.as_deref() == Some(node_name),
                    ..Candidate::default()
                };
                let held = merged.entry(endpoint).or_insert(candidate);
                if candidate.local {
                    *held = candidate;
                }
            }
        }
    }
    merged
}

fn protocol(protocol: objects::Protocol) -> Protocol {
    match protocol {
        objects::Protocol::Tcp => Protocol::Tcp,
        objects::Protocol::Udp => Protocol::Udp,
        objects::Protocol::Sctp => Protocol::Sctp,
    }
}

/// One for all objects: a dual-stack cluster has thousands.
fn ipv6_problem() -> Problem {
    let what = "some have IPv6 addresses, which are not carried yet";
    Problem::new("Services and EndpointSlices", what, "their IPv4 addresses are used")
}
