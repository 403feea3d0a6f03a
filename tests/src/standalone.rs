//! Dataplanes that run alone, from a state file, without an agent: each on a machine of its own, with clients in namespaces
//! behind its ports.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use crate::daemon::{self, Daemon};
use crate::machine::Machine;
use crate::plan::NIC;
use crate::process::{Process, wait_until};
use crate::{LabError, Space, dataplane};

/// Time to serve after the start.
const LIMIT: Duration = Duration::from_secs(15);

/// The file by which the dataplane on a machine runs.
#[must_use]
pub fn state_file(machine: &Machine) -> PathBuf {
    machine.directory.join("state.yaml")
}

/// A namespace on the machine whose only address is `address`, behind port `name` of the dataplane. Checksums and segments
/// are left to the port, unless `offloads` is false.
///
/// # Errors
/// [`LabError::Command`].
pub fn client(machine: &Machine, name: &str, address: Ipv4Addr, offloads: bool) -> Result<Space, LabError> {
    let space = behind_veth(machine, name, offloads)?;
    let mac = mac(address);
    space.script(&format!(
        "ip link set {NIC} address {mac} up
         ip address add {address}/32 dev {NIC}
         ip route add 169.254.1.1 dev {NIC} scope link
         ip route add default via 169.254.1.1"
    ))?;
    Ok(space)
}

/// A namespace with one end of a veth, without an address; the other end is `name` on the machine.
pub(crate) fn behind_veth(machine: &Machine, name: &str, offloads: bool) -> Result<Space, LabError> {
    let space = machine.add_namespace(name)?;
    machine.space.script(&format!(
        "ip link add {name} type veth peer name {NIC} netns {name}
         ip link set {name} up"
    ))?;
    if !offloads {
        space.run(&format!("ethtool -K {NIC} tx off tso off gso off gro off"))?;
    }
    Ok(space)
}

/// The line of a state file for the port of [`client`].
#[must_use]
pub fn port(id: u32, name: &str, address: Ipv4Addr) -> String {
    let mac = mac(address);
    format!("  - {{id: {id}, interface: {name}, mac: \"{mac}\", addresses: [{address}]}}\n")
}

/// Starts a dataplane with `state` in its file, and waits until it serves.
///
/// # Errors
/// [`LabError::Daemon`] with the end of its log.
pub fn start(machine: &Machine, state: &str, arguments: &[&str]) -> Result<Process, LabError> {
    let (file, run_dir) = (state_file(machine), machine.directory.join("run"));
    fs::write(&file, state).map_err(LabError::io(format!("write {}", file.display())))?;
    let program = daemon::binary(Daemon::Dataplane.binary())?.display().to_string();
    let (file, folder) = (file.display().to_string(), run_dir.display().to_string());
    let line = [program.as_str(), "--run-dir", &folder, "--state", &file];
    let process = machine.launch(Daemon::Dataplane.binary(), line.iter().chain(arguments))?;
    let serves = || dataplane::status(&run_dir).is_ok_and(|status| status.state_source == "file");
    wait_until(LIMIT, || !process.alive() || serves());
    if process.alive() && serves() {
        return Ok(process);
    }
    // One that does not serve is of no use to anybody.
    let _ = process.signal(rustix::process::Signal::KILL);
    Err(daemon::failure(machine, Daemon::Dataplane, "does not run by its state file".to_owned()))
}

fn mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}
