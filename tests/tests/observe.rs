//! Looking into a running dataplane: counters that agree with the kernel's, explanations, captures, the live screen.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use headrace_api::proto::{PortCounters, StatusReply};
use headrace_lab::counters::{self, LinkCounters};
use headrace_lab::plan::METRICS;
use headrace_lab::traffic::{Iperf, Ping, Protocol};
use headrace_lab::{Lab, LabConfig, Service, daemon, process};
use serde_json::Value;

use crate::findings::{Findings, PORT};
use crate::support;

#[test]
fn counters_agree_with_the_pods_interfaces() -> Result<()> {
    let Some(lab) = support::lab(LabConfig { workers: 2, ..LabConfig::default() })? else { return Ok(()) };
    let mut findings = Findings::default();
    let ends = ["node1-pod1", "node2-pod1"];
    let before = ends.map(|pod| both(&lab, pod));
    let (client, server) = (lab.space(ends[0])?, lab.space(ends[1])?);
    let tcp = Iperf::tcp(client, server, lab.address(ends[1])?);
    findings.check("TCP", tcp.run());
    let udp = Iperf { protocol: Protocol::Udp { megabits: 50, length: 1000 }, ..tcp };
    findings.check("UDP", udp.run());
    for (pod, before) in ends.into_iter().zip(before) {
        let Some((link, port)) = findings.check(pod, before) else { continue };
        let mut seen = String::new();
        // Counters of the two are read one after the other: both must have come to rest.
        let agree = process::wait_until(Duration::from_secs(20), || match both(&lab, pod) {
            Ok((link_now, port_now)) => {
                let (link, port) = (link_now.since(&link), since(&port_now, &port));
                seen = format!("{pod}: its interface {link:?}, the dataplane {port:?}");
                agrees(&link, &port)
            }
            Err(error) => {
                seen = error.to_string();
                false
            }
        });
        findings.equal(&seen, &agree, &true);
    }
    findings.finish(lab)
}

#[test]
fn the_operators_tool_tells_what_happens() -> Result<()> {
    let Some(mut lab) = support::lab(LabConfig::default())? else { return Ok(()) };
    lab.apply_service(&Service::new("web", 80, PORT, &[lab.address("node2-pod1")?]))?;
    let mut findings = Findings::default();
    findings.check("capture", captures(&lab));
    findings.check("capture to a full disk", stops_at_a_full_disk(&lab));
    findings.check("explain", explains(&lab));
    findings.check("trace", traces(&lab));
    findings.check("flows and drops", lists(&lab));
    findings.check("what follows, and ends", follows(&lab));
    findings.check("Services", counts_connections(&lab));
    findings.check("wrong use", refuses(&lab));
    findings.check("garbage on the socket", survives_garbage(&lab));
    findings.check("top", shows_a_screen(&lab));
    findings.finish(lab)
}

/// A pod's interface and its port.
fn both(lab: &Lab, pod: &str) -> Result<(LinkCounters, PortCounters)> {
    let node = pod.split('-').next().context("a node's name")?;
    let status = lab.dataplane(node)?;
    let link = counters::link(lab.space(pod)?, "eth0")?;
    Ok((link, port(&status, lab, pod)?))
}

fn port(status: &StatusReply, lab: &Lab, pod: &str) -> Result<PortCounters> {
    let octets = lab.address(pod)?.octets().to_vec();
    let port = status.ports.iter().find(|p| p.addresses.iter().any(|a| a.octets == octets));
    let port = port.with_context(|| format!("{pod} has no port"))?;
    let sum = port.counters.context("no counters")?;
    let by_worker: u64 = port.by_worker.iter().map(|half| half.rx_frames + half.tx_frames).sum();
    ensure!(by_worker == sum.rx_frames + sum.tx_frames, "workers' halves do not add up: {port:?}");
    Ok(sum)
}

fn since(now: &PortCounters, before: &PortCounters) -> PortCounters {
    PortCounters {
        rx_frames: now.rx_frames - before.rx_frames,
        rx_bytes: now.rx_bytes - before.rx_bytes,
        tx_frames: now.tx_frames - before.tx_frames,
        tx_bytes: now.tx_bytes - before.tx_bytes,
        rx_ring_full: now.rx_ring_full - before.rx_ring_full,
        fill_ring_empty: now.fill_ring_empty - before.fill_ring_empty,
        ..PortCounters::default()
    }
}

/// What the pod has sent came in or was lost in a ring that counts; what the dataplane has sent, the pod has received.
fn agrees(link: &LinkCounters, port: &PortCounters) -> bool {
    let lost = port.rx_ring_full + port.fill_ring_empty;
    let bytes = lost > 0 || link.tx_bytes == port.rx_bytes;
    link.tx_packets == port.rx_frames + lost
        && bytes
        && (link.rx_packets, link.rx_bytes) == (port.tx_frames, port.tx_bytes)
}

fn captures(lab: &Lab) -> Result<()> {
    let file = lab.node("node1")?.run_dir().join("capture.pcapng");
    let path = file.display().to_string();
    let far = lab.address("node2-pod1")?;
    let mut capture = start(lab, &["capture", "icmp", "or", "port", "81", "-n", "9", "-w", &path])?;
    let pod = lab.space("node1-pod1")?.clone();
    let done = process::wait_until(Duration::from_secs(30), || {
        let _ = Ping { count: 1, ..Ping::new(far) }.run(&pod);
        // A Service that is not there: dropped.
        let _ = pod.script("echo x > /dev/udp/10.96.99.99/81 || bash -c 'echo x > /dev/udp/10.96.99.99/81'");
        capture.try_wait().is_ok_and(|exit| exit.is_some())
    });
    if !done {
        capture.kill()?;
    }
    let output = capture.wait_with_output()?;
    ensure!(done && output.status.success(), "{}", text(&output));
    let fields = ["frame.interface_name", "ip.src", "vxlan.vni", "icmp.type", "frame.comment"];
    let fields = fields.iter().flat_map(|field| ["-e", *field]);
    let mut tshark = Command::new("tshark");
    tshark
        .args(["-r", &path, "-d", "udp.port==8472,vxlan", "-T", "fields", "-E", "separator=|"])
        .args(fields);
    let read = text(&tshark.output().context("tshark")?);
    let pod_address = lab.address("node1-pod1")?.to_string();
    let node = lab.address("node1")?.to_string();
    let outer = read.lines().any(|l| l.contains(&format!("|{node},{pod_address}|1|8|")));
    let inner = read.lines().any(|l| l.contains(&format!("|{pod_address}||8|")));
    ensure!(outer && inner, "no echo request inside and outside of the tunnel:\n{read}");
    ensure!(read.contains("dropped: no_service: "), "no comment:\n{read}");
    let nowhere = run(lab, &["capture", "icmp", "-n", "1", "-w", "/nonexistent/file"])?;
    ensure!(
        nowhere.status.code() == Some(1) && text(&nowhere).contains("/nonexistent/file"),
        "{}",
        text(&nowhere)
    );
    Ok(())
}

/// full(4): every write is refused as by a disk without room.
fn stops_at_a_full_disk(lab: &Lab) -> Result<()> {
    let mut capture = start(lab, &["capture", "icmp", "-w", "/dev/full"])?;
    let (pod, far) = (lab.space("node1-pod1")?.clone(), lab.address("node2-pod1")?);
    let mut pongs = 0;
    let ended = process::wait_until(Duration::from_secs(30), || {
        pongs += Ping { count: 1, ..Ping::new(far) }.run(&pod).map_or(0, |pong| pong.received);
        capture.try_wait().is_ok_and(|exit| exit.is_some())
    });
    if !ended {
        capture.kill()?;
    }
    let output = capture.wait_with_output()?;
    let told = text(&output);
    ensure!(output.status.code() == Some(1) && told.contains("/dev/full"), "{:?}: {told}", output.status);
    ensure!(told.contains("No space left"), "{told}");
    ensure!(Ping::new(far).run(&pod)?.received > 0 && pongs > 0, "traffic has suffered");
    Ok(())
}

fn explains(lab: &Lab) -> Result<()> {
    let (near, far) = (lab.address("node1-pod1")?.to_string(), lab.address("node2-pod1")?.to_string());
    let told: Value = json(lab, &["explain", &near, &format!("{far}:80")])?;
    ensure!(told["verdict"] == "forward", "{told:#}");
    let way = told["departures"][0]["summary"].as_str().unwrap_or_default();
    ensure!(way.contains("in vxlan"), "{told:#}");
    let back: Value = json(lab, &["explain", &far, &near])?;
    ensure!(back["verdict"] == "forward", "{back:#}");
    let nobody: Value = json(lab, &["explain", &near, "10.96.99.99:80"])?;
    ensure!(nobody["reason"] == "no_service", "{nobody:#}");
    Ok(())
}

fn traces(lab: &Lab) -> Result<()> {
    let far = lab.address("node2-pod1")?;
    let mut trace = start(lab, &["trace", "icmp", "-n", "2", "--json"])?;
    let pod = lab.space("node1-pod1")?.clone();
    let done = process::wait_until(Duration::from_secs(30), || {
        let _ = Ping { count: 1, ..Ping::new(far) }.run(&pod);
        trace.try_wait().is_ok_and(|exit| exit.is_some())
    });
    if !done {
        trace.kill()?;
    }
    let output = trace.wait_with_output()?;
    let read = text(&output);
    let lines: Vec<Value> = read.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(lines.len() == 2 && lines.iter().all(|l| l["verdict"] == "forward"), "{read}");
    ensure!(lines[0]["steps"].as_array().is_some_and(|steps| steps.len() > 5), "{read}");
    Ok(())
}

fn lists(lab: &Lab) -> Result<()> {
    let far = lab.address("node2-pod1")?;
    let flows = json(lab, &["flows", "icmp", "and", "host", &far.to_string()])?;
    ensure!(flows[0]["to_server"]["frames"].as_u64() > Some(0), "{flows:#}");
    ensure!(flows[0]["state"] == "established", "an echo that was answered: {flows:#}");
    let drops = json(lab, &["drops", "--once"])?;
    let no_service = drops.as_array().into_iter().flatten().find(|d| d["reason"] == "no_service");
    let no_service = no_service.context("no such drop")?;
    ensure!(no_service["places"][0]["port"] == "pod default/node1-pod1", "{no_service:#}");
    let example = no_service["example"]["summary"].as_str().unwrap_or_default();
    ensure!(example.contains("10.96.99.99:81"), "{drops:#}");
    ensure!(json(lab, &["services"])?.is_array() && json(lab, &["endpoints"])?.is_array());
    ensure!(json(lab, &["version"])?["dataplane"].is_string());
    Ok(())
}

/// What a script can follow ends by itself.
fn follows(lab: &Lab) -> Result<()> {
    let drops = run(lab, &["drops", "-n", "2", "--json"])?;
    let lines = text(&drops).lines().count();
    ensure!(drops.status.success() && (1..=2).contains(&lines), "{}", text(&drops));
    let top = run(lab, &["top", "-n", "1", "--json"])?;
    ensure!(top.status.success() && text(&top).lines().count() == 1, "{}", text(&top));
    let flows = start(lab, &["flows", "udp and port 4242", "--follow", "-n", "1", "--json"])?;
    let (pod, far) = (lab.space("node1-pod1")?.clone(), lab.address("node2-pod1")?);
    let mut flows = flows;
    let ended = process::wait_until(Duration::from_secs(30), || {
        let _ = pod.script(&format!("bash -c 'echo x > /dev/udp/{far}/4242'"));
        flows.try_wait().is_ok_and(|exit| exit.is_some())
    });
    if !ended {
        flows.kill()?;
    }
    let output = flows.wait_with_output()?;
    let record: Value = serde_json::from_slice(&output.stdout).with_context(|| text(&output))?;
    ensure!(ended && record["client"]["destination_port"] == 4242, "{record:#}");
    Ok(())
}

/// Connections begun are counted, whatever becomes of them, in the tool and among the metrics.
fn counts_connections(lab: &Lab) -> Result<()> {
    let pod = lab.space("node1-pod1")?.clone();
    for _ in 0..3 {
        // Nobody listens: the answer is a reset.
        pod.script(&format!("timeout 5 bash -c 'echo > /dev/tcp/10.96.0.80/{PORT}' || true"))?;
    }
    let services = json(lab, &["services", "default/web"])?;
    ensure!(services[0]["begun"] == 3 && services[0]["endpoints"][0]["begun"] == 3, "{services:#}");
    let endpoints = json(lab, &["endpoints", "default/web"])?;
    ensure!(endpoints[0]["begun"] == 3, "{endpoints:#}");
    let status = json(lab, &["status"])?;
    ensure!(status["most_used_services"][0]["connections"] == 3, "{:#}", status["most_used_services"]);
    ensure!(status["peers"][0]["traffic"]["tx_frames"].as_u64() > Some(0), "{:#}", status["peers"]);
    let exported = || {
        let metrics = format!("curl -s http://127.0.0.1:{METRICS}/metrics");
        let text = lab.space("node1").ok().and_then(|node| node.run(&metrics).ok()).unwrap_or_default();
        text.lines()
            .any(|line| line.starts_with("headrace_service_connections_total") && line.ends_with(" 3"))
    };
    ensure!(process::wait_until(Duration::from_secs(10), exported), "the metrics do not count three");
    Ok(())
}

fn refuses(lab: &Lab) -> Result<()> {
    for (arguments, code, wanted) in [
        (vec!["flows", "tcp and prot 80"], 2, "column 9"),
        (vec!["flows", "pod default/gone"], 2, "default/gone"),
        (vec!["explain", "10.1.1.1", "nobody"], 2, "nobody"),
        (vec!["capture", "-i", "nothing0"], 2, "nothing0"),
        (vec!["--run-dir", "/nonexistent", "flows"], 3, "/nonexistent"),
    ] {
        let output = run(lab, &arguments)?;
        let told = text(&output);
        ensure!(output.status.code() == Some(code), "{arguments:?}: {:?}: {told}", output.status);
        ensure!(told.contains(wanted), "{arguments:?}: no {wanted:?} in {told}");
    }
    Ok(())
}

fn survives_garbage(lab: &Lab) -> Result<()> {
    let socket = lab.node("node1")?.run_dir().join("dataplane.sock");
    for seed in 0..100_u8 {
        let mut stream = UnixStream::connect(&socket)?;
        let garbage: Vec<u8> =
            (0..=255).map(|i: u8| i.wrapping_mul(31).wrapping_add(seed) ^ (seed >> 1)).collect();
        // The other end may have closed already.
        let _ = stream.write_all(&garbage);
        let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff");
    }
    lab.dataplane("node1")?;
    let agent = lab.node("node1")?.daemons.and_then(|d| d.agent).context("no agent")?;
    let cni = lab.node("node1")?.run_dir().join("cni.sock");
    for seed in 0..100_u8 {
        let mut stream = UnixStream::connect(&cni)?;
        // Its first four bytes are a length: of more than anybody may send, and of so many as follow.
        let length = if seed % 2 == 0 { u32::MAX } else { 64 };
        let _ = stream.write_all(&length.to_be_bytes());
        let _ = stream.write_all(&[seed; 64]);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let told = String::from_utf8_lossy(&answer).into_owned();
        ensure!(told.contains("\"msg\""), "the agent answers garbage with {told:?}");
    }
    ensure!(agent.alive(), "garbage has ended the agent");
    Ok(())
}

/// The live screen in a terminal of tmux: what it shows, another size, the end.
fn shows_a_screen(lab: &Lab) -> Result<()> {
    let socket = lab.node("node1")?.run_dir().join("tmux.sock").display().to_string();
    let tmux = |arguments: &[&str]| {
        Command::new("tmux").args(["-f", "/dev/null", "-S", &socket]).args(arguments).output()
    };
    let tool = daemon::binary("headracectl")?.display().to_string();
    let run_dir = lab.node("node1")?.run_dir().display().to_string();
    let line = format!("{tool} --run-dir {run_dir} top");
    let begun = tmux(&["new-session", "-d", "-x", "120", "-y", "32", &line]).context("tmux")?;
    ensure!(begun.status.success(), "{}", text(&begun));
    let mut seen = String::new();
    let mut shows = |wanted: &[&str]| {
        process::wait_until(Duration::from_secs(15), || {
            seen = tmux(&["capture-pane", "-p"]).map(|o| text(&o)).unwrap_or_default();
            wanted.iter().all(|w| seen.contains(w))
        })
    };
    let outcome = shows(&["Cores", "Ports", "fed by the agent", "Drops", "q quits"])
        && tmux(&["resize-window", "-x", "70", "-y", "20"])?.status.success()
        && shows(&["Cores", "q quits"])
        && tmux(&["send-keys", "q"])?.status.success();
    let ended = process::wait_until(Duration::from_secs(15), || {
        tmux(&["list-sessions"]).is_ok_and(|o| !o.status.success())
    });
    let _ = tmux(&["kill-server"]);
    ensure!(outcome, "the screen shows\n{seen}");
    ensure!(ended, "it did not quit");
    Ok(())
}

fn tool(lab: &Lab, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(daemon::binary("headracectl")?);
    if !arguments.contains(&"--run-dir") {
        command.arg("--run-dir").arg(lab.node("node1")?.run_dir());
    }
    command.args(arguments);
    Ok(command)
}

fn run(lab: &Lab, arguments: &[&str]) -> Result<Output> {
    Ok(tool(lab, arguments)?.output()?)
}

fn start(lab: &Lab, arguments: &[&str]) -> Result<Child> {
    Ok(tool(lab, arguments)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}

fn json(lab: &Lab, arguments: &[&str]) -> Result<Value> {
    let output = run(lab, &[arguments, &["--json"]].concat())?;
    ensure!(output.status.success(), "{arguments:?}: {}", text(&output));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
