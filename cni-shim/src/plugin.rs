//! The plugin's main function, with its surroundings as arguments.
//!
//! Order of the checks as in the reference implementation (skel.go): variables, stdin, configuration, version, namespace;
//! only then is the agent asked. Results and errors go to stdout as JSON, one line.

mod netns;
mod verbs;

use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::conf::{self, NetworkConfig};
use crate::env::{Command, Environment};
use crate::error::{CniError, ErrorCode};
use crate::protocol::MAX_MESSAGE;
use crate::version::SpecVersion;

/// What a person gets who starts the plugin by hand.
const ABOUT: &str = concat!(
    "headrace-cni ",
    env!("CARGO_PKG_VERSION"),
    ": CNI plugin that attaches pods to the Headrace dataplane.\n",
    "A container runtime starts it (CNI_COMMAND and a network configuration on stdin); it asks headrace-agent.\n",
    "Supported CNI versions: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n",
    "Network configuration: {\"cniVersion\":\"1.0.0\",\"name\":\"headrace\",\"type\":\"headrace-cni\",\"runDir\":\"/run/headrace\"}\n",
    "  runDir       the agent's --run-dir (default /run/headrace)\n",
    "  superframes  \"on\" (default) or \"off\": plain frames, for pods that forward packets themselves; per pod by the\n",
    "               annotation headrace.dev/superframes or HEADRACE_SUPERFRAMES in CNI_ARGS\n",
    "  ipam         {\"type\":\"NAME\", ...}: another plugin gives addresses, which lie in the node's podCIDR (default: the agent)\n",
    "  dns          handed on in the result\n",
    "  capabilities portMappings, bandwidth, mac, ips, ipRanges, dns, io.kubernetes.cri.pod-annotations\n",
);

/// Runs one request and returns the exit status: 0 or 1.
pub fn run(
    environment: &Environment,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> u8 {
    let command = match environment.command() {
        Ok(Some(command)) => command,
        Ok(None) => return u8::from(stderr.write_all(ABOUT.as_bytes()).is_err()),
        Err(error) => return fail(&error, SpecVersion::LATEST.as_str(), stdout),
    };
    if command == Command::Version {
        return print(&versions(), stdout);
    }
    let json = match read_config(stdin) {
        Ok(json) => json,
        Err(error) => return fail(&error, SpecVersion::LATEST.as_str(), stdout),
    };
    let verbs = |config| verbs::Call { environment, config: &config, json: &json }.execute(command);
    match NetworkConfig::from_json(&json).and_then(verbs) {
        Ok(Some(result)) => print(&result, stdout),
        Ok(None) => 0,
        Err(error) => fail(&error, conf::requested_version(&json), stdout),
    }
}

/// All of stdin, as JSON. VERSION does not come here: runtimes may leave its stdin open.
fn read_config(stdin: &mut dyn Read) -> Result<Value, CniError> {
    let mut bytes = Vec::new();
    stdin
        .take(MAX_MESSAGE as u64)
        .read_to_end(&mut bytes)
        .map_err(|e| CniError::new(ErrorCode::IO_FAILURE, "reading stdin failed").details(e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| {
        CniError::new(ErrorCode::DECODING_FAILURE, "the network configuration on stdin is not JSON")
            .details(e.to_string())
    })
}

fn versions() -> Value {
    let supported = SpecVersion::ALL.map(SpecVersion::as_str);
    json!({ "cniVersion": SpecVersion::LATEST.as_str(), "supportedVersions": supported })
}

fn fail(error: &CniError, version: &str, stdout: &mut dyn Write) -> u8 {
    print(&error.to_json(version), stdout);
    1
}

/// With nowhere to write to, the exit status is all that is left.
fn print(json: &Value, stdout: &mut dyn Write) -> u8 {
    u8::from(writeln!(stdout, "{json}").is_err())
}

#[cfg(test)]
mod tests;
