//! The CNI plugin, called as a container runtime calls it: variables and a network configuration in, JSON out.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::plan::NIC;
use crate::{LabError, daemon};

/// Time for one call of the plugin.
const LIMIT: Duration = Duration::from_secs(60);

/// One call. [`CniCall::new`] makes one that succeeds; tests change it.
#[derive(Clone, Debug)]
pub struct CniCall {
    /// `CNI_*` variables; an absent one is not set.
    pub variables: BTreeMap<&'static str, String>,
    /// What is written to standard input.
    pub config: Value,
}

/// An error that the plugin has printed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Refused {
    /// Code of the CNI specification.
    pub code: u32,
    /// What failed.
    pub msg: String,
    /// Cause or remedy.
    #[serde(default)]
    pub details: String,
}

impl CniCall {
    /// A call for interface `eth0` of the container and namespace `name` on `machine`.
    ///
    /// # Errors
    /// [`LabError`] when the plugin is not built.
    pub fn new(machine: &Machine, verb: &str, name: &str) -> Result<Self, LabError> {
        let plugin = daemon::binary("headrace-cni")?;
        let folder = plugin.parent().unwrap_or(&plugin).display();
        let variables = [
            ("CNI_COMMAND", verb.to_owned()),
            ("CNI_CONTAINERID", name.to_owned()),
            ("CNI_NETNS", format!("/run/netns/{name}")),
            ("CNI_IFNAME", NIC.to_owned()),
            ("CNI_PATH", format!("{folder}:/usr/lib/cni")),
            (
                "CNI_ARGS",
                format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={name}"
                ),
            ),
        ];
        let config = json!({
            "cniVersion": "1.0.0",
            "name": "headrace",
            "type": "headrace-cni",
            "runDir": machine.directory.join("run"),
        });
        Ok(Self { variables: variables.into(), config })
    }

    /// The same with another variable.
    #[must_use]
    pub fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.insert(name, value.to_owned());
        self
    }

    /// The same with another key in the network configuration; `null` removes it.
    #[must_use]
    pub fn key(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// Runs the plugin on the node. What it printed: a result, nothing (`null`), or an error.
    ///
    /// # Errors
    /// [`LabError`] when it cannot be run, or prints what is no JSON.
    pub fn run(&self, machine: &Machine) -> Result<Result<Value, Refused>, LabError> {
        let plugin = daemon::binary("headrace-cni")?.display().to_string();
        let variables: Vec<_> =
            self.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let argv: Vec<&str> = std::iter::once("env")
            .chain(variables.iter().map(String::as_str))
            .chain([plugin.as_str()])
            .collect();
        let output = machine.space.with_input(&argv, Some(&self.config.to_string()), LIMIT)?;
        let failed =
            |problem: String| LabError::Output { tool: "headrace-cni", problem, output: output.text() };
        let text = output.stdout.trim();
        match (output.status.success(), text.is_empty()) {
            (true, true) => Ok(Ok(Value::Null)),
            (true, false) => serde_json::from_str(text).map(Ok).map_err(|e| failed(e.to_string())),
            (false, _) => serde_json::from_str(text).map(Err).map_err(|e| failed(e.to_string())),
        }
    }
}
