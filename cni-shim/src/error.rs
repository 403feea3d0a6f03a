//! Errors as CNI wants them: a code that tells the runtime what to do, a message and details for people.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Error code of the CNI specification, section "Error"; 100 and above are the plugin's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorCode(u32);

impl ErrorCode {
    /// The network configuration's version is not supported.
    pub const INCOMPATIBLE_VERSION: Self = Self(1);
    /// A field of the network configuration is not supported.
    pub const UNSUPPORTED_FIELD: Self = Self(2);
    /// The container is not known; the runtime need not call DEL.
    pub const UNKNOWN_CONTAINER: Self = Self(3);
    /// A `CNI_*` variable is missing or wrong.
    pub const INVALID_ENVIRONMENT: Self = Self(4);
    /// Reading or writing failed.
    pub const IO_FAILURE: Self = Self(5);
    /// The network configuration is not JSON of the right shape.
    pub const DECODING_FAILURE: Self = Self(6);
    /// The network configuration is JSON, but wrong.
    pub const INVALID_CONFIG: Self = Self(7);
    /// `CNI_NETNS` cannot be used (code of the reference implementation).
    pub const INVALID_NETNS: Self = Self(8);
    /// The same request may succeed later.
    pub const TRY_AGAIN_LATER: Self = Self(11);
    /// STATUS: pods cannot be added now.
    pub const NOT_AVAILABLE: Self = Self(50);
    /// STATUS: pods cannot be added now, and those that are there may have no network.
    pub const LIMITED_CONNECTIVITY: Self = Self(51);
    /// The attachment is there but not as it was made (CHECK).
    pub const CHECK_FAILED: Self = Self(100);
    /// The network interface or an address of the pod could not be made.
    pub const ATTACH_FAILED: Self = Self(101);
    /// No free address in the node's range.
    pub const POOL_EXHAUSTED: Self = Self(102);
    /// A port of the node that the pod asks for leads to another pod.
    pub const HOST_PORT_TAKEN: Self = Self(103);
    /// Anything else (code of the reference implementation).
    pub const INTERNAL: Self = Self(999);

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a verb failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{msg}")]
pub struct CniError {
    /// What kind of failure.
    pub code: ErrorCode,
    /// What failed, in one sentence.
    pub msg: String,
    /// The cause or the remedy; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl CniError {
    /// An error without details.
    pub fn new(code: ErrorCode, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// The same error with the cause or the remedy.
    pub fn details(self, details: impl Into<String>) -> Self {
        Self { details: details.into(), ..self }
    }

    /// As printed on stdout. `version` is the network configuration's `cniVersion`.
    pub fn to_json(&self, version: &str) -> Value {
        json!({ "cniVersion": version, "code": self.code, "msg": self.msg, "details": self.details })
    }
}
