//! Pods of a Headrace node, attached as a container runtime does: a network namespace, and the CNI plugin called with
//! CNI_* in its environment.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnetwork::Ipv4Network;
use serde::Deserialize;
use serde_json::json;

use crate::command::Output;
use crate::machine::Machine;
use crate::plan::NIC;
use crate::state::Pod;
use crate::{LabConfig, LabError, daemon};

/// Error code "try again later" of the CNI specification: the agent is not there yet.
pub const TRY_AGAIN: u32 = 11;

/// Time for one call of the plugin.
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
    let failed = |problem: String| LabError::Output { tool: "headrace-cni", problem, output: result.clone() };
    let added: Added = serde_json::from_str(&result).map_err(|error| failed(error.to_string()))?;
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

/// An error on the plugin's standard output.
#[derive(Deserialize)]
struct Refused {
    code: u32,
    msg: String,
    #[serde(default)]
    details: String,
}

fn succeed(
    verb: &'static str,
    machine: &Machine,
    name: &str,
    config: &LabConfig,
) -> Result<String, LabError> {
    let output = call(verb, machine, name, config)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let (code, reason) = match serde_json::from_str::<Refused>(&output.stdout) {
        Ok(refused) => (
            refused.code,
            format!("code {}: {} {}", refused.code, refused.msg, refused.details).trim_end().to_owned(),
        ),
        Err(_) => (0, format!("{}\n{}", output.status, output.text())),
    };
    Err(LabError::Cni { verb, pod: name.to_owned(), code, reason })
}

fn call(verb: &'static str, machine: &Machine, name: &str, config: &LabConfig) -> Result<Output, LabError> {
    let plugin = daemon::binary("headrace-cni")?;
    let folder = plugin.parent().unwrap_or(&plugin).display();
    let superframes = if config.superframes { "on" } else { "off" };
    let network = json!({
        "cniVersion": "1.0.0",
        "name": "headrace",
        "type": "headrace-cni",
        "runDir": machine.directory.join("run"),
        "superframes": superframes,
    });
    let environment = [
        format!("CNI_COMMAND={verb}"),
        format!("CNI_CONTAINERID={name}"),
        format!("CNI_NETNS={}", namespace(name)),
        format!("CNI_IFNAME={NIC}"),
        format!("CNI_PATH={folder}"),
        format!(
            "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={name}"
        ),
    ];
    let plugin = plugin.display().to_string();
    let argv: Vec<&str> = std::iter::once("env")
        .chain(environment.iter().map(String::as_str))
        .chain([plugin.as_str()])
        .collect();
    machine.space.with_input(&argv, Some(&network.to_string()), LIMIT)
}

fn namespace(name: &str) -> String {
    format!("/run/netns/{name}")
}
