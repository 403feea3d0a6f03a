//! What operators do all day: commands in pods, logs, more and fewer of them, a new version.

use std::net::SocketAddrV4;

use anyhow::{Result, ensure};
use headrace_lab::cluster::Cluster;
use headrace_lab::dataplane;
use headrace_lab::plan::OUTSIDE_NAME;
use headrace_lab::process::wait_until;
use headrace_lab::traffic::http::{self, Load};

use super::{LIMIT, WEB, address, web_runs};
use crate::findings::Findings;

pub(super) fn check(cluster: &Cluster, findings: &mut Findings) {
    findings.check("exec and logs", exec_and_logs(cluster));
    findings.check("scaling", scale(cluster));
    findings.check("a rolling update", rolling_update(cluster));
    findings.check("bandwidth limits", limits(cluster));
}

fn exec_and_logs(cluster: &Cluster) -> Result<()> {
    for pod in web_runs(cluster, 10)?.iter().take(2) {
        ensure!(cluster.kubectl(&format!("exec {pod} -- hostname"))?.trim() == pod);
        let log = cluster.kubectl(&format!("logs {pod}"))?;
        ensure!(log.trim() == format!("serving as {pod}"), "{log}");
    }
    Ok(())
}

/// Every request is answered while servers go and come.
fn scale(cluster: &Cluster) -> Result<()> {
    let load = Load::start(&cluster.pod("one")?.space, WEB);
    for count in [2, 6] {
        cluster.kubectl(&format!("scale deployment web --replicas={count}"))?;
        web_runs(cluster, count)?;
    }
    none_failed(load)
}

/// New pods in place of all old ones: no request is lost, from a pod, from a node, and from outside through a NodePort.
fn rolling_update(cluster: &Cluster) -> Result<()> {
    let before = web_runs(cluster, 6)?;
    let outside = cluster.lab().space(OUTSIDE_NAME)?;
    let port = SocketAddrV4::new(address(cluster, "worker1")?, 30080);
    let loads = [
        Load::start(&cluster.pod("one")?.space, WEB),
        Load::start(&cluster.node("worker2")?.machine.space, WEB),
        Load::start(outside, port),
    ];
    cluster.kubectl("rollout restart deployment web")?;
    let line = "get deployment web -o jsonpath={.status.observedGeneration}:{.status.updatedReplicas}:{.status.replicas}:{.status.availableReplicas}";
    cluster.wait(line, LIMIT, |answer| answer.ends_with(":6:6:6"))?;
    let after = web_runs(cluster, 6)?;
    ensure!(before.iter().all(|pod| !after.contains(pod)), "{before:?} became {after:?}");
    loads.into_iter().try_for_each(none_failed)
}

/// Annotations of pods that run, and of their Namespace for those that have none.
fn limits(cluster: &Cluster) -> Result<()> {
    const KEY: &str = "kubernetes.io/egress-bandwidth";
    let sends = |node: &str, label: &str| {
        let status = dataplane::status(&cluster.node(node).ok()?.path("/run/headrace")).ok()?;
        let port = status.ports.into_iter().find(|port| port.label == label)?;
        Some(port.bandwidth?.egress.map(|limit| limit.rate))
    };
    for (change, one, two) in [
        (format!("pod two {KEY}=20M"), None, Some(20_000_000)),
        (format!("namespace default {KEY}=30M"), Some(30_000_000), Some(20_000_000)),
        (format!("pod two {KEY}-"), Some(30_000_000), Some(30_000_000)),
        (format!("namespace default {KEY}-"), None, None),
    ] {
        cluster.kubectl(&format!("annotate {change}"))?;
        let both = || (sends("worker1", "default/one"), sends("worker2", "default/two"));
        let wanted = (Some(one), Some(two));
        ensure!(wait_until(LIMIT, || both() == wanted), "{change}: {:?} instead of {wanted:?}", both());
    }
    Ok(())
}

pub(super) fn none_failed(load: Load) -> Result<()> {
    let http::LoadReport { answered, failed } = load.stop();
    ensure!(answered > 0 && failed.is_empty(), "{answered} requests were answered, these not: {failed:?}");
    Ok(())
}
