//! Daemons stop, crash and come back; established connections do not notice more than a pause.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use headrace_lab::daemon::Daemon;
use headrace_lab::plan::OUTSIDE_FAR;
use headrace_lab::pod::TRY_AGAIN;
use headrace_lab::process::wait_until;
use headrace_lab::traffic::{Hold, Ping, TcpServer};
use headrace_lab::{Lab, LabConfig, LabError, Service};

use crate::findings::{Findings, PORT};
use crate::support::{self, End};

/// Time for a connection to go on after a restart: the peers' retransmission timers have backed off meanwhile.
const RESUME_LIMIT: Duration = Duration::from_secs(20);
/// How long a daemon stays away.
const AWAY: Duration = Duration::from_millis(500);

#[test]
fn connections_survive_a_dataplane_that_is_killed_and_started_again() -> Result<()> {
    connections_survive(LabConfig::default(), Daemon::Dataplane, "killed", Lab::kill)
}

#[test]
fn connections_survive_a_dataplane_that_is_killed_and_started_again_over_af_xdp() -> Result<()> {
    connections_survive(support::over_af_xdp(LabConfig::default()), Daemon::Dataplane, "killed", Lab::kill)
}

#[test]
fn connections_survive_a_dataplane_that_is_killed_and_started_again_with_two_workers() -> Result<()> {
    connections_survive(
        LabConfig { workers: 2, ..LabConfig::default() },
        Daemon::Dataplane,
        "killed",
        Lab::kill,
    )
}

#[test]
fn connections_survive_a_dataplane_that_is_stopped_and_started_again() -> Result<()> {
    connections_survive(LabConfig::default(), Daemon::Dataplane, "stopped", Lab::stop)
}

#[test]
fn connections_survive_an_agent_that_is_killed_and_started_again() -> Result<()> {
    connections_survive(LabConfig::default(), Daemon::Agent, "killed", Lab::kill)
}

#[test]
fn connections_survive_an_agent_that_is_stopped_and_started_again() -> Result<()> {
    connections_survive(LabConfig::default(), Daemon::Agent, "stopped", Lab::stop)
}

#[test]
fn a_pod_cannot_be_attached_without_an_agent_and_nothing_of_it_stays() -> Result<()> {
    let Some(mut lab) = support::lab(LabConfig { nodes: 1, ..LabConfig::default() })? else { return Ok(()) };
    let mut findings = Findings::default();
    lab.kill("node1", Daemon::Agent)?;
    let node = lab.node("node1")?.clone();
    let links = headrace_lab::counters::links(&node.machine.space)?;
    let refused = headrace_lab::pod::attach(&node.machine, "late", &lab.state().config);
    let code = match refused {
        Err(LabError::Cni { code, .. }) => Some(code),
        _ => None,
    };
    findings.equal("code of the refusal", &code, &Some(TRY_AGAIN));
    findings.equal("links", &headrace_lab::counters::links(&node.machine.space)?, &links);
    lab.start("node1", Daemon::Agent)?;
    lab.attach("node1", "late")?;
    let pong = Ping::new(lab.address("late")?).run(lab.space("node1-pod1")?)?;
    findings.equal("replies of the late pod", &pong.received, &3);
    findings.finish(lab)
}

fn connections_survive(config: LabConfig, daemon: Daemon, how: &str, end: End) -> Result<()> {
    let Some(mut lab) = support::lab(config)? else { return Ok(()) };
    let web = Service::new("web", 80, PORT, &[lab.address("node2-pod1")?]);
    lab.apply_service(&web)?;
    let servers =
        ["node1-pod2", "node2-pod1", "outside"].map(|name| TcpServer::start(lab.space(name)?, PORT, name));
    let _servers = servers.into_iter().collect::<Result<Vec<_>, _>>()?;
    let holds = [
        ("same node", lab.address("node1-pod2")?),
        ("across nodes", lab.address("node2-pod1")?),
        ("ClusterIP", web.cluster_ip),
        ("masqueraded", OUTSIDE_FAR),
    ]
    .map(|(what, address)| Ok((what, hold(&lab, address)?)));
    let holds = holds.into_iter().collect::<Result<Vec<_>>>()?;
    std::thread::sleep(Duration::from_millis(300));

    let start = Instant::now();
    end(&mut lab, "node1", daemon)?;
    std::thread::sleep(AWAY);
    lab.start("node1", daemon)?;
    println!("{} {how}, back after {:.0?}", daemon.binary(), start.elapsed());
    let mut findings = Findings::default();
    for (what, hold) in holds {
        let before = hold.echoed();
        let resumed = wait_until(RESUME_LIMIT, || hold.echoed() > before + 20);
        findings.equal(format!("{what}: goes on"), &resumed, &true);
        let report = hold.stop();
        println!("{} {how}, {what}: longest gap {:.0?}", daemon.binary(), report.longest_gap);
        findings.equal(format!("{what}: broken"), &report.broken.map(|e| e.to_string()), &None);
    }
    findings.check("new connections", new_connections(&mut lab, &web));
    findings.finish(lab)
}

/// After the restart all works as before, also for new pods.
fn new_connections(lab: &mut Lab, web: &Service) -> Result<()> {
    for address in [web.cluster_ip, OUTSIDE_FAR] {
        ensure!(hold(lab, address)?.stop().broken.is_none(), "a new connection to {address} breaks");
    }
    lab.attach("node1", "new")?;
    let pong = Ping::new(lab.address("node2-pod1")?).run(lab.space("new")?)?;
    ensure!(pong.received == 3, "the new pod: {}", pong.text);
    lab.detach("new")?;
    lab.detach("node1-pod2")?;
    Ok(())
}

fn hold(lab: &Lab, address: Ipv4Addr) -> Result<Hold> {
    Ok(Hold::start(lab.space("node1-pod1")?, SocketAddrV4::new(address, PORT))?)
}
