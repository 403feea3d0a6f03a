//! Two dataplanes that run alone, each by a file, chained by a tunnel: a client behind each.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use headrace_lab::machine::Machine;
use headrace_lab::process::wait_until;
use headrace_lab::traffic::{Iperf, Ping};
use headrace_lab::{LabConfig, dataplane, standalone};

use crate::support;

const LEFT: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 2);
const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 9, 2, 2);
/// Time for a changed file to be in force: it is looked at every other second.
const LIMIT: Duration = Duration::from_secs(20);

fn state(own: u8, other: u8, port: &str) -> String {
    format!(
        "settings:
  node-addresses: [192.0.2.{own}]
  pod-cidrs: [10.9.{own}.0/24]
  cluster-cidrs: [10.9.0.0/16]
  vtep-mac: '02:00:00:00:00:0{own}'
ports:
{port}peers:
  - {{name: other, address: 192.0.2.{other}, pod-cidrs: [10.9.{other}.0/24], vtep-mac: '02:00:00:00:00:0{other}'}}
"
    )
}

#[test]
fn two_forwarders_without_an_agent_carry_a_stream_and_follow_their_files() -> Result<()> {
    let config = LabConfig { nodes: 1, pods_per_node: 0, ..LabConfig::default() };
    let Some(lab) = support::lab(config)? else { return Ok(()) };
    let machine = |name| Machine::start(&lab.state().config.name, &lab.state().directory, name);
    let (a, b) = (machine("nfv-a")?, machine("nfv-b")?);
    a.space.script(&format!(
        "ip link add up0 type veth peer name up0 netns {}
         ip address add 192.0.2.1/24 dev up0
         ip link set up0 up",
        b.holder.pid
    ))?;
    b.space.script("ip address add 192.0.2.2/24 dev up0; ip link set up0 up")?;
    let left = standalone::client(&a, "left", LEFT, true)?;
    let right = standalone::client(&b, "right", RIGHT, true)?;
    // One sleeps when nothing comes, the other never does.
    let state_a = state(1, 2, &standalone::port(1, "left", LEFT));
    standalone::start(&a, &state_a, &["--workers", "1"])?;
    let state_b = state(2, 1, &standalone::port(1, "right", RIGHT));
    standalone::start(&b, &state_b, &["--workers", "1", "--poll", "always"])?;

    let reaches = || Ping { count: 1, ..Ping::new(RIGHT) }.run(&left).is_ok_and(|pong| pong.received > 0);
    ensure!(wait_until(LIMIT, reaches), "no ping comes back");
    let stream = Iperf { seconds: 1, ..Iperf::tcp(&left, &right, RIGHT) }.run()?;
    ensure!(stream.gbps > 0.0, "nothing arrives");

    let status = || dataplane::status(&a.directory.join("run")).map_err(anyhow::Error::msg);
    let before = status()?.generation;
    let file = standalone::state_file(&a);
    // A wrong file changes nothing, and is told of.
    fs::write(&file, state_a.replace("10.9.2.0/24", "10.9.2.0/40"))?;
    let told = || status().is_ok_and(|s| s.warnings.iter().any(|w| w.contains("peer other: pod-cidrs")));
    ensure!(wait_until(LIMIT, told), "warnings: {:?}", status()?.warnings);
    ensure!(status()?.generation == before && reaches(), "a wrong file changed something");
    // A right one is in force without a restart: the client's address is not its port's any more.
    fs::write(&file, state(1, 2, &standalone::port(1, "left", Ipv4Addr::new(10, 9, 1, 3))))?;
    ensure!(wait_until(LIMIT, || !reaches()), "the changed file is not followed");
    ensure!(dataplane::drops(&status()?, "spoofed_source") > 0, "nothing is dropped for its source");
    fs::write(&file, &state_a)?;
    ensure!(wait_until(LIMIT, reaches), "the first state does not come back");
    // Without a tunnel the other one's traffic is known just so.
    let direct = |state: &str| state.replace("settings:", "settings:\n  direct: true");
    fs::write(&file, direct(&state_a))?;
    fs::write(standalone::state_file(&b), direct(&state_b))?;
    let carried = || {
        let peers = status().map(|s| s.peers).unwrap_or_default();
        let traffic = peers.first().filter(|p| p.path == "direct").and_then(|p| p.traffic);
        traffic.map(|t| (t.rx_frames, t.tx_frames))
    };
    ensure!(wait_until(LIMIT, || carried().is_some() && reaches()), "no direct path: {:?}", status()?.peers);
    let before = carried();
    let counts =
        || reaches() && carried().zip(before).is_some_and(|(now, then)| now.0 > then.0 && now.1 > then.1);
    ensure!(wait_until(LIMIT, counts), "nothing is counted: {before:?}, then {:?}", carried());
    let after = status()?;
    ensure!(!after.warnings.iter().any(|w| w.contains("state file")), "{:?}", after.warnings);
    ensure!(dataplane::ledger_faults(&after).is_empty(), "{:?}", dataplane::ledger_faults(&after));
    lab.down()?;
    Ok(())
}

#[test]
fn a_wrong_file_ends_the_start_with_its_place() -> Result<()> {
    let config = LabConfig { nodes: 1, pods_per_node: 0, ..LabConfig::default() };
    let Some(lab) = support::lab(config)? else { return Ok(()) };
    let machine = Machine::start(&lab.state().config.name, &lab.state().directory, "nfv-wrong")?;
    let wrong =
        state(1, 2, "  - {id: 0, interface: left, mac: '02:00:00:00:00:01', addresses: [10.9.1.2]}\n");
    let error =
        standalone::start(&machine, &wrong, &["--workers", "1"]).expect_err("it must not run").to_string();
    for words in ["state.yaml", "id of 1 or more", "docs/nfv.md"] {
        ensure!(error.contains(words), "no {words:?} in: {error}");
    }
    // A forwarder between its own ports wants no uplink, and nobody is told to give it one.
    let own = state(1, 2, &standalone::port(1, "left", LEFT));
    let (own, _) = own.split_once("peers:").context("no peers")?;
    standalone::start(&machine, own, &["--workers", "1"])?;
    let status = dataplane::status(&machine.directory.join("run")).map_err(anyhow::Error::msg)?;
    ensure!(status.ports.iter().all(|port| port.role != "uplink"), "{:?}", status.ports);
    ensure!(!status.warnings.iter().any(|w| w.contains("uplink")), "{:?}", status.warnings);
    lab.down()?;
    Ok(())
}
