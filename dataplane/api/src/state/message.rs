//! Back from checked resources to messages.

use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};

use ipnetwork::IpNetwork;

use super::{
    Bandwidth, Encapsulation, Endpoint, Frontend, FrontendAddress, HostPort, Key, Peer, Port, Protocol,
    RateLimit, Refusal, Resource, Service, Settings, TrafficPolicy,
};
use crate::proto;

impl From<&Refusal> for proto::Refusal {
    fn from(r: &Refusal) -> Self {
        Self { resource: r.resource.clone(), field: r.field.clone(), reason: r.reason.clone() }
    }
}

impl From<IpAddr> for proto::Address {
    fn from(address: IpAddr) -> Self {
        let octets = match address {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        Self { octets }
    }
}

impl From<IpNetwork> for proto::Prefix {
    fn from(network: IpNetwork) -> Self {
        Self { address: Some(network.ip().into()), length: network.prefix().into() }
    }
}

impl From<&Settings> for proto::Settings {
    fn from(s: &Settings) -> Self {
        let encapsulation = match s.encapsulation {
            Encapsulation::Vxlan => proto::Encapsulation::Vxlan,
            Encapsulation::Direct => proto::Encapsulation::Direct,
        };
        Self {
            node_addresses: addresses(&s.node_addresses),
            pod_cidrs: prefixes(&s.pod_cidrs),
            cluster_cidrs: prefixes(&s.cluster_cidrs),
            service_cidrs: prefixes(&s.service_cidrs),
            vxlan_port: s.vxlan_port.get().into(),
            vni: s.vni.get(),
            vtep_mac: s.vtep_mac.0.to_vec(),
            encapsulation: encapsulation.into(),
            masquerade: s.masquerade,
            non_masquerade_cidrs: prefixes(&s.non_masquerade_cidrs),
            snat_port_first: (*s.snat_ports.start()).into(),
            snat_port_last: (*s.snat_ports.end()).into(),
            node_port_ranges: prefixes(&s.node_port_ranges),
            node_port_loopback: s.node_port_loopback,
            masquerade_all: s.masquerade_all,
            local_sources: prefixes(&s.local_sources),
        }
    }
}

impl From<&Port> for proto::Port {
    fn from(p: &Port) -> Self {
        Self {
            id: p.id.get(),
            interface: p.interface.clone(),
            mac: p.mac.0.to_vec(),
            addresses: addresses(&p.addresses),
            path_mtu: p.path_mtu.map_or(0, u32::from),
            superframes: p.superframes,
            label: p.label.clone(),
            host_ports: p.host_ports.iter().map(Into::into).collect(),
            bandwidth: (p.bandwidth != Bandwidth::default()).then(|| p.bandwidth.into()),
        }
    }
}

impl From<Bandwidth> for proto::Bandwidth {
    fn from(b: Bandwidth) -> Self {
        Self { ingress: b.ingress.map(Into::into), egress: b.egress.map(Into::into) }
    }
}

impl From<RateLimit> for proto::RateLimit {
    fn from(limit: RateLimit) -> Self {
        Self { rate: limit.rate.get(), burst: limit.burst.map_or(0, NonZeroU64::get) }
    }
}

impl From<&HostPort> for proto::HostPort {
    fn from(h: &HostPort) -> Self {
        Self {
            address: h.address.map(Into::into),
            port: h.port.get().into(),
            protocol: proto::Protocol::from(h.protocol).into(),
            pod_port: h.pod_port.get().into(),
        }
    }
}

impl From<&Peer> for proto::Peer {
    fn from(p: &Peer) -> Self {
        Self {
            name: p.name.clone(),
            address: Some(p.address.into()),
            other_addresses: addresses(&p.other_addresses),
            pod_cidrs: prefixes(&p.pod_cidrs),
            vtep_mac: p.vtep_mac.0.to_vec(),
        }
    }
}

impl From<Protocol> for proto::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
        }
    }
}

impl From<TrafficPolicy> for proto::TrafficPolicy {
    fn from(policy: TrafficPolicy) -> Self {
        match policy {
            TrafficPolicy::Cluster => Self::Cluster,
            TrafficPolicy::Local => Self::Local,
        }
    }
}

impl From<&Frontend> for proto::Frontend {
    fn from(f: &Frontend) -> Self {
        let kind = match f.address {
            FrontendAddress::ClusterIp(_) => proto::FrontendKind::ClusterIp,
            FrontendAddress::ExternalIp(_) => proto::FrontendKind::ExternalIp,
            FrontendAddress::LoadBalancer(_) => proto::FrontendKind::LoadBalancer,
            FrontendAddress::NodePort => proto::FrontendKind::NodePort,
        };
        Self {
            address: f.address.ip().map(Into::into),
            port: f.port.get().into(),
            protocol: proto::Protocol::from(f.protocol).into(),
            kind: kind.into(),
        }
    }
}

impl From<&Endpoint> for proto::Endpoint {
    fn from(e: &Endpoint) -> Self {
        Self {
            address: Some(e.address.into()),
            port: e.port.get().into(),
            cluster: e.cluster,
            local: e.local,
            serving: e.serving,
        }
    }
}

impl From<&Service> for proto::Service {
    fn from(s: &Service) -> Self {
        Self {
            name: s.name.clone(),
            frontends: s.frontends.iter().map(Into::into).collect(),
            endpoints: s.endpoints.iter().map(Into::into).collect(),
            internal_policy: proto::TrafficPolicy::from(s.internal_policy).into(),
            external_policy: proto::TrafficPolicy::from(s.external_policy).into(),
            affinity_seconds: s.affinity_seconds.map_or(0, NonZeroU32::get),
            source_ranges: prefixes(&s.source_ranges),
        }
    }
}

impl From<&Resource> for proto::Resource {
    fn from(resource: &Resource) -> Self {
        use proto::resource::Kind;
        let kind = match resource {
            Resource::Settings(s) => Kind::Settings(s.into()),
            Resource::Port(p) => Kind::Port(p.into()),
            Resource::Peer(p) => Kind::Peer(p.into()),
            Resource::Service(s) => Kind::Service(s.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl From<&Key> for proto::Key {
    fn from(key: &Key) -> Self {
        use proto::key::Kind;
        let kind = match key {
            Key::Port(id) => Kind::Port(id.get()),
            Key::Peer(name) => Kind::Peer(name.clone()),
            Key::Service(name) => Kind::Service(name.clone()),
        };
        Self { kind: Some(kind) }
    }
}

fn addresses(list: &[IpAddr]) -> Vec<proto::Address> {
    list.iter().map(|a| (*a).into()).collect()
}

fn prefixes(list: &[IpNetwork]) -> Vec<proto::Prefix> {
    list.iter().map(|p| (*p).into()).collect()
}
