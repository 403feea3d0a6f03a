//! A ClusterIP Service for the lab's pods, the same on Headrace and on kernel nodes.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

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
}

impl Service {
    /// A Service at 10.96.0.`last`, with the same port at the Service and at its endpoints.
    #[must_use]
    pub fn new(name: &str, last: u8, port: u16, endpoints: &[Ipv4Addr]) -> Self {
        let cluster_ip = Ipv4Addr::new(10, 96, 0, last);
        Self { name: name.to_owned(), cluster_ip, port, target_port: port, endpoints: endpoints.to_vec() }
    }

    /// The same Service with other endpoints.
    #[must_use]
    pub fn with_endpoints(&self, endpoints: &[Ipv4Addr]) -> Self {
        Self { endpoints: endpoints.to_vec(), ..self.clone() }
    }
}
