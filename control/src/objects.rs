//! The Kubernetes objects the agent reads, cut down to the fields it uses.
//!
//! Field names and defaults are the Kubernetes API's (core/v1, discovery.k8s.io/v1, apimachinery's ObjectMeta). Unknown
//! fields are skipped and an explicit `null` means absent, as in the API server. Addresses stay text here: only the
//! derivation in [`crate::desired`] knows which of them it needs, and it names the object when one is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

/// Everything a source has read, by name. Objects are shared, so that a new set is cheap to make from an old one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Nodes by name.
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// Services.
    pub services: BTreeMap<ObjectName, Arc<Service>>,
    /// EndpointSlices.
    pub slices: BTreeMap<ObjectName, Arc<EndpointSlice>>,
}

/// Name of a namespaced object; shown as "namespace/name".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// "default" when the manifest has none, as for kubectl.
    pub namespace: String,
    /// Unique in the namespace and kind.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// ObjectMeta.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Metadata {
    /// Required in every object.
    pub name: String,
    /// Absent in cluster-wide objects, and in manifests that leave it to kubectl.
    #[serde(default)]
    pub namespace: Option<String>,
    /// What selectors look at.
    #[serde(default, deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// What programs tell each other.
    #[serde(default, deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Metadata {
    /// The namespaced name.
    pub fn object_name(&self) -> ObjectName {
        ObjectName {
            namespace: self.namespace.clone().unwrap_or_else(|| "default".into()),
            name: self.name.clone(),
        }
    }
}

/// core/v1 Node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Node {
    /// Name and annotations.
    pub metadata: Metadata,
    /// Pod ranges.
    #[serde(default, deserialize_with = "null_is_default")]
    pub spec: NodeSpec,
    /// Addresses.
    #[serde(default, deserialize_with = "null_is_default")]
    pub status: NodeStatus,
}

/// NodeSpec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct NodeSpec {
    /// The first of `podCIDRs`; the only field in old manifests.
    #[serde(default, rename = "podCIDR")]
    pub pod_cidr: Option<String>,
    /// At most one of each family.
    #[serde(default, rename = "podCIDRs", deserialize_with = "null_is_default")]
    pub pod_cidrs: Vec<String>,
}

/// NodeStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct NodeStatus {
    /// In the node's order of preference.
    #[serde(default, deserialize_with = "null_is_default")]
    pub addresses: Vec<NodeAddress>,
}

/// NodeAddress.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NodeAddress {
    /// "InternalIP", "ExternalIP", "Hostname", ...
    #[serde(rename = "type")]
    pub kind: String,
    /// An address or a name, as the type says.
    pub address: String,
}

/// core/v1 Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Service {
    /// Name and labels.
    pub metadata: Metadata,
    /// What the Service is.
    #[serde(default, deserialize_with = "null_is_default")]
    pub spec: ServiceSpec,
}

/// ServiceSpec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ServiceSpec {
    /// Absent = ClusterIP.
    #[serde(default, rename = "type", deserialize_with = "null_is_default")]
    pub kind: ServiceType,
    /// "None" for a headless Service; else the first of `clusterIPs`.
    #[serde(default, rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    /// At most one of each family.
    #[serde(default, rename = "clusterIPs", deserialize_with = "null_is_default")]
    pub cluster_ips: Vec<String>,
    /// Names are unique; only a single port may go without.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ports: Vec<ServicePort>,
}

/// ServiceType.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ServiceType {
    /// Reached at its cluster address.
    #[default]
    ClusterIP,
    /// And at a port of every node.
    NodePort,
    /// And at addresses of a load balancer.
    LoadBalancer,
    /// A DNS alias; no business of the dataplane.
    ExternalName,
}

/// ServicePort.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ServicePort {
    /// Empty when the Service has one port only.
    #[serde(default, deserialize_with = "null_is_default")]
    pub name: String,
    /// Absent = TCP.
    #[serde(default, deserialize_with = "null_is_default")]
    pub protocol: Protocol,
    /// 1 to 65535.
    pub port: u16,
}

/// Transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// The default everywhere.
    #[default]
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

/// discovery.k8s.io/v1 EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EndpointSlice {
    /// The label `kubernetes.io/service-name` names the Service.
    pub metadata: Metadata,
    /// What kind of address all endpoints have.
    #[serde(rename = "addressType")]
    pub address_type: AddressType,
    /// Servers.
    #[serde(default, deserialize_with = "null_is_default")]
    pub endpoints: Vec<SliceEndpoint>,
    /// Ports that every endpoint of the slice has.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ports: Vec<SlicePort>,
}

/// AddressType of an EndpointSlice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum AddressType {
    /// RFC 791.
    #[default]
    IPv4,
    /// RFC 8200.
    IPv6,
    /// Names; no business of the dataplane.
    #[serde(rename = "FQDN")]
    Fqdn,
}

/// Endpoint of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SliceEndpoint {
    /// Only the first counts, as for kube-proxy; the others have no meaning that consumers agree on.
    pub addresses: Vec<String>,
    /// May it get connections?
    #[serde(default, deserialize_with = "null_is_default")]
    pub conditions: Conditions,
    /// The node it runs on.
    #[serde(default, rename = "nodeName")]
    pub node_name: Option<String>,
}

/// EndpointConditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Conditions {
    /// Absent = true.
    #[serde(default)]
    pub ready: Option<bool>,
    /// Like ready, but stays true while a serving pod terminates. Absent = true.
    #[serde(default)]
    pub serving: Option<bool>,
    /// Absent = false.
    #[serde(default)]
    pub terminating: Option<bool>,
}

/// EndpointPort.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SlicePort {
    /// The Service port's name. The API server defaults it to "", so absent means the same in a manifest.
    #[serde(default, deserialize_with = "null_is_default")]
    pub name: String,
    /// The target port; absent = all ports, of which a proxy can make nothing.
    #[serde(default)]
    pub port: Option<u16>,
    /// Absent = TCP.
    #[serde(default, deserialize_with = "null_is_default")]
    pub protocol: Protocol,
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
