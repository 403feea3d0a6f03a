//! Names and addresses of everything in a lab, worked out from its configuration alone.
//!
//! Nodes count through, Headrace nodes first: node `n` has the LAN address 172.30.0.`n` and the pod range
//! 10.244.`n`.0/24.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use crate::LabConfig;

/// All pods.
pub const CLUSTER_CIDR: &str = "10.244.0.0/16";
/// All Service addresses.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// The outside host on the LAN; every node's default gateway.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 254);
/// The outside host's second address, reached through its first: "the Internet".
pub const OUTSIDE_FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// MTU of the LAN, in bytes of an IP packet.
pub const LAN_MTU: usize = 1500;
/// MTU between pods: the LAN's less IPv4, UDP, VXLAN and inner Ethernet headers.
pub const POD_MTU: usize = LAN_MTU - 50;
/// Where the agent serves its dashboard, on the loopback of its node.
pub const DASHBOARD: u16 = 9480;
/// Where the agent serves its metrics, on the loopback of its node.
pub const METRICS: u16 = 9481;
/// Name of every machine's NIC and of every pod's device.
pub const NIC: &str = "eth0";
/// Name of the outside host.
pub const OUTSIDE_NAME: &str = "outside";
/// Name of the machine that is the LAN's switch.
pub const LAN_NAME: &str = "lan";

/// Who forwards for a node's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// Headrace's daemons.
    Headrace,
    /// The kernel, set up as flannel and kube-proxy do.
    Kernel,
    /// What the Kubernetes cluster that the node belongs to brings: the lab gives it nothing but its NIC.
    Cluster,
}

/// Fixed facts of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    /// `node1`, `kernel1` or `worker1`.
    pub name: String,
    /// Who forwards.
    pub kind: NodeKind,
    /// 1 for the first node of the lab.
    pub number: u8,
    /// On the LAN; the Node object's InternalIP.
    pub address: Ipv4Addr,
    /// Names of its first pods.
    pub pod_names: Vec<String>,
}

impl NodePlan {
    /// The node's pods.
    #[must_use]
    pub fn pod_cidr(&self) -> String {
        format!("10.244.{}.0/24", self.number)
    }

    /// S0: the pod range's network address, held by the node itself.
    #[must_use]
    pub fn pod_side_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.number, 0)
    }

    /// The first address of the pod range: the bridge's on a kernel node, the dataplane's on a Headrace node.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.number, 1)
    }

    /// MAC address of the tunnel's end.
    #[must_use]
    pub fn vtep_mac(&self) -> String {
        format!("02:aa:00:00:00:{:02x}", self.number)
    }

    /// MAC address of the NIC.
    #[must_use]
    pub fn nic_mac(&self) -> String {
        format!("02:cc:00:00:00:{:02x}", self.number)
    }

    /// Whether `address` belongs to the node or to one of its pods.
    #[must_use]
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        let pods: Ipv4Network = self.pod_cidr().parse().unwrap_or_else(|_| unreachable!("number is a byte"));
        address == self.address || pods.contains(address)
    }
}

/// The nodes that `config` asks for.
#[must_use]
pub fn nodes(config: &LabConfig) -> Vec<NodePlan> {
    let headrace = (1..=config.nodes).map(|i| (format!("node{i}"), NodeKind::Headrace));
    let kernel = (1..=config.kernel_nodes).map(|i| (format!("kernel{i}"), NodeKind::Kernel));
    let cluster = (1..=config.cluster_nodes).map(|i| (format!("worker{i}"), NodeKind::Cluster));
    headrace
        .chain(kernel)
        .chain(cluster)
        .zip(1_u8..)
        .map(|((name, kind), number)| NodePlan {
            pod_names: (1..=config.pods_per_node).map(|i| format!("{name}-pod{i}")).collect(),
            name,
            kind,
            number,
            address: Ipv4Addr::new(172, 30, 0, number),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_addresses_are_unique_over_both_kinds_of_nodes() {
        let config = LabConfig { nodes: 3, kernel_nodes: 2, ..LabConfig::default() };
        let plan = nodes(&config);
        assert_eq!(plan.len(), 5);
        assert_eq!(plan[4].name, "kernel2");
        assert_eq!(plan[4].pod_cidr(), "10.244.5.0/24");
        let unique = |key: fn(&NodePlan) -> String| plan.iter().map(key).collect::<HashSet<_>>().len();
        assert_eq!(unique(|n| n.name.clone()), 5);
        assert_eq!(unique(|n| n.address.to_string()), 5);
        assert_eq!(unique(NodePlan::vtep_mac), 5);
    }

    #[test]
    fn a_node_holds_its_own_address_and_its_pods_only() {
        let plan = nodes(&LabConfig::default());
        assert!(plan[0].holds(Ipv4Addr::new(172, 30, 0, 1)));
        assert!(plan[0].holds(Ipv4Addr::new(10, 244, 1, 7)));
        assert!(!plan[0].holds(Ipv4Addr::new(10, 244, 2, 7)));
    }
}
