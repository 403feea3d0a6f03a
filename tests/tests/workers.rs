//! Two workers share what one pod sends and receives.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Result, ensure};
use headrace_lab::traffic::{Iperf, UdpServer, datagram};
use headrace_lab::{Lab, LabConfig};

use crate::findings::{Findings, PORT};
use crate::support;

/// Flows of one pod; all of them on one of two queues by chance: one in 2^31.
const FLOWS: usize = 32;
/// Requests per flow.
const REQUESTS: usize = 40;

#[test]
fn two_workers_share_one_pods_load() -> Result<()> {
    load_is_shared(LabConfig { workers: 2, ..LabConfig::default() })
}

#[test]
fn two_workers_share_one_pods_load_over_af_xdp() -> Result<()> {
    load_is_shared(support::over_af_xdp(LabConfig { workers: 2, ..LabConfig::default() }))
}

fn load_is_shared(config: LabConfig) -> Result<()> {
    let Some(lab) = support::lab(config)? else { return Ok(()) };
    let mut findings = Findings::default();
    for server in ["node1-pod2", "node2-pod1"] {
        findings.check(format!("node1-pod1 to {server}"), shared(&lab, server));
    }
    let (client, server) = (lab.space("node1-pod1")?, lab.space("node2-pod1")?);
    let streams = Iperf { streams: 4, seconds: 1, ..Iperf::tcp(client, server, lab.address("node2-pod1")?) };
    findings.check("four TCP streams across nodes", streams.run());
    findings.finish(lab)
}

fn shared(lab: &Lab, server: &str) -> Result<()> {
    let _server = UdpServer::start(lab.space(server)?, lab.address(server)?, PORT, server)?;
    let address = SocketAddrV4::new(lab.address(server)?, PORT);
    let before = frames(lab)?;
    for _ in 0..FLOWS {
        let socket = datagram::bind(lab.space("node1-pod1")?, Ipv4Addr::UNSPECIFIED, 0)?;
        for _ in 0..REQUESTS {
            datagram::ask(&socket, address, b"?")?;
        }
    }
    let shares: Vec<u64> = frames(lab)?.iter().zip(&before).map(|(now, before)| now - before).collect();
    println!("frames per worker, node1-pod1 to {server}: {shares:?}");
    let total: u64 = shares.iter().sum();
    ensure!(shares.len() == 2, "there are {} workers", shares.len());
    ensure!(total >= 2 * (FLOWS * REQUESTS) as u64, "{total} frames are too few");
    ensure!(shares.iter().all(|share| share * 10 >= total), "one worker idles: {shares:?}");
    Ok(())
}

fn frames(lab: &Lab) -> Result<Vec<u64>> {
    Ok(lab.dataplane("node1")?.workers.iter().map(|worker| worker.frames).collect())
}
