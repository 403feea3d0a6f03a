//! What the node is asked to do and what its kernel says: the input of the real table builder.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

use headrace_api::state::{
    Bandwidth, Change, Encapsulation, Endpoint, Frontend, FrontendAddress, Peer, Port, PortId, Protocol,
    Resource, Service, Settings,
};
use headrace_api::{API_VERSION, check, proto};
use headrace_dataplane::port::PortIndex;
use headrace_dataplane::tables::Tables;
use headrace_dataplane::tables::build::{self, KernelFacts, Wanted};
use headrace_dataplane::tables::services::{FrontendKey, Services};
use headrace_wire::vxlan::Vni;

use super::place::{At, HOST_MAC, NODE, NODE_B, NODE_B_MAC, NODE_C, ROUTER_MAC, UPLINK_MAC, VTEP};

/// Everything that tables are made of.
#[derive(Clone)]
pub(crate) struct Desired {
    /// `None` until the controller has spoken.
    pub(crate) settings: Option<Settings>,
    pub(crate) ports: Vec<(PortIndex, Port)>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) services: Vec<Service>,
    pub(crate) asked: BTreeSet<Ipv4Addr>,
    pub(crate) facts: KernelFacts,
}

impl Desired {
    /// The world of [`super::place`], without Services.
    pub(crate) fn new() -> Self {
        Self {
            settings: Some(settings()),
            ports: vec![
                pod(At::PodA, "10.1.0.2", true),
                pod(At::PodB, "10.1.0.3", true),
                pod(At::Plain, "10.1.0.4", false),
            ],
            peers: vec![
                peer("node-b", [NODE_B, "192.168.7.12"], "10.1.1.0/24", At::NodeB),
                peer("node-c", [NODE_C, "192.168.9.13"], "10.1.2.0/24", At::NodeC),
            ],
            services: Vec::new(),
            asked: BTreeSet::new(),
            facts: facts(),
        }
    }

    pub(crate) fn settings(&mut self) -> &mut Settings {
        self.settings.as_mut().unwrap()
    }

    /// Sets the endpoints of a Service with one frontend, by which it is named ([`reached_at`]).
    pub(crate) fn service(&mut self, frontend: &str, endpoints: &[&str]) {
        self.service_at(frontend, &[frontend], endpoints);
    }

    /// Sets a Service; the one of that name goes. Its endpoints are ready, and local when they are on this node.
    pub(crate) fn service_at(&mut self, name: &str, frontends: &[&str], endpoints: &[&str]) -> &mut Service {
        let endpoint = |e: &&str| {
            let (address, port) = end(e);
            let local = e.starts_with("10.1.0.") || address == NODE.parse::<IpAddr>().unwrap();
            Endpoint { local, ..Endpoint::ready(address, port) }
        };
        self.services.retain(|s| s.name != name);
        let frontends = frontends.iter().map(|text| reached_at(text)).collect();
        self.services.push(Service::new(name, frontends, endpoints.iter().map(endpoint).collect()));
        self.services.last_mut().unwrap()
    }

    /// Makes all of the node's addresses answer NodePorts, and pods of the cluster known as such.
    pub(crate) fn detect_pods(&mut self) {
        let settings = self.settings();
        settings.node_port_ranges = vec!["0.0.0.0/0".parse().unwrap()];
        settings.local_sources = settings.cluster_cidrs.clone();
    }

    /// Sends all of it through the contract's checks and builds tables of it.
    pub(crate) fn tables(&self, services: Services, route_generation: u32) -> Tables {
        let Some(settings) = &self.settings else {
            return Tables { services, ..Tables::empty(route_generation) };
        };
        let mut resources = vec![Resource::Settings(settings.clone())];
        resources.extend(self.ports.iter().map(|(_, port)| Resource::Port(port.clone())));
        resources.extend(self.peers.iter().cloned().map(Resource::Peer));
        let (mut settings, mut ports, mut peers) = (None, BTreeMap::new(), BTreeMap::new());
        for resource in checked(&resources) {
            match resource {
                Resource::Settings(s) => settings = Some(s),
                Resource::Port(p) => {
                    let (index, _) = self.ports.iter().find(|(_, port)| port.id == p.id).unwrap();
                    ports.insert(p.id, (*index, p));
                }
                Resource::Peer(p) => {
                    peers.insert(p.name.clone(), p);
                }
                Resource::Service(_) => {}
            }
        }
        let settings = settings.unwrap();
        let wanted = Wanted { settings: &settings, ports: &ports, peers: &peers, asked: &self.asked };
        build::tables(&wanted, &self.facts, services, route_generation)
    }

    /// The Services' tables after those of `before`.
    pub(crate) fn services(&self, before: Option<&Self>, tables: &Services) -> Services {
        let old = before.map_or(&[][..], |b| b.services.as_slice());
        if old == self.services {
            return tables.clone();
        }
        let remove: Vec<FrontendKey> = old.iter().flat_map(build::frontend_keys).collect();
        let resources: Vec<_> = self.services.iter().cloned().map(Resource::Service).collect();
        let mut insert = Vec::new();
        for resource in checked(&resources) {
            let Resource::Service(service) = resource else { panic!("only Services were sent") };
            insert.extend(build::service(&service));
        }
        tables.with(&remove, &insert)
    }
}

/// Resources as they arrive over the contract.
fn checked(resources: &[Resource]) -> Vec<Resource> {
    let snapshot = proto::Snapshot { resources: resources.iter().map(Into::into).collect() };
    let change = Some(proto::sync_request::Change::Snapshot(snapshot));
    let request = proto::SyncRequest { api_version: API_VERSION, generation: 1, change };
    match check::request(request).unwrap() {
        (_, Change::Snapshot(resources)) => resources,
        (_, other) => panic!("a snapshot became {other:?}"),
    }
}

/// "udp 10.96.0.10:53" is a clusterIP; "external", "lb" or "node" before it makes it another kind, and "node tcp 30080" has
/// no address.
fn reached_at(text: &str) -> Frontend {
    let words: Vec<_> = text.split(' ').collect();
    let (kind, [protocol, place]) = match words[..] {
        [protocol, place] => ("cluster", [protocol, place]),
        [kind, protocol, place] => (kind, [protocol, place]),
        _ => panic!("{text} is no frontend"),
    };
    let protocol = match protocol {
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    if kind == "node" {
        return Frontend { address: FrontendAddress::NodePort, port: place.parse().unwrap(), protocol };
    }
    let (address, port) = end(place);
    let address = match kind {
        "external" => FrontendAddress::ExternalIp(address),
        "lb" => FrontendAddress::LoadBalancer(address),
        _ => FrontendAddress::ClusterIp(address),
    };
    Frontend { address, port, protocol }
}

pub(crate) fn end(text: &str) -> (IpAddr, NonZeroU16) {
    let end: std::net::SocketAddr = text.parse().unwrap();
    (end.ip(), NonZeroU16::new(end.port()).unwrap())
}

fn settings() -> Settings {
    Settings {
        node_addresses: vec![NODE.parse().unwrap()],
        pod_cidrs: vec!["10.1.0.0/24".parse().unwrap()],
        cluster_cidrs: vec!["10.1.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        vxlan_port: NonZeroU16::new(8472).unwrap(),
        vni: Vni::new(1).unwrap(),
        vtep_mac: VTEP,
        encapsulation: Encapsulation::Vxlan,
        masquerade: true,
        non_masquerade_cidrs: vec!["172.16.0.0/12".parse().unwrap()],
        snat_ports: 61_000..=61_999,
        node_port_ranges: Vec::new(),
        node_port_loopback: false,
        masquerade_all: false,
        local_sources: Vec::new(),
    }
}

fn pod(at: At, address: &str, superframes: bool) -> (PortIndex, Port) {
    let port = Port {
        id: PortId::new(at.port().0.into()).unwrap(),
        interface: format!("hr{}", at.port()),
        mac: at.pod_mac(),
        addresses: vec![address.parse().unwrap()],
        path_mtu: None,
        superframes,
        label: format!("walk/{at:?}"),
        host_ports: Vec::new(),
        bandwidth: Bandwidth::default(),
    };
    (at.port(), port)
}

fn peer(name: &str, [address, other]: [&str; 2], pods: &str, at: At) -> Peer {
    Peer {
        name: name.into(),
        address: address.parse().unwrap(),
        other_addresses: vec![other.parse().unwrap()],
        pod_cidrs: vec![pods.parse().unwrap()],
        vtep_mac: at.vtep(),
    }
}

fn facts() -> KernelFacts {
    let address = |text: &str| text.parse::<Ipv4Addr>().unwrap();
    KernelFacts {
        uplink_mac: UPLINK_MAC,
        uplink_mtu: 1500,
        host_mac: HOST_MAC,
        local: [address(NODE), address("127.0.0.1")].into(),
        routes: [
            ("192.168.7.0/24".parse().unwrap(), None),
            ("0.0.0.0/0".parse().unwrap(), Some(address("192.168.7.1"))),
        ]
        .into(),
        neighbors: [(address("192.168.7.1"), ROUTER_MAC), (address(NODE_B), NODE_B_MAC)].into(),
        listening: BTreeSet::new(),
    }
}
