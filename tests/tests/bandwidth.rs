//! Bandwidth limits on real frames, beside the same path without one.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use headrace_lab::cni::CniCall;
use headrace_lab::process::wait_until;
use headrace_lab::state::write_whole;
use headrace_lab::traffic::Iperf;
use headrace_lab::traffic::iperf::Direction;
use headrace_lab::{Lab, LabConfig, Space, dataplane};
use serde_json::json;

use crate::findings::Findings;
use crate::support;

/// Bits per second; far below what any machine forwards, far above what a policer needs to be met by TCP.
const RATE: u64 = 50_000_000;
/// Time for the agent to read a manifest.
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_limited_pod_gets_its_rate_and_no_more() -> Result<()> {
    let Some(lab) = support::lab(LabConfig::default())? else { return Ok(()) };
    let machine = lab.node("node1")?.machine.clone();
    let space = machine.add_namespace("limited")?;
    // containerd's spelling, and its way of saying that there is no burst.
    let bandwidth = json!({
        "IngressRate": RATE, "IngressBurst": u32::MAX, "EgressRate": RATE, "EgressBurst": u32::MAX,
    });
    let add = CniCall::new(&machine, "ADD", "limited")?.key("runtimeConfig", json!({"bandwidth": bandwidth}));
    let result = add.run(&machine)?.map_err(|e| anyhow::anyhow!("{e:?}"))?;
    let address = result["ips"][0]["address"].as_str().unwrap_or_default().trim_end_matches("/32").parse()?;

    let mut findings = Findings::default();
    let free =
        Iperf::tcp(lab.space("node1-pod1")?, lab.space("node1-pod2")?, lab.address("node1-pod2")?).run()?;
    for (name, other) in [("same node", "node1-pod1"), ("across nodes", "node2-pod1")] {
        for (does, direction) in [("receives", Direction::Forward), ("sends", Direction::Reverse)] {
            let iperf = Iperf { direction, seconds: 3, ..Iperf::tcp(lab.space(other)?, &space, address) };
            let measured = iperf.run().map_err(anyhow::Error::from).and_then(|limited| {
                let share = limited.gbps * 1e9 / RATE as f64;
                println!(
                    "{name}, {does}: {:.3} Gbit/s, {share:.2} of the limit; without: {:.2}",
                    limited.gbps, free.gbps
                );
                // TCP's share of a policed rate varies; a burst counts in three seconds as a few percent.
                ensure!((0.2..1.3).contains(&share), "{share:.2} of the limit");
                ensure!(free.gbps > 2.0 * limited.gbps, "{:.2} Gbit/s without the limit", free.gbps);
                Ok(())
            });
            findings.check(format!("{name}, {does}"), measured);
        }
    }
    findings.check("changed", changed(&lab, &space, address));
    let status = lab.dataplane("node1")?;
    for reason in ["ingress_limit", "egress_limit"] {
        findings.equal(format!("drops as {reason}"), &(dataplane::drops(&status, reason) > 0), &true);
    }
    let delete = CniCall::new(&machine, "DEL", "limited")?.run(&machine)?;
    findings.equal("DEL", &delete.map_err(|e| e.msg), &Ok(serde_json::Value::Null));
    findings.finish(lab)
}

/// The pod's annotations of now hold, whatever they were when it was attached.
fn changed(lab: &Lab, space: &Space, address: Ipv4Addr) -> Result<()> {
    let manifest = lab.node("node1")?.machine.directory.join("manifests/pod.yaml");
    for rate in [None, Some(RATE / 5)] {
        let annotation =
            rate.map_or(String::new(), |rate| format!("kubernetes.io/ingress-bandwidth: '{rate}'"));
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: limited, annotations: {{{annotation}}}}}\n"
        );
        write_whole(&manifest, &pod)?;
        let in_force = || {
            let status = lab.dataplane("node1").ok()?;
            let port = status.ports.into_iter().find(|port| port.label == "default/limited")?;
            Some(port.bandwidth?.ingress.map(|limit| limit.rate))
        };
        ensure!(wait_until(LIMIT, || in_force() == Some(rate)), "{:?} instead of {rate:?}", in_force());
        let iperf =
            Iperf { seconds: 3, ..Iperf::tcp(lab.space("node1-pod1")?, space, address) }.run()?.gbps * 1e9;
        let fits = match rate {
            None => iperf > 2.0 * RATE as f64,
            Some(rate) => (0.2..1.3).contains(&(iperf / rate as f64)),
        };
        ensure!(fits, "{iperf} bit/s with a limit of {rate:?}");
    }
    Ok(())
}
