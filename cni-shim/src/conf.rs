//! The request's other half: the network configuration on stdin.
//!
//! Unknown keys are tolerated, as the specification demands. What every verb needs is checked here, once, for plugin and
//! agent alike; what only some need is read when they ask ([`NetworkConfig::prev_result`], [`NetworkConfig::pod_options`]),
//! so that nothing which ADD refuses keeps DEL from succeeding.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::env::check_identifier;
use crate::error::{CniError, ErrorCode};
use crate::options::PodOptions;
use crate::result::CniResult;
use crate::version::SpecVersion;

/// What `cniVersion` means when it is absent (specification 0.2.0 and the reference implementation).
const IMPLIED_VERSION: &str = "0.1.0";

/// Where the agent's sockets are when `runDir` is absent.
pub const DEFAULT_RUN_DIR: &str = "/run/headrace";

/// `ipam.type` of the agent's own addresses, the same as no `ipam` at all.
pub const OWN_IPAM: &str = "headrace";

/// A checked network configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// `cniVersion`.
    pub version: SpecVersion,
    /// `name` of the network; safe as a file name.
    pub name: String,
    /// `runDir`: the agent's directory, absolute.
    pub run_dir: PathBuf,
    /// `ipam.type`: the plugin that gives addresses, safe as a file name; `None` = the agent gives them.
    pub ipam: Option<String>,
    json: Value,
}

/// An attachment that GC has to leave alone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ValidAttachment {
    /// As in `CNI_CONTAINERID`.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// As in `CNI_IFNAME`.
    pub ifname: String,
}

impl NetworkConfig {
    /// Checks a configuration. [`requested_version`] names the version for the error's JSON.
    ///
    /// # Errors
    /// `DECODING_FAILURE` for a wrong shape, `INVALID_CONFIG` for a wrong value, `INCOMPATIBLE_VERSION` for a version that
    /// is not supported.
    pub fn from_json(json: &Value) -> Result<Self, CniError> {
        let raw = Raw::deserialize(json).map_err(|e| decoding(&e.to_string()))?;
        if raw.name.is_empty() {
            return Err(wrong("missing network name".to_owned()));
        }
        check_identifier("network name", &raw.name).map_err(wrong)?;
        let version = check_version(requested_version(json))?;
        let run_dir = PathBuf::from(raw.run_dir.as_deref().unwrap_or(DEFAULT_RUN_DIR));
        if !run_dir.is_absolute() {
            return Err(wrong(format!(
                "runDir is {run_dir:?}; want an absolute path such as {DEFAULT_RUN_DIR:?}"
            )));
        }
        let ipam = raw.ipam.unwrap_or_default().plugin.filter(|t| !t.is_empty() && t != OWN_IPAM);
        if let Some(plugin) = &ipam {
            check_identifier("ipam.type", plugin).map_err(wrong)?;
        }
        Ok(Self { version, name: raw.name, run_dir, ipam, json: json.clone() })
    }

    /// `prevResult`: what earlier plugins (ADD) or the last ADD (CHECK, DEL) returned.
    ///
    /// # Errors
    /// `DECODING_FAILURE`.
    pub fn prev_result(&self) -> Result<Option<CniResult>, CniError> {
        let previous = self.json.get("prevResult").filter(|v| !v.is_null());
        previous.map(|json| CniResult::from_json("prevResult", json)).transpose()
    }

    /// `cni.dev/valid-attachments` (GC). The draft of the specification and libcni called it `cni.dev/attachments`.
    ///
    /// # Errors
    /// `INVALID_CONFIG` without the key, `DECODING_FAILURE` for a wrong shape.
    pub fn valid_attachments(&self) -> Result<Vec<ValidAttachment>, CniError> {
        let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"];
        let listed = keys.iter().find_map(|key| self.json.get(key).map(|list| (key, list)));
        let (key, list) = listed.ok_or_else(|| wrong(format!("GC needs {}", keys[0])))?;
        let list = Option::<Vec<_>>::deserialize(list).map_err(|e| decoding(&format!("{key}: {e}")))?;
        Ok(list.unwrap_or_default())
    }

    /// What is asked for this one pod; `args` are those of `CNI_ARGS`.
    ///
    /// # Errors
    /// As [`PodOptions::read`].
    pub fn pod_options(&self, args: &BTreeMap<String, String>) -> Result<PodOptions, CniError> {
        PodOptions::read(&self.json, args)
    }
}

/// `cniVersion` as it stands in a configuration, supported or not.
pub fn requested_version(json: &Value) -> &str {
    json.get("cniVersion").and_then(Value::as_str).filter(|v| !v.is_empty()).unwrap_or(IMPLIED_VERSION)
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    name: String,
    #[serde(rename = "runDir")]
    run_dir: Option<String>,
    ipam: Option<RawIpam>,
}

#[derive(Default, Deserialize)]
struct RawIpam {
    #[serde(rename = "type")]
    plugin: Option<String>,
}

fn check_version(text: &str) -> Result<SpecVersion, CniError> {
    SpecVersion::parse(text).ok_or_else(|| {
        let known = SpecVersion::ALL.map(SpecVersion::as_str).join(", ");
        CniError::new(ErrorCode::INCOMPATIBLE_VERSION, "incompatible CNI versions")
            .details(format!("the network configuration has cniVersion {text:?}; this plugin speaks {known}"))
    })
}

pub(crate) fn decoding(cause: &str) -> CniError {
    CniError::new(ErrorCode::DECODING_FAILURE, "cannot decode the network configuration").details(cause)
}

fn wrong(msg: String) -> CniError {
    CniError::new(ErrorCode::INVALID_CONFIG, msg)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(extra: &Value) -> Result<NetworkConfig, CniError> {
        let mut json = json!({"cniVersion": "1.0.0", "name": "headrace", "type": "headrace-cni"});
        for (key, value) in extra.as_object().unwrap() {
            json[key] = value.clone();
        }
        NetworkConfig::from_json(&json)
    }

    #[test]
    fn unknown_keys_are_tolerated_and_defaults_filled_in() {
        let config = parse(&json!({"capabilities": {"portMappings": true}, "x": [1]})).unwrap();
        assert_eq!(config.run_dir, PathBuf::from("/run/headrace"));
        assert_eq!((config.version, config.ipam.as_ref()), (SpecVersion::V1_0_0, None));
        assert_eq!(config.prev_result().unwrap(), None);
        assert_eq!(parse(&json!({"cniVersion": ""})).unwrap().version, SpecVersion::V0_1_0);
    }

    #[test]
    fn wrong_values_are_refused_with_the_code_of_the_specification() {
        let table = [
            (json!({"name": ""}), 7, "missing network name"),
            (json!({"name": "../x"}), 7, "network name"),
            (json!({"name": 7}), 6, "cannot decode"),
            (json!({"runDir": "run"}), 7, "runDir"),
            (json!({"cniVersion": "2.0.0"}), 1, "incompatible"),
            (json!({"cniVersion": "0.3"}), 1, "incompatible"),
            (json!({"ipam": "host-local"}), 6, "cannot decode"),
            (json!({"ipam": {"type": 3}}), 6, "cannot decode"),
            (json!({"ipam": {"type": "../host-local"}}), 7, "ipam.type"),
        ];
        for (extra, code, text) in table {
            let error = parse(&extra).unwrap_err();
            assert_eq!(error.code.get(), code, "{extra}");
            assert!(error.msg.contains(text), "{extra}: {}", error.msg);
        }
        let previous = parse(&json!({"prevResult": {"ips": 3}})).unwrap().prev_result().unwrap_err();
        assert_eq!(previous.code, ErrorCode::DECODING_FAILURE);
    }

    #[test]
    fn only_another_plugins_name_delegates_addresses() {
        let ipam = |json: Value| parse(&json!({ "ipam": json })).unwrap().ipam;
        for own in [json!(null), json!({}), json!({"type": ""}), json!({"type": "headrace"})] {
            assert_eq!(ipam(own.clone()), None, "{own}");
        }
        assert_eq!(ipam(json!({"type": "host-local", "subnet": "x"})).as_deref(), Some("host-local"));
    }

    #[test]
    fn valid_attachments_come_under_either_name() {
        let list = json!([{"containerID": "a", "ifname": "eth0"}]);
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            let config = parse(&json!({ key: list })).unwrap();
            assert_eq!(config.valid_attachments().unwrap()[0].container_id, "a");
            assert_eq!(parse(&json!({ key: null })).unwrap().valid_attachments().unwrap(), []);
            let error = parse(&json!({ key: ["a"] })).unwrap().valid_attachments().unwrap_err();
            assert_eq!(error.code, ErrorCode::DECODING_FAILURE);
        }
        assert_eq!(parse(&json!({})).unwrap().valid_attachments().unwrap_err().code.get(), 7);
    }
}
