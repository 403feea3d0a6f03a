//! Another plugin that gives the addresses: `ipam.type` of the network configuration.
//!
//! It is found in `CNI_PATH` and started with the variables and the whole configuration of this plugin's own request; its
//! standard error goes where this plugin's goes (specification 1.1.0, section 4: "Plugin Delegation"). The plugin calls it,
//! not the agent, which may live in a container without such plugins.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::conf::NetworkConfig;
use crate::env::Environment;
use crate::error::{CniError, ErrorCode};
use crate::result::CniResult;

/// How long a plugin may be busy being written, as libcni has it, and how often that is looked at.
const BEING_WRITTEN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The plugin and what it is called with.
pub(crate) struct Delegate<'a> {
    name: &'a str,
    program: PathBuf,
    environment: &'a Environment,
    config: &'a Value,
}

impl<'a> Delegate<'a> {
    /// `None` when the agent gives the addresses. `json` is `config` as it came.
    ///
    /// # Errors
    /// `INVALID_ENVIRONMENT` without `CNI_PATH`, `INVALID_CONFIG` when the plugin is not there.
    pub(crate) fn find(
        config: &'a NetworkConfig,
        environment: &'a Environment,
        json: &'a Value,
    ) -> Result<Option<Self>, CniError> {
        let Some(name) = config.ipam.as_deref() else { return Ok(None) };
        let path = environment.plugin_path()?;
        let is_file = |program: &PathBuf| fs::metadata(program).is_ok_and(|m| m.is_file());
        let mut places = std::env::split_paths(path).map(|folder| folder.join(name));
        let program = places.find(is_file).ok_or_else(|| {
            let msg = format!("failed to find plugin {name:?} in path {path:?}");
            CniError::new(ErrorCode::INVALID_CONFIG, msg)
                .details("install it there, or drop ipam from the network configuration: headrace-agent gives addresses too")
        })?;
        Ok(Some(Self { name, program, environment, config: json }))
    }

    /// ADD: the addresses it gives, at least one.
    pub(crate) fn add(&self) -> Result<CniResult, CniError> {
        let printed = self.call("ADD")?;
        let what = format!("the result of IPAM plugin {}", self.name);
        let json =
            serde_json::from_slice(&printed).map_err(|e| self.failed(&format!("{what} is no JSON: {e}")))?;
        let result = CniResult::from_json(&what, &json)?;
        if result.ips.is_empty() {
            // It may have reserved something that it did not tell.
            let _ = self.call("DEL");
            return Err(self.failed("it gave no address"));
        }
        Ok(result)
    }

    /// Any other verb, whatever this plugin itself was asked to do.
    pub(crate) fn call(&self, verb: &str) -> Result<Vec<u8>, CniError> {
        let output =
            self.execute(verb).map_err(|e| self.failed(&format!("{}: {e}", self.program.display())))?;
        if output.status.success() { Ok(output.stdout) } else { Err(self.refusal(&output)) }
    }

    fn execute(&self, verb: &str) -> std::io::Result<Output> {
        let mut command = Command::new(&self.program);
        command.envs(self.environment.variables()).env("CNI_COMMAND", verb);
        let mut child = spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let stdin = child.stdin.take();
        let config = self.config.to_string();
        std::thread::scope(|scope| {
            // A plugin that answers before it has read everything is not stopped by that.
            scope.spawn(|| stdin.map(|mut pipe| pipe.write_all(config.as_bytes())));
            child.wait_with_output()
        })
    }

    /// The error it printed, under its code.
    fn refusal(&self, output: &Output) -> CniError {
        match serde_json::from_slice::<CniError>(&output.stdout) {
            Ok(error) => CniError { msg: format!("IPAM plugin {}: {}", self.name, error.msg), ..error },
            Err(_) => self.failed(&format!("it ended with {} and without an error message", output.status)),
        }
    }

    fn failed(&self, cause: &str) -> CniError {
        CniError::new(ErrorCode::INTERNAL, format!("IPAM plugin {}: {cause}", self.name))
    }
}

/// A file that somebody still writes, or whose writer's descriptor a process just forked still holds, does not start
/// (execve(2), ETXTBSY): an upgrade of the plugin, over in a moment.
fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let started = Instant::now();
    loop {
        match command.spawn() {
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy && started.elapsed() < BEING_WRITTEN => {
                std::thread::sleep(LOOK_AGAIN);
            }
            outcome => return outcome,
        }
    }
}
