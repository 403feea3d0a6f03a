//! The result of ADD, in one shape inside and in the shape of the requested version outside.
//!
//! Inside it is 1.1.0's, the richest; [`CniResult::to_json`] takes away what an older version does not know and adds what it
//! wants (`ips[].version` before 1.0.0; another shape altogether before 0.3.0, [`legacy`]). Keys of earlier plugins that
//! mean nothing here are passed through.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{CniError, ErrorCode};
use crate::version::SpecVersion;

mod legacy;

/// What is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CniResult {
    /// Interfaces made, on the host and in the pod.
    #[serde(deserialize_with = "null_as_empty")]
    pub interfaces: Vec<Interface>,
    /// Addresses of them.
    #[serde(deserialize_with = "null_as_empty")]
    pub ips: Vec<IpConfig>,
    /// Routes in the pod.
    #[serde(deserialize_with = "null_as_empty")]
    pub routes: Vec<Route>,
    /// `dns` and whatever else an earlier plugin returned.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC address, "02:00:5e:10:00:01"; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Path of the network namespace it is in; empty for the host's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// Other keys.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// The address with its prefix length.
    #[serde(with = "cidr")]
    pub address: IpNetwork,
    /// The default gateway of its subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Index into [`CniResult::interfaces`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// Other keys.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A route in the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    #[serde(with = "cidr")]
    pub dst: IpNetwork,
    /// Through whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// Largest packet, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Other keys.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl CniResult {
    /// Reads the result of another plugin, of any supported version; `what` names it.
    ///
    /// # Errors
    /// `DECODING_FAILURE`: a wrong shape, or an interface index that points nowhere.
    pub fn from_json(what: &str, json: &Value) -> Result<Self, CniError> {
        let refuse = |cause: String| {
            CniError::new(ErrorCode::DECODING_FAILURE, format!("cannot decode {what}")).details(cause)
        };
        let mut result = match json {
            Value::Object(_) if legacy::is_legacy(json) => legacy::from_json(json).map_err(refuse)?,
            Value::Object(_) => Self::deserialize(json).map_err(|e| refuse(e.to_string()))?,
            _ => return Err(refuse("want a JSON object".to_owned())),
        };
        result.other.remove("cniVersion");
        for ip in &result.ips {
            if ip.interface.is_some_and(|index| index >= result.interfaces.len()) {
                return Err(refuse(format!(
                    "address {} names an interface that is not in the list",
                    ip.address
                )));
            }
        }
        Ok(result)
    }

    /// This plugin's result after those of the plugins before it.
    pub fn after(mut self, previous: Option<Self>) -> Self {
        let Some(mut all) = previous else { return self };
        for ip in &mut self.ips {
            ip.interface = ip.interface.map(|index| index + all.interfaces.len());
        }
        all.interfaces.append(&mut self.interfaces);
        all.ips.append(&mut self.ips);
        all.routes.append(&mut self.routes);
        all.other.append(&mut self.other);
        all
    }

    /// As printed on stdout for a configuration of `version`.
    pub fn to_json(&self, version: SpecVersion) -> Value {
        let mut result = self.clone();
        result.other.insert("cniVersion".to_owned(), version.as_str().into());
        if version < SpecVersion::V1_1_0 {
            result.interfaces.iter_mut().for_each(|i| i.mtu = None);
            result.routes.iter_mut().for_each(|r| r.mtu = None);
        }
        if version < SpecVersion::V0_3_0 {
            return Value::Object(legacy::to_json(&result));
        }
        for ip in &mut result.ips {
            if version < SpecVersion::V1_0_0 {
                let family = if ip.address.is_ipv4() { "4" } else { "6" };
                ip.other.insert("version".to_owned(), family.into());
            } else {
                ip.other.remove("version");
            }
        }
        json!(result)
    }
}

/// Go writes an empty list as `null`.
fn null_as_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// `IpNetwork` as the text "10.0.0.1/24"; host bits stay.
mod cidr {
    use ipnetwork::IpNetwork;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(network: &IpNetwork, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(network)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<IpNetwork, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is not ADDRESS/LENGTH")))
    }
}

#[cfg(test)]
mod tests;
