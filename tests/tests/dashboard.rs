//! The dashboard with real nodes behind it: in a browser, from many hostile connections, and over a whole cluster.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use headrace_lab::daemon::Daemon;
use headrace_lab::forward::Forward;
use headrace_lab::plan::{DASHBOARD, METRICS};
use headrace_lab::process::wait_until;
use headrace_lab::traffic::{Iperf, Ping};
use headrace_lab::{Lab, LabConfig, Service};
use serde_json::Value;

use crate::findings::{Findings, PORT};
use crate::support;

/// Time for what takes a second or two.
const LIMIT: Duration = Duration::from_secs(20);
/// Connections that never send a whole request.
const HALF_OPEN: usize = 1000;
/// More memory than this for them is a leak: each may hold a buffer of 16 KiB at most, 128 at a time on each port.
const MORE_MEMORY: u64 = 24 << 20;

#[test]
fn a_browser_sees_traffic_search_keys_and_dead_daemons() -> Result<()> {
    let Some(script) = browser_script("dashboard.js")? else { return Ok(()) };
    let Some(mut lab) = support::lab(LabConfig::default())? else { return Ok(()) };
    lab.apply_service(&Service::new("web", 80, PORT, &[lab.address("node2-pod1")?]))?;
    browse(&mut lab, &script, "http", &[])?;
    Findings::default().finish(lab)
}

#[test]
fn a_browser_sees_all_nodes_over_tls_and_one_that_dies() -> Result<()> {
    let Some(script) = browser_script("cluster.js")? else { return Ok(()) };
    let directory = tempfile::tempdir()?;
    let args = credentials(directory.path())?;
    let Some(mut lab) = support::lab(LabConfig { agent_args: args, ..LabConfig::default() })? else {
        return Ok(());
    };
    let token = fs::read_to_string(directory.path().join("token"))?;
    browse(&mut lab, &script, "https", &[token.trim()])?;
    Findings::default().finish(lab)
}

/// Runs a script with node1's dashboard before it, and does what it asks for.
fn browse(lab: &mut Lab, script: &Path, scheme: &str, more: &[&str]) -> Result<()> {
    let forward = Forward::listen(lab.space("node1")?, DASHBOARD, 0)?;
    let url = format!("{scheme}://127.0.0.1:{}/", forward.local_port()?);
    thread::spawn(move || forward.run());
    let mut page = Command::new("node")
        .arg(script)
        .arg(url)
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start node")?;
    let mut answers = page.stdin.take().context("no standard input")?;
    let mut actions = Actions { lab, held: None };
    for line in BufReader::new(page.stdout.take().context("no standard output")?).lines() {
        let line = line?;
        println!("{line}");
        if let Some(action) = line.strip_prefix("do: ") {
            let done = actions.act(action).map_or_else(|error| error.to_string(), |()| String::new());
            writeln!(answers, "{done}")?;
        }
    }
    let status = page.wait()?;
    ensure!(status.success(), "the page: {status}");
    Ok(())
}

#[test]
fn garbage_and_half_open_connections_cost_no_memory_and_no_packet() -> Result<()> {
    let Some(lab) = support::lab(LabConfig::default())? else { return Ok(()) };
    let node = lab.space("node1")?.clone();
    let agent = lab.node("node1")?.daemons.and_then(|d| d.agent).context("no agent")?;
    ensure!(get(&lab, DASHBOARD, "/")?.starts_with("HTTP/1.1 200"), "no page");
    let before = memory(agent.pid)?;
    let hostile = node.enter(|| -> std::io::Result<Vec<TcpStream>> {
        let ports = [DASHBOARD, METRICS].into_iter().cycle().take(HALF_OPEN);
        let streams = ports.enumerate().map(|(i, port)| {
            let mut stream = TcpStream::connect(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
            // Some say nothing, some begin, some send what is no HTTP; the agent may have ended it by then.
            let _ = match i % 3 {
                0 => Ok(()),
                1 => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: "),
                _ => stream.write_all(&[0xa5; 4096]),
            };
            Ok(stream)
        });
        streams.collect()
    })??;
    let mut findings = Findings::default();
    let pong = Ping { count: 20, ..Ping::new(lab.address("node2-pod1")?) }.run(lab.space("node1-pod1")?)?;
    findings.equal("replies meanwhile", &pong.received, &20);
    findings.check("the page meanwhile", serves(&lab, DASHBOARD, "/"));
    findings.check("the metrics meanwhile", serves(&lab, METRICS, "/metrics"));
    let grown = memory(agent.pid)?.saturating_sub(before);
    println!("{} connections: the agent's memory grew by {} KiB", hostile.len(), grown >> 10);
    findings.equal(format!("memory grows by {grown} bytes"), &(grown < MORE_MEMORY), &true);
    drop(hostile);
    findings.check("the page afterwards", serves(&lab, DASHBOARD, "/"));
    findings.finish(lab)
}

#[test]
fn one_agent_shows_all_nodes_where_token_and_tls_are_configured() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let args = credentials(directory.path())?;
    let Some(lab) = support::lab(LabConfig { agent_args: args, ..LabConfig::default() })? else {
        return Ok(());
    };
    let mut findings = Findings::default();
    let ask = |path: &str, more: &str| -> Result<String> {
        let ca = directory.path().join("ca.pem");
        let script = format!(
            "curl -sN --max-time 3 --cacert {} {more} 'https://172.30.0.1:{DASHBOARD}{path}' || true",
            ca.display()
        );
        Ok(lab.space("node1")?.script(&script)?)
    };
    let token =
        format!("-H 'Authorization: Bearer {}'", fs::read_to_string(directory.path().join("token"))?.trim());
    findings.check("without the token", refused(&ask("/api/v1/stream", "-w '%{http_code}'")?));
    let seen = wait_until(LIMIT, || {
        ask("/api/v1/stream", &token).is_ok_and(|events| {
            events
                .split("\n\n")
                .filter_map(|event| event.split_once("data: "))
                .any(|(_, data)| sees_node2(data))
        })
    });
    findings.equal("node2 is seen from node1", &seen, &true);
    let other = ask("/api/v1/stream?node=node2", &token)?;
    findings.equal("node2's own stream through node1", &other.contains("\"node\":\"node2\""), &true);
    let nobody = ask("/api/v1/stream?node=nobody", &token)?;
    findings.equal("a node that is none", &nobody.contains("no node named"), &true);
    findings.finish(lab)
}

fn sees_node2(data: &str) -> bool {
    let Ok(look) = serde_json::from_str::<Value>(data) else { return false };
    let nodes = look["nodes"].as_array().cloned().unwrap_or_default();
    nodes.iter().any(|node| node["name"] == "node2" && node["problem"] == "")
}

fn refused(answer: &str) -> Result<()> {
    ensure!(answer.ends_with("401"), "{answer}");
    Ok(())
}

/// What scripts ask for.
struct Actions<'a> {
    lab: &'a mut Lab,
    /// Who holds a worker.
    held: Option<Child>,
}

impl Actions<'_> {
    fn act(&mut self, action: &str) -> Result<()> {
        let lab = &mut *self.lab;
        match action {
            "start traffic" => {
                let (client, server) = (lab.space("node1-pod1")?.clone(), lab.space("node2-pod1")?.clone());
                let address = lab.address("node2-pod1")?;
                // It goes on through all that follows; how fast is nobody's business here.
                thread::spawn(move || Iperf { seconds: 300, ..Iperf::tcp(&client, &server, address) }.run());
            }
            // Nobody listens: it is a connection all the same.
            "connect to the Service" => {
                let connect = format!("timeout 5 bash -c 'echo > /dev/tcp/10.96.0.80/{PORT}' || true");
                lab.space("node1-pod1")?.script(&connect)?;
            }
            "hold worker" => self.held = Some(hold_worker(lab)?),
            "release worker" => {
                let mut holder = self.held.take().context("no worker is held")?;
                holder.kill()?;
                holder.wait()?;
            }
            "kill dataplane" => lab.kill("node1", Daemon::Dataplane)?,
            "start dataplane" => lab.start("node1", Daemon::Dataplane)?,
            "kill agent" => lab.kill("node1", Daemon::Agent)?,
            "start agent" => lab.start("node1", Daemon::Agent)?,
            "kill agent of node2" => lab.kill("node2", Daemon::Agent)?,
            "start agent of node2" => lab.start("node2", Daemon::Agent)?,
            _ => bail!("unknown action"),
        }
        Ok(())
    }
}

/// Keeps node1's first worker in its next system call, and no other thread; whoever does it is killed to end it.
fn hold_worker(lab: &Lab) -> Result<Child> {
    let dataplane =
        lab.node("node1")?.daemons.and_then(|d| d.process(Daemon::Dataplane)).context("no dataplane")?;
    let threads = fs::read_dir(format!("/proc/{}/task", dataplane.pid))?;
    let is_worker = |thread: &PathBuf| {
        fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "worker-0")
    };
    let worker = threads.flatten().map(|entry| entry.path()).find(is_worker).context("no worker")?;
    let thread = worker.file_name().context("no number")?;
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-e", "inject=all:delay_enter=600000000", "-o", "/dev/null", "-p"]).arg(thread);
    strace.stdout(Stdio::null()).spawn().context("strace")
}

/// A script, where this machine has what it needs: said loudly, and in CI an error.
fn browser_script(name: &str) -> Result<Option<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../control/web");
    let missing = [
        (Path::new("/usr/bin/chromium").to_owned(), "chromium is not installed (make deps)"),
        (
            folder.join("node_modules/playwright-core"),
            "playwright-core is not installed (make web, which needs node 20)",
        ),
    ];
    for (file, what) in missing {
        if !file.exists() {
            ensure!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{what}");
            eprintln!("SKIPPED: the page is not tested in a browser: {what}");
            return Ok(None);
        }
    }
    Ok(Some(folder.join("e2e").join(name)))
}

/// A token, an authority and a certificate for both nodes, as the agents' arguments.
fn credentials(folder: &Path) -> Result<Vec<String>> {
    let script = "
        openssl rand -hex 32 > token
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=lab -keyout ca.key -out ca.pem
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=node -keyout node.key -out node.csr
        printf 'subjectAltName=IP:172.30.0.1,IP:172.30.0.2,IP:127.0.0.1\\nbasicConstraints=CA:FALSE' > extensions
        openssl x509 -req -in node.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out node.pem";
    let made = Command::new("sh").args(["-euc", script]).current_dir(folder).output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = |name: &str| folder.join(name).display().to_string();
    Ok(vec![
        "--dashboard=0.0.0.0:9480".into(),
        format!("--http-token-file={}", file("token")),
        format!("--http-certificate={}", file("node.pem")),
        format!("--http-key={}", file("node.key")),
        format!("--http-ca={}", file("ca.pem")),
    ])
}

fn serves(lab: &Lab, port: u16, path: &str) -> Result<()> {
    let answer = get(lab, port, path)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

fn get(lab: &Lab, port: u16, path: &str) -> Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = lab.space("node1")?.enter(|| -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    })??;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Resident memory in bytes: VmRSS of proc_pid_status(5).
fn memory(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}
