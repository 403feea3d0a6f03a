//! Fragmentation-needed inside translated connections: it reaches the true sender, about the address that it sent to.
//!
//! The sender's kernel only takes an error that quotes a packet of its own, so its routing cache is the proof.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Result, ensure};
use headrace_lab::process::wait_until;
use headrace_lab::traffic::{UdpServer, datagram};
use headrace_lab::{Lab, LabConfig};

use crate::exposed::{self, Exposed};
use crate::findings::{Findings, PORT};
use crate::support;

/// Behind the outside host, over a link that takes less than the LAN does.
const NARROW: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const NARROW_MTU: usize = 1300;
/// IPv4 and UDP headers.
const HEADERS: usize = 28;

#[test]
fn fragmentation_needed_reaches_the_true_sender_through_a_translation() -> Result<()> {
    let Some(mut lab) = support::lab(LabConfig::default())? else { return Ok(()) };
    exposed::routes(&lab)?;
    let mut findings = Findings::default();
    let endpoint = lab.address("node2-pod1")?;
    let _server = UdpServer::start(lab.space("node2-pod1")?, endpoint, PORT, "node2-pod1")?;
    let service = exposed::service("wide", 50, &[endpoint]);
    lab.apply_service(&service)?;
    findings.check("rules", exposed::wait_for_rules(&lab, "node1", &service));
    // A pod's routes have the path's MTU; without it, only the routers on the way know.
    lab.space("node1-pod1")?.run("ip route change default via 169.254.1.1 dev eth0 mtu 1500")?;
    let node = lab.address("node1")?;
    let cluster_ip = SocketAddrV4::new(service.cluster_ip, service.port);
    let cases = [
        ("a pod, by the clusterIP", "node1-pod1", cluster_ip),
        ("a pod, by a NodePort", "node1-pod1", exposed::node_port(&service, node)),
        ("outside, by a NodePort", "outside", exposed::node_port(&service, node)),
        ("outside, by a load balancer", "outside", Exposed::LoadBalancer.address(&service, node)),
        ("a node process, by an external address", "node1", Exposed::ExternalIp.address(&service, node)),
    ];
    for (what, client, address) in cases {
        findings.check(what, learns(&lab, client, address, 1500, 1450));
    }
    findings.check("a masqueraded pod, from a router beyond the node", beyond(&lab));
    findings.finish(lab)
}

/// A datagram of `sent` bytes, headers included, teaches `client` that the path takes `mtu`.
fn learns(lab: &Lab, client: &str, address: SocketAddrV4, sent: usize, mtu: usize) -> Result<()> {
    let space = lab.space(client)?;
    let socket = datagram::bind(space, Ipv4Addr::UNSPECIFIED, 0)?;
    let payload = vec![b'x'; sent - HEADERS];
    socket.send_to(&payload, address)?;
    let mut route = String::new();
    let learnt = wait_until(Duration::from_secs(3), || {
        route = space.run(&format!("ip route get {}", address.ip())).unwrap_or_default();
        route.contains(&format!("mtu {mtu}"))
    });
    ensure!(learnt, "its route is {route}");
    Ok(())
}

fn beyond(lab: &Lab) -> Result<()> {
    lab.space("outside")?.script(&format!(
        "ip link add narrow0 mtu {NARROW_MTU} type veth peer name narrow1 mtu {NARROW_MTU}
         ip link set narrow0 up
         ip link set narrow1 up
         ip route add {NARROW}/32 dev narrow0
         sysctl -qw net.ipv4.ip_forward=1"
    ))?;
    learns(lab, "node1-pod1", SocketAddrV4::new(NARROW, PORT), 1450, NARROW_MTU)
}
