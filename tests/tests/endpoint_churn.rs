//! Endpoints change every 50 ms under two hundred clients: nobody gets to an endpoint that was gone before he came, and
//! nobody is disturbed by the change of another endpoint.
//!
//! All pods serve all the time; only the Service's list of them changes. So every connection must be answered, and whoever
//! answers must have been in the list at some time between its beginning and its answer.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use headrace_lab::traffic::{TcpServer, UdpServer, datagram, stream};
use headrace_lab::{Lab, LabConfig, Service, Space};

use crate::findings::{Findings, PORT};
use crate::support;

/// Clients of each protocol.
const CLIENTS: usize = 100;
/// Time between two changes.
const PERIOD: Duration = Duration::from_millis(50);
/// How long, unless HEADRACE_SOAK_SECONDS says otherwise.
const SECONDS: u64 = 8;

/// One list of endpoints.
struct Version {
    servers: Vec<String>,
    /// When the one after it was in force.
    until: Option<Instant>,
}

#[test]
fn endpoints_come_and_go_under_two_hundred_clients() -> Result<()> {
    let Some(mut lab) = support::lab(LabConfig { pods_per_node: 3, ..LabConfig::default() })? else {
        return Ok(());
    };
    let names = ["node1-pod2", "node1-pod3", "node2-pod1", "node2-pod2", "node2-pod3"];
    let mut servers = Vec::new();
    for name in names {
        let (space, address) = (lab.space(name)?, lab.address(name)?);
        servers.push((TcpServer::start(space, PORT, name)?, UdpServer::start(space, address, PORT, name)?));
    }
    let client = lab.space("node1-pod1")?.clone();
    let seconds = std::env::var("HEADRACE_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let service = Service::new("churn", 80, PORT, &[]);
    let history = Mutex::new(Vec::new());
    change(&mut lab, &service, &names[..2], &history)?;
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let faults = Mutex::new(Vec::new());
    let address = SocketAddrV4::new(service.cluster_ip, PORT);
    let changes = std::thread::scope(|scope| {
        for number in 0..2 * CLIENTS {
            let ask: Ask = if number % 2 == 0 { http } else { udp };
            let (client, history, faults, stop, answered) = (&client, &history, &faults, &stop, &answered);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match once(client, address, ask, history) {
                        Ok(()) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Err(fault) => lock(faults).push(fault.to_string()),
                    }
                    std::thread::sleep(PERIOD);
                }
            });
        }
        let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(SECONDS));
        let changes = churn(&mut lab, &service, &names, &history, end);
        stop.store(true, Ordering::Relaxed);
        changes
    })?;
    let (answered, faults) = (answered.into_inner(), faults.into_inner().unwrap_or_default());
    println!("{changes} changes under {answered} connections");
    let mut findings = Findings::default();
    findings.equal("faults", &faults.iter().take(5).collect::<Vec<_>>(), &Vec::new());
    findings.equal("clients were answered", &(answered > 10 * CLIENTS), &true);
    findings.equal("endpoints changed", &(changes > 10), &true);
    findings.finish(lab)
}

type Ask = fn(&Space, SocketAddrV4) -> Result<String>;

/// Replaces endpoints until `end`; gives how often.
fn churn(
    lab: &mut Lab,
    service: &Service,
    names: &[&str],
    history: &Mutex<Vec<Version>>,
    end: Instant,
) -> Result<usize> {
    let mut changes = 0;
    while Instant::now() < end {
        let begin = Instant::now();
        changes += 1;
        let next: Vec<&str> = (0..2).map(|n| names[(changes + n) % names.len()]).collect();
        change(lab, service, &next, history)?;
        std::thread::sleep(PERIOD.saturating_sub(begin.elapsed()));
    }
    Ok(changes)
}

fn change(lab: &mut Lab, service: &Service, names: &[&str], history: &Mutex<Vec<Version>>) -> Result<()> {
    let servers = names.iter().map(ToString::to_string).collect();
    lock(history).push(Version { servers, until: None });
    let addresses = names.iter().map(|name| lab.address(name)).collect::<Result<Vec<_>, _>>()?;
    lab.apply_service(&service.with_endpoints(&addresses))?;
    let now = Instant::now();
    let mut history = lock(history);
    let older = history.len() - 1;
    for version in &mut history[..older] {
        version.until.get_or_insert(now);
    }
    Ok(())
}

/// One connection, and whether its endpoint was in the list while it was made.
fn once(client: &Space, address: SocketAddrV4, ask: Ask, history: &Mutex<Vec<Version>>) -> Result<()> {
    let begin = Instant::now();
    let server = ask(client, address)?;
    let known = |version: &Version| {
        version.servers.contains(&server) && version.until.is_none_or(|until| until > begin)
    };
    ensure!(lock(history).iter().any(known), "{server} answers after it was gone");
    Ok(())
}

fn http(client: &Space, address: SocketAddrV4) -> Result<String> {
    use std::io::{Read as _, Write as _};
    let (mut stream, greeting) = stream::greet(client, address)?;
    let request = b"GET / HTTP/1.1\r\nHost: churn\r\n\r\n";
    // The connection goes on while endpoints change.
    for _ in 0..3 {
        stream.write_all(request)?;
        let mut back = [0; 64];
        stream.read_exact(&mut back[..request.len()])?;
        std::thread::sleep(PERIOD);
    }
    Ok(greeting.server)
}

fn udp(client: &Space, address: SocketAddrV4) -> Result<String> {
    let socket = datagram::bind(client, Ipv4Addr::UNSPECIFIED, 0)?;
    // A datagram may get lost on a busy machine; a flow that leads nowhere would lose the next one too.
    let reply =
        datagram::ask(&socket, address, b"who?").or_else(|_| datagram::ask(&socket, address, b"who?"));
    Ok(reply?.server)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
