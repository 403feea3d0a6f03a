//! Pods, nodes and the outside reach each other, in every mode a lab can have.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use headrace_lab::plan::{NodePlan, OUTSIDE_FAR};
use headrace_lab::traffic::{Ping, TcpServer, TooLong, stream};
use headrace_lab::{Encapsulation, Lab, LabConfig, Wire};

use crate::findings::{Findings, PORT};
use crate::support;

/// The pods' gateway, on every node.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

#[test]
fn everything_is_reached_with_one_worker() -> Result<()> {
    everything_is_reached(LabConfig::default())
}

#[test]
fn everything_is_reached_with_two_workers() -> Result<()> {
    everything_is_reached(LabConfig { workers: 2, ..LabConfig::default() })
}

#[test]
fn everything_is_reached_over_af_xdp() -> Result<()> {
    everything_is_reached(support::over_af_xdp(LabConfig::default()))
}

#[test]
fn everything_is_reached_over_af_xdp_with_two_workers() -> Result<()> {
    everything_is_reached(support::over_af_xdp(LabConfig { workers: 2, ..LabConfig::default() }))
}

#[test]
fn everything_is_reached_over_af_xdp_without_superframes() -> Result<()> {
    everything_is_reached(support::over_af_xdp(LabConfig { superframes: false, ..LabConfig::default() }))
}

#[test]
fn everything_is_reached_without_superframes() -> Result<()> {
    everything_is_reached(LabConfig { superframes: false, ..LabConfig::default() })
}

#[test]
fn everything_is_reached_without_a_tunnel() -> Result<()> {
    everything_is_reached(LabConfig { encapsulation: Encapsulation::Direct, ..LabConfig::default() })
}

#[test]
fn everything_is_reached_over_a_wire_that_merges_nothing() -> Result<()> {
    everything_is_reached(LabConfig { wire: Wire::Plain, ..LabConfig::default() })
}

#[test]
fn pods_are_seen_outside_as_themselves_where_masquerading_is_off() -> Result<()> {
    let Some(lab) = support::lab(LabConfig { masquerade: false, ..LabConfig::default() })? else {
        return Ok(());
    };
    let mut findings = Findings::default();
    findings.reach(&lab, "node1-pod1", "outside", &[lab.address("node1-pod1")?]);
    findings.reach(&lab, "outside", "node1-pod1", &[lab.address("outside")?]);
    findings.finish(lab)
}

#[test]
fn routers_answers_come_where_a_router_would_send_them() -> Result<()> {
    let Some(lab) = support::lab(LabConfig::default())? else { return Ok(()) };
    let mut findings = Findings::default();
    let far = lab.address("node2-pod1")?;
    let whole = |address| Ping { too_long: TooLong::Refuse, ..Ping::new(address) };
    let cases = [
        ("echo from the gateway", Ping::new(GATEWAY), "3 received"),
        ("TTL ends at the first router", Ping { ttl: 1, ..Ping::new(far) }, "Time to live exceeded"),
        ("TTL ends at the second router", Ping { ttl: 2, ..Ping::new(far) }, "Time to live exceeded"),
        ("TTL suffices for two routers", Ping { ttl: 3, ..Ping::new(far) }, "3 received"),
        ("fragmentation needed across nodes", Ping { size: 2000, ..whole(far) }, "Frag needed"),
        ("fragmentation needed to the outside", Ping { size: 2000, ..whole(OUTSIDE_FAR) }, "Frag needed"),
    ];
    let pod = lab.space("node1-pod1")?.clone();
    // A pod's route has the path's MTU; without it, only the routers know.
    pod.run(&format!("ip route change default via {GATEWAY} dev eth0 mtu 9000"))?;
    for (what, ping, wanted) in cases {
        let answered = ping.run(&pod).map_err(anyhow::Error::from).and_then(|pong| {
            ensure!(pong.text.contains(wanted), "no {wanted:?} in\n{}", pong.text);
            Ok(())
        });
        findings.check(what, answered);
    }
    findings.finish(lab)
}

fn everything_is_reached(config: LabConfig) -> Result<()> {
    let Some(lab) = support::lab(config)? else { return Ok(()) };
    let mut findings = Findings::default();
    let pod = lab.address("node1-pod1")?;
    for to in ["node1-pod2", "node2-pod1", "node1", "node2"] {
        findings.reach(&lab, "node1-pod1", to, &[pod]);
    }
    findings.reach(&lab, "node1-pod1", "outside", &[lab.address("node1")?]);
    for (from, to) in [("node1", "node1-pod1"), ("node1", "node2-pod1"), ("node2", "node1-pod1")] {
        findings.reach(&lab, from, to, &node_sources(&lab.node(from)?.plan));
    }
    for (from, to) in [("node1-pod1", "node1-pod2"), ("node1-pod1", "node2-pod1"), ("node2", "node1-pod1")] {
        findings.transfer(&lab, from, to, 50_000_000);
    }
    findings.check("from the pod to far outside", far_outside(&lab));
    findings.finish(lab)
}

/// Beyond the LAN's subnet, where only the node's default gateway leads.
fn far_outside(lab: &Lab) -> Result<()> {
    let _server = TcpServer::start(lab.space("outside")?, PORT, "outside")?;
    let server = std::net::SocketAddrV4::new(OUTSIDE_FAR, PORT);
    let (_, greeting) = stream::greet(lab.space("node1-pod1")?, server)?;
    ensure!(greeting.client_seen.ip() == lab.address("node1")?, "the server sees {}", greeting.client_seen);
    Ok(())
}

/// As what a node's own processes may be seen by pods: without translation, by its pod-side or its LAN address.
fn node_sources(node: &NodePlan) -> [Ipv4Addr; 2] {
    [node.pod_side_address(), node.address]
}
