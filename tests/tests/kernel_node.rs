//! A Headrace node and a kernel node, set up as flannel does, understand each other in every direction.

use anyhow::{Result, ensure};
use headrace_lab::traffic::{TcpServer, stream};
use headrace_lab::{LabConfig, Service};
use std::net::SocketAddrV4;

use crate::findings::{Findings, PORT};
use crate::support;

/// One gigabyte.
const LONG: u64 = 1_000_000_000;

#[test]
fn a_headrace_and_a_kernel_node_reach_each_other() -> Result<()> {
    let Some(mut lab) = support::lab(mixed(1))? else { return Ok(()) };
    let mut findings = Findings::default();
    for (a, b) in [("node1", "kernel1"), ("kernel1", "node1")] {
        let (own, far, far_pod) = (format!("{a}-pod1"), format!("{b}-pod2"), format!("{b}-pod1"));
        let pod = lab.address(&own)?;
        findings.reach(&lab, &own, &far, &[pod]);
        let plan = &lab.node(a)?.plan;
        findings.reach(&lab, a, &far_pod, &[plan.pod_side_address(), plan.address, plan.gateway()]);
    }
    // A kernel node masquerades pods towards other nodes' addresses, as flannel does; Headrace does not.
    findings.reach(&lab, "node1-pod1", "kernel1", &[lab.address("node1-pod1")?]);

    let web = Service::new("web", 80, PORT, &[lab.address("kernel1-pod1")?]);
    lab.apply_service(&web)?;
    let answered = || {
        let _server = TcpServer::start(lab.space("kernel1-pod1")?, PORT, "kernel1-pod1")?;
        let server = SocketAddrV4::new(web.cluster_ip, PORT);
        let (_, greeting) = stream::greet(lab.space("node1-pod1")?, server)?;
        ensure!(
            greeting.client_seen.ip() == lab.address("node1-pod1")?,
            "the server sees {}",
            greeting.client_seen
        );
        anyhow::Ok(())
    };
    findings.check("ClusterIP with an endpoint on the kernel node", answered());
    findings.finish(lab)
}

#[test]
fn a_gigabyte_goes_from_headrace_to_the_kernel_and_back_unchanged() -> Result<()> {
    gigabyte(mixed(1))
}

#[test]
fn a_gigabyte_goes_from_headrace_to_the_kernel_and_back_unchanged_over_af_xdp() -> Result<()> {
    gigabyte(support::over_af_xdp(mixed(1)))
}

#[test]
fn a_gigabyte_goes_from_headrace_to_the_kernel_and_back_unchanged_with_two_workers() -> Result<()> {
    gigabyte(mixed(2))
}

fn gigabyte(config: LabConfig) -> Result<()> {
    let Some(lab) = support::lab(config)? else { return Ok(()) };
    let mut findings = Findings::default();
    findings.transfer(&lab, "node1-pod1", "kernel1-pod1", LONG);
    findings.transfer(&lab, "kernel1-pod1", "node1-pod1", LONG);
    for pod in ["node1-pod1", "kernel1-pod1"] {
        let sums = headrace_lab::counters::Protocols::read(lab.space(pod)?)?.checksum_errors();
        findings.equal(format!("checksum errors in {pod}"), &sums, &0);
    }
    findings.finish(lab)
}

fn mixed(workers: usize) -> LabConfig {
    LabConfig { nodes: 1, kernel_nodes: 1, workers, ..LabConfig::default() }
}
