//! Our answer to a case, and whether it is kube-proxy's.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Debug;
use std::sync::Arc;

use headrace_api::state::{self, FrontendAddress, TrafficPolicy};
use headrace_control::config::AgentConfig;
use headrace_control::desired::{Derivation, NodeConfig};
use headrace_control::identity;
use headrace_control::objects::{EndpointSlice, Node, Objects, Service};
use headrace_control::seam::Ports;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::case::NODE;
use super::oracle::{self, Answer, HealthCheck};

/// What is compared of one port of one Service; lists are sorted.
#[derive(Debug, PartialEq)]
struct Port {
    cluster_ips: BTreeSet<String>,
    external_ips: BTreeSet<String>,
    load_balancer_ips: BTreeSet<String>,
    port: u16,
    node_port: u16,
    source_ranges: BTreeSet<String>,
    affinity_seconds: u32,
    internal_local: bool,
    external_local: bool,
    /// Every endpoint that could be used anywhere, and whether it serves.
    endpoints: BTreeMap<String, bool>,
    cluster: BTreeSet<String>,
    local: BTreeSet<String>,
    /// Clients are refused without.
    any: bool,
}

/// What differs; `None` when nothing does.
pub(crate) fn disagreement(objects: &[Value], theirs: Answer) -> Result<Option<String>, Box<dyn Error>> {
    let mut derivation = Derivation::new(config()?);
    derivation.update(&read(objects)?);
    let desired = derivation.desired(&Ports::default());
    let ports: BTreeMap<_, _> = desired.services.values().map(from_ours).collect();
    let checks = derivation.health_checks().iter().map(|(name, check)| {
        let check = HealthCheck { port: check.port.get(), endpoints: check.local_endpoints };
        (name.to_string(), check)
    });
    let their_ports: BTreeMap<_, _> =
        theirs.ports.into_iter().map(|(name, port)| (name, from_theirs(port))).collect();
    let checks = checks.collect();
    Ok(difference(&ports, &their_ports).or_else(|| difference(&checks, &theirs.health_checks)))
}

/// The first that differs.
fn difference<T: Debug + PartialEq>(
    ours: &BTreeMap<String, T>,
    theirs: &BTreeMap<String, T>,
) -> Option<String> {
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let name = names.into_iter().find(|name| ours.get(*name) != theirs.get(*name))?;
    Some(format!("{name}:\nours         {:?}\nkube-proxy's {:?}", ours.get(name), theirs.get(name)))
}

fn from_ours(service: &Arc<state::Service>) -> (String, Port) {
    let with = |wanted: fn(&state::Endpoint) -> bool| {
        service.endpoints.iter().filter(|e| wanted(e)).map(text).collect()
    };
    let at = |wanted: fn(&FrontendAddress) -> bool| {
        let frontends = service.frontends.iter().filter(|f| wanted(&f.address));
        frontends.filter_map(|f| Some(f.address.ip()?.to_string())).collect()
    };
    let first = service.frontends.first();
    let on_node = service.frontends.iter().find(|f| f.address == FrontendAddress::NodePort);
    let protocol = first.map(|f| format!("{:?}", f.protocol).to_uppercase()).unwrap_or_default();
    let port = Port {
        cluster_ips: at(|a| matches!(a, FrontendAddress::ClusterIp(_))),
        external_ips: at(|a| matches!(a, FrontendAddress::ExternalIp(_))),
        load_balancer_ips: at(|a| matches!(a, FrontendAddress::LoadBalancer(_))),
        port: first.map_or(0, |f| f.port.get()),
        node_port: on_node.map_or(0, |f| f.port.get()),
        source_ranges: service.source_ranges.iter().map(ToString::to_string).collect(),
        affinity_seconds: service.affinity_seconds.map_or(0, Into::into),
        internal_local: service.internal_policy == TrafficPolicy::Local,
        external_local: service.external_policy == TrafficPolicy::Local,
        endpoints: service.endpoints.iter().map(|e| (text(e), e.serving)).collect(),
        cluster: with(|e| e.cluster),
        local: with(|e| e.local),
        any: !service.endpoints.is_empty(),
    };
    (format!("{}/{protocol}", service.name), port)
}

fn from_theirs(port: oracle::Port) -> Port {
    let load_balancer_ips = BTreeSet::from_iter(port.load_balancer_ips);
    let usable = port.endpoints.into_iter().filter(|e| e.ready || (e.serving && e.terminating));
    Port {
        cluster_ips: BTreeSet::from([port.cluster_ip]),
        // An address of both kinds is under the source ranges: in kube-proxy two rules, of which that drops.
        external_ips: port.external_ips.into_iter().filter(|ip| !load_balancer_ips.contains(ip)).collect(),
        load_balancer_ips,
        port: port.port,
        node_port: port.node_port,
        source_ranges: port.source_ranges.into_iter().collect(),
        affinity_seconds: port.affinity_seconds,
        internal_local: port.internal_local,
        external_local: port.external_local,
        endpoints: usable.map(|e| (e.address, e.serving)).collect(),
        cluster: port.cluster.into_iter().collect(),
        local: port.local.into_iter().collect(),
        any: port.any,
    }
}

fn text(endpoint: &state::Endpoint) -> String {
    format!("{}:{}", endpoint.address, endpoint.port)
}

fn config() -> Result<NodeConfig, Box<dyn Error>> {
    let args = ["headrace-agent", "--manifests=/none", "--node-name", NODE].map(Into::into);
    let cluster = AgentConfig::parse_from_layers(args, |_| None)?.cluster();
    Ok(NodeConfig { name: NODE.into(), vtep_mac: identity::derive_vtep_mac(NODE), cluster })
}

fn read(objects: &[Value]) -> Result<Objects, Box<dyn Error>> {
    let mut read = Objects::default();
    for object in objects {
        match object["kind"].as_str() {
            Some("Node") => {
                let node: Node = typed(object)?;
                read.nodes.insert(node.metadata.name.clone(), Arc::new(node));
            }
            Some("Service") => {
                let service: Service = typed(object)?;
                read.services.insert(service.metadata.object_name(), Arc::new(service));
            }
            Some("EndpointSlice") => {
                let slice: EndpointSlice = typed(object)?;
                read.slices.insert(slice.metadata.object_name(), Arc::new(slice));
            }
            other => return Err(format!("{other:?} is no kind of a case").into()),
        }
    }
    Ok(read)
}

fn typed<T: DeserializeOwned>(object: &Value) -> Result<T, Box<dyn Error>> {
    T::deserialize(object).map_err(|e| format!("{e} in {object}").into())
}
