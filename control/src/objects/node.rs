//! core/v1 Node.

use serde::Deserialize;

use super::{Metadata, null_is_default};

/// A machine of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Node {
    /// Name, annotations, the label of its zone.
    pub metadata: Metadata,
    /// Pod ranges, taints.
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
    /// What keeps pods, and load balancers, away.
    #[serde(default, deserialize_with = "null_is_default")]
    pub taints: Vec<Taint>,
}

/// Taint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Taint {
    /// Says why.
    pub key: String,
}

/// NodeStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct NodeStatus {
    /// In the node's order of preference.
    #[serde(default, deserialize_with = "null_is_default")]
    pub addresses: Vec<NodeAddress>,
    /// What is known of its health.
    #[serde(default, deserialize_with = "null_is_default")]
    pub conditions: Vec<NodeCondition>,
}

/// NodeCondition.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NodeCondition {
    /// "Ready", "NetworkUnavailable", ...
    #[serde(rename = "type")]
    pub kind: String,
    /// "True", "False" or "Unknown".
    pub status: String,
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
