//! discovery.k8s.io/v1 EndpointSlice, kept small: a node may hold a hundred thousand endpoints.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Metadata, Protocol, null_is_default, optional_port};

/// Some endpoints of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EndpointSlice {
    /// The label `kubernetes.io/service-name` names the Service.
    pub metadata: Metadata,
    /// What kind of address all endpoints have.
    #[serde(rename = "addressType")]
    pub address_type: AddressType,
    /// Servers.
    #[serde(default, deserialize_with = "null_is_default")]
    pub endpoints: Vec<SliceEndpoint>,
    /// Ports that every endpoint of the slice has.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ports: Vec<SlicePort>,
}

/// AddressType of an EndpointSlice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum AddressType {
    /// RFC 791.
    #[default]
    IPv4,
    /// RFC 8200.
    IPv6,
    /// Names; no business of the dataplane.
    #[serde(rename = "FQDN")]
    Fqdn,
}

/// Endpoint of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SliceEndpoint {
    /// The first of its addresses. The others have no meaning that consumers agree on; kube-proxy ignores them too.
    #[serde(rename = "addresses", deserialize_with = "first_address")]
    pub address: Option<SliceAddress>,
    /// May it get connections?
    #[serde(default, deserialize_with = "null_is_default")]
    pub conditions: Conditions,
    /// The node it runs on.
    #[serde(default, rename = "nodeName")]
    pub node_name: Option<Box<str>>,
    /// Who should use it.
    #[serde(default)]
    pub hints: Option<Box<Hints>>,
}

/// An address as it stands in a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SliceAddress {
    /// As it should be.
    Ip(IpAddr),
    /// A name, or garbage.
    Text(Box<str>),
}

/// EndpointConditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Conditions {
    /// Absent = true.
    #[serde(default)]
    pub ready: Option<bool>,
    /// Like ready, but stays true while a serving pod terminates. Absent = true.
    #[serde(default)]
    pub serving: Option<bool>,
    /// Absent = false.
    #[serde(default)]
    pub terminating: Option<bool>,
}

/// EndpointHints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hints {
    /// Zones whose clients should use the endpoint.
    #[serde(default, deserialize_with = "names")]
    pub for_zones: Vec<String>,
    /// Nodes whose clients should use it.
    #[serde(default, deserialize_with = "names")]
    pub for_nodes: Vec<String>,
}

/// EndpointPort.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SlicePort {
    /// The Service port's name. The API server defaults it to "", so absent means the same in a manifest.
    #[serde(default, deserialize_with = "null_is_default")]
    pub name: String,
    /// The target port; absent = all ports, of which a proxy can make nothing.
    #[serde(default, deserialize_with = "optional_port")]
    pub port: Option<NonZeroU16>,
    /// Absent = TCP.
    #[serde(default, deserialize_with = "null_is_default")]
    pub protocol: Protocol,
}

impl SliceAddress {
    /// Reads an address as Kubernetes does: leading zeros are skipped, not octal (k8s.io/utils/net ParseIPSloppy).
    fn read(text: &str) -> Self {
        match text.parse() {
            Ok(address) => Self::Ip(address),
            Err(_) => sloppy_ipv4(text).map_or_else(|| Self::Text(text.into()), Self::Ip),
        }
    }
}

impl From<&str> for SliceAddress {
    fn from(text: &str) -> Self {
        Self::read(text)
    }
}

/// A dotted quad whose numbers may have leading zeros.
pub(crate) fn sloppy_ipv4(text: &str) -> Option<IpAddr> {
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse::<u8>().ok()).flatten()
    };
    let parts: Vec<u8> = text.split('.').map(number).collect::<Option<_>>()?;
    <[u8; 4]>::try_from(parts).ok().map(IpAddr::from)
}

/// The first of a list, read in place.
fn first_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SliceAddress>, D::Error> {
    struct First;
    impl<'de> Visitor<'de> for First {
        type Value = Option<SliceAddress>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of addresses")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let first = list.next_element::<SliceAddress>()?;
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(first)
        }
    }
    deserializer.deserialize_any(First)
}

impl<'de> Deserialize<'de> for SliceAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = SliceAddress;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(SliceAddress::read(text))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// `[{name: x}, ...]`, of which only the names count.
fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let list: Option<Vec<Named>> = Option::deserialize(deserializer)?;
    Ok(list.unwrap_or_default().into_iter().map(|n| n.name).collect())
}
