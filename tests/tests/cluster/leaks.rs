//! A hundred pods come and go, and nothing of them stays on their nodes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Result, ensure};
use headrace_api::proto::{Address, StatusReply};
use headrace_lab::cluster::Cluster;
use headrace_lab::cluster::node::ClusterNode;
use headrace_lab::process::wait_until;
use headrace_lab::traffic::TcpServer;
use headrace_lab::{daemon, dataplane};
use serde_json::Value;

use super::{LIMIT, PORT};
use crate::findings::Findings;

/// Fifty at a time, each of which has connections: through a Service, closed, and one that is open when the pod is killed.
const MANY: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 50
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 0
      containers:
      - name: connects
        image: lab.local/busybox:1
        command: [sh, -c, "wget -q -O /dev/null http://10.96.0.80/; sleep 1000000 | nc 10.96.0.82 8080; sleep 1000000"]
"#;

pub(super) fn check(cluster: &Cluster, findings: &mut Findings) {
    findings.check("a hundred pods", hundred_pods(cluster));
}

fn hundred_pods(cluster: &Cluster) -> Result<()> {
    let before = cluster.nodes().iter().map(Holdings::of).collect::<Result<Vec<_>>>()?;
    let two = cluster.pod("two")?;
    let _server = TcpServer::start(&two.space, PORT, "two")?;
    for _ in 0..2 {
        cluster.plane.apply(MANY)?;
        let available = "get deployment many -o jsonpath={.status.availableReplicas}";
        cluster.wait(available, LIMIT, |answer| answer == "50")?;
        let connected = || {
            cluster.nodes().iter().all(|node| flows(node, &["host 10.96.0.82"]).is_ok_and(|f| !f.is_empty()))
        };
        ensure!(wait_until(LIMIT, connected), "the pods do not connect");
        cluster.kubectl("delete deployment many")?;
        cluster.wait("get pods -l app=many -o name", LIMIT, str::is_empty)?;
    }
    for (node, before) in cluster.nodes().iter().zip(before) {
        let mut now = None;
        // The last pods' sandboxes go a little after their objects.
        let same = wait_until(LIMIT, || {
            now = Holdings::of(node).ok();
            now.as_ref().is_some_and(|now| now.nothing_beyond(&before))
        });
        // Pods of other checks may have moved to this node meanwhile; of the hundred none may be left.
        let left = now.as_ref().is_none_or(|now| now.ports.iter().any(|port| port.contains("many-")));
        ensure!(same || !left, "{}: {before:#?} became {now:#?}", node.name());
    }
    Ok(())
}

/// What pods have on a node: afterwards no more than before, when pods of earlier checks may still have been leaving.
#[derive(Debug)]
struct Holdings {
    links: Vec<String>,
    ports: Vec<String>,
    namespaces: usize,
    /// Addresses, attachments and whatever else the daemons keep.
    files: Vec<String>,
    /// Connections of addresses of this node that no pod has.
    stray_flows: Vec<String>,
}

impl Holdings {
    fn nothing_beyond(&self, before: &Self) -> bool {
        let within = |now: &[String], before: &[String]| now.iter().all(|name| before.contains(name));
        within(&self.links, &before.links)
            && within(&self.ports, &before.ports)
            && within(&self.files, &before.files)
            && within(&self.stray_flows, &before.stray_flows)
            && self.namespaces <= before.namespaces
    }

    fn of(node: &ClusterNode) -> Result<Self> {
        let status = dataplane::status(&node.path("/run/headrace")).map_err(anyhow::Error::msg)?;
        let ports = status.ports.iter().map(|port| port.label.clone()).collect();
        let stray_flows = stray_flows(node, &status)?;
        let space = &node.machine.space;
        let links = space.run("ip -o link show")?;
        let links = links.lines().filter_map(|line| Some(line.split(": ").nth(1)?.to_owned())).collect();
        let namespaces = space.run("ip netns list-id")?.lines().count();
        let files = space.run("find /run/headrace")?.lines().map(str::to_owned).collect();
        Ok(Self { links: sorted(links), ports: sorted(ports), namespaces, files: sorted(files), stray_flows })
    }
}

/// Of addresses of this node's range, which are known by that of one of its pods.
fn stray_flows(node: &ClusterNode, status: &StatusReply) -> Result<Vec<String>> {
    let present: BTreeSet<Ipv4Addr> =
        status.ports.iter().flat_map(|port| &port.addresses).filter_map(ipv4).collect();
    let Some([a, b, c, _]) = status
        .ports
        .iter()
        .filter(|port| port.role == "pod")
        .flat_map(|port| &port.addresses)
        .find_map(ipv4)
        .map(|pod| pod.octets())
    else {
        return Ok(Vec::new());
    };
    // The network address and the next one are the node's own.
    let gone = |end: &str| {
        end.parse::<Ipv4Addr>().is_ok_and(|address| {
            let [.., last] = address.octets();
            address.octets()[..3] == [a, b, c] && last > 1 && !present.contains(&address)
        })
    };
    let all = flows(node, &[])?;
    let stray = all.iter().filter(|flow| {
        let ends = ["client", "server"]
            .into_iter()
            .flat_map(|side| [&flow[side]["source"], &flow[side]["destination"]]);
        ends.filter_map(Value::as_str).any(gone)
    });
    Ok(sorted(stray.map(ToString::to_string).collect()))
}

/// Connections in the node's table.
fn flows(node: &ClusterNode, filter: &[&str]) -> Result<Vec<Value>> {
    let run_dir = node.path("/run/headrace").display().to_string();
    let output = Command::new(daemon::binary("headracectl")?)
        .args(["--run-dir", &run_dir, "--json", "flows"])
        .args(filter)
        .output()?;
    ensure!(output.status.success(), "headracectl flows: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn ipv4(address: &Address) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(address.octets.as_slice()).ok().map(Ipv4Addr::from)
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}
