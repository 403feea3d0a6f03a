//! From messages to checked resources: the edge behind which nobody checks again.
//!
//! Every refusal names the resource, the field and what would be right. All of a request's faults are reported at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::Vni;
use ipnetwork::IpNetwork;

use crate::state::{
    Change, Encapsulation, Endpoint, Frontend, Generation, Key, Peer, Port, PortId, Protocol, Refusal,
    Resource, Service, Settings,
};
use crate::{API_VERSION, proto};

/// IPv4 hosts need not take larger packets whole (RFC 1122 3.3.2), so no path MTU may be smaller.
const SMALLEST_PATH_MTU: u32 = 576;
/// Kernel limit on an interface name, without its final zero (IFNAMSIZ).
const LONGEST_INTERFACE_NAME: usize = 15;

/// Checks a whole request.
///
/// # Errors
/// Every fault found, one refusal each; the request must then be refused whole.
pub fn request(request: proto::SyncRequest) -> Result<(Generation, Change), Vec<Refusal>> {
    let whole = |field: &str, reason: String| {
        vec![Refusal { resource: "request".into(), field: field.into(), reason }]
    };
    if request.api_version != API_VERSION {
        let reason = format!(
            "is {}, this dataplane speaks {API_VERSION}; run daemons of one release",
            request.api_version
        );
        return Err(whole("api_version", reason));
    }
    if request.generation == 0 {
        return Err(whole("generation", "is 0; generations begin with 1".into()));
    }
    let change = match request.change {
        None => return Err(whole("change", "is missing; send a snapshot or a delta".into())),
        Some(proto::sync_request::Change::Snapshot(s)) => Change::Snapshot(all(s.resources, resource)?),
        Some(proto::sync_request::Change::Delta(d)) => {
            let upserts = all(d.upserts, resource);
            let deletes = all(d.deletes, key);
            match (upserts, deletes) {
                (Ok(upserts), Ok(deletes)) => Change::Delta { upserts, deletes },
                (upserts, deletes) => {
                    return Err([upserts.err(), deletes.err()].into_iter().flatten().flatten().collect());
                }
            }
        }
    };
    Ok((Generation(request.generation), change))
}

fn all<M, T>(messages: Vec<M>, one: fn(M) -> Result<T, Vec<Refusal>>) -> Result<Vec<T>, Vec<Refusal>> {
    let mut good = Vec::with_capacity(messages.len());
    let mut refusals = Vec::new();
    for message in messages {
        match one(message) {
            Ok(value) => good.push(value),
            Err(mut faults) => refusals.append(&mut faults),
        }
    }
    if refusals.is_empty() { Ok(good) } else { Err(refusals) }
}

fn resource(message: proto::Resource) -> Result<Resource, Vec<Refusal>> {
    use proto::resource::Kind;
    match message.kind {
        Some(Kind::Settings(s)) => settings(&s).map(Resource::Settings),
        Some(Kind::Port(p)) => port(p).map(Resource::Port),
        Some(Kind::Peer(p)) => peer(p).map(Resource::Peer),
        Some(Kind::Service(s)) => service(s).map(Resource::Service),
        None => Err(vec![Refusal {
            resource: "resource".into(),
            field: "kind".into(),
            reason: "is missing or of a later contract".into(),
        }]),
    }
}

fn key(message: proto::Key) -> Result<Key, Vec<Refusal>> {
    use proto::key::Kind;
    let mut faults = Faults::of("key".into());
    let key = match message.kind {
        Some(Kind::Port(id)) => faults.port_id("port", id).map(Key::Port),
        Some(Kind::Peer(name)) => Some(Key::Peer(name)),
        Some(Kind::Service(name)) => Some(Key::Service(name)),
        None => faults.fault("kind", "is missing or of a later contract"),
    };
    faults.finish(key)
}

fn settings(m: &proto::Settings) -> Result<Settings, Vec<Refusal>> {
    let mut f = Faults::of("settings".into());
    let node_addresses = f.addresses("node_addresses", &m.node_addresses);
    f.not_empty("node_addresses", node_addresses.len());
    let pod_cidrs = f.prefixes("pod_cidrs", &m.pod_cidrs);
    f.not_empty("pod_cidrs", pod_cidrs.len());
    for (i, cidr) in pod_cidrs.iter().enumerate() {
        if matches!(cidr, IpNetwork::V4(c) if c.prefix() > 30) {
            f.add(format!("pod_cidrs[{i}]"), format!("{cidr} has no room for a pod; /30 is the smallest"));
        }
    }
    let cluster_cidrs = f.prefixes("cluster_cidrs", &m.cluster_cidrs);
    let service_cidrs = f.prefixes("service_cidrs", &m.service_cidrs);
    let non_masquerade_cidrs = f.prefixes("non_masquerade_cidrs", &m.non_masquerade_cidrs);
    let vxlan_port = f.l4_port("vxlan_port", m.vxlan_port);
    let vni = f.vni("vni", m.vni);
    let vtep_mac = f.mac("vtep_mac", &m.vtep_mac);
    let encapsulation = match m.encapsulation() {
        proto::Encapsulation::Vxlan => Some(Encapsulation::Vxlan),
        proto::Encapsulation::Direct => Some(Encapsulation::Direct),
        proto::Encapsulation::Unspecified => f.fault("encapsulation", "is not set; use VXLAN or DIRECT"),
    };
    let first = f.l4_port("snat_port_first", m.snat_port_first);
    let last = f.l4_port("snat_port_last", m.snat_port_last);
    if let (Some(first), Some(last)) = (first, last)
        && (first > last || first.get() < 1024)
    {
        f.add("snat_port_first".into(), format!("{first} to {last} is no range of ports above 1023"));
    }
    let built = (|| {
        Some(Settings {
            node_addresses,
            pod_cidrs,
            cluster_cidrs,
            service_cidrs,
            vxlan_port: vxlan_port?,
            vni: vni?,
            vtep_mac: vtep_mac?,
            encapsulation: encapsulation?,
            masquerade: m.masquerade,
            non_masquerade_cidrs,
            snat_ports: first?.get()..=last?.get(),
        })
    })();
    f.finish(built)
}

fn port(m: proto::Port) -> Result<Port, Vec<Refusal>> {
    let mut f = Faults::of(format!("port {}", m.id));
    let id = f.port_id("id", m.id);
    let name = m.interface.as_str();
    if name.is_empty() || name.len() > LONGEST_INTERFACE_NAME || name.contains(['/', ':', ' ', '\0']) {
        f.add("interface".into(), format!("{name:?} is no interface name (1 to 15 bytes, no / : or space)"));
    }
    let mac = f.mac("mac", &m.mac);
    let addresses = f.addresses("addresses", &m.addresses);
    f.not_empty("addresses", addresses.len());
    let path_mtu = match m.path_mtu {
        0 => None,
        mtu if (SMALLEST_PATH_MTU..=u32::from(u16::MAX)).contains(&mtu) => u16::try_from(mtu).ok(),
        mtu => f.fault("path_mtu", &format!("{mtu} is outside of {SMALLEST_PATH_MTU} to 65535 bytes")),
    };
    let built = (|| {
        Some(Port {
            id: id?,
            interface: m.interface,
            mac: mac?,
            addresses,
            path_mtu,
            superframes: m.superframes,
            label: m.label,
        })
    })();
    f.finish(built)
}

fn peer(m: proto::Peer) -> Result<Peer, Vec<Refusal>> {
    let mut f = Faults::of(format!("peer {}", m.name));
    f.name("name", &m.name);
    let address = f.required_address("address", m.address.as_ref());
    let other_addresses = f.addresses("other_addresses", &m.other_addresses);
    let pod_cidrs = f.prefixes("pod_cidrs", &m.pod_cidrs);
    let vtep_mac = f.mac("vtep_mac", &m.vtep_mac);
    let built =
        (|| Some(Peer { name: m.name, address: address?, other_addresses, pod_cidrs, vtep_mac: vtep_mac? }))(
        );
    f.finish(built)
}

fn service(m: proto::Service) -> Result<Service, Vec<Refusal>> {
    let mut f = Faults::of(format!("service {}", m.name));
    f.name("name", &m.name);
    f.not_empty("frontends", m.frontends.len());
    let mut frontends = Vec::with_capacity(m.frontends.len());
    for (i, frontend) in m.frontends.iter().enumerate() {
        let address = f.required_address(&format!("frontends[{i}].address"), frontend.address.as_ref());
        let port = f.l4_port(&format!("frontends[{i}].port"), frontend.port);
        let protocol = match frontend.protocol() {
            proto::Protocol::Tcp => Some(Protocol::Tcp),
            proto::Protocol::Udp => Some(Protocol::Udp),
            proto::Protocol::Sctp => Some(Protocol::Sctp),
            proto::Protocol::Unspecified => {
                f.fault(&format!("frontends[{i}].protocol"), "is not set; use TCP, UDP or SCTP")
            }
        };
        if let (Some(address), Some(port), Some(protocol)) = (address, port, protocol) {
            frontends.push(Frontend { address, port, protocol });
        }
    }
    let mut endpoints = Vec::with_capacity(m.endpoints.len());
    for (i, endpoint) in m.endpoints.iter().enumerate() {
        let address = f.required_address(&format!("endpoints[{i}].address"), endpoint.address.as_ref());
        let port = f.l4_port(&format!("endpoints[{i}].port"), endpoint.port);
        if let (Some(address), Some(port)) = (address, port) {
            endpoints.push(Endpoint { address, port });
        }
    }
    f.finish(Some(Service { name: m.name, frontends, endpoints }))
}

/// Collects the faults of one resource.
struct Faults {
    resource: String,
    list: Vec<Refusal>,
}

impl Faults {
    fn of(resource: String) -> Self {
        Self { resource, list: Vec::new() }
    }

    fn add(&mut self, field: String, reason: String) {
        self.list.push(Refusal { resource: self.resource.clone(), field, reason });
    }

    fn fault<T>(&mut self, field: &str, reason: &str) -> Option<T> {
        self.add(field.into(), reason.into());
        None
    }

    fn finish<T>(self, built: Option<T>) -> Result<T, Vec<Refusal>> {
        match built {
            Some(value) if self.list.is_empty() => Ok(value),
            _ => Err(self.list),
        }
    }

    fn not_empty(&mut self, field: &str, len: usize) {
        if len == 0 && !self.list.iter().any(|r| r.field.starts_with(field)) {
            self.add(field.into(), "is empty; at least one is needed".into());
        }
    }

    fn name(&mut self, field: &str, name: &str) {
        if name.is_empty() || name.len() > 512 || name.chars().any(char::is_control) {
            self.add(field.into(), format!("{name:?} is no name (1 to 512 bytes, no control characters)"));
        }
    }

    fn port_id(&mut self, field: &str, id: u32) -> Option<PortId> {
        PortId::new(id).or_else(|| self.fault(field, "is 0; port ids begin with 1"))
    }

    fn l4_port(&mut self, field: &str, port: u32) -> Option<NonZeroU16> {
        let checked = u16::try_from(port).ok().and_then(NonZeroU16::new);
        checked.or_else(|| self.fault(field, &format!("{port} is outside of 1 to 65535")))
    }

    fn vni(&mut self, field: &str, vni: u32) -> Option<Vni> {
        Vni::new(vni).or_else(|| self.fault(field, &format!("{vni} does not fit in 24 bits")))
    }

    fn mac(&mut self, field: &str, octets: &[u8]) -> Option<MacAddr> {
        match <[u8; 6]>::try_from(octets).map(MacAddr) {
            Ok(mac) if !mac.is_multicast() && mac != MacAddr([0; 6]) => Some(mac),
            Ok(mac) => self.fault(field, &format!("{mac} is no unicast address")),
            Err(_) => self.fault(field, &format!("has {} bytes; a MAC address has 6", octets.len())),
        }
    }

    fn required_address(&mut self, field: &str, message: Option<&proto::Address>) -> Option<IpAddr> {
        match message {
            Some(address) => self.address(field, address),
            None => self.fault(field, "is missing"),
        }
    }

    fn address(&mut self, field: &str, message: &proto::Address) -> Option<IpAddr> {
        let address = octets(&message.octets);
        match address {
            Some(a) if a.is_unspecified() || a.is_multicast() || a.is_loopback() => {
                self.fault(field, &format!("{a} is no unicast address of a host"))
            }
            Some(a) if a == IpAddr::V4(Ipv4Addr::BROADCAST) => {
                self.fault(field, &format!("{a} is no unicast address of a host"))
            }
            Some(a) => Some(a),
            None => {
                let reason = format!("has {} bytes; IPv4 has 4 and IPv6 has 16", message.octets.len());
                self.fault(field, &reason)
            }
        }
    }

    fn addresses(&mut self, field: &str, messages: &[proto::Address]) -> Vec<IpAddr> {
        let one = |(i, m): (usize, &proto::Address)| self.address(&format!("{field}[{i}]"), m);
        messages.iter().enumerate().filter_map(one).collect()
    }

    fn prefixes(&mut self, field: &str, messages: &[proto::Prefix]) -> Vec<IpNetwork> {
        let one = |(i, m): (usize, &proto::Prefix)| self.prefix(&format!("{field}[{i}]"), m);
        messages.iter().enumerate().filter_map(one).collect()
    }

    fn prefix(&mut self, field: &str, message: &proto::Prefix) -> Option<IpNetwork> {
        let address = message.address.as_ref().and_then(|a| octets(&a.octets));
        let Some(address) = address else {
            return self.fault(field, "has no address of 4 or 16 bytes");
        };
        let network = u8::try_from(message.length).ok().and_then(|l| IpNetwork::new(address, l).ok());
        match network {
            Some(n) if n.network() == address => Some(n),
            Some(n) => {
                let reason =
                    format!("{n} has bits behind its length; {}/{} is the range", n.network(), n.prefix());
                self.fault(field, &reason)
            }
            None => self.fault(field, &format!("/{} is too long for {address}", message.length)),
        }
    }
}

fn octets(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(IpAddr::V4(Ipv4Addr::from(v4)));
    }
    <[u8; 16]>::try_from(octets).ok().map(|v6| IpAddr::V6(Ipv6Addr::from(v6)))
}

#[cfg(test)]
mod tests;
