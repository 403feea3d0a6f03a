//! The shortcut beside its oracle, the workers: the same bytes, the same counters; connections end, pods go, daemons die, and
//! whoever looks sees everything.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use headrace_api::proto::{PortCounters, ShortcutStatus};
use headrace_lab::counters::{self, LinkCounters};
use headrace_lab::daemon::Daemon;
use headrace_lab::process::wait_until;
use headrace_lab::traffic::{Hold, TcpServer, UdpServer, datagram, stream};
use headrace_lab::{Lab, LabConfig, Service, daemon};

use crate::findings::{Findings, PORT};
use crate::support;

/// Time for what takes a fraction of a second on an idle machine.
const LIMIT: Duration = Duration::from_secs(30);
/// Of a transfer: long enough to be handed over on its way.
const BYTES: u64 = 256 << 20;
/// The port of a connection that is looked at.
const HELD: u16 = PORT + 1;
const CLIENT: &str = "node1-pod1";
const SERVER: &str = "node1-pod2";

fn lab() -> Result<Option<Lab>> {
    support::lab(LabConfig {
        nodes: 1,
        workers: 2,
        dataplane_args: vec!["--shortcut=on".into()],
        ..LabConfig::default()
    })
}

#[test]
fn flows_take_the_shortcut_and_everything_still_adds_up() -> Result<()> {
    let Some(mut lab) = lab()? else { return Ok(()) };
    let mut findings = Findings::default();
    let before = [CLIENT, SERVER].map(|pod| both(&lab, pod));
    findings.check("bytes", bytes_arrive(&lab));
    findings.check("a connection", a_connection_enters_and_ends(&lab));
    findings.check("UDP", datagrams_pass(&lab));
    for (pod, before) in [CLIENT, SERVER].into_iter().zip(before) {
        findings
            .check(format!("counters of {pod}"), before.and_then(|before| counters_agree(&lab, pod, before)));
    }
    findings.check("a Service", translated_flows_stay(&mut lab));
    findings.finish(lab)
}

#[test]
fn whoever_looks_sees_every_packet_and_whoever_changes_something_is_heard() -> Result<()> {
    let Some(mut lab) = lab()? else { return Ok(()) };
    let mut findings = Findings::default();
    let server = TcpServer::start(lab.space(SERVER)?, PORT, SERVER)?;
    let hold = hold(&lab, PORT)?;
    findings.check("hand-over", ways(&lab, |ways| ways >= 2));
    findings.check("capture", capture_sees(&lab));
    findings.check("after the capture", carried_on(&lab));
    // Every route is another generation's then.
    lab.attach("node1", "other")?;
    findings.check("after another pod", carried_on(&lab));
    lab.kill("node1", Daemon::Dataplane)?;
    // Its sockets close a moment after it is gone; from then on nothing passes.
    let stands = wait_until(LIMIT, || {
        let before = hold.echoed();
        std::thread::sleep(Duration::from_millis(300));
        hold.echoed() == before
    });
    findings.equal("the connection stands still without a dataplane", &stands, &true);
    lab.start("node1", Daemon::Dataplane)?;
    findings.check("after the dataplane was killed", carried_on(&lab));
    findings.equal("the connection", &hold.stop().broken.map(|e| e.to_string()), &None);
    drop(server);
    let gone = TcpServer::start(lab.space(SERVER)?, HELD, SERVER)?;
    let hold = self::hold(&lab, HELD)?;
    findings.check("second hand-over", ways(&lab, |ways| ways >= 2));
    lab.detach(SERVER)?;
    findings.check("after the pod was removed", ways(&lab, |ways| ways == 0));
    drop((hold, gone));
    findings.finish(lab)
}

fn bytes_arrive(lab: &Lab) -> Result<()> {
    let (client, server, address) = (lab.space(CLIENT)?, lab.space(SERVER)?, lab.address(SERVER)?);
    for attempt in 1..=5 {
        let before = shortcut(lab)?.bytes;
        let [sent, received] = stream::transfer(client, server, address, PORT, BYTES)?;
        ensure!(sent == received, "other bytes arrive than were sent");
        // What was carried is counted a moment later.
        let carried =
            wait_until(Duration::from_secs(2), || shortcut(lab).is_ok_and(|s| s.bytes > before + BYTES / 4));
        if carried {
            return ways(lab, |ways| ways == 0);
        }
        println!("transfer {attempt} was over before its flow was handed over");
    }
    anyhow::bail!("no transfer took the shortcut: {:?}", shortcut(lab)?)
}

fn a_connection_enters_and_ends(lab: &Lab) -> Result<()> {
    let _server = TcpServer::start(lab.space(SERVER)?, HELD, SERVER)?;
    let hold = hold(lab, HELD)?;
    ways(lab, |ways| ways == 2)?;
    carried_on(lab)?;
    // The workers do not see it any more, yet its flow is known to be in use.
    let frames = flow(lab)?["to_server"]["frames"].as_u64();
    ensure!(
        wait_until(LIMIT, || flow(lab).is_ok_and(|f| f["to_server"]["frames"].as_u64() > frames)),
        "{frames:?}"
    );
    ensure!(flow(lab)?["state"] == "established", "{:#}", flow(lab)?);
    let report = hold.stop();
    ensure!(report.broken.is_none(), "{report:?}");
    ways(lab, |ways| ways == 0)?;
    let ended = wait_until(LIMIT, || flow(lab).is_ok_and(|flow| flow["state"] == "closed"));
    ensure!(ended, "the workers have not seen its end: {:#}", flow(lab)?);
    Ok(())
}

fn datagrams_pass(lab: &Lab) -> Result<()> {
    let address = lab.address(SERVER)?;
    let _server = UdpServer::start(lab.space(SERVER)?, address, PORT, SERVER)?;
    let socket = datagram::bind(lab.space(CLIENT)?, Ipv4Addr::UNSPECIFIED, 0)?;
    let before = shortcut(lab)?.frames;
    let mut asked = 0u64;
    let carried = wait_until(LIMIT, || {
        for _ in 0..50 {
            asked += 1;
            let payload = asked.to_le_bytes();
            let reply = datagram::ask(&socket, SocketAddrV4::new(address, PORT), &payload);
            if !reply.is_ok_and(|reply| reply.payload == payload) {
                return false;
            }
        }
        shortcut(lab).is_ok_and(|s| s.frames > before + 100)
    });
    ensure!(carried, "of {asked} datagrams none took the shortcut: {:?}", shortcut(lab)?);
    Ok(())
}

/// A translated flow is the workers', whatever its ends.
fn translated_flows_stay(lab: &mut Lab) -> Result<()> {
    let web = Service::new("web", 9, PORT, &[lab.address(SERVER)?]);
    lab.apply_service(&web)?;
    let _server = TcpServer::start(lab.space(SERVER)?, PORT, SERVER)?;
    ways(lab, |ways| ways == 0)?;
    let hold = Hold::start(lab.space(CLIENT)?, SocketAddrV4::new(web.cluster_ip, PORT))?;
    ensure!(wait_until(LIMIT, || hold.echoed() > 100), "{} echoes", hold.echoed());
    ensure!(shortcut(lab)?.ways == 0, "{:?}", shortcut(lab)?);
    ensure!(hold.stop().broken.is_none(), "it broke");
    Ok(())
}

/// The pod's interface and its port count the same.
fn counters_agree(lab: &Lab, pod: &str, before: (LinkCounters, PortCounters)) -> Result<()> {
    let mut seen = String::new();
    let agree = wait_until(LIMIT, || {
        let Ok((link, port)) = both(lab, pod) else { return false };
        let link = link.since(&before.0);
        let lost =
            port.rx_ring_full + port.fill_ring_empty - before.1.rx_ring_full - before.1.fill_ring_empty;
        let received = (port.rx_frames - before.1.rx_frames, port.rx_bytes - before.1.rx_bytes);
        let sent = (port.tx_frames - before.1.tx_frames, port.tx_bytes - before.1.tx_bytes);
        seen = format!("its interface {link:?}, the port received {received:?}, sent {sent:?}, lost {lost}");
        link.tx_packets == received.0 + lost
            && (lost > 0 || link.tx_bytes == received.1)
            && (link.rx_packets, link.rx_bytes) == sent
    });
    ensure!(agree, "{seen}");
    Ok(())
}

fn both(lab: &Lab, pod: &str) -> Result<(LinkCounters, PortCounters)> {
    let octets = lab.address(pod)?.octets().to_vec();
    let status = lab.dataplane("node1")?;
    let port = status.ports.iter().find(|p| p.addresses.iter().any(|a| a.octets == octets));
    let port = port.and_then(|port| port.counters).with_context(|| format!("{pod} has no port"))?;
    Ok((counters::link(lab.space(pod)?, "eth0")?, port))
}

fn capture_sees(lab: &Lab) -> Result<()> {
    let packets =
        ["capture", "tcp", "and", "port", &PORT.to_string(), "-n", "40", "--json"].map(str::to_owned);
    let mut capture = tool(lab, &packets)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let paused = wait_until(LIMIT, || {
        shortcut(lab).is_ok_and(|s| s.state == "paused")
            || capture.try_wait().is_ok_and(|exit| exit.is_some())
    });
    let ended = wait_until(LIMIT, || capture.try_wait().is_ok_and(|exit| exit.is_some()));
    if !ended {
        capture.kill()?;
    }
    ensure!(capture.wait()?.success() && ended && paused, "the capture did not see 40 packets");
    ensure!(wait_until(LIMIT, || shortcut(lab).is_ok_and(|s| s.state == "on")), "it stays paused");
    Ok(())
}

/// Frames go by the shortcut now.
fn carried_on(lab: &Lab) -> Result<()> {
    let before = shortcut(lab)?;
    ensure!(wait_until(LIMIT, || shortcut(lab).is_ok_and(|s| s.frames > before.frames + 20)), "{before:?}");
    Ok(())
}

fn ways(lab: &Lab, wanted: impl Fn(u64) -> bool) -> Result<()> {
    ensure!(wait_until(LIMIT, || shortcut(lab).is_ok_and(|s| wanted(s.ways))), "{:?}", shortcut(lab)?);
    Ok(())
}

fn hold(lab: &Lab, port: u16) -> Result<Hold> {
    Ok(Hold::start(lab.space(CLIENT)?, SocketAddrV4::new(lab.address(SERVER)?, port))?)
}

fn shortcut(lab: &Lab) -> Result<ShortcutStatus> {
    lab.dataplane("node1")?.shortcut.context("status says nothing of the shortcut")
}

/// The connection that is looked at.
fn flow(lab: &Lab) -> Result<serde_json::Value> {
    let filter = ["flows", "tcp", "and", "port", &HELD.to_string(), "--json"].map(str::to_owned);
    let output = tool(lab, &filter)?.output()?;
    let flows: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    flows.get(0).cloned().context("no such flow")
}

fn tool(lab: &Lab, arguments: &[String]) -> Result<Command> {
    let mut command = Command::new(daemon::binary("headracectl")?);
    command.arg("--run-dir").arg(lab.node("node1")?.run_dir()).args(arguments);
    Ok(command)
}
