//! Collects the faults of one resource, and reads the values that many fields have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::Vni;
use ipnetwork::IpNetwork;

use crate::proto;
use crate::state::{PortId, Protocol, Refusal};

/// Collects the faults of one resource.
pub(super) struct Faults {
    resource: String,
    list: Vec<Refusal>,
}

impl Faults {
    pub(super) fn of(resource: String) -> Self {
        Self { resource, list: Vec::new() }
    }

    pub(super) fn add(&mut self, field: String, reason: String) {
        self.list.push(Refusal { resource: self.resource.clone(), field, reason });
    }

    pub(super) fn fault<T>(&mut self, field: &str, reason: &str) -> Option<T> {
        self.add(field.into(), reason.into());
        None
    }

    pub(super) fn finish<T>(self, built: Option<T>) -> Result<T, Vec<Refusal>> {
        match built {
            Some(value) if self.list.is_empty() => Ok(value),
            _ => Err(self.list),
        }
    }

    pub(super) fn not_empty(&mut self, field: &str, len: usize) {
        if len == 0 && !self.list.iter().any(|r| r.field.starts_with(field)) {
            self.add(field.into(), "is empty; at least one is needed".into());
        }
    }

    pub(super) fn name(&mut self, field: &str, name: &str) {
        if name.is_empty() || name.len() > 512 || name.chars().any(char::is_control) {
            self.add(field.into(), format!("{name:?} is no name (1 to 512 bytes, no control characters)"));
        }
    }

    pub(super) fn port_id(&mut self, field: &str, id: u32) -> Option<PortId> {
        PortId::new(id).or_else(|| self.fault(field, "is 0; port ids begin with 1"))
    }

    pub(super) fn l4_port(&mut self, field: &str, port: u32) -> Option<NonZeroU16> {
        let checked = u16::try_from(port).ok().and_then(NonZeroU16::new);
        checked.or_else(|| self.fault(field, &format!("{port} is outside of 1 to 65535")))
    }

    pub(super) fn protocol(&mut self, field: &str, protocol: proto::Protocol) -> Option<Protocol> {
        match protocol {
            proto::Protocol::Tcp => Some(Protocol::Tcp),
            proto::Protocol::Udp => Some(Protocol::Udp),
            proto::Protocol::Sctp => Some(Protocol::Sctp),
            proto::Protocol::Unspecified => self.fault(field, "is not set; use TCP, UDP or SCTP"),
        }
    }

    pub(super) fn vni(&mut self, field: &str, vni: u32) -> Option<Vni> {
        Vni::new(vni).or_else(|| self.fault(field, &format!("{vni} does not fit in 24 bits")))
    }

    pub(super) fn mac(&mut self, field: &str, octets: &[u8]) -> Option<MacAddr> {
        match <[u8; 6]>::try_from(octets).map(MacAddr) {
            Ok(mac) if !mac.is_multicast() && mac != MacAddr([0; 6]) => Some(mac),
            Ok(mac) => self.fault(field, &format!("{mac} is no unicast address")),
            Err(_) => self.fault(field, &format!("has {} bytes; a MAC address has 6", octets.len())),
        }
    }

    pub(super) fn required_address(
        &mut self,
        field: &str,
        message: Option<&proto::Address>,
    ) -> Option<IpAddr> {
        match message {
            Some(address) => self.address(field, address),
            None => self.fault(field, "is missing"),
        }
    }

    /// `Some(None)` = there is none, `None` = there is a wrong one.
    pub(super) fn optional_address(
        &mut self,
        field: &str,
        message: Option<&proto::Address>,
    ) -> Option<Option<IpAddr>> {
        match message {
            Some(address) => self.address(field, address).map(Some),
            None => Some(None),
        }
    }

    pub(super) fn address(&mut self, field: &str, message: &proto::Address) -> Option<IpAddr> {
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

    pub(super) fn addresses(&mut self, field: &str, messages: &[proto::Address]) -> Vec<IpAddr> {
        let one = |(i, m): (usize, &proto::Address)| self.address(&format!("{field}[{i}]"), m);
        messages.iter().enumerate().filter_map(one).collect()
    }

    pub(super) fn prefixes(&mut self, field: &str, messages: &[proto::Prefix]) -> Vec<IpNetwork> {
        let one = |(i, m): (usize, &proto::Prefix)| self.prefix(&format!("{field}[{i}]"), m);
        messages.iter().enumerate().filter_map(one).collect()
    }

    pub(super) fn prefix(&mut self, field: &str, message: &proto::Prefix) -> Option<IpNetwork> {
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
