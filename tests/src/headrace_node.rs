//! A Headrace node: both daemons, and no setting of the kernel's that would forward in their place.

use std::time::Duration;

use crate::daemon::{Daemon, Daemons};
use crate::machine::Machine;
use crate::plan::NodePlan;
use crate::process::wait_until;
use crate::state::Pod;
use crate::{LabConfig, LabError, Service, daemon, dataplane, manifests, pod};

/// Time for the agent to reach the dataplane and for a changed manifest to be in force.
const LIMIT: Duration = Duration::from_secs(10);

/// Writes the manifests, starts both daemons and waits until the dataplane has the agent's state.
///
/// # Errors
/// [`LabError::Daemon`] with the end of a log.
pub fn set_up(
    machine: &Machine,
    nodes: &[NodePlan],
    services: &[Service],
    config: &LabConfig,
) -> Result<Daemons, LabError> {
    if !config.masquerade {
        // The LAN routes to pods' addresses, so that packets reach the kernel as they do any router. Without need it stays
        // off: nothing that the dataplane should carry must get through by the kernel.
        machine.space.run("sysctl -qw net.ipv4.ip_forward=1")?;
    }
    let folder = machine.directory.join("manifests");
    manifests::write_nodes(&folder, nodes)?;
    for service in services {
        manifests::write_service(&folder, service, nodes)?;
    }
    let mut daemons = Daemons::default();
    for kind in Daemon::ALL {
        daemons.set(kind, Some(daemon::start(machine, kind, config)?));
    }
    wait_fed(machine)?;
    Ok(daemons)
}

/// Waits until the dataplane has its state from a live agent.
///
/// # Errors
/// [`LabError::Daemon`] with the end of the agent's log.
pub fn wait_fed(machine: &Machine) -> Result<(), LabError> {
    let run_dir = machine.directory.join("run");
    let fed =
        || dataplane::status(&run_dir).is_ok_and(|s| s.state_source == "controller" && s.generation > 0);
    if wait_until(LIMIT, fed) {
        return Ok(());
    }
    let last = match dataplane::status(&run_dir) {
        Ok(status) => format!("generation {}, refusals {:?}", status.generation, status.last_refusals),
        Err(error) => error,
    };
    Err(daemon::failure(machine, Daemon::Agent, format!("did not feed the dataplane in {LIMIT:?} ({last})")))
}

/// Attaches a pod. A refusal that says "try again later" is tried again for some seconds, as a runtime does.
///
/// # Errors
/// [`LabError::Cni`].
pub fn attach(machine: &Machine, name: &str, config: &LabConfig) -> Result<Pod, LabError> {
    let mut result = pod::attach(machine, name, config);
    wait_until(LIMIT, || {
        let again = matches!(&result, Err(LabError::Cni { code: pod::TRY_AGAIN, .. }));
        if again {
            result = pod::attach(machine, name, config);
        }
        !again
    });
    result
}

/// Writes `service` and waits until the dataplane has taken it.
///
/// # Errors
/// [`LabError::Daemon`] when the agent does not hand it on.
pub fn apply_service(machine: &Machine, service: &Service, nodes: &[NodePlan]) -> Result<(), LabError> {
    changed(machine, |folder| manifests::write_service(folder, service, nodes))
}

/// Removes the Service `name` and waits until the dataplane has.
///
/// # Errors
/// [`LabError::Daemon`] when the agent does not hand it on.
pub fn remove_service(machine: &Machine, name: &str) -> Result<(), LabError> {
    changed(machine, |folder| manifests::remove_service(folder, name))
}

/// Changes the manifests and waits for a new generation in the dataplane.
fn changed(
    machine: &Machine,
    change: impl FnOnce(&std::path::Path) -> Result<(), LabError>,
) -> Result<(), LabError> {
    let run_dir = machine.directory.join("run");
    let generation = || {
        let node = machine.space.name.clone();
        dataplane::status(&run_dir)
            .map(|s| s.generation)
            .map_err(|problem| LabError::Status { node, problem })
    };
    let before = generation()?;
    change(&machine.directory.join("manifests"))?;
    if wait_until(LIMIT, || generation().is_ok_and(|now| now > before)) {
        return Ok(());
    }
    let problem = format!("handed no change of its manifests on in {LIMIT:?} (generation stays {before})");
    Err(daemon::failure(machine, Daemon::Agent, problem))
}
