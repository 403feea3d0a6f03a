//! Who reaches whom, by which address and which name.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use headrace_lab::cluster::{Cluster, DNS};
use headrace_lab::plan::OUTSIDE_NAME;
use headrace_lab::process::wait_until;
use headrace_lab::traffic::{Ping, TcpServer, datagram, http, stream};
use headrace_lab::{LabError, Space};

use super::{LIMIT, PORT, TWO, WEB, address};
use crate::findings::Findings;

pub(super) fn check(cluster: &Cluster, findings: &mut Findings) {
    findings.check("spread over the nodes", spread(cluster));
    findings.check("pod to pod", pod_to_pod(cluster));
    findings.check("ClusterIP", everyone_answers(cluster));
    findings.check("NodePort", node_port(cluster));
    findings.check("hostPort", host_port(cluster));
    findings.check("DNS", dns(cluster));
}

fn spread(cluster: &Cluster) -> Result<()> {
    let nodes = cluster.kubectl("get pods -l app=web -o jsonpath={.items[*].spec.nodeName}")?;
    let on = |node| nodes.split(' ').filter(|name| *name == node).count();
    ensure!((on("worker1"), on("worker2")) == (5, 5), "pods are on {nodes}");
    Ok(())
}

/// Between nodes and within one; the receiver sees the sender's own address.
fn pod_to_pod(cluster: &Cluster) -> Result<()> {
    let (one, two) = (cluster.pod("one")?, cluster.pod("two")?);
    for (from, to) in [(&one, &two), (&two, &one)] {
        let pong = Ping::new(to.address).run(&from.space)?;
        ensure!(pong.received > 0, "{}", pong.text);
        let _server = TcpServer::start(&to.space, PORT, &to.name)?;
        let (_, greeting) = stream::greet(&from.space, SocketAddrV4::new(to.address, PORT))?;
        ensure!(greeting.client_seen.ip() == from.address, "{} is seen instead", greeting.client_seen);
    }
    let addresses = cluster.kubectl("get pods -l app=web -o jsonpath={.items[*].status.podIP}")?;
    for address in addresses.split(' ') {
        http::get(&one.space, SocketAddrV4::new(address.parse()?, 80)).context(address.to_owned())?;
    }
    Ok(())
}

/// From a pod, from a node and from a server itself: in the end everyone has answered.
fn everyone_answers(cluster: &Cluster) -> Result<()> {
    let one = cluster.pod("one")?;
    for space in [&one.space, &cluster.node("worker2")?.machine.space] {
        ensure_all_answer(space, WEB)?;
    }
    Ok(())
}

fn node_port(cluster: &Cluster) -> Result<()> {
    let one = cluster.pod("one")?;
    for node in ["worker1", "worker2"] {
        let server = SocketAddrV4::new(address(cluster, node)?, 30080);
        ensure_all_answer(cluster.lab().space(OUTSIDE_NAME)?, server)?;
        http::get(&one.space, server)?;
        http::get(&cluster.node(node)?.machine.space, server)?;
    }
    Ok(())
}

fn host_port(cluster: &Cluster) -> Result<()> {
    let (one, two) = (cluster.pod("one")?, cluster.pod("two")?);
    let _server = TcpServer::start(&two.space, PORT, "two")?;
    let server = SocketAddrV4::new(address(cluster, "worker2")?, 18080);
    for from in [cluster.lab().space(OUTSIDE_NAME)?, &one.space, &cluster.node("worker2")?.machine.space] {
        let (_, greeting) = stream::greet(from, server).context(from.name.clone())?;
        ensure!(greeting.server == "two");
    }
    stream::greet(&one.space, TWO).context("the same server's Service")?;
    Ok(())
}

/// A name by UDP and by TCP, from both nodes; and in a container as libraries do it.
fn dns(cluster: &Cluster) -> Result<()> {
    let ready = "get endpointslices -n kube-system -l kubernetes.io/service-name=kube-dns -o jsonpath={.items[*].endpoints[*].conditions.ready}";
    cluster.wait(ready, LIMIT, |answer| answer == "true")?;
    for pod in ["one", "two"] {
        let space = cluster.pod(pod)?.space;
        let mut last = None;
        // A server that is ready may not have read a Service that is young.
        let known = wait_until(Duration::from_secs(20), || {
            last = Some(resolve_by_udp(&space, "web.default.svc.cluster.local"));
            matches!(last, Some(Ok(address)) if address == *WEB.ip())
        });
        ensure!(known, "{pod} by UDP: {last:?}");
        let by_tcp = resolve_by_tcp(&space, "web.default.svc.cluster.local")?;
        ensure!(by_tcp == *WEB.ip(), "{pod} by TCP: {by_tcp}");
    }
    let answer = cluster.kubectl("exec one -- nslookup web.default.svc.cluster.local")?;
    ensure!(answer.contains(&WEB.ip().to_string()), "{answer}");
    Ok(())
}

fn resolve_by_udp(space: &Space, name: &str) -> Result<Ipv4Addr> {
    let socket = datagram::bind(space, Ipv4Addr::UNSPECIFIED, 0)?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    socket.send_to(&query(name)?, SocketAddrV4::new(DNS, 53))?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    answered(&answer[..length])
}

fn resolve_by_tcp(space: &Space, name: &str) -> Result<Ipv4Addr> {
    let mut stream = stream::connect(space, SocketAddrV4::new(DNS, 53))?;
    let query = query(name)?;
    stream.write_all(&u16::try_from(query.len())?.to_be_bytes())?;
    stream.write_all(&query)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    answered(&answer)
}

/// RFC 1035, section 4: one question for an address, recursion desired.
fn query(name: &str) -> Result<Vec<u8>> {
    let mut query = vec![0x4a, 0x11, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len())?);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    Ok(query)
}

/// The one address of an answer: its last four bytes, since nothing follows the record.
fn answered(answer: &[u8]) -> Result<Ipv4Addr> {
    ensure!(answer.len() > 16 && answer[..2] == [0x4a, 0x11] && answer[6..8] == [0, 1], "{answer:?}");
    let last: [u8; 4] = answer[answer.len() - 4..].try_into()?;
    Ok(last.into())
}

/// With ten servers, one that is left out of eighty requests would be chance of one in four thousand: it may have more.
fn ensure_all_answer(space: &Space, server: SocketAddrV4) -> Result<()> {
    let mut names = BTreeSet::new();
    for _ in 0..200 {
        let name = http::get(space, server).map_err(LabError::io(format!("{} to {server}", space.name)))?;
        names.insert(name);
        if names.len() == 10 {
            return Ok(());
        }
    }
    anyhow::bail!("{} to {server}: only {names:?} answer", space.name)
}
