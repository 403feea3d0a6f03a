//! The LAN: a bridge in a namespace of its own with one veth pair to each machine, and the outside host.
//!
//! A veth would carry frames that no wire carries: 64 KiB long, or with a checksum left to hardware that is not there.
//! [`Wire`] says how real it shall be. Whatever goes to a Headrace node gets its checksum completed at the switch, as the
//! sender's NIC would have done; between kernel nodes it stays left to the veth, as checksum hardware would do it for free.
//!
//! A veth also runs its receiver inside the sender's system call, frame by frame, which no wire does. So every NIC that merges
//! segments polls in a thread of its own (threaded NAPI), Headrace's and the kernel's alike, as one with an interrupt would.

use crate::config::Wire;
use crate::machine::Machine;
use crate::plan::{LAN_MTU, NIC, NodeKind, NodePlan, OUTSIDE, OUTSIDE_FAR};
use crate::{LabConfig, LabError, counters};

/// Everything that could make one frame out of many, or leave it to the receiver to segment.
const SEGMENTATION: [&str; 5] =
    ["tso", "gso", "tx-udp-segmentation", "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"];

/// Longest frame of an Ethernet wire, without its checksum.
pub const LONGEST_FRAME: f64 = 1514.0;

/// Makes the bridge.
///
/// # Errors
/// [`LabError::Command`].
pub fn make_switch(lan: &Machine) -> Result<(), LabError> {
    lan.space.run("ip link add lan type bridge").and_then(|_| lan.space.run("ip link set lan up")).map(drop)
}

/// Plugs a node in: its NIC has the node's address and the outside host as default gateway.
///
/// # Errors
/// [`LabError::Command`].
pub fn plug_node(
    lan: &Machine,
    machine: &Machine,
    node: &NodePlan,
    config: &LabConfig,
) -> Result<(), LabError> {
    let complete_checksums = node.kind == NodeKind::Headrace && config.wire != Wire::Whole;
    plug(lan, machine, &node.nic_mac(), config, complete_checksums)?;
    machine.space.script(&format!(
        "ip address add {}/24 dev {NIC}
         ip link set {NIC} up
         ip route add default via {OUTSIDE}",
        node.address
    ))?;
    poll_in_a_thread(machine, config.wire)
}

/// Plugs the outside host in. It knows no pods: only where masquerading is off does it have routes to them.
///
/// # Errors
/// [`LabError::Command`].
pub fn plug_outside(
    lan: &Machine,
    outside: &Machine,
    nodes: &[NodePlan],
    config: &LabConfig,
) -> Result<(), LabError> {
    plug(lan, outside, "02:cc:00:00:00:fe", config, false)?;
    outside.space.script(&format!(
        "ip address add {OUTSIDE}/24 dev {NIC}
         ip address add {OUTSIDE_FAR}/32 dev lo
         ip link set {NIC} up"
    ))?;
    poll_in_a_thread(outside, config.wire)?;
    for node in nodes.iter().filter(|_| !config.masquerade) {
        outside.space.run(&format!("ip route add {} via {}", node.pod_cidr(), node.address))?;
    }
    Ok(())
}

/// Switches the offloads of a machine's NIC and of its port on the switch to what `wire` says.
///
/// # Errors
/// [`LabError::Command`].
pub fn set_wire(
    lan: &Machine,
    machine: &Machine,
    wire: Wire,
    complete_checksums: bool,
) -> Result<(), LabError> {
    let (large, merge) = match wire {
        Wire::Segmented => ("off", "on"),
        Wire::Plain => ("off", "off"),
        Wire::Whole => ("on", "off"),
    };
    let flags: String = SEGMENTATION.iter().map(|flag| format!(" {flag} {large}")).collect();
    machine.space.run(&format!("ethtool -K {NIC} gro {merge} rx-udp-gro-forwarding off{flags}"))?;
    let sums = if complete_checksums { " tx off" } else { "" };
    lan.space.run(&format!("ethtool -K {} gro off{flags}{sums}", machine.space.name)).map(drop)
}

/// Mean length in bytes of the frames that came from `machine` since the counters `before`; 0 without frames.
///
/// # Errors
/// [`LabError::Io`] when the LAN is gone.
pub fn mean_frame(lan: &Machine, machine: &str, before: &counters::LinkCounters) -> Result<f64, LabError> {
    let after = counters::link(&lan.space, machine)?;
    Ok(after.since(before).mean_received())
}

fn plug(
    lan: &Machine,
    machine: &Machine,
    mac: &str,
    config: &LabConfig,
    complete_checksums: bool,
) -> Result<(), LabError> {
    let name = &machine.space.name;
    let queues = format!("numtxqueues {0} numrxqueues {0}", config.workers);
    let holder = machine.holder.pid;
    lan.space.script(&format!(
        "ip link add {name} mtu {LAN_MTU} {queues} type veth \
            peer name {NIC} mtu {LAN_MTU} address {mac} {queues} netns {holder}
         ip link set {name} master lan up"
    ))?;
    set_wire(lan, machine, config.wire, complete_checksums)
}

/// Only a veth that is up and merges has something to poll.
fn poll_in_a_thread(machine: &Machine, wire: Wire) -> Result<(), LabError> {
    if wire == Wire::Segmented {
        machine.space.script(&format!("echo 1 > /sys/class/net/{NIC}/threaded"))?;
    }
    Ok(())
}
