//! A real cluster: Kubernetes with two nodes, Headrace installed as its users install it, and ordinary workloads.
//!
//! Starting one costs half a minute, so there is one for all, and checks follow each other: first what works, then what
//! goes wrong, what is left over, at last the removal.

mod failures;
mod leaks;
mod operation;
mod reach;
mod removal;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use headrace_lab::cluster::Cluster;
use headrace_lab::cluster::image::Image;
use headrace_lab::plan::OUTSIDE;
use headrace_lab::{control_plane, daemon, dataplane};

use crate::findings::Findings;
use crate::support;

/// Time for what a cluster does by and by: pods start, objects are followed, nodes become Ready.
const LIMIT: Duration = Duration::from_secs(120);
/// The port of the test's own servers.
const PORT: u16 = 8080;
/// Web servers behind the Service `web`.
const WEB: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 80), 80);
/// The test's own server in pod `two`, behind a Service.
const TWO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 82), PORT);

#[test]
fn a_cluster_runs_ordinary_workloads() -> Result<()> {
    let Some(mut cluster) = up()? else { return Ok(()) };
    let mut findings = Findings::default();
    if findings.check("installation", install(&cluster)).is_some()
        && findings.check("Deployments", workloads(&cluster)).is_some()
    {
        reach::check(&cluster, &mut findings);
        operation::check(&cluster, &mut findings);
        failures::check(&mut cluster, &mut findings);
        leaks::check(&cluster, &mut findings);
        findings.check("frames", ledgers(&cluster));
        removal::check(&cluster, &mut findings);
    }
    let told = findings.end();
    if told.is_err() {
        tell(&cluster);
    }
    cluster.down()?;
    told
}

/// Two nodes without a network.
fn up() -> Result<Option<Cluster>> {
    let Some(name) = support::lab_name()? else { return Ok(None) };
    let (Some(program), Some(dns)) = (control_plane::program()?, control_plane::build("dns")?) else {
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            bail!("Go is missing, and CI must not skip the tests on a cluster");
        }
        eprintln!("SKIPPED: a cluster is built with Go, which is missing");
        return Ok(None);
    };
    let images = [Image::pause(), Image::busybox(), Image::dns(dns), headrace()?];
    Ok(Some(Cluster::up(name, 2, program, &images)?))
}

/// What `make image` makes.
fn headrace() -> Result<Image> {
    let programs = daemon::binary("headrace-agent")?;
    let target = programs.parent().and_then(Path::parent).context("programs lie in target/release")?;
    let archive = target.join("headrace.tar");
    ensure!(archive.exists(), "{} is missing: build it with `make image`", archive.display());
    Ok(Image::Archive(archive))
}

/// As README says it.
fn install(cluster: &Cluster) -> Result<()> {
    let server = format!("--from-literal=HEADRACE_API_SERVER=https://{OUTSIDE}:{}", control_plane::PORT);
    let workers = "--from-literal=HEADRACE_WORKERS=1";
    cluster.kubectl(&format!("create configmap headrace -n kube-system {server} {workers}"))?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    cluster.kubectl(&format!("apply -k {}", folder.display()))?;
    ready(cluster, "dataplane")?;
    ready(cluster, "agent")?;
    let conditions = "get nodes -o jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}";
    cluster.wait(conditions, LIMIT, |answer| answer == "True True")?;
    // Which `kubectl describe node` shows.
    let up = "get events -A --field-selector reason=HeadraceIsUp -o jsonpath={.items[*].involvedObject.name}";
    cluster.wait(up, LIMIT, |answer| answer.contains("worker1") && answer.contains("worker2"))?;
    Ok(())
}

fn workloads(cluster: &Cluster) -> Result<()> {
    cluster.plane.apply(include_str!("dns.yaml"))?;
    cluster.plane.apply(include_str!("objects.yaml"))?;
    web_runs(cluster, 10)?;
    cluster
        .wait("get pods one two -o jsonpath={.items[*].status.phase}", LIMIT, |a| a == "Running Running")?;
    Ok(())
}

/// Waits until `count` web servers are ready, and no others there.
fn web_runs(cluster: &Cluster, count: usize) -> Result<Vec<String>> {
    let line = "get pods -l app=web -o jsonpath={range.items[*]}{.metadata.name}:{.status.containerStatuses[0].ready},{end}";
    let ready = |answer: &str| {
        answer.split_terminator(',').count() == count && answer.matches(":true,").count() == count
    };
    let answer = cluster.wait(line, LIMIT, ready)?;
    Ok(answer.split_terminator(',').filter_map(|pod| Some(pod.split_once(':')?.0.to_owned())).collect())
}

/// Waits until there is a pod of `component` on both nodes and each is ready.
fn ready(cluster: &Cluster, component: &str) -> Result<()> {
    let line = format!(
        "get pods -n kube-system -l app.kubernetes.io/component={component} -o jsonpath={{.items[*].status.containerStatuses[0].ready}}"
    );
    cluster.wait(&line, LIMIT, |answer| answer == "true true")?;
    Ok(())
}

fn ledgers(cluster: &Cluster) -> Result<()> {
    for node in cluster.nodes() {
        let status = dataplane::status(&node.path("/run/headrace")).map_err(anyhow::Error::msg)?;
        let faults = dataplane::ledger_faults(&status);
        ensure!(faults.is_empty(), "{}: {faults:?}", node.name());
    }
    Ok(())
}

/// What is needed to understand a failure, before all is gone.
fn tell(cluster: &Cluster) {
    let logs = "logs -n kube-system --prefix --tail=40 --all-containers -l app.kubernetes.io/name=headrace";
    for line in ["get nodes,pods -A -o wide", "get events -A --sort-by=.lastTimestamp", logs] {
        match cluster.kubectl(line) {
            Ok(answer) => eprintln!("{answer}"),
            Err(error) => eprintln!("{error}"),
        }
    }
}

fn address(cluster: &Cluster, node: &str) -> Result<Ipv4Addr> {
    Ok(cluster.node(node).context("a node of the cluster")?.address)
}
