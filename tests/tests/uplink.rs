//! The node's NIC stays the kernel's: what is not ours goes on, whatever the dataplane does.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Result, ensure};
use headrace_lab::daemon::Daemon;
use headrace_lab::plan::NIC;
use headrace_lab::traffic::{Hold, Ping, TcpServer, stream};
use headrace_lab::{Lab, LabConfig};

use crate::findings::Findings;
use crate::support::{self, End};

/// As ssh: a long connection from another machine to the node itself.
const SSH: u16 = 22;

#[test]
fn the_nodes_own_connections_go_on_while_the_dataplane_starts_stops_and_dies() -> Result<()> {
    let Some(mut lab) = support::lab(LabConfig { nodes: 1, ..LabConfig::default() })? else { return Ok(()) };
    let mut findings = Findings::default();
    let _server = TcpServer::start(lab.space("node1")?, SSH, "node1")?;
    let node = SocketAddrV4::new(lab.address("node1")?, SSH);
    let hold = Hold::start(lab.space("outside")?, node)?;
    let ends: [(&str, End); 2] = [("stopped", Lab::stop), ("killed", Lab::kill)];
    for (how, end) in ends {
        end(&mut lab, "node1", Daemon::Dataplane)?;
        findings.check(format!("{how}: reach the node"), reach(&lab, node));
        std::thread::sleep(Duration::from_millis(300));
        lab.start("node1", Daemon::Dataplane)?;
        findings.check(format!("{how} and started again: reach the node"), reach(&lab, node));
    }
    let report = hold.stop();
    println!("longest gap of the node's own connection: {:.0?}", report.longest_gap);
    findings.equal("the connection breaks", &report.broken.map(|e| e.to_string()), &None);
    findings.equal("numbers came back", &(report.echoed > 50), &true);
    findings.finish(lab)
}

#[test]
fn an_uplink_gets_a_queue_for_each_worker_where_that_is_asked_for() -> Result<()> {
    let config = LabConfig {
        nodes: 2,
        workers: 2,
        dataplane_args: vec!["--uplink-queues=match".into()],
        ..LabConfig::default()
    };
    let Some(mut lab) = support::lab(config)? else { return Ok(()) };
    let mut findings = Findings::default();
    lab.stop("node1", Daemon::Dataplane)?;
    let one = lab.space("node1")?.run(&format!("ethtool -L {NIC} rx 1 tx 1"));
    findings.check("one queue", one);
    findings.equal("queues before", &queues(&lab)?, &Some(1));
    lab.start("node1", Daemon::Dataplane)?;
    findings.equal("queues afterwards", &queues(&lab)?, &Some(2));
    findings.reach(&lab, "node1-pod1", "node2-pod1", &[lab.address("node1-pod1")?]);
    findings.finish(lab)
}

/// Receive queues of node1's uplink, as ethtool tells them.
fn queues(lab: &Lab) -> Result<Option<u32>> {
    let text = lab.space("node1")?.run(&format!("ethtool -l {NIC}"))?;
    let now = text.lines().rev().find_map(|line| line.strip_prefix("RX:"));
    Ok(now.and_then(|count| count.trim().parse().ok()))
}

fn reach(lab: &Lab, node: SocketAddrV4) -> Result<()> {
    stream::greet(lab.space("outside")?, node)?;
    let pong = Ping::new(*node.ip()).run(lab.space("outside")?)?;
    ensure!(pong.received == 3, "{}", pong.text);
    // The node's own connections to the outside.
    let _server = TcpServer::start(lab.space("outside")?, SSH, "outside")?;
    stream::greet(lab.space("node1")?, SocketAddrV4::new(lab.address("outside")?, SSH))?;
    Ok(())
}
