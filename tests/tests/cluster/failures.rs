//! What goes wrong in clusters: daemons are deleted, the API server is away, a node is deleted and comes back.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use headrace_lab::cluster::Cluster;
use headrace_lab::cni::CniCall;
use headrace_lab::pod::TRY_AGAIN;
use headrace_lab::process::wait_until;
use headrace_lab::state::Pod;
use headrace_lab::traffic::http::{self, Load};
use headrace_lab::traffic::{Hold, TcpServer, stream};
use serde_json::Value;

use super::operation::none_failed;
use super::{LIMIT, PORT, TWO, WEB, ready, web_runs};
use crate::findings::Findings;

/// How long the API server is away: longer than agents, kubelets and controllers wait for an answer, and than nodes may be
/// silent.
const AWAY: Duration = Duration::from_secs(60);

pub(super) fn check(cluster: &mut Cluster, findings: &mut Findings) {
    for component in ["agent", "dataplane"] {
        findings.check(format!("deleted pods of the {component}"), deleted_daemons(cluster, component));
    }
    findings.check("API server away", api_server_away(cluster));
    findings.check("node deleted", node_deleted(cluster));
}

/// Connections between pods of two nodes: directly, and through a Service.
struct Connections {
    holds: Vec<Hold>,
    _server: TcpServer,
}

impl Connections {
    fn start(one: &Pod, two: &Pod) -> Result<Self> {
        let server = TcpServer::start(&two.space, PORT, "two")?;
        let direct = SocketAddrV4::new(two.address, PORT);
        let holds = [direct, TWO].map(|address| Hold::start(&one.space, address));
        Ok(Self { holds: holds.into_iter().collect::<Result<_, _>>()?, _server: server })
    }

    /// They all go on: something has come back since now.
    fn go_on(&self) -> Result<()> {
        let before: Vec<u64> = self.holds.iter().map(Hold::echoed).collect();
        let on = || self.holds.iter().zip(&before).all(|(hold, before)| hold.echoed() > *before);
        ensure!(wait_until(Duration::from_secs(30), on), "a connection stands still");
        Ok(())
    }

    fn held(self) -> Result<()> {
        for hold in self.holds {
            let report = hold.stop();
            ensure!(report.broken.is_none(), "a connection broke: {:?}", report.broken);
        }
        Ok(())
    }
}

/// On both nodes at once, which no rollout would do.
fn deleted_daemons(cluster: &Cluster, component: &str) -> Result<()> {
    let (one, two) = (cluster.pod("one")?, cluster.pod("two")?);
    let connections = Connections::start(&one, &two)?;
    let selector = format!("-n kube-system -l app.kubernetes.io/component={component}");
    cluster.kubectl(&format!("delete pod {selector}"))?;
    ready(cluster, component)?;
    connections.go_on()?;
    connections.held()?;
    ensure!(wait_until(LIMIT, || http::get(&one.space, WEB).is_ok()), "the Service does not answer");
    Ok(())
}

fn api_server_away(cluster: &mut Cluster) -> Result<()> {
    let (one, two) = (cluster.pod("one")?, cluster.pod("two")?);
    let connections = Connections::start(&one, &two)?;
    let load = Load::start(&one.space, WEB);
    cluster.plane.stop_api_server()?;
    let added = attach_by_hand(cluster);
    sleep(AWAY);
    connections.go_on()?;
    none_failed(load)?;
    cluster.plane.start_api_server()?;
    cluster.kubectl("scale deployment web --replicas=4")?;
    web_runs(cluster, 4)?;
    ensure!(wait_until(LIMIT, || http::get(&one.space, WEB).is_ok()), "the Service does not answer");
    connections.held()?;
    added
}

/// ADD works without an API server, or says that it will later.
fn attach_by_hand(cluster: &Cluster) -> Result<()> {
    let machine = &cluster.node("worker1")?.machine;
    machine.add_namespace("by-hand")?;
    let call =
        |verb| Ok::<_, anyhow::Error>(CniCall::new(machine, verb, "by-hand")?.key("runDir", Value::Null));
    let added = call("ADD")?.run(machine)?;
    let removed = call("DEL")?.run(machine)?;
    machine.delete_namespace("by-hand")?;
    if let Err(refused) = removed {
        bail!("DEL: {refused:?}");
    }
    match added {
        Err(refused) if refused.code != TRY_AGAIN => bail!("ADD: {refused:?}"),
        _ => Ok(()),
    }
}

/// A node that is deleted and registers again may get another range of addresses; its pods are made anew.
fn node_deleted(cluster: &mut Cluster) -> Result<()> {
    cluster.kubectl("drain worker2 --ignore-daemonsets --force")?;
    cluster.kubectl("delete node worker2")?;
    cluster.restart_kubelet("worker2")?;
    let condition = "get node worker2 -o jsonpath={.status.conditions[?(@.type=='Ready')].status}";
    cluster.wait(condition, LIMIT, |answer| answer == "True")?;
    ready(cluster, "dataplane")?;
    ready(cluster, "agent")?;
    cluster.plane.apply(include_str!("objects.yaml"))?;
    cluster.wait("get pod two -o jsonpath={.status.phase}", LIMIT, |answer| answer == "Running")?;
    web_runs(cluster, 10)?;
    let (one, two) = (cluster.pod("one")?, cluster.pod("two")?);
    let range = cluster.kubectl("get node worker2 -o jsonpath={.spec.podCIDR}")?;
    ensure!(holds(&range, two.address), "pod two has {} of {range}", two.address);
    let _server = TcpServer::start(&two.space, PORT, "two")?;
    for server in [SocketAddrV4::new(two.address, PORT), TWO] {
        let reached = || stream::greet(&one.space, server).is_ok();
        ensure!(wait_until(LIMIT, reached), "{server} is not reached");
    }
    Ok(())
}

/// Whether a /24 `range` holds `address`.
fn holds(range: &str, address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    range == format!("{a}.{b}.{c}.0/24")
}
