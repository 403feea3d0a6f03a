//! At which addresses and ports of the node, and beside it, the dataplane is reached: frontends of Services and hostPorts.
//!
//! The uplink's XDP program steals what is for them, and the node's own rules bring what its processes send there. Both are
//! told of differences only, and count: while a port passes from one Service to another, both may have it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use headrace_api::state::{FrontendAddress, Port, Service, Settings};
use headrace_xsk::program::{Frontend, Place};
use ipnetwork::Ipv4Network;

/// Frontends of a Service that are not clusterIPs, which nobody sends to from outside the node's own routes.
pub fn of_service(service: &Service) -> impl Iterator<Item = Frontend> + '_ {
    service.frontends.iter().filter_map(|frontend| {
        let place = match frontend.address {
            FrontendAddress::NodePort => Place::NodePort,
            FrontendAddress::ExternalIp(IpAddr::V4(address))
            | FrontendAddress::LoadBalancer(IpAddr::V4(address)) => Place::Address(address),
            FrontendAddress::ClusterIp(_)
            | FrontendAddress::ExternalIp(IpAddr::V6(_))
            | FrontendAddress::LoadBalancer(IpAddr::V6(_)) => return None,
        };
        Some(Frontend { place, port: frontend.port.get(), protocol: frontend.protocol.number() })
    })
}

/// Ports of the node that lead to a pod.
pub fn of_port(port: &Port) -> impl Iterator<Item = Frontend> + '_ {
    port.host_ports.iter().filter_map(|host_port| {
        let place = match host_port.address {
            None => Place::EveryOwn,
            Some(IpAddr::V4(address)) => Place::Address(address),
            Some(IpAddr::V6(_)) => return None,
        };
        Some(Frontend { place, port: host_port.port.get(), protocol: host_port.protocol.number() })
    })
}

/// Addresses of the node that answer NodePorts.
pub fn node_port_addresses<'a>(
    settings: &'a Settings,
    local: &'a BTreeSet<Ipv4Addr>,
) -> impl Iterator<Item = Ipv4Addr> + 'a {
    let serves = |address: &Ipv4Addr| {
        settings.node_port_ranges.iter().any(|range| range.contains(IpAddr::V4(*address)))
    };
    local.iter().copied().filter(serves)
}

/// The same as ranges, with the loopback addresses if they answer too.
pub fn node_port_ranges(settings: &Settings, local: &BTreeSet<Ipv4Addr>) -> BTreeSet<Ipv4Network> {
    let loopback = settings.node_port_loopback.then(loopback);
    node_port_addresses(settings, local).map(Ipv4Network::from).chain(loopback).collect()
}

/// Whether a process of the node serves clients of this Service that keep their source: they lie beyond the uplink.
pub fn serves_unmasqueraded(service: &Service, settings: &Settings) -> bool {
    let outside =
        |frontend: &headrace_api::state::Frontend| !matches!(frontend.address, FrontendAddress::ClusterIp(_));
    service.external_policy == headrace_api::state::TrafficPolicy::Local
        && service.frontends.iter().any(outside)
        && service.endpoints.iter().any(|e| e.local && settings.node_addresses.contains(&e.address))
}

/// What is there, and how often.
#[derive(Debug, Default)]
pub struct Counted(BTreeMap<Frontend, u32>);

impl Counted {
    /// Counts changes. Returns whether the frontends are others than before.
    pub fn change(&mut self, removed: &[Frontend], added: &[Frontend]) -> bool {
        let mut differs = false;
        for frontend in added {
            let count = self.0.entry(*frontend).or_default();
            *count += 1;
            differs |= *count == 1;
        }
        for frontend in removed {
            if let Some(count) = self.0.get_mut(frontend) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(frontend);
                    differs = true;
                }
            }
        }
        differs
    }

    /// Each of them once.
    pub fn all(&self) -> BTreeSet<Frontend> {
        self.0.keys().copied().collect()
    }
}

/// RFC 1122 3.2.1.3 (g).
fn loopback() -> Ipv4Network {
    Ipv4Network::new(Ipv4Addr::new(127, 0, 0, 0), 8).unwrap_or_else(|_| unreachable!("8 is a prefix length"))
}
