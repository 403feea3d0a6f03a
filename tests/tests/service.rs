//! ClusterIP: one endpoint per connection, evenly, wherever endpoints are; none is refused.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Result, ensure};
use headrace_lab::traffic::{Hold, TcpServer, UdpServer, datagram, stream};
use headrace_lab::{Lab, LabConfig, Service};

use crate::findings::{Findings, PORT};
use crate::support;

/// Connections for a count of endpoints: 60 each, give or take 5 standard deviations of 6.7.
const CONNECTIONS: usize = 240;
const EVEN: std::ops::RangeInclusive<usize> = 26..=94;

/// Pods here and elsewhere, processes of this node and of another.
const ENDPOINTS: [&str; 4] = ["node1-pod2", "node2-pod1", "node1", "node2"];

#[test]
fn connections_spread_evenly_over_all_kinds_of_endpoints_with_one_worker() -> Result<()> {
    connections_spread_evenly(1)
}

#[test]
fn connections_spread_evenly_over_all_kinds_of_endpoints_with_two_workers() -> Result<()> {
    connections_spread_evenly(2)
}

#[test]
fn a_pod_reaches_itself_through_its_service() -> Result<()> {
    let Some(mut lab) = support::lab(LabConfig::default())? else { return Ok(()) };
    let web = service(&lab, &["node1-pod1"])?;
    lab.apply_service(&web)?;
    let mut findings = Findings::default();
    findings.check("TCP hairpin", tcp_servers(&lab, &["node1-pod1"], "node1-pod1", &web, 3).map(drop));
    findings.check("UDP hairpin", udp_servers(&lab, &["node1-pod1"], "node1-pod1", &web, 3).map(drop));
    findings.finish(lab)
}

#[test]
fn a_removed_endpoint_gets_no_new_connection_and_none_left_is_refused() -> Result<()> {
    let Some(mut lab) = support::lab(LabConfig::default())? else { return Ok(()) };
    let mut findings = Findings::default();
    let both = service(&lab, &["node1-pod2", "node2-pod1"])?;
    lab.apply_service(&both)?;
    let servers = ["node1-pod2", "node2-pod1"].map(|name| TcpServer::start(lab.space(name)?, PORT, name));
    let _servers = servers.into_iter().collect::<Result<Vec<_>, _>>()?;
    let client = lab.space("node1-pod1")?.clone();
    let address = SocketAddrV4::new(both.cluster_ip, PORT);
    let holds = (0..8).map(|_| Hold::start(&client, address)).collect::<io::Result<Vec<_>>>()?;

    lab.apply_service(&service(&lab, &["node2-pod1"])?)?;
    let counts =
        (0..30).map(|_| Ok(stream::greet(&client, address)?.1.server)).collect::<io::Result<Vec<_>>>()?;
    findings.equal("answers after removal", &counts.iter().all(|name| name == "node2-pod1"), &true);
    lab.apply_service(&service(&lab, &[])?)?;
    findings.check("TCP without endpoints", support::refused(stream::connect(&client, address)));
    findings.check(
        "TCP without endpoints, from the node",
        support::refused(stream::connect(lab.space("node1")?, address)),
    );
    let socket = datagram::bind(&client, Ipv4Addr::UNSPECIFIED, 0)?;
    socket.connect(address)?;
    findings.check("UDP without endpoints", support::refused(datagram::ask(&socket, address, b"?")));
    for hold in holds {
        let before = hold.echoed();
        std::thread::sleep(std::time::Duration::from_millis(100));
        findings.equal("an established connection goes on", &(hold.echoed() > before), &true);
        let report = hold.stop();
        findings.equal("an established connection breaks", &report.broken.map(|e| e.to_string()), &None);
    }
    lab.remove_service("web")?;
    let never = stream::connect(&client, address).map(|_| "connected").map_err(|_| ());
    findings.equal("a Service that is gone", &never, &Err(()));
    findings.finish(lab)
}

fn connections_spread_evenly(workers: usize) -> Result<()> {
    let Some(mut lab) = support::lab(LabConfig { workers, ..LabConfig::default() })? else { return Ok(()) };
    let web = service(&lab, &ENDPOINTS)?;
    lab.apply_service(&web)?;
    let mut findings = Findings::default();
    for client in ["node1-pod1", "node1", "node2-pod2"] {
        let counts = tcp_servers(&lab, &ENDPOINTS, client, &web, CONNECTIONS);
        findings.check(format!("TCP from {client}"), counts.and_then(|counts| even(&counts)));
        let counts = udp_servers(&lab, &ENDPOINTS, client, &web, CONNECTIONS);
        findings.check(format!("UDP from {client}"), counts.and_then(|counts| even(&counts)));
    }
    findings.finish(lab)
}

/// How often each of `servers` answers `count` new connections of `client`.
fn tcp_servers(
    lab: &Lab,
    servers: &[&str],
    client: &str,
    service: &Service,
    count: usize,
) -> Result<BTreeMap<String, usize>> {
    let running = servers.iter().map(|name| TcpServer::start(lab.space(name)?, PORT, name));
    let _running = running.collect::<Result<Vec<_>, _>>()?;
    let mut counts = BTreeMap::new();
    for _ in 0..count {
        let address = SocketAddrV4::new(service.cluster_ip, service.port);
        let (_, greeting) = stream::greet(lab.space(client)?, address)?;
        check_source(lab, client, &greeting.server, &greeting.client_seen.ip().to_string())?;
        *counts.entry(greeting.server).or_default() += 1;
    }
    Ok(counts)
}

fn udp_servers(
    lab: &Lab,
    servers: &[&str],
    client: &str,
    service: &Service,
    count: usize,
) -> Result<BTreeMap<String, usize>> {
    let running =
        servers.iter().map(|name| UdpServer::start(lab.space(name)?, lab.address(name)?, PORT, name));
    let _running = running.collect::<Result<Vec<_>, _>>()?;
    let mut counts = BTreeMap::new();
    for _ in 0..count {
        let address = SocketAddrV4::new(service.cluster_ip, service.port);
        let socket = datagram::bind(lab.space(client)?, Ipv4Addr::UNSPECIFIED, 0)?;
        let reply = datagram::ask(&socket, address, b"who?")?;
        ensure!(reply.from == address.into(), "the reply comes from {}", reply.from);
        let seen = reply.client_seen.rsplit_once(':').map_or("", |(seen, _)| seen);
        check_source(lab, client, &reply.server, seen)?;
        *counts.entry(reply.server).or_default() += 1;
    }
    Ok(counts)
}

/// A pod is seen as itself by other pods.
fn check_source(lab: &Lab, client: &str, server: &str, seen: &str) -> Result<()> {
    let pods = client.contains("-pod") && server.contains("-pod") && client != server;
    let own = lab.address(client)?.to_string();
    ensure!(!pods || seen == own, "{server} sees {seen} instead of {own}");
    Ok(())
}

fn even(counts: &BTreeMap<String, usize>) -> Result<()> {
    let all = counts.len() == ENDPOINTS.len();
    ensure!(all && counts.values().all(|count| EVEN.contains(count)), "not even: {counts:?}");
    Ok(())
}

fn service(lab: &Lab, endpoints: &[&str]) -> Result<Service> {
    let addresses = endpoints.iter().map(|name| lab.address(name)).collect::<Result<Vec<_>, _>>()?;
    Ok(Service::new("web", 80, PORT, &addresses))
}
