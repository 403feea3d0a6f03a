//! A flow table that is full: old connections make room, and no new one is refused.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result};
use headrace_lab::traffic::{TcpServer, UdpServer, datagram, stream};
use headrace_lab::{LabConfig, Service};

use crate::findings::{Findings, PORT};
use crate::support;

/// Entries; a connection takes two.
const CAPACITY: u32 = 1024;
/// Connections one after the other: many times what there is room for.
const CONNECTIONS: usize = 3000;

#[test]
fn a_full_flow_table_forgets_old_connections_and_refuses_no_new_one() -> Result<()> {
    let dataplane_args = vec!["--flow-capacity".to_owned(), CAPACITY.to_string()];
    let Some(mut lab) = support::lab(LabConfig { dataplane_args, ..LabConfig::default() })? else {
        return Ok(());
    };
    let mut findings = Findings::default();
    let endpoint = lab.address("node2-pod1")?;
    let _tcp = TcpServer::start(lab.space("node2-pod1")?, PORT, "node2-pod1")?;
    let _udp = UdpServer::start(lab.space("node2-pod1")?, endpoint, PORT, "node2-pod1")?;
    let service = Service::new("web", 60, PORT, &[endpoint]);
    lab.apply_service(&service)?;
    let address = SocketAddrV4::new(service.cluster_ip, PORT);
    let client = lab.space("node1-pod1")?.clone();
    // One socket per connection: another source port, another flow.
    let unanswered = (0..CONNECTIONS).filter(|_| {
        let socket = datagram::bind(&client, Ipv4Addr::UNSPECIFIED, 0);
        socket.map_or(true, |socket| datagram::ask(&socket, address, b"?").is_err())
    });
    findings.equal("datagrams without a reply", &unanswered.count(), &0);
    for number in 0..20 {
        findings.check(format!("TCP connection {number}"), stream::greet(&client, address));
    }
    let flows = lab.dataplane("node1")?.flows.context("status has no flow table")?;
    findings.equal("flows were evicted", &(flows.evicted > 0), &true);
    findings.equal("the table holds to its size", &(flows.live <= flows.capacity), &true);
    println!("{flows:?}");
    findings.finish(lab)
}
