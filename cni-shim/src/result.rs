//! The result of ADD, in one shape inside and in the shape of the requested version outside.
//!
//! Inside it is 1.1.0's, the richest; [`CniResult::to_json`] takes away what an older version does not know and adds what it
//! wants (`ips[].version` before 1.0.0). Keys of earlier plugins that mean nothing here are passed through.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{CniError, ErrorCode};
use crate::version::SpecVersion;

/// What is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CniResult {
    /// Interfaces made, on the host and in the pod.
    pub interfaces: Vec<Interface>,
    /// Addresses of them.
    pub ips: Vec<IpConfig>,
    /// Routes in the pod.
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
    /// Reads a `prevResult`, of any supported version.
    ///
    /// # Errors
    /// `DECODING_FAILURE`: a wrong shape, or an interface index that points nowhere.
    pub fn from_json(json: &Value) -> Result<Self, CniError> {
        let refuse = |cause: String| {
            CniError::new(ErrorCode::DECODING_FAILURE, "cannot decode prevResult").details(cause)
        };
        let mut result = Self::deserialize(json).map_err(|e| refuse(e.to_string()))?;
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
        if version < SpecVersion::V1_1_0 {
            result.interfaces.iter_mut().for_each(|i| i.mtu = None);
            result.routes.iter_mut().for_each(|r| r.mtu = None);
        }
        if version < SpecVersion::V1_0_0 {
            for ip in &mut result.ips {
                let family = if ip.address.is_ipv4() { "4" } else { "6" };
                ip.other.insert("version".to_owned(), family.into());
            }
        }
        result.other.insert("cniVersion".to_owned(), version.as_str().into());
        json!(result)
    }
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
mod tests {
    use super::*;

    fn ours() -> CniResult {
        let interface = |name: &str, sandbox: &str, mtu| Interface {
            name: name.to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            mtu,
            sandbox: sandbox.to_owned(),
            ..Interface::default()
        };
        CniResult {
            interfaces: vec![interface("hr0", "", None), interface("eth0", "/run/netns/x", Some(65535))],
            ips: vec![IpConfig {
                address: "10.244.1.2/32".parse().unwrap(),
                gateway: Some("169.254.1.1".parse().unwrap()),
                interface: Some(1),
                other: Map::new(),
            }],
            routes: vec![Route {
                dst: "0.0.0.0/0".parse().unwrap(),
                gw: Some("169.254.1.1".parse().unwrap()),
                mtu: Some(1450),
                other: Map::new(),
            }],
            other: Map::new(),
        }
    }

    fn expected(version: &str, with_mtu: bool, with_family: bool) -> Value {
        let mut json = json!({
            "cniVersion": version,
            "interfaces": [
                {"name": "hr0", "mac": "02:00:00:00:00:01"},
                {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/x"},
            ],
            "ips": [{"address": "10.244.1.2/32", "gateway": "169.254.1.1", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
        });
        if with_mtu {
            json["interfaces"][1]["mtu"] = 65535.into();
            json["routes"][0]["mtu"] = 1450.into();
        }
        if with_family {
            json["ips"][0]["version"] = "4".into();
        }
        json
    }

    #[test]
    fn each_version_gets_its_own_shape() {
        let table = [
            (SpecVersion::V0_3_1, expected("0.3.1", false, true)),
            (SpecVersion::V0_4_0, expected("0.4.0", false, true)),
            (SpecVersion::V1_0_0, expected("1.0.0", false, false)),
            (SpecVersion::V1_1_0, expected("1.1.0", true, false)),
        ];
        for (version, json) in table {
            assert_eq!(ours().to_json(version), json, "{version}");
        }
    }

    #[test]
    fn what_was_printed_reads_back() {
        assert_eq!(CniResult::from_json(&ours().to_json(SpecVersion::V1_1_0)).unwrap(), ours());
    }

    #[test]
    fn results_of_earlier_plugins_pass_through_and_indices_move() {
        let previous = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "net1", "sandbox": "/run/netns/x", "pciID": "0000:01:00.0"}],
            "ips": [{"address": "192.0.2.7/24", "interface": 0}],
            "dns": {"nameservers": ["192.0.2.1"]},
        });
        let all = ours().after(Some(CniResult::from_json(&previous).unwrap())).to_json(SpecVersion::V1_0_0);
        assert_eq!(all["interfaces"][0]["pciID"], "0000:01:00.0");
        assert_eq!(all["ips"][0], json!({"address": "192.0.2.7/24", "interface": 0}));
        assert_eq!(all["ips"][1]["interface"], 2);
        assert_eq!(all["interfaces"][2]["name"], "eth0");
        assert_eq!(all["dns"]["nameservers"][0], "192.0.2.1");
    }

    #[test]
    fn an_index_that_points_nowhere_is_refused() {
        let json = json!({"interfaces": [], "ips": [{"address": "192.0.2.7/24", "interface": 0}]});
        assert_eq!(CniResult::from_json(&json).unwrap_err().code, ErrorCode::DECODING_FAILURE);
    }
}
