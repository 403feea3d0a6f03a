//! Pods of a Headrace node, attached as a container runtime does: a network namespace, and the CNI plugin called with
//! CNI_* in its environment.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnetwork::Ipv4Network;
use serde::Deserialize;
use serde_json::Value;

use crate::cni::{CniCall, Refused};
use crate::machine::Machine;
use crate::state::Pod;
use crate::{LabConfig, LabError};

/// Error code "try again later" of the CNI specification: the agent is not there yet.
pub const TRY_AGAIN: u32 = 11;

/// Time for a look at the node.
const LIMIT: Duration = Duration::from_secs(15);

/// Makes the namespace `name` on `machine` and attaches it.
///
/// # Errors
/// [`LabError::Cni`] with the plugin's code; the namespace is removed again.
pub fn attach(machine: &Machine, name: &str, config: &LabConfig) -> Result<Pod, LabError> {
    let space = machine.add_namespace(name)?;
    match add(machine, name, config) {
        Ok(address) => Ok(Pod { name: name.to_owned(), address, space }),
        Err(error) => {
            // The first error is the one to tell.
            let _ = machine.delete_namespace(name);
            Err(error)
        }
    }
}

/// Detaches the pod `name` and removes its namespace, which may be gone already.
///
/// # Errors
/// [`LabError::Cni`] with the plugin's code.
pub fn detach(machine: &Machine, name: &str, config: &LabConfig) -> Result<(), LabError> {
    delete(machine, name, config)?;
    let there = machine.space.try_run(&["test", "-e", &namespace(name)], LIMIT)?.status.success();
    if there { machine.delete_namespace(name) } else { Ok(()) }
}

/// CNI ADD; gives the pod's address.
///
/// # Errors
/// [`LabError::Cni`].
pub fn add(machine: &Machine, name: &str, config: &LabConfig) -> Result<Ipv4Addr, LabError> {
    let result = succeed("ADD", machine, name, config)?;
    let failed =
        |problem: String| LabError::Output { tool: "headrace-cni", problem, output: result.to_string() };
    let added = Added::deserialize(&result).map_err(|error| failed(error.to_string()))?;
    let network = added.ips.iter().find_map(|ip| ip.address.parse::<Ipv4Network>().ok());
    network.map(Ipv4Network::ip).ok_or_else(|| failed("no IPv4 address".to_owned()))
}

/// CNI DEL.
///
/// # Errors
/// [`LabError::Cni`].
pub fn delete(machine: &Machine, name: &str, config: &LabConfig) -> Result<(), LabError> {
    succeed("DEL", machine, name, config).map(drop)
}

/// What ADD prints, as far as the lab reads it.
#[derive(Deserialize)]
struct Added {
    ips: Vec<AddedIp>,
}

#[derive(Deserialize)]
struct AddedIp {
    address: String,
}

fn succeed(verb: &'static str, machine: &Machine, name: &str, config: &LabConfig) -> Result<Value, LabError> {
    let superframes = if config.superframes { "on" } else { "off" };
    let call = CniCall::new(machine, verb, name)?.key("superframes", superframes.into());
    call.run(machine)?.map_err(|Refused { code, msg, details }| {
        let reason = format!("code {code}: {msg} {details}").trim_end().to_owned();
        LabError::Cni { verb, pod: name.to_owned(), code, reason }
    })
}

fn namespace(name: &str) -> String {
    format!("/run/netns/{name}")
}
