//! What people call the numbers that workers know: ports, pods, nodes.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::control::reconcile::Reconciler;
use crate::control::veth::Driver;
use crate::control::{ports, uplink};
use crate::port::{Capabilities, PortIndex};
use crate::stats::PortCounters;
use crate::tables::Tables;
use crate::tables::routes::Out;

/// Names of one moment.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// Open ports by their slots.
    pub ports: BTreeMap<PortIndex, OpenPort>,
    /// Labels of this node's pods by their addresses.
    pub pods: HashMap<Ipv4Addr, String>,
    /// Names of other nodes by their tunnels' addresses.
    pub peers: HashMap<Ipv4Addr, String>,
}

/// An open port.
#[derive(Clone, Debug)]
pub struct OpenPort {
    /// Its device.
    pub interface: String,
    /// Its pod; empty for host link and uplink.
    pub label: String,
    /// What it can carry out.
    pub capabilities: Capabilities,
    /// What each worker counts of it.
    pub counters: Vec<Arc<PortCounters>>,
}

impl Directory {
    /// Of what the control thread holds.
    pub(in crate::control) fn of(r: &Reconciler) -> Self {
        let mut directory = Self::default();
        let pods = r.desired.ports();
        for (id, open) in r.ports.open_pods() {
            let Some(port) = pods.get(&id) else { continue };
            directory.ports.insert(open.index, pod_port(&port.interface, &port.label, open));
        }
        if let Ok(open) = r.ports.host() {
            directory.ports.insert(open.index, pod_port(&r.config.host_link.dataplane, "", open));
        }
        if let Ok(uplink::Open { name, counters, .. }) = r.uplink.open() {
            let (capabilities, counters) = (Capabilities::default(), counters.clone());
            let port = OpenPort { interface: name.clone(), label: String::new(), capabilities, counters };
            directory.ports.insert(PortIndex::UPLINK, port);
        }
        for port in pods.values() {
            let addresses = port.addresses.iter().filter_map(|a| v4(*a));
            directory.pods.extend(addresses.map(|address| (address, port.label.clone())));
        }
        let peers = r.desired.peers().values();
        directory.peers = peers.filter_map(|p| Some((v4(p.address)?, p.name.clone()))).collect();
        directory
    }

    /// A port's device.
    pub fn interface(&self, port: PortIndex) -> String {
        self.ports.get(&port).map_or_else(|| format!("port {port}"), |open| open.interface.clone())
    }

    /// "pod default/web-1", "host link", "uplink eth0".
    pub fn port(&self, port: PortIndex) -> String {
        match (port, self.ports.get(&port)) {
            (PortIndex::HOST, _) => "host link".into(),
            (PortIndex::UPLINK, Some(open)) => format!("uplink {}", open.interface),
            (_, Some(open)) if !open.label.is_empty() => format!("pod {}", open.label),
            (_, Some(open)) => open.interface.clone(),
            (_, None) => format!("port {port}"),
        }
    }

    /// "pod default/web-1", "the node", "tunnel to node2", "outside by 192.0.2.1".
    pub fn way(&self, out: Out, tables: &Tables) -> String {
        match out {
            Out::Pod(port) => self.port(port),
            Out::Host => "the node".into(),
            Out::Tunnel(index) => match tables.peers.get(index) {
                Some(peer) => format!("tunnel to {}", self.peer(peer.address)),
                None => "tunnel to a node that is gone".into(),
            },
            Out::Wire(hop) => match tables.hops.get(hop) {
                Some((address, _)) => format!("wire by {address}"),
                None => "wire by a host that is gone".into(),
            },
        }
    }

    /// A pod's label; empty when no pod of this node has the address.
    pub fn pod(&self, address: Ipv4Addr) -> &str {
        self.pods.get(&address).map_or("", String::as_str)
    }

    /// A node's name, or its address where it has none.
    pub fn peer(&self, address: Ipv4Addr) -> String {
        self.peers.get(&address).cloned().unwrap_or_else(|| address.to_string())
    }
}

fn pod_port(interface: &str, label: &str, open: &ports::Open) -> OpenPort {
    let partial_checksums = match &open.device.driver {
        Driver::AfXdp { granted, .. } => granted.tx_metadata,
        Driver::Packet { .. } => true,
    };
    let capabilities =
        Capabilities { superframes: open.device.superframes, partial_checksums, cuts_segments: false };
    let counters = open.device.counters.clone();
    OpenPort { interface: interface.into(), label: label.into(), capabilities, counters }
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}
