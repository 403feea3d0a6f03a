//! NodePorts, external and load-balancer addresses from everywhere, to endpoints everywhere.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use headrace_lab::plan::OUTSIDE;
use headrace_lab::process::wait_until;
use headrace_lab::traffic::{TcpServer, UdpServer, datagram, stream};
use headrace_lab::{Lab, LabConfig, Policy, Service};

use crate::exposed::{self, Exposed};
use crate::findings::{Findings, PORT};
use crate::support;

/// Pods of the node that translates and of another, processes of both nodes, a host that is no node.
const CLIENTS: [&str; 5] = ["node1-pod1", "node2-pod1", "node1", "node2", "outside"];
/// Likewise.
const ENDPOINTS: [&str; 4] = ["node1-pod2", "node2-pod2", "node1", "node2"];
/// In one packet, and in fragments.
const LENGTHS: [usize; 2] = [100, 9000];

#[test]
fn every_frontend_is_reached_from_everywhere_with_one_worker() -> Result<()> {
    every_frontend_is_reached(1)
}

#[test]
fn every_frontend_is_reached_from_everywhere_with_two_workers() -> Result<()> {
    every_frontend_is_reached(2)
}

fn every_frontend_is_reached(workers: usize) -> Result<()> {
    let Some(mut lab) = support::lab(LabConfig { workers, ..LabConfig::default() })? else { return Ok(()) };
    exposed::routes(&lab)?;
    let mut findings = Findings::default();
    let mut servers = Vec::new();
    for (number, endpoint) in (20..).zip(ENDPOINTS) {
        let (space, address) = (lab.space(endpoint)?, lab.address(endpoint)?);
        servers.push((
            TcpServer::start(space, PORT, endpoint)?,
            UdpServer::start(space, address, PORT, endpoint)?,
        ));
        let service = exposed::service(endpoint, number, &[address]);
        lab.apply_service(&service)?;
        for node in ["node1", "node2"] {
            findings
                .check(format!("{endpoint}: rules of {node}"), exposed::wait_for_rules(&lab, node, &service));
        }
        let node = lab.address("node1")?;
        for (client, way) in CLIENTS.iter().flat_map(|client| Exposed::ALL.map(|way| (client, way))) {
            let address = way.address(&service, node);
            let what = |kind: &str| format!("{client} to {way:?} of {endpoint}, {kind}");
            findings.check(what("TCP"), tcp(&lab, client, address, endpoint));
            for length in LENGTHS {
                findings
                    .check(what(&format!("UDP of {length}")), udp(&lab, client, address, endpoint, length));
            }
        }
    }
    findings.finish(lab)
}

#[test]
fn policies_ranges_and_missing_endpoints_decide_who_is_let_in() -> Result<()> {
    let Some(mut lab) = support::lab(LabConfig::default())? else { return Ok(()) };
    exposed::routes(&lab)?;
    let mut findings = Findings::default();
    let _tcp = ["node1-pod2", "node1"].map(|name| lab.space(name).map(|s| TcpServer::start(s, PORT, name)));
    let node = lab.address("node1")?;

    let none = exposed::service("none", 30, &[]);
    lab.apply_service(&none)?;
    findings.check("rules", exposed::wait_for_rules(&lab, "node1", &none));
    for (client, way) in ["node1-pod1", "node1", "outside"].iter().flat_map(|c| Exposed::ALL.map(|w| (c, w)))
    {
        let answer = stream::connect(lab.space(client)?, way.address(&none, node));
        findings.check(format!("{client} to {way:?} without endpoints"), support::refused(answer));
    }

    let elsewhere = Service {
        external_policy: Policy::Local,
        ..exposed::service("elsewhere", 31, &[lab.address("node2-pod1")?])
    };
    lab.apply_service(&elsewhere)?;
    let answer = stream::connect(lab.space("outside")?, exposed::node_port(&elsewhere, node));
    findings.check("external policy Local without a local endpoint", dropped(answer));

    let ranged = Service {
        source_ranges: vec![format!("{OUTSIDE}/32")],
        ..exposed::service("ranged", 32, &[lab.address("node1-pod2")?])
    };
    lab.apply_service(&ranged)?;
    let balancer = Exposed::LoadBalancer.address(&ranged, node);
    findings.check("from within the source ranges", tcp(&lab, "outside", balancer, "node1-pod2"));
    let pod = lab.space("node1-pod1")?;
    findings.check("a pod beyond the source ranges", dropped(stream::connect(pod, balancer)));
    let elsewhere = exposed::node_port(&ranged, node);
    findings
        .check("source ranges do not count for NodePorts", tcp(&lab, "node1-pod1", elsewhere, "node1-pod2"));

    // A process of the node behind a frontend of policy Local: its client keeps its source and lies beyond the uplink.
    let process = Service { external_policy: Policy::Local, ..exposed::service("process", 33, &[node]) };
    lab.apply_service(&process)?;
    for way in Exposed::ALL {
        let kept = keeps_source(&lab, way.address(&process, node));
        findings.check(format!("{way:?} to a process of the node, policy Local"), kept);
    }
    findings
        .check("a load balancer asks the node with the endpoint", health(&lab, "node1", &process, 200, 1));
    findings.check("a load balancer asks the node without", health(&lab, "node2", &process, 503, 0));
    findings.finish(lab)
}

#[test]
fn a_client_keeps_its_endpoint_over_all_frontends_where_affinity_is_wanted() -> Result<()> {
    let Some(mut lab) = support::lab(LabConfig::default())? else { return Ok(()) };
    exposed::routes(&lab)?;
    let mut findings = Findings::default();
    let names = ["node1-pod2", "node2-pod1", "node2-pod2"];
    let _servers = names.map(|name| lab.space(name).map(|space| TcpServer::start(space, PORT, name)));
    let endpoints = names.map(|name| lab.address(name)).into_iter().collect::<Result<Vec<_>, _>>()?;
    let service = Service { affinity: Some(10_800), ..exposed::service("sticky", 40, &endpoints) };
    lab.apply_service(&service)?;
    let node = lab.address("node1")?;
    for client in ["outside", "node1-pod1"] {
        let mut answered = BTreeSet::new();
        for way in Exposed::ALL.iter().cycle().take(15) {
            let greeting = stream::greet(lab.space(client)?, way.address(&service, node));
            findings.check(format!("{client} to {way:?}"), greeting.map(|(_, g)| answered.insert(g.server)));
        }
        findings.equal(format!("endpoints of {client}"), &answered.len(), &1);
        // Its endpoint goes: it gets another one, and only one.
        let left: Vec<Ipv4Addr> = names
            .iter()
            .zip(&endpoints)
            .filter(|(name, _)| !answered.contains(**name))
            .map(|(_, address)| *address)
            .collect();
        lab.apply_service(&service.with_endpoints(&left))?;
        let mut others = BTreeSet::new();
        for _ in 0..10 {
            let greeting = stream::greet(lab.space(client)?, exposed::node_port(&service, node));
            findings.check(format!("{client} afterwards"), greeting.map(|(_, g)| others.insert(g.server)));
        }
        findings.equal(format!("endpoints of {client} afterwards"), &others.len(), &1);
        findings.equal("the one that is gone answers", &others.is_disjoint(&answered), &true);
        lab.apply_service(&service)?;
    }
    findings.finish(lab)
}

/// What a load balancer outside is told of a Service, and of the node itself.
fn health(lab: &Lab, node: &str, service: &Service, code: u16, endpoints: usize) -> Result<()> {
    let outside = lab.space("outside")?;
    let ask = |port, path| {
        outside
            .run(&format!("curl -s -i -m 5 http://{}:{port}{path}", lab.address(node)?))
            .map_err(Into::into)
    };
    let port = service.health_check_port().unwrap_or_default();
    let mut last: Result<String> = Ok(String::new());
    let told = wait_until(Duration::from_secs(10), || {
        last = ask(port, "/");
        let weight = format!("x-load-balancing-endpoint-weight: {endpoints}\r\n");
        let body = format!("\"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": true\n}}");
        let right = |text: &String| text.starts_with(&format!("HTTP/1.1 {code} ")) && text.contains(&body);
        last.as_ref().is_ok_and(|text| right(text) && text.to_lowercase().contains(&weight))
    });
    ensure!(told, "port {port} says {last:?}");
    for path in ["/healthz", "/livez"] {
        let text: String = ask(10_256, path)?;
        ensure!(text.starts_with("HTTP/1.1 200 ") && text.contains("\"healthy\":true"), "{path}: {text}");
    }
    Ok(())
}

fn tcp(lab: &Lab, client: &str, address: SocketAddrV4, endpoint: &str) -> Result<()> {
    let (_, greeting) = stream::greet(lab.space(client)?, address)?;
    ensure!(greeting.server == endpoint, "{} answers", greeting.server);
    Ok(())
}

fn udp(lab: &Lab, client: &str, address: SocketAddrV4, endpoint: &str, length: usize) -> Result<()> {
    let socket = datagram::bind(lab.space(client)?, Ipv4Addr::UNSPECIFIED, 0)?;
    let payload: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
    let mut reply = datagram::ask(&socket, address, &payload);
    if length > 1400 && reply.is_err() {
        // The first one may have taught the sender the path's MTU.
        reply = datagram::ask(&socket, address, &payload);
    }
    let reply = reply?;
    ensure!(reply.server == endpoint && reply.payload == payload, "{} answers, or changes it", reply.server);
    ensure!(reply.from == address.into(), "the reply comes from {}", reply.from);
    Ok(())
}

fn keeps_source(lab: &Lab, address: SocketAddrV4) -> Result<()> {
    let (mut stream, greeting) = stream::greet(lab.space("outside")?, address)?;
    ensure!(greeting.server == "node1", "{} answers", greeting.server);
    ensure!(greeting.client_seen.ip() == OUTSIDE, "it sees {}", greeting.client_seen);
    // More than one segment, both ways.
    let bytes = vec![7; 20_000];
    io::Write::write_all(&mut stream, &bytes)?;
    let mut back = vec![0; bytes.len()];
    io::Read::read_exact(&mut stream, &mut back)?;
    ensure!(back == bytes, "what came back is something else");
    Ok(())
}

fn dropped<T>(answer: io::Result<T>) -> Result<()> {
    match answer {
        Ok(_) => bail!("it is answered"),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(()),
        Err(error) => bail!("{error} instead of silence"),
    }
}
