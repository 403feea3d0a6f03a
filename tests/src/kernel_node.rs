//! A kernel node: VXLAN device, bridge, routes, neighbour and forwarding entries as flannel makes them with netlink,
//! masquerading as flannel does, Services as kube-proxy does with iptables. No part of Headrace.
//!
//! It is the peer of the interworking tests and the yardstick of every measurement.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::machine::Machine;
use crate::plan::{CLUSTER_CIDR, NIC, NodePlan, POD_MTU};
use crate::state::Pod;
use crate::{LabError, Service};

/// Sets the node up; `peers` are all nodes of the lab, itself included.
///
/// # Errors
/// [`LabError::Command`] with the step that failed.
pub fn set_up(machine: &Machine, node: &NodePlan, peers: &[NodePlan]) -> Result<(), LabError> {
    machine.space.script(&device(node, &node.vtep_mac(), node.address))?;
    machine.space.script(&bridge(node))?;
    remotes(machine, node, peers)?;
    machine.space.script(&masquerade(node))?;
    Ok(())
}

/// Makes the tunnel's device anew with another MAC address and another end, as flanneld does that finds it changed.
///
/// # Errors
/// [`LabError::Command`] with the step that failed.
pub fn move_tunnel(
    machine: &Machine,
    node: &NodePlan,
    peers: &[NodePlan],
    mac: &str,
    end: Ipv4Addr,
) -> Result<(), LabError> {
    machine.space.run("ip link delete flannel.1")?;
    machine.space.script(&device(node, mac, end))?;
    remotes(machine, node, peers)
}

/// Takes away what stands for flanneld, for the real one; bridge and pods, which are its plugin's, stay.
///
/// # Errors
/// [`LabError::Command`].
pub fn remove_flannel(machine: &Machine) -> Result<(), LabError> {
    machine
        .space
        .script(
            "ip link delete flannel.1
             iptables -w -t nat -D POSTROUTING -j FLANNEL-POSTRTG
             iptables -w -t nat -F FLANNEL-POSTRTG
             iptables -w -t nat -X FLANNEL-POSTRTG",
        )
        .map(drop)
}

/// Attaches a pod with the address `address`: veth to the bridge, as flannel's CNI plugin has the bridge plugin do.
///
/// # Errors
/// [`LabError::Command`] with the step that failed.
pub fn attach(machine: &Machine, node: &NodePlan, name: &str, address: Ipv4Addr) -> Result<Pod, LabError> {
    let space = machine.add_namespace(name)?;
    let host_end = format!("veth{}", address.octets()[3]);
    machine.space.script(&format!(
        "ip link add {host_end} mtu {POD_MTU} type veth peer name {NIC} mtu {POD_MTU} netns {name}
         ip link set {host_end} master cni0 up
         ip link set {host_end} type bridge_slave hairpin on"
    ))?;
    space.script(&format!(
        "ip address add {address}/24 dev {NIC}
         ip link set {NIC} up
         ip route add default via {}",
        node.gateway()
    ))?;
    Ok(Pod { name: name.to_owned(), address, space })
}

/// Puts a Service in force, replacing an earlier one of that name.
///
/// # Errors
/// [`LabError::Command`].
pub fn apply_service(machine: &Machine, node: &NodePlan, service: &Service) -> Result<(), LabError> {
    remove_service(machine, &service.name)?;
    if service.endpoints.iter().any(|endpoint| node.holds(*endpoint)) {
        // Replies from a pod to a pod of the same bridge have to be translated back. A cluster's nodes have this set
        // always; without need it would only slow the yardstick down.
        machine.space.run("sysctl -qw net.bridge.bridge-nf-call-iptables=1")?;
    }
    machine.space.script(&service_rules(node, service)).map(drop)
}

/// Removes a Service; it need not be there.
///
/// # Errors
/// [`LabError::Command`].
pub fn remove_service(machine: &Machine, name: &str) -> Result<(), LabError> {
    let chain = chain(name);
    machine
        .space
        .script(&format!("iptables-save | grep -vE -- '[ :]{chain}( |$)' | iptables-restore"))
        .map(drop)
}

/// The device that flanneld makes.
fn device(node: &NodePlan, mac: &str, end: Ipv4Addr) -> String {
    format!(
        "ip link add flannel.1 address {mac} mtu {POD_MTU} type vxlan id 1 dev {NIC} local {end} dstport 8472 nolearning
         ip address add {s0}/32 dev flannel.1
         ip link set flannel.1 up",
        s0 = node.pod_side_address(),
    )
}

/// The bridge that its plugin makes.
fn bridge(node: &NodePlan) -> String {
    format!(
        "sysctl -qw net.ipv4.ip_forward=1
         ip link add cni0 type bridge
         ip link set cni0 mtu {POD_MTU} up
         ip address add {}/24 dev cni0",
        node.gateway(),
    )
}

fn remotes(machine: &Machine, node: &NodePlan, peers: &[NodePlan]) -> Result<(), LabError> {
    for peer in peers.iter().filter(|peer| peer.name != node.name) {
        machine.space.script(&remote(peer))?;
    }
    Ok(())
}

/// What flanneld adds for each remote node.
fn remote(peer: &NodePlan) -> String {
    format!(
        "ip neigh replace {s0} lladdr {mac} dev flannel.1 nud permanent
         bridge fdb replace {mac} dev flannel.1 dst {address} self permanent
         ip route replace {cidr} via {s0} dev flannel.1 onlink",
        s0 = peer.pod_side_address(),
        mac = peer.vtep_mac(),
        address = peer.address,
        cidr = peer.pod_cidr(),
    )
}

/// flanneld's rules for --ip-masq.
fn masquerade(node: &NodePlan) -> String {
    format!(
        "nat() {{ iptables -w -t nat \"$@\"; }}
         nat -N FLANNEL-POSTRTG
         nat -A POSTROUTING -j FLANNEL-POSTRTG
         nat -A FLANNEL-POSTRTG -s {own} -d {CLUSTER_CIDR} -j RETURN
         nat -A FLANNEL-POSTRTG -s {CLUSTER_CIDR} -d {own} -j RETURN
         nat -A FLANNEL-POSTRTG ! -s {CLUSTER_CIDR} -d {own} -j RETURN
         nat -A FLANNEL-POSTRTG -s {CLUSTER_CIDR} ! -d 224.0.0.0/4 -j MASQUERADE --random-fully
         nat -A FLANNEL-POSTRTG ! -s {CLUSTER_CIDR} -d {CLUSTER_CIDR} -j MASQUERADE --random-fully",
        own = node.pod_cidr()
    )
}

/// One chain per Service; among n endpoints the k-th is taken with probability 1/(n-k), as kube-proxy's iptables mode does.
fn service_rules(node: &NodePlan, service: &Service) -> String {
    let chain = chain(&service.name);
    let mut script = format!("nat() {{ iptables -w -t nat \"$@\"; }}\nnat -N {chain}\n");
    let left = (1..=service.endpoints.len()).rev();
    // Writing to a string cannot fail.
    for (endpoint, left) in service.endpoints.iter().zip(left) {
        #[allow(clippy::cast_precision_loss)]
        let chance = 1.0 / left as f64;
        let pick = format!("-m statistic --mode random --probability {chance:.6}");
        let pick = if left > 1 { pick.as_str() } else { "" };
        for protocol in ["tcp", "udp"] {
            let target = format!("{endpoint}:{}", service.target_port);
            let _ = writeln!(script, "nat -A {chain} -p {protocol} {pick} -j DNAT --to-destination {target}");
        }
    }
    for hook in ["PREROUTING", "OUTPUT"] {
        for protocol in ["tcp", "udp"] {
            let (ip, port) = (service.cluster_ip, service.port);
            let _ = writeln!(script, "nat -A {hook} -d {ip}/32 -p {protocol} --dport {port} -j {chain}");
        }
    }
    for (port, protocol) in service.node_port.iter().flat_map(|port| [(port, "tcp"), (port, "udp")]) {
        // Traffic from outside carries the node's address on, so that the answer comes back by this node: kube-proxy marks
        // it in KUBE-EXT and masquerades it in KUBE-POSTROUTING.
        let own = node.address;
        let _ = writeln!(
            script,
            "nat -A PREROUTING -d {own}/32 -p {protocol} --dport {port} -m comment --comment {chain} -j MARK --or-mark 0x4000
             nat -A PREROUTING -d {own}/32 -p {protocol} --dport {port} -j {chain}"
        );
    }
    if service.node_port.is_some() {
        let _ = writeln!(
            script,
            "nat -I POSTROUTING -m mark --mark 0x4000/0x4000 -m comment --comment {chain} -j MASQUERADE --random-fully"
        );
    }
    script
}

/// A chain's name has at most 28 characters.
fn chain(service: &str) -> String {
    format!("LAB-{}", service.chars().take(20).collect::<String>())
}
