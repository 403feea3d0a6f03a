//! From messages to checked resources: the edge behind which nobody checks again.
//!
//! Every refusal names the resource, the field and what would be right. All of a request's faults are reported at once.

mod faults;
mod service;

use std::num::NonZeroU64;

use ipnetwork::IpNetwork;

use self::faults::Faults;
use self::service::service;
use crate::state::{
    Bandwidth, Change, Encapsulation, Generation, HostPort, Key, Peer, Port, RateLimit, Refusal, Resource,
    Settings,
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
    let node_port_ranges = f.prefixes("node_port_ranges", &m.node_port_ranges);
    let local_sources = f.prefixes("local_sources", &m.local_sources);
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
            node_port_ranges,
            node_port_loopback: m.node_port_loopback,
            masquerade_all: m.masquerade_all,
            local_sources,
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
    let host_ports = host_ports(&m.host_ports, &mut f);
    let bandwidth = bandwidth(m.bandwidth.unwrap_or_default(), &mut f);
    let built = (|| {
        Some(Port {
            id: id?,
            interface: m.interface,
            mac: mac?,
            addresses,
            path_mtu,
            superframes: m.superframes,
            label: m.label,
            host_ports,
            bandwidth: bandwidth?,
        })
    })();
    f.finish(built)
}

fn bandwidth(m: proto::Bandwidth, f: &mut Faults) -> Option<Bandwidth> {
    let mut limit = |field: &str, m: Option<proto::RateLimit>| {
        let Some(m) = m else { return Some(None) };
        let burst = NonZeroU64::new(m.burst);
        match NonZeroU64::new(m.rate) {
            Some(rate) => Some(Some(RateLimit { rate, burst })),
            None => f.fault(field, "is 0 bits per second; leave the limit out, or want 1 or more"),
        }
    };
    let (ingress, egress) =
        (limit("bandwidth.ingress.rate", m.ingress), limit("bandwidth.egress.rate", m.egress));
    Some(Bandwidth { ingress: ingress?, egress: egress? })
}

fn host_ports(messages: &[proto::HostPort], f: &mut Faults) -> Vec<HostPort> {
    let mut host_ports = Vec::with_capacity(messages.len());
    for (i, m) in messages.iter().enumerate() {
        let address = f.optional_address(&format!("host_ports[{i}].address"), m.address.as_ref());
        let port = f.l4_port(&format!("host_ports[{i}].port"), m.port);
        let protocol = f.protocol(&format!("host_ports[{i}].protocol"), m.protocol());
        let pod_port = f.l4_port(&format!("host_ports[{i}].pod_port"), m.pod_port);
        if let (Some(address), Some(port), Some(protocol), Some(pod_port)) =
            (address, port, protocol, pod_port)
        {
            host_ports.push(HostPort { address, port, protocol, pod_port });
        }
    }
    host_ports
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

#[cfg(test)]
mod tests;
