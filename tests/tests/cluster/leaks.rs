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
    // Other checks' last pods may still be leaving.
    for node in cluster.nodes() {
        nothing_stays(cluster, node, None)?;
    }
    let before =
        cluster.nodes().iter().map(|node| Holdings::of(cluster, node)).collect::<Result<Vec<_>>>()?;
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
    cluster
        .nodes()
        .iter()
        .zip(&before)
        .try_for_each(|(node, before)| nothing_stays(cluster, node, Some(before)))
}

/// Waits until the node has what its pods need and nothing else; besides, no other files than `before`. Sandboxes go a
/// little after their pods' objects.
fn nothing_stays(cluster: &Cluster, node: &ClusterNode, before: Option<&Holdings>) -> Result<()> {
    let mut left = None;
    let clean = wait_until(LIMIT, || {
        left = Some(Holdings::of(cluster, node).map(|now| now.beyond_pods(before)));
        matches!(&left, Some(Ok(left)) if left.is_empty())
    });
    ensure!(clean, "{} keeps more or less than its pods need: {left:#?}", node.name());
    Ok(())
}

/// What is on a node for its pods, which are those of Kubernetes.
#[derive(Debug)]
struct Holdings {
    /// Addresses of the pods that run here and have a network of their own.
    pods: BTreeSet<String>,
    /// Addresses of the dataplane's ports.
    ports: BTreeSet<String>,
    /// Addresses that are given out.
    given: BTreeSet<String>,
    /// The host's ends of veths.
    links: BTreeSet<String>,
    /// Links of which the plugin remembers an attachment.
    attachments: BTreeSet<String>,
    /// Network namespaces that the node's has links to.
    namespaces: usize,
    /// Whatever else the daemons keep in files.
    files: BTreeSet<String>,
    /// Connections of addresses of this node that no pod has.
    stray_flows: BTreeSet<String>,
}

impl Holdings {
    fn of(cluster: &Cluster, node: &ClusterNode) -> Result<Self> {
        let status = dataplane::status(&node.path("/run/headrace")).map_err(anyhow::Error::msg)?;
        let ports = pod_addresses(&status).map(|address| address.to_string()).collect();
        let stray_flows = stray_flows(node, &status)?;
        let space = &node.machine.space;
        let links = space.run("ip -o link show")?;
        let links = links.lines().filter_map(|line| line.split([':', '@']).nth(1)).map(str::trim);
        let links = links.filter(|link| link.starts_with("hr")).map(str::to_owned).collect();
        let namespaces = space.run("ip netns list-id")?.lines().count();
        let (mut given, mut attachments, mut files) = <(BTreeSet<_>, BTreeSet<_>, BTreeSet<_>)>::default();
        for file in space.run("find /run/headrace -type f -printf %P\\n")?.lines() {
            let is_address = |name: &&str| name.parse::<Ipv4Addr>().is_ok();
            if let Some(address) = file.strip_prefix("ipam/headrace/").filter(is_address) {
                given.insert(address.to_owned());
            } else if let Some(link) = attachment(file) {
                attachments.insert(link.to_owned());
            } else {
                files.insert(file.to_owned());
            }
        }
        let pods = pods(cluster, node)?;
        Ok(Self { pods, ports, given, links, attachments, namespaces, files, stray_flows })
    }

    /// What of it no pod of the node accounts for, or what a pod lacks.
    fn beyond_pods(&self, before: Option<&Self>) -> Vec<String> {
        let mut odd = Vec::new();
        let mut same = |what: &str, one: &BTreeSet<String>, other: &BTreeSet<String>| {
            if one != other {
                odd.push(format!("{what}: {one:?} and {other:?}"));
            }
        };
        same("pods and ports", &self.pods, &self.ports);
        same("pods and addresses that are given out", &self.pods, &self.given);
        same("links and attachments", &self.links, &self.attachments);
        same("no flows of pods that are gone", &BTreeSet::new(), &self.stray_flows);
        if let Some(before) = before {
            let new = self.files.difference(&before.files).cloned().collect();
            same("no new files", &BTreeSet::new(), &new);
        }
        if self.links.len() != self.pods.len() {
            odd.push(format!("{} links for {} pods", self.links.len(), self.pods.len()));
        }
        // One more is the wire's other end.
        if self.namespaces != self.pods.len() + 1 {
            odd.push(format!("{} namespaces for {} pods and the wire", self.namespaces, self.pods.len()));
        }
        odd
    }
}

/// Addresses of the pods that run on `node`, without those in the node's own network.
fn pods(cluster: &Cluster, node: &ClusterNode) -> Result<BTreeSet<String>> {
    let pods = cluster.kubectl(&format!(
        "get pods -A --field-selector spec.nodeName={},status.phase=Running -o jsonpath={{range.items[*]}}{{.spec.hostNetwork}}:{{.status.podIP}},{{end}}",
        node.name()
    ))?;
    let pods = pods.split_terminator(',').filter_map(|pod| pod.strip_prefix(':'));
    Ok(pods.map(str::to_owned).collect())
}

/// The link whose attachment `file` of the run directory remembers.
fn attachment(file: &str) -> Option<&str> {
    file.strip_prefix("attachments/")?.strip_suffix(".json")
}

fn pod_addresses(status: &StatusReply) -> impl Iterator<Item = Ipv4Addr> {
    status.ports.iter().filter(|port| port.role == "pod").flat_map(|port| &port.addresses).filter_map(ipv4)
}

/// Of addresses of this node's range, which are known by that of one of its pods.
fn stray_flows(node: &ClusterNode, status: &StatusReply) -> Result<BTreeSet<String>> {
    let present: BTreeSet<Ipv4Addr> = pod_addresses(status).collect();
    let Some([a, b, c, _]) = present.first().map(Ipv4Addr::octets) else {
        return Ok(BTreeSet::new());
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
    Ok(stray.map(ToString::to_string).collect())
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
