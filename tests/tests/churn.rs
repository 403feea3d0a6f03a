//! Pods come and go by the hundred while traffic flows, and leave nothing behind.

use std::fs;
use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context as _, Result};
use headrace_lab::daemon::Daemon;
use headrace_lab::process::wait_until;
use headrace_lab::traffic::{Hold, TcpServer};
use headrace_lab::{Lab, LabConfig, counters, pod};

use crate::findings::{Findings, PORT};
use crate::support;

/// Cycles before the first count: what is made once and kept is made now.
const WARM_UP: usize = 10;
const CYCLES: usize = 200;
/// Descriptors of calls that come and go while they are counted.
const CALLS: usize = 4;

#[test]
fn two_hundred_pods_come_and_go_and_nothing_leaks() -> Result<()> {
    let Some(mut lab) = support::lab(LabConfig::default())? else { return Ok(()) };
    let mut findings = Findings::default();
    let _server = TcpServer::start(lab.space("node1-pod2")?, PORT, "node1-pod2")?;
    let address = SocketAddrV4::new(lab.address("node1-pod2")?, PORT);
    let holds = ["node1-pod1", "node2-pod1"]
        .map(|client| Hold::start(lab.space(client)?, address).map_err(anyhow::Error::from));
    let holds = holds.into_iter().collect::<Result<Vec<_>>>()?;

    (0..WARM_UP).try_for_each(|number| cycle(&mut lab, number))?;
    let before = Holdings::count(&lab)?;
    (0..CYCLES).try_for_each(|number| cycle(&mut lab, number).with_context(|| format!("cycle {number}")))?;
    // Descriptors are closed and chunks come back shortly after the port is gone.
    let leaks_nothing = || Holdings::count(&lab).is_ok_and(|now| now.without_calls(&before) == before);
    wait_until(Duration::from_secs(5), leaks_nothing);
    let after = Holdings::count(&lab)?.without_calls(&before);
    findings.equal("held after all pods are gone", &after, &before);
    for hold in holds {
        let report = hold.stop();
        println!("longest gap of a connection: {:.0?}", report.longest_gap);
        findings.equal("a connection breaks", &report.broken.map(|e| e.to_string()), &None);
    }
    findings.finish(lab)
}

/// One pod comes and goes. Of every four, one sends before it goes, and one's namespace is gone before DEL.
fn cycle(lab: &mut Lab, number: usize) -> Result<()> {
    let node = lab.node("node1")?.clone();
    let name = format!("pod{number}");
    let config = lab.state().config.clone();
    let attached = pod::attach(&node.machine, &name, &config)?;
    if number % 4 == 1 {
        attached.space.run(&format!("ping -c 1 -W 2 {}", lab.address("node1-pod1")?))?;
    }
    if number % 4 == 3 {
        node.machine.delete_namespace(&name)?;
    }
    Ok(pod::detach(&node.machine, &name, &config)?)
}

/// Everything that a forgotten pod would show in.
#[derive(Debug, PartialEq)]
struct Holdings {
    links: Vec<String>,
    ports: Vec<String>,
    /// Files of host-local's address store.
    addresses: usize,
    dataplane_files: usize,
    agent_files: usize,
    namespaces: String,
    quarantined: u64,
}

impl Holdings {
    /// With the descriptors of `other` where the numbers differ by no more than calls that are just being made or ended:
    /// a descriptor that every cycle forgets makes two hundred.
    fn without_calls(mut self, other: &Self) -> Self {
        let settle = |now: &mut usize, then: usize| {
            if now.abs_diff(then) <= CALLS {
                *now = then;
            }
        };
        settle(&mut self.dataplane_files, other.dataplane_files);
        settle(&mut self.agent_files, other.agent_files);
        self
    }

    fn count(lab: &Lab) -> Result<Self> {
        let node = lab.node("node1")?;
        let status = lab.dataplane("node1")?;
        let files = |daemon| {
            let process =
                node.daemons.and_then(|daemons| daemons.process(daemon)).context("the daemon is stopped")?;
            anyhow::Ok(process.open_files()?)
        };
        let mut links = counters::links(&node.machine.space)?;
        links.sort();
        let mut ports: Vec<String> = status.ports.iter().map(|port| port.interface.clone()).collect();
        ports.sort();
        let store = node.machine.directory.join("run/ipam/headrace");
        let ledgers = status.workers.iter().flat_map(|worker| &worker.frames_ledger);
        Ok(Self {
            links,
            ports,
            addresses: fs::read_dir(&store).with_context(|| store.display().to_string())?.count(),
            dataplane_files: files(Daemon::Dataplane)?,
            agent_files: files(Daemon::Agent)?,
            namespaces: node.machine.space.run("ls /run/netns")?,
            quarantined: ledgers.map(|ledger| ledger.quarantined).sum(),
        })
    }
}
