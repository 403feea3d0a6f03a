//! One Service object and its EndpointSlices, looked at by themselves: what the dataplane should hold for each port.
//!
//! Pure, and blind for other Services: who gets an address that two of them want is decided in [`super::services`].

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::sync::Arc;

use headrace_api::state;

use super::categorize::Policies;
use super::frontends::{self, Entrances};
use super::{Context, Problem, endpoints};
use crate::objects::{EndpointSlice, Metadata, ObjectName, Service, ServicePort, ServiceType, TrafficPolicy};

/// Objects with one of these labels are another proxy's, or nobody's.
const NOT_OURS: [&str; 2] = ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"];

/// What a Service object and its slices amount to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unit {
    /// One for every port that is reached somewhere; no name twice.
    pub(super) ports: Vec<Arc<state::Service>>,
    /// Where load balancers ask.
    pub(super) health_check: Option<HealthCheck>,
    /// What could not be used.
    pub(super) problems: Vec<Problem>,
}

/// Where load balancers ask whether this node serves a Service, and what they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `spec.healthCheckNodePort`.
    pub port: NonZeroU16,
    /// Ready endpoints on this node, each address once.
    pub local_endpoints: usize,
}

/// Whether objects with these labels are for this proxy.
pub(super) fn is_ours(metadata: &Metadata) -> bool {
    !NOT_OURS.iter().any(|label| metadata.labels.contains_key(*label))
}

/// Derives one Service. `slices` are those that name it, in order of their names.
pub(super) fn unit(
    name: &ObjectName,
    service: Option<&Service>,
    slices: &[&Arc<EndpointSlice>],
    context: &Context,
) -> Unit {
    let mut unit = Unit::default();
    let Some(service) = service else {
        unit.problems.extend(slices.iter().map(|s| orphan(s, name)));
        return unit;
    };
    if !is_proxied(service) {
        return unit;
    }
    let title = service.metadata.title("Service");
    for slice in slices {
        endpoints::check(slice, context, &mut unit.problems);
    }
    if frontends::cluster_ips(service).next().is_none() {
        let remedy = "set spec.clusterIP: outside of a cluster nobody allocates one";
        unit.problems.push(Problem::new(title, "has no clusterIP", remedy));
        return unit;
    }
    frontends::check_node_ports(&title, service, &mut unit.problems);
    let entrances = Entrances::of(&title, service, context, &mut unit.problems);
    let affinity_seconds = frontends::affinity(&title, service, &mut unit.problems);
    let mut names = BTreeSet::new();
    for port in &service.spec.ports {
        let name = port_name(name, port);
        let frontends = entrances.frontends(port);
        if !names.insert(name.clone()) {
            let remedy = "name every port differently";
            unit.problems.push(Problem::new(&title, "has two ports of this name", remedy));
        } else if !frontends.is_empty() {
            let policies = policies(service, &frontends);
            unit.ports.push(Arc::new(state::Service {
                name,
                endpoints: endpoints::endpoints(slices, port, policies, context),
                frontends,
                internal_policy: policy(policies.internal_local),
                external_policy: policy(policies.external_local),
                affinity_seconds,
                source_ranges: entrances.source_ranges.clone(),
            }));
        }
    }
    // What is served in no family that is carried is asked about in that family.
    if !unit.ports.is_empty() {
        unit.health_check = health_check(&title, service, slices, context, &mut unit.problems);
    }
    unit
}

/// "namespace/name:port", and "namespace/name" for a port without a name, as kube-proxy writes it.
fn port_name(service: &ObjectName, port: &ServicePort) -> String {
    if port.name.is_empty() { service.to_string() } else { format!("{service}:{}", port.name) }
}

fn is_proxied(service: &Service) -> bool {
    let headless = frontends::cluster_ips(service).next() == Some("None")
        || service.spec.cluster_ip.as_deref() == Some("None");
    is_ours(&service.metadata) && service.spec.kind != ServiceType::ExternalName && !headless
}

/// kubernetes, pkg/api/v1/service: ExternalPolicyLocal, InternalPolicyLocal; pkg/proxy/serviceport.go:
/// ExternallyAccessible.
fn policies(service: &Service, frontends: &[state::Frontend]) -> Policies {
    let spec = &service.spec;
    let open = spec.kind != ServiceType::ClusterIP || !spec.external_ips.is_empty();
    let is_cluster_ip = |f: &state::Frontend| matches!(f.address, state::FrontendAddress::ClusterIp(_));
    Policies {
        internal_local: spec.internal_traffic_policy == TrafficPolicy::Local,
        external_local: open && spec.external_traffic_policy == TrafficPolicy::Local,
        externally_accessible: !frontends.iter().all(is_cluster_ip),
    }
}

fn policy(local: bool) -> state::TrafficPolicy {
    if local { state::TrafficPolicy::Local } else { state::TrafficPolicy::Cluster }
}

/// kubernetes, pkg/api/v1/service: NeedsHealthCheck.
fn health_check(
    title: &str,
    service: &Service,
    slices: &[&Arc<EndpointSlice>],
    context: &Context,
    problems: &mut Vec<Problem>,
) -> Option<HealthCheck> {
    let spec = &service.spec;
    if spec.kind != ServiceType::LoadBalancer || spec.external_traffic_policy != TrafficPolicy::Local {
        return None;
    }
    let Some(port) = spec.health_check_node_port else {
        let what = "has no healthCheckNodePort, so its load balancer cannot ask which nodes have endpoints";
        problems.push(Problem::new(title, what, "set spec.healthCheckNodePort"));
        return None;
    };
    Some(HealthCheck { port, local_endpoints: endpoints::local_ready(slices, context) })
}

fn orphan(slice: &EndpointSlice, service: &ObjectName) -> Problem {
    let title = slice.metadata.title("EndpointSlice");
    Problem::new(title, format!("there is no Service {service}"), "add the Service, or delete the slice")
}
