//! Two thousand Services with twenty thousand endpoints from a real API server, which then comes back as an older one that
//! cannot stream its lists.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use headrace_lab::Lab;
use headrace_lab::control_plane::ControlPlane;
use headrace_lab::process::wait_until;

use crate::findings::Findings;
use crate::kubernetes::cluster;

const SERVICES: usize = 2_000;
const ENDPOINTS: usize = 10;
/// kubectl limits itself to 50 requests a second.
const WRITERS: usize = 4;
/// Making the objects takes most of it.
const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn two_thousand_services_converge_and_a_restarted_server_takes_none_away() -> Result<()> {
    let Some((lab, mut plane)) = cluster()? else { return Ok(()) };
    let mut findings = Findings::default();
    let start = Instant::now();
    make(&plane, 0..SERVICES)?;
    let made = start.elapsed();
    findings.check("all are programmed", has(&lab, SERVICES));
    println!("{SERVICES} Services made in {made:?}, programmed {:?} later", start.elapsed() - made);
    findings.check("restart", restart(&lab, &mut plane));
    drop(plane);
    findings.finish(lab)
}

/// The server goes and comes back; nothing leaves the dataplane in between, and all that was new comes.
fn restart(lab: &Lab, plane: &mut ControlPlane) -> Result<()> {
    let before = lab.dataplane("node1")?.services;
    plane.stop_api_server()?;
    plane.api_server_flags(&["--feature-gates=WatchList=false"]);
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let least = scope.spawn(|| {
            let mut least = before;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                least = least.min(lab.dataplane("node1")?.services);
                thread::sleep(Duration::from_millis(20));
            }
            anyhow::Ok(least)
        });
        let came = plane.start_api_server().map_err(Into::into).and_then(|()| {
            make(plane, SERVICES..SERVICES + 1)?;
            has(lab, SERVICES + 1)
        });
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let least = least.join().map_err(|_| anyhow!("the looker has panicked"))??;
        came?;
        ensure!(least == before, "of {before} Services only {least} were left for a time");
        anyhow::Ok(())
    })?;
    Ok(())
}

fn make(plane: &ControlPlane, numbers: std::ops::Range<usize>) -> Result<()> {
    let share = numbers.len().div_ceil(WRITERS);
    let shares: Vec<_> =
        numbers.clone().step_by(share).map(|first| first..numbers.end.min(first + share)).collect();
    thread::scope(|scope| {
        let writers: Vec<_> =
            shares.into_iter().map(|share| scope.spawn(|| plane.create(&objects(share)))).collect();
        for writer in writers {
            writer.join().map_err(|_| anyhow!("a writer has panicked"))??;
        }
        Ok(())
    })
}

/// Services and their slices as YAML. Endpoints may be shared; addresses are those of pods that could be.
fn objects(numbers: std::ops::Range<usize>) -> String {
    let mut text = String::new();
    for number in numbers {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "---
{{apiVersion: v1, kind: Service, metadata: {{name: many-{number}}}, spec: {{ports: [{{name: http, port: 80}}]}}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: many-{number}, labels: {{kubernetes.io/service-name: many-{number}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints:
"
        );
        for endpoint in 0..ENDPOINTS {
            let host = number * ENDPOINTS + endpoint;
            let _ = writeln!(
                text,
                "- {{addresses: [10.244.{}.{}], nodeName: node{}}}",
                1 + host % 2,
                2 + host / 2 % 250,
                1 + host % 2
            );
        }
    }
    text
}

/// Waits until both nodes have as many of them, with all endpoints.
fn has(lab: &Lab, services: usize) -> Result<()> {
    for node in ["node1", "node2"] {
        let mut last = (0, 0);
        let reached = wait_until(LIMIT, || {
            last = counts(lab, node).unwrap_or(last);
            last == (services, services * ENDPOINTS)
        });
        ensure!(reached, "{node} has {last:?} Services and endpoints, not {services}");
    }
    Ok(())
}

fn counts(lab: &Lab, node: &str) -> Result<(usize, usize)> {
    let run_dir = lab.node(node)?.run_dir().display().to_string();
    let tool = headrace_lab::daemon::binary("headracectl")?;
    let output = std::process::Command::new(tool)
        .args(["--run-dir", &run_dir, "--json", "services", "default/many-"])
        .output()?;
    let services: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    let endpoints = services.iter().filter_map(|s| s["endpoints"].as_array()).map(Vec::len).sum();
    Ok((services.len(), endpoints))
}
