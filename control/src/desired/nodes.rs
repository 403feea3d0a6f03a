//! Nodes: the own one gives the settings, every other one a peer.
//!
//! Tunnel ends and inner MAC addresses stand in flannel's annotations (flannel, pkg/subnet/kube/annotations.go), so that
//! nodes of both kinds reach each other.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use headrace_api::state::{Encapsulation, Peer, Settings};
use headrace_wire::ethernet::MacAddr;
use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::{LocalDetector, NodeConfig, NodePortAddresses, Peers, Problem, address};
use crate::identity::{self, annotation};
use crate::objects::{Node, ObjectMap, ServiceCidr};

/// The smallest pod range: the network address, the dataplane's address and room for a pod.
const LONGEST_POD_PREFIX: u8 = 30;
/// Set by the cluster autoscaler before it deletes a node.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The own node's settings; `None` when its object does not say enough.
pub(super) fn settings(
    nodes: &ObjectMap<String, Node>,
    config: &NodeConfig,
    service_cidrs: &[IpNetwork],
    problems: &mut Vec<Problem>,
) -> Option<Settings> {
    let title = title(&config.name);
    let Some(node) = nodes.get(&config.name) else {
        let remedy = "add it to the manifests, or start the agent with the right --node-name";
        problems.push(Problem::new(title, "there is no such object", remedy));
        return None;
    };
    let mut pod_cidrs = pod_cidrs(node, problems);
    pod_cidrs.retain(|cidr| {
        let fits = cidr.prefix() <= LONGEST_POD_PREFIX;
        if !fits {
            problems.push(Problem::new(
                &title,
                format!("podCIDR {cidr} has no room for a pod"),
                "use /30 or larger",
            ));
        }
        fits
    });
    for cidr in &pod_cidrs {
        if !config.cluster.cluster_cidrs.iter().any(|c| c.contains(cidr.ip())) {
            let what = format!("podCIDR {cidr} is outside of the cluster's pod ranges");
            problems.push(Problem::new(
                &title,
                what,
                "set --cluster-cidr on all nodes to the range of all pods",
            ));
        }
    }
    let mut node_addresses = internal_addresses(node, problems);
    // Peers send to the public address when it is one of ours, so it has to be the tunnel's source.
    if let Some(public) = public_address(node, problems) {
        node_addresses.sort_by_key(|a| *a != public);
    }
    if pod_cidrs.is_empty() || node_addresses.is_empty() {
        return None;
    }
    let cluster = config.cluster.clone();
    let cluster_cidrs = ipv4_only(cluster.cluster_cidrs);
    Some(Settings {
        node_port_ranges: match cluster.node_port_addresses {
            NodePortAddresses::Primary => {
                node_addresses.first().map(|a| address::alone(*a)).into_iter().collect()
            }
            NodePortAddresses::Ranges(ranges) => ipv4_only(ranges),
        },
        node_port_loopback: cluster.node_port_loopback,
        masquerade_all: cluster.masquerade_all,
        local_sources: match cluster.local_detector {
            LocalDetector::ClusterCidr => cluster_cidrs.clone(),
            LocalDetector::NodeCidr => pod_cidrs.clone(),
            LocalDetector::Nobody => Vec::new(),
        },
        node_addresses,
        pod_cidrs,
        cluster_cidrs,
        service_cidrs: ipv4_only(service_cidrs.to_vec()),
        vxlan_port: cluster.vxlan_port,
        vni: cluster.vni,
        vtep_mac: own_vtep_mac(node, config, problems),
        encapsulation: cluster.encapsulation,
        masquerade: cluster.masquerade,
        non_masquerade_cidrs: ipv4_only(cluster.non_masquerade_cidrs),
        snat_ports: cluster.snat_ports,
    })
}

/// All other nodes that can be reached.
pub(super) fn peers(
    nodes: &ObjectMap<String, Node>,
    config: &NodeConfig,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Peer> {
    let mut owners: BTreeMap<IpNetwork, &str> = BTreeMap::new();
    if let Some(own) = nodes.get(&config.name) {
        // Its problems are told by `settings`.
        owners.extend(pod_cidrs(own, &mut Vec::new()).into_iter().map(|c| (c, config.name.as_str())));
    }
    let mut peers = BTreeMap::new();
    for (name, node) in nodes.iter().filter(|(name, _)| **name != config.name) {
        let Some(mut peer) = peer(node, config, problems) else { continue };
        peer.pod_cidrs.retain(|cidr| match owners.get(cidr) {
            Some(owner) => {
                let what = format!("podCIDR {cidr} is that of Node {owner} already");
                problems.push(Problem::new(title(name), what, "give every node a range of its own"));
                false
            }
            None => true,
        });
        owners.extend(peer.pod_cidrs.iter().map(|c| (*c, name.as_str())));
        if !peer.pod_cidrs.is_empty() {
            peers.insert(name.clone(), peer);
        }
    }
    peers
}

/// All Service addresses: the cluster's ServiceCIDR objects say it, and the configuration where there are none.
pub(super) fn service_cidrs(
    objects: &ObjectMap<String, ServiceCidr>,
    config: &NodeConfig,
    problems: &mut Vec<Problem>,
) -> Vec<IpNetwork> {
    let mut cidrs = Vec::new();
    for (name, object) in objects {
        for (i, text) in object.spec.cidrs.iter().enumerate() {
            match address::range(text) {
                Ok(cidr) => cidrs.push(cidr),
                Err(what) => {
                    let what = format!("spec.cidrs[{i}]: {what}");
                    problems.push(Problem::new(format!("ServiceCIDR {name}"), what, "it is left out"));
                }
            }
        }
    }
    if cidrs.is_empty() { config.cluster.service_cidrs.clone() } else { cidrs }
}

/// The new peers, where equal ones stay the same object, so that the difference to the former ones is found quickly.
pub(super) fn shared_with(former: &Peers, new: BTreeMap<String, Peer>) -> Peers {
    let mut peers = former.clone();
    for name in former.keys().filter(|name| !new.contains_key(*name)) {
        peers.remove(name);
    }
    for (name, peer) in new {
        if former.get(&name).is_none_or(|p| **p != peer) {
            peers.insert(name, Arc::new(peer));
        }
    }
    peers
}

/// The node's zone; "" when it is in none.
pub(super) fn zone(node: &Node) -> &str {
    node.metadata.labels.get(ZONE).map_or("", String::as_str)
}

/// The node's addresses, whatever their family.
pub(super) fn addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    node.status.addresses.iter().filter_map(|a| a.address.parse().ok())
}

/// Whether the node is there to stay.
pub(super) fn is_eligible(node: &Node) -> bool {
    node.metadata.deletion_timestamp.is_none() && !node.spec.taints.iter().any(|t| t.key == TO_BE_DELETED)
}

/// The MAC address in the own Node object goes first: manifests may be written before the node is.
fn own_vtep_mac(node: &Node, config: &NodeConfig, problems: &mut Vec<Problem>) -> MacAddr {
    match backend_data(node) {
        Ok(Some(data)) => data.vtep_mac,
        Ok(None) => config.vtep_mac,
        Err(what) => {
            let remedy =
                format!("its peers expect {}", identity::backend_data(config.cluster.vni, config.vtep_mac));
            problems.push(Problem::new(title(&config.name), what, remedy));
            config.vtep_mac
        }
    }
}

fn peer(node: &Node, config: &NodeConfig, problems: &mut Vec<Problem>) -> Option<Peer> {
    let name = &node.metadata.name;
    let pod_cidrs = pod_cidrs(node, problems);
    let addresses = internal_addresses(node, problems);
    let public = public_address(node, problems);
    let vtep_mac = match peer_vtep_mac(node, config) {
        Ok(mac) => mac,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    let address = public.or_else(|| addresses.first().copied())?;
    let other_addresses = addresses.into_iter().filter(|a| *a != address).collect();
    Some(Peer { name: name.clone(), address, other_addresses, pod_cidrs, vtep_mac })
}

/// The inner MAC address to send to.
fn peer_vtep_mac(node: &Node, config: &NodeConfig) -> Result<MacAddr, Problem> {
    let name = &node.metadata.name;
    let data = match backend_data(node) {
        Ok(Some(data)) => data,
        // Without a tunnel it matters little; a node of ours that has not published it has the one made of its name.
        Ok(None) if config.cluster.encapsulation == Encapsulation::Direct => {
            return Ok(identity::derive_vtep_mac(name));
        }
        Ok(None) => {
            let what = format!("has no annotation {}, so no tunnel leads there", annotation::BACKEND_DATA);
            let remedy = "copy the annotations its agent shows in node.json of its run directory";
            return Err(Problem::new(title(name), what, remedy));
        }
        Err(what) => {
            return Err(Problem::new(title(name), what, "the node's agent shows the right one in node.json"));
        }
    };
    // flannel leaves the VNI out of old annotations.
    match data.vni {
        Some(vni) if vni != config.cluster.vni.get() => {
            let what = format!("its tunnel has VNI {vni}, this node's has {}", config.cluster.vni.get());
            Err(Problem::new(title(name), what, "set the same --vni on all nodes"))
        }
        _ => Ok(data.vtep_mac),
    }
}

struct BackendData {
    vni: Option<u32>,
    vtep_mac: MacAddr,
}

/// flannel's backend data of a node; `Err` says what is wrong with it.
fn backend_data(node: &Node) -> Result<Option<BackendData>, String> {
    #[derive(Deserialize)]
    struct Json {
        #[serde(rename = "VNI")]
        vni: Option<u32>,
        #[serde(rename = "VtepMAC")]
        vtep_mac: String,
    }
    let annotations = &node.metadata.annotations;
    if let Some(other) = annotations.get(annotation::BACKEND_TYPE).filter(|t| *t != "vxlan") {
        return Err(format!("annotation {} is {other:?}; only vxlan is spoken", annotation::BACKEND_TYPE));
    }
    let Some(text) = annotations.get(annotation::BACKEND_DATA) else { return Ok(None) };
    let wrong = |reason: String| format!("annotation {} is {text:?}: {reason}", annotation::BACKEND_DATA);
    let json: Json = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let vtep_mac: MacAddr = json.vtep_mac.parse().map_err(|e| wrong(format!("{e}")))?;
    if vtep_mac.is_multicast() || vtep_mac == MacAddr::ZERO {
        return Err(wrong(format!("{vtep_mac} is no address of one station")));
    }
    Ok(Some(BackendData { vni: json.vni, vtep_mac }))
}

/// Where the node's tunnel ends, when its annotations say so.
fn public_address(node: &Node, problems: &mut Vec<Problem>) -> Option<IpAddr> {
    let keys = [annotation::PUBLIC_IP_OVERWRITE, annotation::PUBLIC_IP];
    let (key, text) = keys.into_iter().find_map(|k| Some((k, node.metadata.annotations.get(k)?)))?;
    match address::host(text) {
        Ok(address) if address.is_ipv4() => Some(address),
        Ok(_) => None,
        Err(what) => {
            let what = format!("annotation {key}: {what}");
            problems.push(Problem::new(title(&node.metadata.name), what, "its InternalIP is used instead"));
            None
        }
    }
}

/// The node's IPv4 addresses on the underlay.
fn internal_addresses(node: &Node, problems: &mut Vec<Problem>) -> Vec<IpAddr> {
    let title = title(&node.metadata.name);
    let mut addresses = Vec::new();
    for address in node.status.addresses.iter().filter(|a| a.kind == "InternalIP") {
        match address::host(&address.address) {
            Ok(a) if a.is_ipv4() && !addresses.contains(&a) => addresses.push(a),
            Ok(_) => {}
            Err(what) => problems.push(Problem::new(&title, what, "correct status.addresses")),
        }
    }
    if addresses.is_empty() {
        let remedy = "add one to status.addresses, with type InternalIP";
        problems.push(Problem::new(title, "has no IPv4 InternalIP", remedy));
    }
    addresses
}

/// The node's IPv4 pod ranges.
fn pod_cidrs(node: &Node, problems: &mut Vec<Problem>) -> Vec<IpNetwork> {
    let title = title(&node.metadata.name);
    let spec = &node.spec;
    let texts = if spec.pod_cidrs.is_empty() { spec.pod_cidr.as_slice() } else { &spec.pod_cidrs };
    let mut cidrs = Vec::new();
    for text in texts {
        match address::range(text) {
            Ok(cidr) if cidr.is_ipv4() && !cidrs.contains(&cidr) => cidrs.push(cidr),
            Ok(_) => {}
            Err(what) => problems.push(Problem::new(&title, what, "correct spec.podCIDRs")),
        }
    }
    if cidrs.is_empty() {
        let remedy = "set spec.podCIDR (kube-controller-manager does with --allocate-node-cidrs)";
        problems.push(Problem::new(title, "has no IPv4 podCIDR", remedy));
    }
    cidrs
}

fn ipv4_only(mut cidrs: Vec<IpNetwork>) -> Vec<IpNetwork> {
    cidrs.retain(IpNetwork::is_ipv4);
    cidrs
}

fn title(name: &str) -> String {
    format!("Node {name}")
}
