//! The request's other half: the network configuration on stdin.
//!
//! Unknown keys are tolerated, as the specification demands; known ones are checked here, once, for plugin and agent alike.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::env::check_identifier;
use crate::error::{CniError, ErrorCode};
use crate::result::CniResult;
use crate::version::SpecVersion;

/// What `cniVersion` means when it is absent (specification 0.2.0 and the reference implementation).
const IMPLIED_VERSION: &str = "0.1.0";

/// Where the agent's sockets are when `runDir` is absent.
pub const DEFAULT_RUN_DIR: &str = "/run/headrace";

/// Pod annotation that switches superframes off, if the runtime hands annotations on (capability
/// `io.kubernetes.cri.pod-annotations`, containerd).
pub const SUPERFRAMES_ANNOTATION: &str = "headrace.dev/superframes";

const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// A checked network configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// `cniVersion`.
    pub version: SpecVersion,
    /// `name` of the network; safe as a file name.
    pub name: String,
    /// `runDir`: the agent's directory, absolute.
    pub run_dir: PathBuf,
    /// `superframes`: "on" or "off"; the pod's annotation goes before it.
    pub superframes: Option<Superframes>,
    /// `prevResult`: what earlier plugins (ADD) or the last ADD (CHECK, DEL) returned.
    pub prev_result: Option<CniResult>,
    /// `cni.dev/valid-attachments` (GC).
    pub valid_attachments: Option<Vec<ValidAttachment>>,
}

/// Whether frames of up to 64 KiB may pass the pod's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Superframes {
    /// They may: the default.
    On,
    /// Plain frames: for pods that forward packets themselves (nested containers, VPNs, virtual machines).
    Off,
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

impl Superframes {
    /// "on" or "off".
    ///
    /// # Errors
    /// A sentence that names `key`, the value and what would be right.
    pub fn parse(key: &str, text: &str) -> Result<Self, String> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err(format!("{key} is {text:?}; want \"on\" or \"off\"")),
        }
    }
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
        let superframes = match (raw.annotation(), &raw.superframes) {
            (Some(text), _) => Some(Superframes::parse(SUPERFRAMES_ANNOTATION, text).map_err(wrong)?),
            (None, Some(text)) => Some(Superframes::parse("superframes", text).map_err(wrong)?),
            (None, None) => None,
        };
        let prev_result = raw.prev_result.as_ref().map(CniResult::from_json).transpose()?;
        let valid_attachments = raw.valid_attachments;
        Ok(Self { version, name: raw.name, run_dir, superframes, prev_result, valid_attachments })
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
    superframes: Option<String>,
    #[serde(rename = "prevResult")]
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<ValidAttachment>>,
    #[serde(rename = "runtimeConfig")]
    runtime_config: Option<Value>,
}

impl Raw {
    fn annotation(&self) -> Option<&str> {
        self.runtime_config.as_ref()?.get(ANNOTATIONS)?.get(SUPERFRAMES_ANNOTATION)?.as_str()
    }
}

fn check_version(text: &str) -> Result<SpecVersion, CniError> {
    SpecVersion::parse(text).ok_or_else(|| {
        let known = SpecVersion::ALL.map(SpecVersion::as_str).join(", ");
        CniError::new(ErrorCode::INCOMPATIBLE_VERSION, "incompatible CNI versions")
            .details(format!("the network configuration has cniVersion {text:?}; this plugin speaks {known}"))
    })
}

fn decoding(cause: &str) -> CniError {
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
        assert_eq!((config.version, config.superframes), (SpecVersion::V1_0_0, None));
    }

    #[test]
    fn wrong_values_are_refused_with_the_code_of_the_specification() {
        let table = [
            (json!({"name": ""}), 7, "missing network name"),
            (json!({"name": "../x"}), 7, "network name"),
            (json!({"name": 7}), 6, "cannot decode"),
            (json!({"runDir": "run"}), 7, "runDir"),
            (json!({"superframes": "maybe"}), 7, "superframes"),
            (json!({"superframes": true}), 6, "cannot decode"),
            (json!({"cniVersion": "0.2.0"}), 1, "incompatible"),
            (json!({"cniVersion": "2.0.0"}), 1, "incompatible"),
            (json!({"cniVersion": ""}), 1, "incompatible"),
            (json!({"prevResult": {"ips": 3}}), 6, "prevResult"),
            (
                json!({"runtimeConfig": {ANNOTATIONS: {SUPERFRAMES_ANNOTATION: "no"}}}),
                7,
                SUPERFRAMES_ANNOTATION,
            ),
        ];
        for (extra, code, text) in table {
            let error = parse(&extra).unwrap_err();
            assert_eq!(error.code.get(), code, "{extra}");
            assert!(error.msg.contains(text), "{extra}: {}", error.msg);
        }
    }

    #[test]
    fn the_annotation_goes_before_the_configuration() {
        let annotated =
            json!({"superframes": "on", "runtimeConfig": {ANNOTATIONS: {SUPERFRAMES_ANNOTATION: "off"}}});
        assert_eq!(parse(&annotated).unwrap().superframes, Some(Superframes::Off));
    }
}
