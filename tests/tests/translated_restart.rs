//! kill -9 of the dataplane under a hundred connections of each kind that it translates: none is lost.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use headrace_lab::daemon::Daemon;
use headrace_lab::plan::OUTSIDE_FAR;
use headrace_lab::traffic::{TcpServer, stream};
use headrace_lab::{Lab, LabConfig};

use crate::exposed;
use crate::findings::{Findings, PORT};
use crate::support;

const CONNECTIONS: usize = 100;
/// How long the dataplane stays away.
const AWAY: Duration = Duration::from_millis(500);

#[test]
fn a_killed_dataplane_loses_none_of_three_hundred_translated_connections() -> Result<()> {
    let Some(mut lab) = support::lab(LabConfig { workers: 2, ..LabConfig::default() })? else {
        return Ok(());
    };
    exposed::routes(&lab)?;
    let mut findings = Findings::default();
    let names = ["node1-pod2", "node2-pod1", "outside"];
    let _servers = names.map(|name| lab.space(name).map(|space| TcpServer::start(space, PORT, name)));
    let endpoints = [lab.address("node1-pod2")?, lab.address("node2-pod1")?];
    let service = exposed::service("web", 70, &endpoints);
    lab.apply_service(&service)?;
    let kinds = [
        ("ClusterIP", "node1-pod1", SocketAddrV4::new(service.cluster_ip, service.port)),
        ("NodePort", "outside", exposed::node_port(&service, lab.address("node1")?)),
        ("masquerade", "node1-pod1", SocketAddrV4::new(OUTSIDE_FAR, PORT)),
    ];
    let mut kept = Vec::new();
    for (kind, client, address) in kinds {
        kept.push((kind, open(&lab, client, address)?));
    }
    for (kind, streams) in &mut kept {
        findings.check(format!("{kind}, before"), exchange(streams, 1));
    }
    lab.kill("node1", Daemon::Dataplane)?;
    // What is sent meanwhile must be neither answered with a reset nor lost for good.
    for (kind, streams) in &mut kept {
        findings.check(format!("{kind}, sent while it is away"), send(streams, 2));
    }
    std::thread::sleep(AWAY);
    lab.start("node1", Daemon::Dataplane)?;
    for (kind, streams) in &mut kept {
        findings.check(format!("{kind}, what was sent while it was away"), receive(streams, 2));
        findings.check(format!("{kind}, after"), exchange(streams, 3));
    }
    findings.finish(lab)
}

fn open(lab: &Lab, client: &str, address: SocketAddrV4) -> Result<Vec<TcpStream>> {
    let space = lab.space(client)?;
    let streams = (0..CONNECTIONS).map(|_| Ok(stream::greet(space, address)?.0));
    streams.collect()
}

fn exchange(streams: &mut [TcpStream], byte: u8) -> Result<()> {
    send(streams, byte)?;
    receive(streams, byte)
}

fn send(streams: &mut [TcpStream], byte: u8) -> Result<()> {
    streams.iter_mut().try_for_each(|stream| Ok(stream.write_all(&[byte])?))
}

fn receive(streams: &mut [TcpStream], byte: u8) -> Result<()> {
    let answers = |stream: &mut TcpStream| {
        let mut back = [0];
        stream.read_exact(&mut back).is_ok() && back[0] == byte
    };
    let lost = streams.iter_mut().filter_map(|stream| (!answers(stream)).then_some(())).count();
    ensure!(lost == 0, "{lost} of {CONNECTIONS} are lost");
    Ok(())
}
