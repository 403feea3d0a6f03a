//! An attached pod, as kept on disk and as the dataplane gets it.

use std::net::{IpAddr, Ipv4Addr};

use headrace_api::state::{self, HostPort, Port, PortId, Protocol, RateLimit};
use headrace_cni::options::{Bandwidth, Limit, PortMapping, PortProtocol};
use headrace_wire::ethernet::MacAddr;
use serde::{Deserialize, Serialize};

use super::owner::Owner;

/// One pod's interface. Written before its port is published, so that a port the dataplane has is always known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    /// Whose.
    #[serde(flatten)]
    pub(crate) owner: Owner,
    /// Name of the network: where the address comes from.
    pub(crate) network: String,
    /// Its port's number.
    #[serde(with = "port_id")]
    pub(crate) port: PortId,
    /// The link's end on the host.
    pub(crate) host_link: String,
    /// MAC address of the pod's end.
    #[serde(with = "mac_text")]
    pub(crate) mac: MacAddr,
    /// The pod's address.
    pub(crate) address: Ipv4Addr,
    /// Whether frames may be up to 64 KiB.
    pub(crate) superframes: bool,
    /// Path MTU at the time of attaching, in bytes.
    pub(crate) path_mtu: u32,
    /// "namespace/name" of the pod, or the container's id.
    pub(crate) label: String,
    /// Ports of the node that lead to the pod. No two attachments have the same.
    #[serde(default)]
    pub(crate) host_ports: Vec<PortMapping>,
    /// How much the pod may send and receive.
    #[serde(default)]
    pub(crate) bandwidth: Bandwidth,
    /// The plugin that gave the address; `None` = this node's own pool.
    #[serde(default)]
    pub(crate) ipam: Option<String>,
}

impl Attachment {
    /// What the dataplane gets. The path's MTU is the dataplane's own affair.
    pub(crate) fn to_port(&self) -> Port {
        Port {
            id: self.port,
            interface: self.host_link.clone(),
            mac: self.mac,
            addresses: vec![IpAddr::V4(self.address)],
            path_mtu: None,
            superframes: self.superframes,
            label: self.label.clone(),
            host_ports: self.host_ports.iter().map(host_port).collect(),
            bandwidth: state::Bandwidth {
                ingress: self.bandwidth.ingress.map(rate_limit),
                egress: self.bandwidth.egress.map(rate_limit),
            },
        }
    }
}

fn rate_limit(limit: Limit) -> RateLimit {
    RateLimit { rate: limit.rate, burst: limit.burst }
}

fn host_port(mapping: &PortMapping) -> HostPort {
    let protocol = match mapping.protocol {
        PortProtocol::Tcp => Protocol::Tcp,
        PortProtocol::Udp => Protocol::Udp,
        PortProtocol::Sctp => Protocol::Sctp,
    };
    HostPort { address: mapping.host_ip, port: mapping.host_port, protocol, pod_port: mapping.container_port }
}

/// The MAC address of the pod that has this address: locally administered, and the same whenever the address is given, so
/// that nobody's neighbour entry goes stale.
pub(crate) fn mac_of(address: Ipv4Addr) -> MacAddr {
    let [a, b, c, d] = address.octets();
    MacAddr([0x0a, 0x58, a, b, c, d])
}

mod port_id {
    use headrace_api::state::PortId;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &PortId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(id.get())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PortId, D::Error> {
        PortId::new(u32::deserialize(from)?).ok_or_else(|| D::Error::custom("port 0; want 1 or more"))
    }
}

mod mac_text {
    use headrace_wire::ethernet::MacAddr;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(mac: &MacAddr, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(mac)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<MacAddr, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
