//! hostPorts: a pod attached as containerd does, with `portMappings`, is reached at its node's ports from everywhere.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use headrace_lab::cni::CniCall;
use headrace_lab::process::wait_until;
use headrace_lab::traffic::{TcpServer, UdpServer, datagram, stream};
use headrace_lab::{Lab, LabConfig};
use serde_json::json;

use crate::findings::{Findings, PORT};
use crate::support;

/// At every address of the node, over TCP and UDP.
const EVERYWHERE: u16 = 8088;
/// At one address, over TCP.
const AT_ADDRESS: u16 = 8089;
const CLIENTS: [&str; 5] = ["node1-pod1", "node2-pod1", "node1", "node2", "outside"];

#[test]
fn a_pods_host_ports_are_reached_from_everywhere_and_go_with_it() -> Result<()> {
    let Some(lab) = support::lab(LabConfig::default())? else { return Ok(()) };
    let mut findings = Findings::default();
    let node = lab.address("node1")?;
    let machine = lab.node("node1")?.machine.clone();
    let pod = machine.add_namespace("mapped")?;
    let mappings = json!({"portMappings": [
        {"hostPort": EVERYWHERE, "containerPort": PORT, "protocol": "tcp"},
        {"hostPort": EVERYWHERE, "containerPort": PORT, "protocol": "udp"},
        {"hostPort": AT_ADDRESS, "containerPort": PORT, "protocol": "tcp", "hostIP": node.to_string()},
    ]});
    let call = |verb| {
        Ok::<_, anyhow::Error>(CniCall::new(&machine, verb, "mapped")?.key("runtimeConfig", mappings.clone()))
    };
    let added = call("ADD")?.run(&machine)?.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
    let address = added["ips"][0]["address"].as_str().context("the result has no address")?;
    let address: Ipv4Addr = address.split('/').next().unwrap_or_default().parse()?;
    let _tcp = TcpServer::start(&pod, PORT, "mapped")?;
    let _udp = UdpServer::start(&pod, address, PORT, "mapped")?;
    findings.check("rules", rules(&lab, true));
    for client in CLIENTS {
        for port in [EVERYWHERE, AT_ADDRESS] {
            findings.check(
                format!("{client} to port {port}, TCP"),
                tcp(&lab, client, SocketAddrV4::new(node, port)),
            );
        }
        findings.check(format!("{client}, UDP"), udp(&lab, client, SocketAddrV4::new(node, EVERYWHERE)));
    }
    call("DEL")?.run(&machine)?.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
    findings.check("rules afterwards", rules(&lab, false));
    for client in ["node1", "outside"] {
        let after = stream::connect(lab.space(client)?, SocketAddrV4::new(node, EVERYWHERE));
        let kind = after.map(drop).map_err(|error| error.kind());
        findings.equal(format!("{client} afterwards"), &kind, &Err(std::io::ErrorKind::ConnectionRefused));
    }
    findings.finish(lab)
}

/// Waits until the node's own rules have the hostPort, or have it no more.
fn rules(lab: &Lab, wanted: bool) -> Result<()> {
    let space = lab.space("node1")?;
    let there = || {
        let set = space.run("nft list set netdev headrace host_ports");
        // No connection of the node gets the port by itself.
        let reserved = space.run("cat /proc/sys/net/ipv4/ip_local_reserved_ports");
        let is_reserved = |text: &str| text.trim().split(',').any(|part| part.contains("8088"));
        set.is_ok_and(|text| text.contains(&EVERYWHERE.to_string()) == wanted)
            && reserved.is_ok_and(|text| is_reserved(&text) == wanted)
    };
    ensure!(wait_until(Duration::from_secs(5), there), "they have not followed");
    Ok(())
}

fn tcp(lab: &Lab, client: &str, address: SocketAddrV4) -> Result<()> {
    let (_, greeting) = stream::greet(lab.space(client)?, address)?;
    ensure!(greeting.server == "mapped", "{} answers", greeting.server);
    Ok(())
}

fn udp(lab: &Lab, client: &str, address: SocketAddrV4) -> Result<()> {
    let socket = datagram::bind(lab.space(client)?, Ipv4Addr::UNSPECIFIED, 0)?;
    let reply = datagram::ask(&socket, address, b"who?")?;
    ensure!(reply.server == "mapped" && reply.from == address.into(), "{reply:?}");
    Ok(())
}
