//! Services that are reached from outside the cluster: what the tests of them share.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Result, ensure};
use headrace_lab::process::wait_until;
use headrace_lab::{Lab, Service};

use crate::findings::PORT;

/// External and load-balancer addresses; the LAN routes them to node1 (RFC 5737).
const ADDRESSES: &str = "203.0.113.0/24";

/// A way to a Service from outside the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposed {
    NodePort,
    ExternalIp,
    LoadBalancer,
}

impl Exposed {
    pub(crate) const ALL: [Self; 3] = [Self::NodePort, Self::ExternalIp, Self::LoadBalancer];

    /// Where a client connects to; a NodePort is asked for at `node`.
    pub(crate) fn address(self, service: &Service, node: Ipv4Addr) -> SocketAddrV4 {
        match self {
            Self::NodePort => node_port(service, node),
            Self::ExternalIp => {
                SocketAddrV4::new(service.external_ips.first().copied().unwrap_or(node), service.port)
            }
            Self::LoadBalancer => SocketAddrV4::new(service.load_balancer.unwrap_or(node), service.port),
        }
    }
}

/// A Service at 10.96.0.`number`, NodePort 30000 + `number`, and addresses of its own.
pub(crate) fn service(name: &str, number: u8, endpoints: &[Ipv4Addr]) -> Service {
    Service {
        node_port: Some(30_000 + u16::from(number)),
        external_ips: vec![Ipv4Addr::new(203, 0, 113, 2 * number)],
        load_balancer: Some(Ipv4Addr::new(203, 0, 113, 2 * number + 1)),
        target_port: PORT,
        ..Service::new(name, number, 80, endpoints)
    }
}

pub(crate) fn node_port(service: &Service, node: Ipv4Addr) -> SocketAddrV4 {
    SocketAddrV4::new(node, service.node_port.unwrap_or_default())
}

/// The agent's argument for NodePorts at loopback addresses too.
pub(crate) fn with_loopback() -> Vec<String> {
    vec!["--localhost-nodeports".to_owned(), "true".to_owned()]
}

/// Routes of the LAN and of the outside host to what node1 translates; node1 forwards what its NIC does not hand over.
pub(crate) fn routes(lab: &Lab) -> Result<()> {
    let node = lab.address("node1")?;
    for range in [ADDRESSES, headrace_lab::plan::SERVICE_CIDR] {
        lab.space("outside")?.run(&format!("ip route add {range} via {node}"))?;
    }
    lab.space("node1")?.run("sysctl -qw net.ipv4.ip_forward=1")?;
    Ok(())
}

/// The dataplane tells the node's kernel of frontends in a task of its own: waits until `node` has `service`'s.
pub(crate) fn wait_for_rules(lab: &Lab, node: &str, service: &Service) -> Result<()> {
    let wanted = format!("tcp . {}", service.node_port.unwrap_or_default());
    let space = lab.space(node)?;
    let there = || {
        let set = space.run("nft list set netdev headrace node_ports");
        set.is_ok_and(|text| text.contains(&wanted))
    };
    ensure!(wait_until(Duration::from_secs(5), there), "no {wanted} in the node's rules");
    Ok(())
}
