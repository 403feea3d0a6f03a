//! core/v1 Service and networking.k8s.io/v1 ServiceCIDR.

use std::num::NonZeroU16;

use serde::Deserialize;

use super::{Metadata, null_is_default, optional_port, port};

/// Pods behind one address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Service {
    /// Name, labels and age.
    pub metadata: Metadata,
    /// What the Service is.
    #[serde(default, deserialize_with = "null_is_default")]
    pub spec: ServiceSpec,
    /// What a load balancer has made of it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub status: ServiceStatus,
}

/// ServiceSpec. `targetPort`, `trafficDistribution` and `publishNotReadyAddresses` are left out: the EndpointSlice
/// controller turns them into ports, hints and conditions. So is `allocateLoadBalancerNodePorts`: without node ports
/// there is none in `ports`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
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
    /// Addresses that somebody routes to the nodes.
    #[serde(default, rename = "externalIPs", deserialize_with = "null_is_default")]
    pub external_ips: Vec<String>,
    /// Whether a client keeps its endpoint.
    #[serde(default, deserialize_with = "null_is_default")]
    pub session_affinity: SessionAffinity,
    /// For how long.
    #[serde(default, deserialize_with = "null_is_default")]
    pub session_affinity_config: SessionAffinityConfig,
    /// For the cluster address.
    #[serde(default, deserialize_with = "null_is_default")]
    pub internal_traffic_policy: TrafficPolicy,
    /// For all other addresses.
    #[serde(default, deserialize_with = "null_is_default")]
    pub external_traffic_policy: TrafficPolicy,
    /// Where load balancers of a LoadBalancer with external policy Local ask whether this node has endpoints.
    #[serde(default, deserialize_with = "optional_port")]
    pub health_check_node_port: Option<NonZeroU16>,
    /// Who may use the load balancer's addresses; empty = everyone.
    #[serde(default, deserialize_with = "null_is_default")]
    pub load_balancer_source_ranges: Vec<String>,
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Empty when the Service has one port only.
    #[serde(default, deserialize_with = "null_is_default")]
    pub name: String,
    /// Absent = TCP.
    #[serde(default, deserialize_with = "null_is_default")]
    pub protocol: Protocol,
    /// At every address of the Service.
    #[serde(deserialize_with = "port")]
    pub port: NonZeroU16,
    /// On every node.
    #[serde(default, deserialize_with = "optional_port")]
    pub node_port: Option<NonZeroU16>,
}

/// Transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
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

/// ServiceAffinity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum SessionAffinity {
    /// Every connection by itself.
    #[default]
    None,
    /// By the client's address.
    ClientIP,
}

/// SessionAffinityConfig.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SessionAffinityConfig {
    /// For affinity ClientIP.
    #[serde(default, rename = "clientIP", deserialize_with = "null_is_default")]
    pub client_ip: ClientIpConfig,
}

/// ClientIPConfig.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientIpConfig {
    /// 1 to 86400; absent = 10800.
    #[serde(default)]
    pub timeout_seconds: Option<u32>,
}

/// ServiceInternalTrafficPolicy and ServiceExternalTrafficPolicy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TrafficPolicy {
    /// Endpoints on all nodes.
    #[default]
    Cluster,
    /// Endpoints on this node.
    Local,
}

/// ServiceStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// What the load balancer has given.
    #[serde(default, deserialize_with = "null_is_default")]
    pub load_balancer: LoadBalancerStatus,
}

/// LoadBalancerStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct LoadBalancerStatus {
    /// Where clients enter.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ingress: Vec<IngressPoint>,
}

/// LoadBalancerIngress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressPoint {
    /// Absent when the load balancer is known by name.
    #[serde(default)]
    pub ip: Option<String>,
    /// How packets come from there.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ip_mode: IpMode,
}

/// LoadBalancerIPMode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum IpMode {
    /// Packets reach the node with the load balancer's address as their destination.
    #[default]
    VIP,
    /// The load balancer ends connections: traffic of the cluster to its address has to go there.
    Proxy,
}

/// A range of Service addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ServiceCidr {
    /// Its name.
    pub metadata: Metadata,
    /// The range.
    #[serde(default, deserialize_with = "null_is_default")]
    pub spec: ServiceCidrSpec,
}

/// ServiceCIDRSpec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ServiceCidrSpec {
    /// At most one of each family.
    #[serde(default, deserialize_with = "null_is_default")]
    pub cidrs: Vec<String>,
}
