//! A hundred pods come and go, and nothing of them stays on their nodes.

use anyhow::{Result, ensure};
use headrace_lab::cluster::Cluster;
use headrace_lab::cluster::node::ClusterNode;
use headrace_lab::dataplane;
use headrace_lab::process::wait_until;

use super::LIMIT;
use crate::findings::Findings;

/// Fifty at a time.
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
      containers: [{name: idle, image: "lab.local/busybox:1", command: [sleep, "1000000"]}]
"#;

pub(super) fn check(cluster: &Cluster, findings: &mut Findings) {
    findings.check("a hundred pods", hundred_pods(cluster));
}

fn hundred_pods(cluster: &Cluster) -> Result<()> {
    let before = cluster.nodes().iter().map(Holdings::of).collect::<Result<Vec<_>>>()?;
    for _ in 0..2 {
        cluster.plane.apply(MANY)?;
        let available = "get deployment many -o jsonpath={.status.availableReplicas}";
        cluster.wait(available, LIMIT, |answer| answer == "50")?;
        cluster.kubectl("delete deployment many")?;
        cluster.wait("get pods -l app=many -o name", LIMIT, str::is_empty)?;
    }
    for (node, before) in cluster.nodes().iter().zip(before) {
        let mut now = None;
        // The last pods' sandboxes go a little after their objects.
        let same = wait_until(LIMIT, || {
            now = Holdings::of(node).ok();
            now.as_ref() == Some(&before)
        });
        ensure!(same, "{}: {before:#?} became {now:#?}", node.name());
    }
    Ok(())
}

/// What pods have on a node: the same before and after.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    links: Vec<String>,
    ports: Vec<String>,
    namespaces: usize,
    /// Addresses, attachments and whatever else the daemons keep.
    files: Vec<String>,
}

impl Holdings {
    fn of(node: &ClusterNode) -> Result<Self> {
        let status = dataplane::status(&node.path("/run/headrace")).map_err(anyhow::Error::msg)?;
        let ports = status.ports.iter().map(|port| port.label.clone()).collect();
        let space = &node.machine.space;
        let links = space.run("ip -o link show")?;
        let links = links.lines().filter_map(|line| Some(line.split(": ").nth(1)?.to_owned())).collect();
        let namespaces = space.run("ip netns list-id")?.lines().count();
        let files = space.run("find /run/headrace")?.lines().map(str::to_owned).collect();
        Ok(Self { links: sorted(links), ports: sorted(ports), namespaces, files: sorted(files) })
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}
