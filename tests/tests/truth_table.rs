//! kube-proxy's truth table (TestInternalExternalMasquerade): who gets to which endpoints, and who is masqueraded. Real
//! connections; the endpoint reports the source that it sees.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Result, ensure};
use headrace_lab::plan::OUTSIDE;
use headrace_lab::traffic::{TcpServer, stream};
use headrace_lab::{Lab, LabConfig, Policy, Service};

use crate::exposed::{self, Exposed};
use crate::findings::{Findings, PORT};
use crate::support;

/// Endpoints: one on the node that translates, one elsewhere.
const LOCAL: &str = "node1-pod2";
const REMOTE: &str = "node2-pod1";
/// Connections that all go to the local endpoint when they are spread over both: once in four thousand.
const ENOUGH: usize = 12;
/// Connections after which both endpoints must have had one: all to one side once in 10^12.
const MANY: usize = 40;

/// Where a connection goes to.
#[derive(Clone, Copy, Debug)]
enum To {
    ClusterIp,
    NodePort,
    Loopback,
    LoadBalancer,
}

/// `C` or `L`, and `M` or `-`, as kube-proxy's table has them.
type Cell = (char, char);

/// From, to, and what is wanted under: both policies Cluster, external Local, internal Local.
const TABLE: [(&str, To, [Cell; 3]); 10] = [
    ("node1-pod1", To::ClusterIp, [('C', '-'), ('C', '-'), ('L', '-')]),
    ("node1-pod1", To::NodePort, [('C', 'M'), ('C', '-'), ('C', 'M')]),
    ("node1-pod1", To::LoadBalancer, [('C', 'M'), ('C', '-'), ('C', 'M')]),
    ("node1", To::ClusterIp, [('C', 'M'), ('C', 'M'), ('L', 'M')]),
    ("node1", To::NodePort, [('C', 'M'), ('C', 'M'), ('C', 'M')]),
    ("node1", To::Loopback, [('C', 'M'), ('C', 'M'), ('C', 'M')]),
    ("node1", To::LoadBalancer, [('C', 'M'), ('C', 'M'), ('C', 'M')]),
    ("outside", To::ClusterIp, [('C', 'M'), ('C', 'M'), ('L', 'M')]),
    ("outside", To::NodePort, [('C', 'M'), ('L', '-'), ('C', 'M')]),
    ("outside", To::LoadBalancer, [('C', 'M'), ('L', '-'), ('C', 'M')]),
];

#[test]
fn every_cell_of_the_truth_table_holds_for_real_connections() -> Result<()> {
    let config = LabConfig { agent_args: exposed::with_loopback(), ..LabConfig::default() };
    let Some(mut lab) = support::lab(config)? else { return Ok(()) };
    exposed::routes(&lab)?;
    let endpoints = [lab.address(LOCAL)?, lab.address(REMOTE)?];
    let columns = [
        ("Cluster", Policy::Cluster, Policy::Cluster),
        ("external Local", Policy::Cluster, Policy::Local),
        ("internal Local", Policy::Local, Policy::Cluster),
    ];
    let mut services = Vec::new();
    for (number, (name, internal_policy, external_policy)) in (0..).zip(columns) {
        let service = Service {
            internal_policy,
            external_policy,
            ..exposed::service(&format!("table{number}"), 10 + number, &endpoints)
        };
        lab.apply_service(&service)?;
        services.push((name, service));
    }
    let _servers = [LOCAL, REMOTE].map(|name| lab.space(name).map(|s| TcpServer::start(s, PORT, name)));
    let mut findings = Findings::default();
    for (name, service) in &services {
        findings.check(format!("{name}: rules of node1"), exposed::wait_for_rules(&lab, "node1", service));
    }
    for (from, to, cells) in TABLE {
        for ((name, service), cell) in services.iter().zip(cells) {
            findings.check(
                format!("{from} to {to:?}, {name}"),
                holds(&lab, from, address(&lab, to, service)?, cell),
            );
        }
    }
    findings.finish(lab)
}

fn address(lab: &Lab, to: To, service: &Service) -> Result<SocketAddrV4> {
    Ok(match to {
        To::ClusterIp => SocketAddrV4::new(service.cluster_ip, service.port),
        To::NodePort => exposed::node_port(service, lab.address("node1")?),
        To::Loopback => exposed::node_port(service, Ipv4Addr::LOCALHOST),
        To::LoadBalancer => Exposed::LoadBalancer.address(service, Ipv4Addr::UNSPECIFIED),
    })
}

fn holds(lab: &Lab, from: &str, address: SocketAddrV4, (endpoints, masquerade): Cell) -> Result<()> {
    let client = lab.space(from)?;
    let mut seen = BTreeSet::new();
    for number in 1..=MANY {
        let (_, greeting) = stream::greet(client, address)?;
        let source = greeting.client_seen.ip().to_string();
        let allowed = sources(lab, from, &greeting.server, masquerade)?;
        ensure!(
            allowed.iter().any(|address| address.to_string() == source),
            "{} sees {source} instead of one of {allowed:?}",
            greeting.server
        );
        seen.insert(greeting.server);
        let all = seen.len() == 2;
        if all || endpoints == 'L' && number == ENOUGH {
            break;
        }
    }
    let wanted = if endpoints == 'L' { [LOCAL].as_slice() } else { &[LOCAL, REMOTE] };
    ensure!(seen.iter().map(String::as_str).eq(wanted.iter().copied()), "it got to {seen:?}");
    Ok(())
}

/// As whom `server` may see `from`. Masqueraded: the dataplane's own address to pods of this node, else the node's. A
/// process of the node may also be seen as its pod-side address, which is the node's as well.
fn sources(lab: &Lab, from: &str, server: &str, masquerade: char) -> Result<Vec<Ipv4Addr>> {
    let node = &lab.node("node1")?.plan;
    let translated = if server == LOCAL { node.gateway() } else { node.address };
    Ok(match (from, masquerade) {
        ("node1", _) => vec![translated, node.pod_side_address()],
        (_, 'M') => vec![translated],
        ("outside", _) => vec![OUTSIDE],
        _ => vec![lab.address(from)?],
    })
}
