//! Builders of objects for tests.

use std::num::NonZeroU16;
use std::sync::Arc;

use headrace_api::state::{Bandwidth, Encapsulation, Port, PortId};
use headrace_wire::vxlan::Vni;

use super::{ClusterConfig, LocalDetector, NodeConfig, NodePortAddresses};
use crate::identity::annotation;
use crate::objects::{
    self, AddressType, Conditions, EndpointSlice, Metadata, Node, NodeAddress, ObjectName, Objects,
    ServicePort, SliceEndpoint, SlicePort,
};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

pub(crate) fn config() -> NodeConfig {
    NodeConfig {
        name: "a".into(),
        vtep_mac: "02:00:00:00:00:0a".parse().unwrap(),
        cluster: ClusterConfig {
            cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()],
            service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
            vxlan_port: NonZeroU16::new(8472).unwrap(),
            vni: Vni::new(1).unwrap(),
            encapsulation: Encapsulation::Vxlan,
            masquerade: true,
            non_masquerade_cidrs: vec![],
            snat_ports: 49152..=65535,
            node_port_addresses: NodePortAddresses::Primary,
            node_port_loopback: false,
            masquerade_all: false,
            local_detector: LocalDetector::ClusterCidr,
        },
    }
}

pub(crate) fn own_node() -> Node {
    mk_node("a", "10.244.1.0/24", "192.168.0.1", None)
}

pub(crate) fn mk_node(name: &str, pod_cidr: &str, address: &str, mac: Option<&str>) -> Node {
    let mut node = Node::default();
    node.metadata.name = name.into();
    node.spec.pod_cidr = Some(pod_cidr.into());
    node.status.addresses =
        vec![NodeAddress { kind: "Hostname".into(), address: name.into() }, internal(address)];
    if let Some(mac) = mac {
        annotate(&mut node, annotation::BACKEND_TYPE, "vxlan");
        annotate(&mut node, annotation::BACKEND_DATA, &format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#));
    }
    node
}

/// TCP port 80 without a name.
pub(crate) fn mk_service(name: &str, cluster_ip: &str) -> objects::Service {
    let mut service = objects::Service { metadata: mk_metadata(name), ..objects::Service::default() };
    service.spec.cluster_ip = Some(cluster_ip.into());
    service.spec.ports = vec![mk_port("", 80, objects::Protocol::Tcp)];
    service
}

/// TCP port 8080 without a name.
pub(crate) fn mk_slice(name: &str, service: &str, servers: &[(&str, Conditions)]) -> EndpointSlice {
    let mut metadata = mk_metadata(name);
    metadata.labels.insert(SERVICE_NAME.into(), service.into());
    let server = |(address, conditions): &(&str, Conditions)| SliceEndpoint {
        address: Some((*address).into()),
        conditions: *conditions,
        ..SliceEndpoint::default()
    };
    EndpointSlice {
        metadata,
        address_type: AddressType::IPv4,
        endpoints: servers.iter().map(server).collect(),
        ports: vec![SlicePort {
            name: String::new(),
            port: NonZeroU16::new(8080),
            protocol: objects::Protocol::Tcp,
        }],
    }
}

pub(crate) fn mk_port(name: &str, port: u16, protocol: objects::Protocol) -> ServicePort {
    ServicePort { name: name.into(), protocol, port: NonZeroU16::new(port).unwrap(), node_port: None }
}

pub(crate) fn mk_metadata(name: &str) -> Metadata {
    Metadata { name: name.into(), ..Metadata::default() }
}

pub(crate) fn cluster(nodes: impl IntoIterator<Item = Node>) -> Objects {
    let nodes = nodes.into_iter().map(|n| (n.metadata.name.clone(), Arc::new(n))).collect();
    Objects { nodes, ..Objects::default() }
}

pub(crate) fn with(
    mut objects: Objects,
    services: impl IntoIterator<Item = objects::Service>,
    slices: impl IntoIterator<Item = EndpointSlice>,
) -> Objects {
    let named = |m: &Metadata| -> ObjectName { m.object_name() };
    objects.services = services.into_iter().map(|s| (named(&s.metadata), Arc::new(s))).collect();
    objects.slices = slices.into_iter().map(|s| (named(&s.metadata), Arc::new(s))).collect();
    objects
}

/// Port 1, of a pod at 10.244.1.2.
pub(crate) fn port_of(label: &str) -> Port {
    Port {
        id: PortId::new(1).unwrap(),
        interface: "hr1".into(),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        addresses: vec![[10, 244, 1, 2].into()],
        path_mtu: None,
        superframes: true,
        label: label.into(),
        host_ports: Vec::new(),
        bandwidth: Bandwidth::default(),
    }
}

pub(crate) fn internal(address: &str) -> NodeAddress {
    NodeAddress { kind: "InternalIP".into(), address: address.into() }
}

pub(crate) fn annotate(node: &mut Node, key: &str, value: &str) {
    node.metadata.annotations.insert(key.into(), value.into());
}
