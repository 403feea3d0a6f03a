//! The plugin's main function, with its surroundings as arguments.
//!
//! Order of the checks as in the reference implementation (skel.go): variables, stdin, configuration, version, namespace;
//! only then is the agent asked. Results and errors go to stdout as JSON, one line.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use serde_json::{Value, json};

use crate::agent;
use crate::conf::{self, NetworkConfig};
use crate::env::{Attachment, Command, Environment};
use crate::error::{CniError, ErrorCode};
use crate::protocol::{MAX_MESSAGE, Request, Verb};
use crate::result::CniResult;
use crate::version::SpecVersion;

/// What a person gets who starts the plugin by hand.
const ABOUT: &str = concat!(
    "headrace-cni ",
    env!("CARGO_PKG_VERSION"),
    ": CNI plugin that attaches pods to the Headrace dataplane.\n",
    "A container runtime starts it (CNI_COMMAND and a network configuration on stdin); it asks headrace-agent.\n",
    "Supported CNI versions: 0.3.1, 0.4.0, 1.0.0, 1.1.0\n",
    "Network configuration: {\"cniVersion\":\"1.0.0\",\"name\":\"headrace\",\"type\":\"headrace-cni\",\"runDir\":\"/run/headrace\"}\n",
    "  runDir       the agent's --run-dir (default /run/headrace)\n",
    "  superframes  \"on\" (default) or \"off\": plain frames, for pods that forward packets themselves; per pod by the\n",
    "               annotation headrace.dev/superframes or HEADRACE_SUPERFRAMES in CNI_ARGS\n",
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
    match NetworkConfig::from_json(&json).and_then(|config| execute(command, &config, &json)) {
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

fn execute(command: Command, config: &NetworkConfig, json: &Value) -> Result<Option<Value>, CniError> {
    match command {
        Command::Add(attachment) => {
            let netns = open_netns(&attachment)?;
            let request = request(Verb::Add, Some(&attachment), json);
            let result = agent::ask(&config.run_dir, &request, Some(netns.as_fd()))?.ok_or_else(|| {
                CniError::new(ErrorCode::INTERNAL, "headrace-agent answered ADD without a result")
            })?;
            Ok(Some(result.after(config.prev_result.clone()).to_json(config.version)))
        }
        Command::Del(attachment) => {
            let netns = open_netns_for_del(&attachment)?;
            let request = request(Verb::Del, Some(&attachment), json);
            agent::ask(&config.run_dir, &request, netns.as_ref().map(AsFd::as_fd)).map(nothing)
        }
        Command::Check(attachment) => {
            require_version("CHECK", SpecVersion::V0_4_0, config)?;
            if config.prev_result.is_none() {
                return Err(CniError::new(
                    ErrorCode::INVALID_CONFIG,
                    "CHECK needs prevResult in the network configuration",
                ));
            }
            let netns = open_netns(&attachment)?;
            let request = request(Verb::Check, Some(&attachment), json);
            agent::ask(&config.run_dir, &request, Some(netns.as_fd())).map(nothing)
        }
        Command::Gc => {
            require_version("GC", SpecVersion::V1_1_0, config)?;
            agent::ask(&config.run_dir, &request(Verb::Gc, None, json), None).map(nothing)
        }
        Command::Status => {
            require_version("STATUS", SpecVersion::V1_1_0, config)?;
            agent::ask(&config.run_dir, &request(Verb::Status, None, json), None)
                .map(nothing)
                .map_err(not_available)
        }
        Command::Version => Ok(Some(versions())),
    }
}

/// Only ADD prints on success.
fn nothing(_: Option<CniResult>) -> Option<Value> {
    None
}

fn request(verb: Verb, attachment: Option<&Attachment>, config: &Value) -> Request {
    let config = config.clone();
    match attachment {
        None => Request {
            verb,
            container_id: String::new(),
            ifname: String::new(),
            netns: None,
            args: [].into(),
            config,
        },
        Some(a) => Request {
            verb,
            container_id: a.container_id.clone(),
            ifname: a.ifname.clone(),
            netns: a.netns.clone(),
            args: a.args.clone(),
            config,
        },
    }
}

fn require_version(verb: &str, since: SpecVersion, config: &NetworkConfig) -> Result<(), CniError> {
    if config.version >= since {
        return Ok(());
    }
    Err(CniError::new(ErrorCode::INCOMPATIBLE_VERSION, format!("config version does not allow {verb}"))
        .details(format!(
            "{verb} needs cniVersion {since}, the network configuration has {}",
            config.version
        )))
}

/// STATUS has codes of its own (specification 1.1.0, section "STATUS").
fn not_available(error: CniError) -> CniError {
    match error.code {
        ErrorCode::TRY_AGAIN_LATER => CniError { code: ErrorCode::NOT_AVAILABLE, ..error },
        _ => error,
    }
}

fn open_netns(attachment: &Attachment) -> Result<File, CniError> {
    let path = attachment.netns.as_deref().unwrap_or_default();
    let netns = File::open(path).map_err(|e| {
        CniError::new(ErrorCode::INVALID_NETNS, format!("cannot open CNI_NETNS {path}"))
            .details(e.to_string())
    })?;
    refuse_own_netns(&netns, attachment)?;
    Ok(netns)
}

/// DEL succeeds without the namespace: its path may be empty or gone, or be an ordinary file that a runtime left unmounted.
fn open_netns_for_del(attachment: &Attachment) -> Result<Option<File>, CniError> {
    match attachment.netns.as_deref().map(File::open) {
        Some(Ok(netns)) => refuse_own_netns(&netns, attachment).map(|()| Some(netns)),
        Some(Err(_)) | None => Ok(None),
    }
}

/// Attaching the namespace that the plugin runs in would take the node's own name space apart.
fn refuse_own_netns(netns: &File, attachment: &Attachment) -> Result<(), CniError> {
    let identity = |file: &File| rustix::fs::fstat(file).map(|s| (s.st_dev, s.st_ino)).ok();
    let own = File::open("/proc/thread-self/ns/net").ok();
    let same = own.as_ref().and_then(identity).is_some_and(|own| identity(netns) == Some(own));
    if !same || attachment.netns_override {
        return Ok(());
    }
    let msg = "plugin's netns and netns from CNI_NETNS should not be the same";
    Err(CniError::new(ErrorCode::INVALID_NETNS, msg).details(
        "CNI_NETNS has to be the pod's network namespace; CNI_NETNS_OVERRIDE=1 allows it all the same",
    ))
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
