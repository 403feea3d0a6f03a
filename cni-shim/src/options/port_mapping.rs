//! Ports of the node that lead to a pod: the capability `portMappings`.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::decode::{Object, invalid};
use crate::error::CniError;

/// A port of the node that leads to a port of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// `hostIP`: the node's address; `None` = all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// `hostPort`.
    pub host_port: NonZeroU16,
    /// `protocol`.
    pub protocol: PortProtocol,
    /// `containerPort`.
    pub container_port: NonZeroU16,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

impl PortMapping {
    /// Whether both would take the same packets.
    pub fn collides(&self, other: &Self) -> bool {
        let (a, b) = (self.host_ip, other.host_ip);
        let same_address = a.is_none() || b.is_none() || a == b;
        same_address && (self.host_port, self.protocol) == (other.host_port, other.protocol)
    }
}

impl fmt::Display for PortMapping {
    /// As people write it: "192.0.2.1:8080/tcp".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            None => {}
        }
        write!(f, "{}/{}", self.host_port, self.protocol)
    }
}

impl fmt::Display for PortProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

pub(super) fn read(runtime: &Object<'_>) -> Result<Vec<PortMapping>, CniError> {
    let mut mappings: Vec<PortMapping> = Vec::new();
    for (index, entry) in runtime.list("portMappings")?.iter().enumerate() {
        let mapping = one(&Object::of(&format!("portMappings[{index}]"), entry)?)?;
        if let Some(earlier) = mappings.iter().find(|earlier| earlier.collides(&mapping)) {
            return Err(invalid(format!("portMappings has {mapping} and {earlier}; only one can be served")));
        }
        mappings.push(mapping);
    }
    Ok(mappings)
}

fn one(entry: &Object<'_>) -> Result<PortMapping, CniError> {
    Ok(PortMapping {
        host_ip: host_ip(entry)?,
        host_port: port(entry, "hostPort")?,
        protocol: protocol(entry)?,
        container_port: port(entry, "containerPort")?,
    })
}

fn port(entry: &Object<'_>, key: &str) -> Result<NonZeroU16, CniError> {
    let number = entry.number(key)?.unwrap_or(0);
    let port = u16::try_from(number).ok().and_then(NonZeroU16::new);
    port.ok_or_else(|| invalid(format!("{} is {number}; want 1 to 65535", entry.place(key))))
}

/// Kubernetes writes capitals, containerd small letters; nothing means TCP, as in a Pod.
fn protocol(entry: &Object<'_>) -> Result<PortProtocol, CniError> {
    let text = entry.text("protocol")?.unwrap_or_default();
    match text.to_ascii_lowercase().as_str() {
        "" | "tcp" => Ok(PortProtocol::Tcp),
        "udp" => Ok(PortProtocol::Udp),
        "sctp" => Ok(PortProtocol::Sctp),
        _ => Err(invalid(format!(
            "{} is {text:?}; want \"tcp\", \"udp\" or \"sctp\"",
            entry.place("protocol")
        ))),
    }
}

fn host_ip(entry: &Object<'_>) -> Result<Option<IpAddr>, CniError> {
    let text = entry.text("hostIP")?.unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || {
        invalid(format!(
            "{} is {text:?}; want an address of the node, or nothing for all",
            entry.place("hostIP")
        ))
    };
    let address: IpAddr = text.parse().map_err(|_| wrong())?;
    if address.is_multicast() { Err(wrong()) } else { Ok(Some(address).filter(|a| !a.is_unspecified())) }
}
