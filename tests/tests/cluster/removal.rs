//! Headrace is taken off the cluster as docs/install.md says, and its nodes are what they were without it.

use std::path::Path;

use anyhow::{Result, ensure};
use headrace_lab::cluster::Cluster;
use headrace_lab::cluster::node::ClusterNode;

use super::LIMIT;
use crate::findings::Findings;

/// Installed files, pins, and what a dataplane would resume from.
const FILES: [&str; 6] = [
    "/etc/cni/net.d/00-headrace.conflist",
    "/opt/cni/bin/headrace-cni",
    "/sys/fs/bpf/headrace-run-headrace",
    "/run/headrace/state.pb",
    "/run/headrace/flows",
    "/run/headrace/dataplane.sock",
];

pub(super) fn check(cluster: &Cluster, findings: &mut Findings) {
    findings.check("removal", remove(cluster));
}

fn remove(cluster: &Cluster) -> Result<()> {
    for node in cluster.nodes() {
        ensure!(!left(node)?.is_empty(), "{}: nothing is there to be removed", node.name());
    }
    // In place of drains, which end no pods that have nowhere else to go.
    cluster.kubectl("delete deployments,pods --all --wait=false")?;
    cluster.kubectl("delete deployments --all -n kube-system --wait=false")?;
    let pods = "get pods -A -l !app.kubernetes.io/name -o name";
    cluster.wait(pods, LIMIT, str::is_empty)?;
    let folder = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    cluster.kubectl(&format!("delete -k {}", folder("").display()))?;
    // An agent that still runs puts its files back.
    let ours = "get pods -n kube-system -l app.kubernetes.io/name=headrace -o name";
    cluster.wait(ours, LIMIT, str::is_empty)?;
    let uninstall = folder("kustomize/uninstall");
    cluster.kubectl(&format!("apply -k {}", uninstall.display()))?;
    cluster.kubectl("-n kube-system rollout status daemonset/headrace-uninstall --timeout=120s")?;
    cluster.kubectl(&format!("delete -k {}", uninstall.display()))?;
    for node in cluster.nodes() {
        let left = left(node)?;
        ensure!(left.is_empty(), "{}: left are {left:?}", node.name());
    }
    Ok(())
}

/// What is there of Headrace on a node.
fn left(node: &ClusterNode) -> Result<Vec<String>> {
    let space = &node.machine.space;
    let mut left: Vec<String> =
        FILES.iter().filter(|file| node.path(file).exists()).map(ToString::to_string).collect();
    let mut look = |line: &str, is_ours: &dyn Fn(&str) -> bool| -> Result<()> {
        let answer = space.run(line)?;
        left.extend(answer.lines().filter(|line| is_ours(line)).map(str::to_owned));
        Ok(())
    };
    look("ip -o link show", &|line| {
        line.contains(": hr") || line.contains("headrace") || line.contains("xdp")
    })?;
    look("nft list tables", &|line| line.contains("headrace"))?;
    // The number is that of the dataplane's routing table.
    look("ip rule show", &|line| line.contains("7272"))?;
    look("cat /proc/sys/net/ipv4/ip_local_reserved_ports", &|line| !line.trim().is_empty())?;
    Ok(left)
}
