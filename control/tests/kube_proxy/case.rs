//! Random clusters, seen from one node: small alphabets, so that names, ports and addresses meet often.
//!
//! What the API server would refuse is left out, and what kube-proxy itself answers by chance: of two slices that say
//! different things about one endpoint it believes either. A local endpoint always wins, so those may differ.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::{Just, Strategy, any as of_type, prop_oneof};
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

/// The node that looks.
pub(crate) const NODE: &str = "a";

const ZONES: [&str; 2] = ["east", "west"];
const NODES: [&str; 2] = [NODE, "b"];
const NAMES: [&str; 3] = ["", "http", "dns"];
/// Services of the case; slices also name one that does not exist.
const SERVICES: u16 = 3;
const SERVERS: usize = 5;

/// One cluster.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    zone: Option<&'static str>,
    services: Vec<Service>,
    servers: Vec<Server>,
    slices: Vec<Slice>,
}

#[derive(Clone, Debug)]
struct Service {
    kind: &'static str,
    cluster_ips: ClusterIps,
    ports: Vec<(&'static str, &'static str, u16, bool)>,
    external: Vec<&'static str>,
    ingress: Vec<(Option<&'static str>, Option<&'static str>)>,
    ranges: Vec<&'static str>,
    internal_policy: Option<&'static str>,
    external_policy: Option<&'static str>,
    affinity: Option<u32>,
    label: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
enum ClusterIps {
    V4,
    V4AndV6,
    V6AndV4,
    V6,
    None,
}

/// An address that serves, as slices on this node and elsewhere describe it.
#[derive(Clone, Debug)]
struct Server {
    elsewhere: Description,
    here: Description,
}

#[derive(Clone, Debug)]
struct Description {
    node: Option<&'static str>,
    conditions: [Option<bool>; 3],
    zones: Option<Vec<&'static str>>,
    nodes: Option<Vec<&'static str>>,
}

#[derive(Clone, Debug)]
struct Slice {
    /// Absent = no label.
    service: Option<u16>,
    ipv6: bool,
    ports: Vec<(&'static str, &'static str, Option<u16>)>,
    /// Which server, and whether it is described as local.
    members: Vec<(usize, bool)>,
    label: Option<&'static str>,
}

/// Any cluster.
pub(crate) fn any() -> impl Strategy<Value = Case> {
    (
        of(select(&ZONES[..])),
        vec(service(), 1..=usize::from(SERVICES)),
        vec(server(), SERVERS),
        vec(slice(), 0..4),
    )
        .prop_map(|(zone, services, servers, slices)| Case { zone, services, servers, slices })
}

fn service() -> impl Strategy<Value = Service> {
    let kind =
        select(vec!["ClusterIP", "ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer", "ExternalName"]);
    let ips = prop_oneof![
        8 => Just(ClusterIps::V4),
        2 => Just(ClusterIps::V4AndV6),
        1 => Just(ClusterIps::V6AndV4),
        1 => Just(ClusterIps::V6),
        1 => Just(ClusterIps::None),
    ];
    let port = (select(&NAMES[..]), protocol(), 80..83_u16, of_type::<bool>());
    let external = subsequence(vec!["198.51.100.1", "198.51.100.2", "2001:db8::1"], 0..=2);
    let address = select(vec!["203.0.113.1", "203.0.113.2", "2001:db8::2"]);
    let ingress = vec((weighted(0.9, address), of(select(vec!["VIP", "Proxy"]))), 0..3);
    let ranges = subsequence(vec!["192.0.2.0/24", " 10.0.0.0/8 ", "0.0.0.0/0", "2001:db8::/32"], 0..=2);
    let policy = || of(select(vec!["Cluster", "Local"]));
    let affinity = of(select(vec![1, 10_800]));
    let rare = (affinity, label());
    (kind, ips, vec(port, 1..4), external, ingress, ranges, policy(), policy(), rare).prop_map(
        |(kind, cluster_ips, ports, external, ingress, ranges, internal_policy, external_policy, rare)| {
            let (affinity, label) = rare;
            let ports = distinct(ports);
            Service {
                kind,
                cluster_ips,
                ports,
                external,
                ingress,
                ranges,
                internal_policy,
                external_policy,
                affinity,
                label,
            }
        },
    )
}

/// The API server wants names unique in a Service, and pairs of number and protocol.
fn distinct(
    mut ports: Vec<(&'static str, &'static str, u16, bool)>,
) -> Vec<(&'static str, &'static str, u16, bool)> {
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    ports.retain(|(name, protocol, number, _)| names.insert(*name) && numbers.insert((*protocol, *number)));
    ports
}

fn server() -> impl Strategy<Value = Server> {
    (description(vec![None, Some("b")]), description(vec![Some(NODE)]))
        .prop_map(|(elsewhere, here)| Server { elsewhere, here })
}

fn description(nodes: Vec<Option<&'static str>>) -> impl Strategy<Value = Description> {
    // Few have no hint: one of them switches topology off for all.
    let zones = weighted(0.8, subsequence(&ZONES[..], 0..=2));
    let hinted = weighted(0.8, subsequence(&NODES[..], 0..=2));
    let flag = || weighted(0.7, of_type::<bool>());
    (select(nodes), [flag(), flag(), flag()], zones, hinted)
        .prop_map(|(node, conditions, zones, nodes)| Description { node, conditions, zones, nodes })
}

fn slice() -> impl Strategy<Value = Slice> {
    let number =
        prop_oneof![8 => select(vec![8080, 8081]).prop_map(Some), 1 => Just(Some(0)), 1 => Just(None)];
    let ports = vec((select(&NAMES[..]), protocol(), number), 1..3);
    let members = vec((0..SERVERS, of_type::<bool>()), 0..5);
    (weighted(0.95, 0..=SERVICES), weighted(0.1, Just(())), ports, members, label()).prop_map(
        |(service, ipv6, mut ports, members, label)| {
            let mut names = BTreeSet::new();
            ports.retain(|(name, ..)| names.insert(*name));
            Slice { service, ipv6: ipv6.is_some(), ports, members, label }
        },
    )
}

/// TCP mostly, or Services and slices would seldom meet.
fn protocol() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just("TCP"), 1 => Just("UDP"), 1 => Just("SCTP")]
}

/// Labels of objects that are another proxy's, or nobody's.
fn label() -> impl Strategy<Value = Option<&'static str>> {
    let labels = vec!["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"];
    weighted(0.05, select(labels))
}

impl Case {
    /// The Kubernetes objects, the own Node first.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let services = (0..).zip(&self.services).map(|(i, s)| s.object(i));
        let slices = (0..).zip(&self.slices).map(|(i, s)| s.object(i, &self.servers));
        [self.node()].into_iter().chain(services).chain(slices).collect()
    }

    fn node(&self) -> Value {
        let mut labels = json!({});
        if let Some(zone) = self.zone {
            labels["topology.kubernetes.io/zone"] = zone.into();
        }
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": NODE, "labels": labels },
            "spec": { "podCIDR": "10.244.1.0/24" },
            "status": { "addresses": [{ "type": "InternalIP", "address": "192.168.0.1" }] },
        })
    }
}

impl Service {
    fn object(&self, index: u16) -> Value {
        let (v4, v6) = (format!("10.96.0.{}", index + 1), format!("fd00:96::{}", index + 1));
        let (ips, families) = match self.cluster_ips {
            ClusterIps::V4 => (vec![v4], vec!["IPv4"]),
            ClusterIps::V4AndV6 => (vec![v4, v6], vec!["IPv4", "IPv6"]),
            ClusterIps::V6AndV4 => (vec![v6, v4], vec!["IPv6", "IPv4"]),
            ClusterIps::V6 => (vec![v6], vec!["IPv6"]),
            ClusterIps::None => (vec!["None".into()], vec!["IPv4"]),
        };
        let mut spec = json!({
            "type": self.kind,
            "clusterIP": ips[0],
            "clusterIPs": ips,
            "ipFamilies": families,
            "ports": self.ports.iter().map(|p| port(index, *p)).collect::<Vec<_>>(),
            "externalIPs": self.external,
            "loadBalancerSourceRanges": self.ranges,
            "internalTrafficPolicy": self.internal_policy,
            "externalTrafficPolicy": self.external_policy,
        });
        if let Some(seconds) = self.affinity {
            spec["sessionAffinity"] = "ClientIP".into();
            spec["sessionAffinityConfig"] = json!({ "clientIP": { "timeoutSeconds": seconds } });
        }
        if self.kind == "LoadBalancer" && self.external_policy == Some("Local") {
            spec["healthCheckNodePort"] = (32_000 + index).into();
        }
        let ingress: Vec<Value> = self
            .ingress
            .iter()
            .map(|(ip, mode)| match ip {
                Some(ip) => json!({ "ip": ip, "ipMode": mode }),
                None => json!({ "hostname": "lb.example" }),
            })
            .collect();
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(&service_name(index), self.label.map(|l| (l, "")).as_slice()),
            "spec": spec,
            "status": { "loadBalancer": { "ingress": ingress } },
        })
    }
}

/// Numbers differ between Services, so that they may share an external address.
fn port(service: u16, (name, protocol, number, on_nodes): (&str, &str, u16, bool)) -> Value {
    let offset = service * 10;
    let node_port = if on_nodes { 30_000 + number + offset } else { 0 };
    json!({ "name": name, "protocol": protocol, "port": number + offset, "nodePort": node_port })
}

impl Slice {
    fn object(&self, index: u16, servers: &[Server]) -> Value {
        let service = self.service.map(service_name);
        let of_service = service.as_deref().map(|name| ("kubernetes.io/service-name", name));
        let labels: Vec<_> = of_service.into_iter().chain(self.label.map(|l| (l, ""))).collect();
        let ports = self
            .ports
            .iter()
            .map(|(name, protocol, number)| json!({ "name": name, "protocol": protocol, "port": number }));
        let endpoints = self.members.iter().map(|(server, local)| {
            let address =
                if self.ipv6 { "fd00:244::".into() } else { format!("10.244.{}.", *server % 2 + 1) };
            let Server { elsewhere, here } = &servers[*server];
            let description = if *local { here } else { elsewhere };
            description.endpoint(&format!("{address}{}", server + 2))
        });
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata(&format!("slice-{index}"), &labels),
            "addressType": if self.ipv6 { "IPv6" } else { "IPv4" },
            "ports": ports.collect::<Vec<_>>(),
            "endpoints": endpoints.collect::<Vec<_>>(),
        })
    }
}

impl Description {
    fn endpoint(&self, address: &str) -> Value {
        let named = |names: &Option<Vec<&str>>| -> Value {
            names.as_ref().map(|n| n.iter().map(|n| json!({ "name": n })).collect::<Vec<_>>()).into()
        };
        let [ready, serving, terminating] = self.conditions;
        json!({
            "addresses": [address],
            "nodeName": self.node,
            "conditions": { "ready": ready, "serving": serving, "terminating": terminating },
            "hints": { "forZones": named(&self.zones), "forNodes": named(&self.nodes) },
        })
    }
}

fn service_name(index: u16) -> String {
    format!("service-{index}")
}

fn metadata(name: &str, labels: &[(&str, &str)]) -> Value {
    let labels: serde_json::Map<_, _> = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    json!({ "namespace": "default", "name": name, "labels": labels })
}
