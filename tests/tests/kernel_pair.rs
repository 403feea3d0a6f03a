//! The lab itself, with kernel nodes alone: the yardstick works, the wire is what it claims, nothing stays behind.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Result, ensure};
use headrace_lab::plan::OUTSIDE_FAR;
use headrace_lab::traffic::{Capture, Iperf, Ping, TcpServer, stream};
use headrace_lab::{Lab, LabConfig, Service, counters, lan, process};

use crate::support;

fn kernel_pair() -> LabConfig {
    LabConfig { nodes: 0, kernel_nodes: 2, ..LabConfig::default() }
}

#[test]
fn a_kernel_pair_reaches_pods_services_and_the_outside() -> Result<()> {
    let Some(mut lab) = support::lab(kernel_pair())? else { return Ok(()) };
    let client = lab.space("kernel1-pod1")?.clone();
    for name in ["kernel1-pod2", "kernel2-pod1", "kernel1", "kernel2"] {
        let pong = Ping::new(lab.address(name)?).run(&client)?;
        ensure!(pong.received == 3, "{name}: {}", pong.text);
    }
    let outside = TcpServer::start(lab.space("outside")?, 80, "outside")?;
    let (_, greeting) = stream::greet(&client, SocketAddrV4::new(OUTSIDE_FAR, 80))?;
    ensure!(greeting.client_seen.ip() == lab.address("kernel1")?, "not masqueraded: {greeting:?}");
    drop(outside);

    let backends = ["kernel1-pod2", "kernel2-pod1"];
    let servers = backends.iter().map(|name| Ok(TcpServer::start(lab.space(name)?, 80, name)?));
    let _servers = servers.collect::<Result<Vec<_>>>()?;
    let endpoints = backends.iter().map(|name| lab.address(name)).collect::<Result<Vec<_>, _>>()?;
    let web = Service::new("web", 80, 80, &endpoints);
    lab.apply_service(&web)?;
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        seen.insert(stream::greet(&client, SocketAddrV4::new(web.cluster_ip, 80))?.1.server);
    }
    ensure!(seen.len() == 2, "one endpoint of two answers: {seen:?}");
    lab.remove_service("web")?;
    ensure!(stream::connect(&client, SocketAddrV4::new(web.cluster_ip, 80)).is_err());
    Ok(lab.down()?)
}

#[test]
fn a_segmented_wire_carries_no_frame_longer_than_ethernet_allows() -> Result<()> {
    let Some(lab) = support::lab(kernel_pair())? else { return Ok(()) };
    let (client, server) = (lab.space("kernel1-pod1")?, lab.space("kernel2-pod1")?);
    let before = counters::link(&lab.switch()?.space, "kernel1")?;
    let capture = Capture::start(lab.space("lan")?, "kernel1", "udp port 8472 and greater 1515")?;
    let result = Iperf { seconds: 1, ..Iperf::tcp(client, server, lab.address("kernel2-pod1")?) }.run()?;
    ensure!(result.gbps > 0.01, "{result:?}");
    let mean = lan::mean_frame(lab.switch()?, "kernel1", &before)?;
    ensure!((1000.0..=lan::LONGEST_FRAME).contains(&mean), "mean frame of {mean} bytes");
    let long = capture.stop()?;
    ensure!(long.is_empty(), "{}", long[0]);
    Ok(())
}

#[test]
fn a_transfer_arrives_whole() -> Result<()> {
    let Some(lab) = support::lab(kernel_pair())? else { return Ok(()) };
    let (client, server) = (lab.space("kernel1-pod1")?, lab.space("kernel2-pod2")?);
    let [sent, received] = stream::transfer(client, server, lab.address("kernel2-pod2")?, 9000, 20_000_000)?;
    ensure!(sent == received, "{sent} was sent, {received} came");
    Ok(())
}

#[test]
fn nothing_of_a_lab_stays_behind_also_when_its_maker_was_killed() -> Result<()> {
    let before = traces();
    let Some(lab) = support::lab(kernel_pair())? else { return Ok(()) };
    let (name, directory) = (lab.state().config.name.clone(), lab.state().directory.clone());
    let seen_elsewhere = Lab::open(&name)?;
    ensure!(seen_elsewhere.address("kernel2-pod2")? == lab.address("kernel2-pod2")?);
    ensure!(directory.exists() && !process::marked(&name).is_empty(), "this test sees nothing of a lab");
    // As if killed: no destructor runs, and somebody else finds what is left.
    std::mem::forget(lab);
    Lab::remove(&name)?;
    ensure!(!directory.exists() && process::marked(&name).is_empty());
    // The kernel takes namespaces away in the background.
    let gone = process::wait_until(Duration::from_secs(20), || traces().is_subset(&before));
    ensure!(gone, "left behind: {:?}", traces().difference(&before).collect::<Vec<_>>());
    Ok(())
}

/// Mounts, links and named namespaces of the host, where nothing of a lab may be at any time.
fn traces() -> BTreeSet<String> {
    let lines = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let links = lines("/proc/net/dev");
    let links = links.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    let named = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let named = named.filter_map(|entry| entry.file_name().into_string().ok());
    lines("/proc/self/mountinfo").lines().map(str::to_owned).chain(links).chain(named).collect()
}
