//! Where a Service is reached: its cluster, external and load-balancer addresses and node ports (kubernetes, pkg/proxy/
//! serviceport.go).

use std::net::IpAddr;
use std::num::NonZeroU32;

use headrace_api::state::{Frontend, FrontendAddress, LONGEST_AFFINITY, Protocol};
use ipnetwork::IpNetwork;

use super::{Context, Problem, address};
use crate::objects::{self, IpMode, Service, ServicePort, ServiceType, SessionAffinity};

/// Kubernetes' DefaultClientIPServiceAffinitySeconds.
const DEFAULT_AFFINITY: u32 = 10_800;

/// What all ports of a Service have in common.
#[derive(Debug, Default)]
pub(super) struct Entrances {
    /// None of them twice. Empty when the Service has no cluster address of a family that is carried; then the other
    /// addresses do not count either.
    addresses: Vec<FrontendAddress>,
    /// Who may use load-balancer addresses; empty = everyone.
    pub(super) source_ranges: Vec<IpNetwork>,
}

impl Entrances {
    /// Reads the addresses of a Service that has a cluster address.
    pub(super) fn of(title: &str, service: &Service, context: &Context, problems: &mut Vec<Problem>) -> Self {
        let mut entrances = Self::default();
        for ip in ipv4(title, "spec.clusterIPs", cluster_ips(service), problems) {
            if !context.service_cidrs.iter().any(|c| c.contains(ip)) {
                let what = format!("clusterIP {ip} is outside of the Service ranges");
                let remedy = "set --service-cidr on all nodes to the range of all clusterIPs";
                problems.push(Problem::new(title, what, remedy));
            }
            entrances.add(FrontendAddress::ClusterIp(ip));
        }
        if entrances.addresses.is_empty() {
            return entrances;
        }
        entrances.add_load_balancer(title, service, context, problems);
        // An address that is a load balancer's too is under its source ranges.
        let external = &service.spec.external_ips;
        for ip in ipv4(title, "spec.externalIPs", external.iter().map(String::as_str), problems) {
            entrances.add(FrontendAddress::ExternalIp(ip));
        }
        entrances
    }

    /// The frontends of one port.
    pub(super) fn frontends(&self, port: &ServicePort) -> Vec<Frontend> {
        if self.addresses.is_empty() {
            return Vec::new();
        }
        let protocol = protocol(port.protocol);
        let at_address =
            |address: &FrontendAddress| Frontend { address: *address, port: port.port, protocol };
        let on_node =
            port.node_port.map(|port| Frontend { address: FrontendAddress::NodePort, port, protocol });
        self.addresses.iter().map(at_address).chain(on_node).collect()
    }

    fn add(&mut self, address: FrontendAddress) {
        if !self.addresses.iter().any(|a| a.ip() == address.ip()) {
            self.addresses.push(address);
        }
    }

    fn add_load_balancer(
        &mut self,
        title: &str,
        service: &Service,
        context: &Context,
        problems: &mut Vec<Problem>,
    ) {
        let points = service.status.load_balancer.ingress.iter().filter(|i| i.ip_mode == IpMode::VIP);
        let texts = points.filter_map(|i| i.ip.as_deref()).filter(|ip| !ip.is_empty());
        let addresses = ipv4(title, "status.loadBalancer.ingress", texts, problems);
        let Some(ranges) = source_ranges(title, service, problems) else { return };
        self.source_ranges = ranges;
        // The node may reach the address from itself, with the address as source (kubernetes, pkg/proxy/nftables:
        // "allowFromNode").
        if context.primary.is_some_and(|node| self.source_ranges.iter().any(|r| r.contains(node))) {
            self.source_ranges.extend(addresses.iter().map(|ip| address::alone(*ip)));
        }
        for ip in addresses {
            self.add(FrontendAddress::LoadBalancer(ip));
        }
    }
}

/// For how long a client keeps its endpoint.
pub(super) fn affinity(title: &str, service: &Service, problems: &mut Vec<Problem>) -> Option<NonZeroU32> {
    if service.spec.session_affinity == SessionAffinity::None {
        return None;
    }
    let seconds = service.spec.session_affinity_config.client_ip.timeout_seconds.unwrap_or(DEFAULT_AFFINITY);
    let usable = seconds.clamp(1, LONGEST_AFFINITY);
    if seconds != usable {
        let what = format!(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: {seconds} is not 1 to {LONGEST_AFFINITY}"
        );
        problems.push(Problem::new(title, what, format!("{usable} is used")));
    }
    NonZeroU32::new(usable)
}

/// A node port of a Service that may not have one.
pub(super) fn check_node_ports(title: &str, service: &Service, problems: &mut Vec<Problem>) {
    if !matches!(service.spec.kind, ServiceType::NodePort | ServiceType::LoadBalancer)
        && service.spec.ports.iter().any(|p| p.node_port.is_some())
    {
        let remedy = "it is served all the same; set spec.type to NodePort, or remove it";
        problems.push(Problem::new(title, "has a nodePort, but its type is ClusterIP", remedy));
    }
}

/// As they stand in the object.
pub(super) fn cluster_ips(service: &Service) -> impl Iterator<Item = &str> {
    let spec = &service.spec;
    let list = if spec.cluster_ips.is_empty() { spec.cluster_ip.as_slice() } else { &spec.cluster_ips };
    list.iter().map(String::as_str).filter(|ip| !ip.is_empty())
}

/// Who may use load-balancer addresses; empty = everyone. `None` when none of the ranges can be read: then nobody may,
/// rather than everybody.
fn source_ranges(title: &str, service: &Service, problems: &mut Vec<Problem>) -> Option<Vec<IpNetwork>> {
    let texts = &service.spec.load_balancer_source_ranges;
    let mut ranges = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        // The API server lets blanks around ranges through.
        match address::range(text.trim()) {
            Ok(range) => ranges.push(range),
            Err(what) => {
                let what = format!("spec.loadBalancerSourceRanges[{i}]: {what}");
                problems.push(Problem::new(title, what, "the range is left out"));
            }
        }
    }
    if ranges.is_empty() && !texts.is_empty() {
        let remedy = "its load balancer addresses are not served until one is right";
        problems.push(Problem::new(title, "none of spec.loadBalancerSourceRanges can be used", remedy));
        return None;
    }
    ranges.retain(IpNetwork::is_ipv4);
    if ranges.iter().any(|r| r.prefix() == 0) {
        ranges.clear();
    }
    Some(ranges)
}

/// The IPv4 addresses of a field.
fn ipv4<'a>(
    title: &str,
    field: &str,
    texts: impl Iterator<Item = &'a str>,
    problems: &mut Vec<Problem>,
) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for (i, text) in texts.enumerate() {
        match address::host(text) {
            Ok(address) if address.is_ipv4() => addresses.push(address),
            Ok(_) => problems.push(super::ipv6_problem()),
            Err(what) => {
                problems.push(Problem::new(title, format!("{field}[{i}]: {what}"), "it is left out"));
            }
        }
    }
    addresses
}

fn protocol(protocol: objects::Protocol) -> Protocol {
    match protocol {
        objects::Protocol::Tcp => Protocol::Tcp,
        objects::Protocol::Udp => Protocol::Udp,
        objects::Protocol::Sctp => Protocol::Sctp,
    }
}
