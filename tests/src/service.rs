//! A Service for the lab's pods. Headrace nodes have all of it, kernel nodes its clusterIP and node port.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Which endpoints may get connections: `Cluster` or `Local`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// All of them.
    #[default]
    Cluster,
    /// Those of the node that the connection comes to.
    Local,
}

/// A Service with one port number for TCP and UDP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Lower-case letters, digits and hyphens; the namespace is `default`.
    pub name: String,
    /// Within [`crate::plan::SERVICE_CIDR`].
    pub cluster_ip: Ipv4Addr,
    /// The port that clients use.
    pub port: u16,
    /// The port that endpoints listen on.
    pub target_port: u16,
    /// Pods' or nodes' addresses.
    pub endpoints: Vec<Ipv4Addr>,
    /// The port at the nodes' own addresses, for TCP and UDP.
    pub node_port: Option<u16>,
    /// Further addresses, which the LAN routes to a node.
    pub external_ips: Vec<Ipv4Addr>,
    /// A load balancer's address, which the LAN routes to a node.
    pub load_balancer: Option<Ipv4Addr>,
    /// Who may use the load balancer's address; empty = everyone.
    pub source_ranges: Vec<String>,
    /// For the clusterIP.
    pub internal_policy: Policy,
    /// For all other addresses.
    pub external_policy: Policy,
    /// Session affinity by client address, in seconds.
    pub affinity: Option<u32>,
}

impl Service {
    /// A Service at 10.96.0.`last`, with the same port at the Service and at its endpoints, and nothing more.
    #[must_use]
    pub fn new(name: &str, last: u8, port: u16, endpoints: &[Ipv4Addr]) -> Self {
        Self {
            name: name.to_owned(),
            cluster_ip: Ipv4Addr::new(10, 96, 0, last),
            port,
            target_port: port,
            endpoints: endpoints.to_vec(),
            node_port: None,
            external_ips: Vec::new(),
            load_balancer: None,
            source_ranges: Vec::new(),
            internal_policy: Policy::Cluster,
            external_policy: Policy::Cluster,
            affinity: None,
        }
    }

    /// The port at which load balancers ask a node whether it has endpoints; behind external policy Local alone.
    pub fn health_check_port(&self) -> Option<u16> {
        let asked = self.load_balancer.is_some() && self.external_policy == Policy::Local;
        self.node_port.filter(|_| asked).map(|port| port + 1000)
    }

    /// The same Service with other endpoints.
    #[must_use]
    pub fn with_endpoints(&self, endpoints: &[Ipv4Addr]) -> Self {
        Self { endpoints: endpoints.to_vec(), ..self.clone() }
    }
}
