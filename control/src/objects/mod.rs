//! The Kubernetes objects the agent reads, cut down to the fields it uses.
//!
//! Field names and defaults are the Kubernetes API's (core/v1, discovery.k8s.io/v1, networking.k8s.io/v1, apimachinery's
//! ObjectMeta). Unknown fields are skipped and an explicit `null` means absent, as in the API server. A port number that
//! is none is an error while reading, so that it is told with its line; addresses of Services stay text: only the
//! derivation in [`crate::desired`] knows which of them it needs, and it names the object when one is wrong.

mod node;
mod pod;
mod service;
mod slice;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

pub use self::node::{Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, Taint};
pub use self::pod::{Namespace, Pod};
pub use self::service::{
    ClientIpConfig, IngressPoint, IpMode, LoadBalancerStatus, Protocol, Service, ServiceCidr,
    ServiceCidrSpec, ServicePort, ServiceSpec, ServiceStatus, ServiceType, SessionAffinity,
    SessionAffinityConfig, TrafficPolicy,
};
pub(crate) use self::slice::sloppy_ipv4;
pub use self::slice::{
    AddressType, Conditions, EndpointSlice, Hints, SliceAddress, SliceEndpoint, SlicePort,
};

/// Objects of a kind by name. Copies share what they have in common, so that a new set is cheap to make from an old one,
/// and the difference of two is found without looking at all of it.
pub type ObjectMap<K, V> = imbl::OrdMap<K, Arc<V>>;

/// Everything a source has read, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Nodes by name.
    pub nodes: ObjectMap<String, Node>,
    /// Services.
    pub services: ObjectMap<ObjectName, Service>,
    /// EndpointSlices.
    pub slices: ObjectMap<ObjectName, EndpointSlice>,
    /// Ranges of Service addresses by name.
    pub service_cidrs: ObjectMap<String, ServiceCidr>,
    /// Namespaces by name.
    pub namespaces: ObjectMap<String, Namespace>,
    /// Pods of this node; from manifests, of any.
    pub pods: ObjectMap<ObjectName, Pod>,
}

/// Name of a namespaced object; shown as "namespace/name".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// "default" when the manifest has none, as for kubectl.
    pub namespace: String,
    /// Unique in the namespace and kind.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// ObjectMeta.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Required in every object.
    pub name: String,
    /// Absent in cluster-wide objects, and in manifests that leave it to kubectl.
    #[serde(default)]
    pub namespace: Option<String>,
    /// What selectors look at.
    #[serde(default, deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// What programs tell each other.
    #[serde(default, deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// RFC 3339 in UTC, to the second, as the API server writes it; so earlier sorts first. Manifests seldom have it.
    #[serde(default)]
    pub creation_timestamp: Option<String>,
    /// Set once the object is on its way out.
    #[serde(default)]
    pub deletion_timestamp: Option<String>,
    /// Where a watch of the API server is; the source takes it out, since it says nothing about the object.
    #[serde(default)]
    pub resource_version: Option<String>,
    /// The manifest that it stands in, and the line where its document begins: "web.yaml:12".
    #[serde(skip)]
    pub origin: Option<Arc<str>>,
}

impl Metadata {
    /// What an object is called where something is wrong with it: "Service default/web in web.yaml:12".
    pub fn title(&self, kind: &str) -> String {
        let name = self.object_name();
        match &self.origin {
            Some(place) => format!("{kind} {name} in {place}"),
            None => format!("{kind} {name}"),
        }
    }

    /// The namespaced name.
    pub fn object_name(&self) -> ObjectName {
        ObjectName {
            namespace: self.namespace.clone().unwrap_or_else(|| "default".into()),
            name: self.name.clone(),
        }
    }
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A port number.
fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NonZeroU16, D::Error> {
    let port = deserializer.deserialize_any(PortVisitor)?;
    port.ok_or_else(|| D::Error::custom("0 is no port; use 1 to 65535"))
}

/// A port number where 0 and `null` stand for none.
fn optional_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU16>, D::Error> {
    deserializer.deserialize_any(PortVisitor)
}

/// Errors from within a visitor know the field.
struct PortVisitor;

impl Visitor<'_> for PortVisitor {
    type Value = Option<NonZeroU16>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port number from 1 to 65535")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        let port = u16::try_from(number).map(NonZeroU16::new);
        port.map_err(|_| E::custom(format!("{number} is no port; use 1 to 65535")))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        let number = u64::try_from(number);
        self.visit_u64(number.map_err(|_| E::custom("a port is not negative; use 1 to 65535"))?)
    }
}
