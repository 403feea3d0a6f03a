//! Agents that follow a real API server: objects come and go, the server goes away and comes back, and the agent asks for
//! nothing that its ClusterRole does not grant.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use headrace_lab::control_plane::{self, ControlPlane, PORT as API_PORT};
use headrace_lab::daemon::Daemon;
use headrace_lab::manifests;
use headrace_lab::plan::{NodeKind, NodePlan, OUTSIDE, OUTSIDE_NAME};
use headrace_lab::process::wait_until;
use headrace_lab::traffic::{Hold, TcpServer, stream};
use headrace_lab::{Lab, LabConfig, Service};
use serde::Deserialize;

use crate::findings::{Findings, PORT};
use crate::support;

/// Who the agent is to the API server: its service account.
const AGENT: &str = "system:serviceaccount:kube-system:headrace-agent";
const RBAC: &str = "../deploy/kustomize/base/rbac.yaml";
/// Time for a change in the API server to be in force, its return after having been away included.
const LIMIT: Duration = Duration::from_secs(30);
const BACKEND_DATA: &str = "flannel.alpha.coreos.com/backend-data";

#[test]
fn agents_follow_an_api_server() -> Result<()> {
    let Some((mut lab, mut plane)) = cluster()? else { return Ok(()) };
    let mut findings = Findings::default();
    findings.check("manifests", manifests_are_taken(&plane));
    findings.check("network available", available(&plane, "node1"));
    findings.check("Events", told_by_events(&plane));
    findings.check("flannel's annotations", annotations_are_written(&plane));
    findings.reach(&lab, "node1-pod1", "node2-pod1", &[lab.address("node1-pod1")?]);
    findings.check("the Service kubernetes", reach_kubernetes(&lab));
    findings.check("Services", services_follow(&lab, &plane));
    findings.check("API server away", api_server_away(&mut lab, &mut plane));
    findings.check("deleted Service", deleted(&lab, &plane));
    findings.check("rights", rights(&plane));
    drop(plane);
    findings.finish(lab)
}

/// A lab whose nodes have gone over from manifests to an API server, with the same pods.
pub(crate) fn cluster() -> Result<Option<(Lab, ControlPlane)>> {
    cluster_of(LabConfig { nodes: 2, pods_per_node: 1, ..LabConfig::default() })
}

/// The same for another lab.
pub(crate) fn cluster_of(config: LabConfig) -> Result<Option<(Lab, ControlPlane)>> {
    cluster_with(config, manifests::node_objects)
}

/// The same with Node objects that `nodes` makes of the lab's.
pub(crate) fn cluster_with(
    config: LabConfig,
    nodes: fn(&[NodePlan]) -> String,
) -> Result<Option<(Lab, ControlPlane)>> {
    let Some(program) = control_plane::program()? else {
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            bail!("Go is missing, and CI must not skip the tests with an API server");
        }
        eprintln!("SKIPPED: an API server is built with Go, which is missing");
        return Ok(None);
    };
    let Some(mut lab) = support::lab(config)? else { return Ok(None) };
    let host = lab.state().outside.clone().context("there is no outside host")?;
    let plane = ControlPlane::start(&host, OUTSIDE, program)?;
    plane.apply(&nodes(&plans(&lab)))?;
    plane.apply(&std::fs::read_to_string(rbac())?)?;
    let mut kubeconfig = String::new();
    for node in lab.state().nodes.iter().filter(|node| node.plan.kind == NodeKind::Headrace) {
        kubeconfig = plane.kubeconfig(&node.machine.directory, AGENT, None)?;
    }
    lab.follow_cluster(&kubeconfig)?;
    Ok(Some((lab, plane)))
}

fn available(plane: &ControlPlane, node: &str) -> Result<()> {
    let path = "jsonpath={.status.conditions[?(@.type=='NetworkUnavailable')].status}";
    eventually(&"False".to_owned(), || Ok(plane.kubectl(&["get", "node", node, "-o", path])?))
}

/// The API server would take all that `kubectl apply -k` brings: fields are known, values are valid.
fn manifests_are_taken(plane: &ControlPlane) -> Result<()> {
    for folder in ["", "kustomize/flannel", "kustomize/uninstall"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(folder);
        let folder = folder.display().to_string();
        let taken = plane.kubectl(&[
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
            "-k",
            &folder,
        ])?;
        ensure!(taken.contains("daemonset.apps/headrace"), "{folder}: {taken}");
    }
    Ok(())
}

fn told_by_events(plane: &ControlPlane) -> Result<()> {
    let path = "jsonpath={.items[?(@.regarding.name=='node1')].reason}";
    let told = || Ok(plane.kubectl(&["get", "events.events.k8s.io", "-o", path])?);
    eventually(&"HeadraceIsUp".to_owned(), told)
}

/// What the operator deletes is written again; peers follow the other MAC address.
fn annotations_are_written(plane: &ControlPlane) -> Result<()> {
    plane.kubectl(&["annotate", "node", "node1", &format!("{BACKEND_DATA}-")])?;
    let path = format!("jsonpath={{.metadata.annotations.{}}}", BACKEND_DATA.replace('.', "\\."));
    let written = || Ok(plane.kubectl(&["get", "node", "node1", "-o", &path])?.contains("\"VtepMAC\":"));
    eventually(&true, written)
}

/// The API server makes its own Service, and a pod reaches it there.
fn reach_kubernetes(lab: &Lab) -> Result<()> {
    let address = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 1), 443);
    eventually(&true, || Ok(stream::connect(lab.space("node1-pod1")?, address).is_ok()))
}

fn services_follow(lab: &Lab, plane: &ControlPlane) -> Result<()> {
    let _servers = [serve(lab, "node1-pod1")?, serve(lab, "node2-pod1")?];
    for server in ["node2-pod1", "node1-pod1"] {
        plane.apply(&manifests::service_objects(&web(lab, &[server])?, &plans(lab)))?;
        answers(lab, server)?;
    }
    Ok(())
}

/// Nothing is lost while the server is away, a pod can come, and on its return everything is caught up with.
fn api_server_away(lab: &mut Lab, plane: &mut ControlPlane) -> Result<()> {
    let _server = serve(lab, "node1-pod1")?;
    let client = lab.space("node1")?.clone();
    let hold = Hold::start(&client, SocketAddrV4::new(web(lab, &[])?.cluster_ip, PORT))?;
    plane.stop_api_server()?;
    ensure!(stream::connect(lab.space(OUTSIDE_NAME)?, SocketAddrV4::new(OUTSIDE, API_PORT)).is_err());
    lab.attach("node2", "late")?;
    let _late = serve(lab, "late")?;
    // Longer than the first pauses between attempts.
    std::thread::sleep(Duration::from_secs(2));
    answers(lab, "node1-pod1")?;
    // It comes back as an older one, which cannot stream its lists; an agent that starts has to ask for them.
    plane.api_server_flags(&["--feature-gates=WatchList=false"]);
    plane.start_api_server()?;
    lab.stop("node1", Daemon::Agent)?;
    lab.start("node1", Daemon::Agent)?;
    plane.apply(&manifests::service_objects(&web(lab, &["late"])?, &plans(lab)))?;
    answers(lab, "late")?;
    let report = hold.stop();
    ensure!(report.broken.is_none(), "the connection broke: {:?}", report.broken);
    Ok(())
}

fn deleted(lab: &Lab, plane: &ControlPlane) -> Result<()> {
    let _late = serve(lab, "late")?;
    plane.kubectl(&["delete", "service", "web"])?;
    let address = SocketAddrV4::new(web(lab, &[])?.cluster_ip, PORT);
    eventually(&true, || Ok(stream::connect(lab.space("node1-pod1")?, address).is_err()))
}

/// Every right of the ClusterRole was used, and nothing was asked for that it does not grant. What it grants may be refused
/// all the same for a moment, while a starting API server has not read its roles.
fn rights(plane: &ControlPlane) -> Result<()> {
    let audit = plane.audit()?;
    let granted = granted()?;
    let own = || audit.iter().filter(|request| request.user.username == AGENT);
    let denied = own().filter(|request| request.response_status.is_some_and(|status| status.code == 403));
    let denied: Vec<_> = denied.filter(|r| right(r).is_none_or(|right| !granted.contains(&right))).collect();
    ensure!(denied.is_empty(), "denied: {denied:?}");
    let used: BTreeSet<Right> = own().filter_map(right).collect();
    let idle: Vec<_> = granted.iter().filter(|right| !used.contains(right)).collect();
    ensure!(idle.is_empty(), "granted and never used: {idle:?}");
    Ok(())
}

/// The right that a request needs; none for what is no resource.
fn right(request: &control_plane::Audited) -> Option<Right> {
    let object = request.object_ref.as_ref()?;
    let subresource = (!object.subresource.is_empty()).then(|| format!("/{}", object.subresource));
    let resource = format!("{}{}", object.resource, subresource.unwrap_or_default());
    Some(Right { group: object.api_group.clone(), resource, verb: request.verb.clone() })
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    group: String,
    resource: String,
    verb: String,
}

#[derive(Deserialize)]
struct Role {
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
}

/// What the ClusterRole grants.
fn granted() -> Result<Vec<Right>> {
    let text = std::fs::read_to_string(rbac())?;
    let mut rights = Vec::new();
    for document in serde_norway::Deserializer::from_str(&text) {
        for Rule { api_groups, resources, verbs } in Role::deserialize(document)?.rules {
            for group in &api_groups {
                for resource in &resources {
                    for verb in &verbs {
                        let (group, resource) = (group.clone(), resource.clone());
                        rights.push(Right { group, resource, verb: verb.clone() });
                    }
                }
            }
        }
    }
    ensure!(!rights.is_empty(), "{RBAC} grants nothing");
    Ok(rights)
}

/// Waits until new connections to the Service get to `server`.
fn answers(lab: &Lab, server: &str) -> Result<()> {
    let address = SocketAddrV4::new(web(lab, &[])?.cluster_ip, PORT);
    eventually(&server.to_owned(), || {
        let greeted = stream::greet(lab.space("node1-pod1")?, address);
        Ok(greeted.map_or_else(|error| error.to_string(), |(_, greeting)| greeting.server))
    })
}

pub(crate) fn eventually<T: PartialEq + Debug>(
    wanted: &T,
    mut found: impl FnMut() -> Result<T>,
) -> Result<()> {
    let mut last = None;
    let reached = wait_until(LIMIT, || {
        last = Some(found());
        matches!(&last, Some(Ok(now)) if wanted == now)
    });
    ensure!(reached, "{last:?} instead of {wanted:?} after {LIMIT:?}");
    Ok(())
}

fn serve(lab: &Lab, pod: &str) -> Result<TcpServer> {
    Ok(TcpServer::start(lab.space(pod)?, PORT, pod)?)
}

fn web(lab: &Lab, endpoints: &[&str]) -> Result<Service> {
    let addresses = endpoints.iter().map(|name| lab.address(name)).collect::<Result<Vec<_>, _>>()?;
    Ok(Service::new("web", 10, PORT, &addresses))
}

pub(crate) fn plans(lab: &Lab) -> Vec<NodePlan> {
    lab.state().nodes.iter().map(|node| node.plan.clone()).collect()
}

fn rbac() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(RBAC)
}
