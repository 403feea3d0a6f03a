//! Manifests that are wrong: each is told in the agent's report, and the rest works.

use std::fs;
use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context as _, Result};
use headrace_lab::process::wait_until;
use headrace_lab::traffic::{TcpServer, stream};
use headrace_lab::{Lab, LabConfig, Service};

use crate::findings::{Findings, PORT};
use crate::support;

/// Time for the agent to tell; labs beside this one may have the cores.
const LIMIT: Duration = Duration::from_secs(60);
/// Lines of a file that is no manifest at all.
const LINES: usize = 100_000;
/// The report must stay readable, whatever there is to report; bytes.
const REPORT: u64 = 100_000;

#[test]
fn wrong_manifests_are_told_and_the_rest_works() -> Result<()> {
    let Some(mut lab) = support::lab(LabConfig { nodes: 1, ..LabConfig::default() })? else { return Ok(()) };
    let mut findings = Findings::default();
    let pod = lab.address("node1-pod2")?;
    let _server = TcpServer::start(lab.space("node1-pod2")?, PORT, "node1-pod2")?;
    let good = Service::new("good", 90, PORT, &[pod]);
    let cases = [
        ("overlap-1", service("older", "2020-01-01T00:00:00Z", 80), vec![]),
        (
            "overlap-2",
            service("younger", "2021-01-01T00:00:00Z", 80),
            vec!["younger in overlap-2.yaml:1:", "default/older"],
        ),
        ("port-0", service("none", "2021-01-01T00:00:00Z", 0), vec!["port-0.yaml", "port"]),
        ("port-70000", service("large", "2021-01-01T00:00:00Z", 70_000), vec!["port-70000.yaml", "port"]),
        ("outside", slice("good", "good-outside", "192.0.2.77"), vec!["192.0.2.77", "pod range"]),
        ("loopback", slice("good", "good-loopback", "127.0.0.1"), vec!["good-loopback", "127.0.0.1"]),
        (
            "unknown",
            slice("nobody", "nobody-1", "10.244.1.9"),
            vec!["nobody-1 in unknown.yaml:1:", "no Service default/nobody"],
        ),
        ("no-kind", "a: 1\nb: 2\n".to_owned(), vec!["no-kind.yaml", "apiVersion and kind"]),
        ("long", "this is: no manifest\n".repeat(LINES), vec!["long.yaml"]),
    ];
    for (name, text, _) in &cases {
        write(&lab, name, text)?;
    }
    lab.apply_service(&good)?;
    for (name, _, words) in &cases {
        let told = wait_until(LIMIT, || {
            let problems = problems(&lab).unwrap_or_default();
            words.is_empty() || problems.iter().any(|line| words.iter().all(|word| line.contains(word)))
        });
        findings.equal(format!("{name}: told"), &told, &true);
    }
    findings.equal("the report stays short", &(fs::metadata(report(&lab)?)?.len() < REPORT), &true);
    println!("{:#?}", problems(&lab)?);
    // Of the two that overlap, the older one is served; both have no endpoints.
    let client = lab.space("node1-pod1")?.clone();
    let older = stream::connect(&client, SocketAddrV4::new([10, 96, 0, 91].into(), 80));
    let kind = older.map(drop).map_err(|error| error.kind());
    findings.equal("the older of two", &kind, &Err(std::io::ErrorKind::ConnectionRefused));
    // The endpoint that is in no range is used all the same, so the good one gets some connections only.
    let reached = (0..40).any(|_| stream::greet(&client, SocketAddrV4::new(good.cluster_ip, PORT)).is_ok());
    findings.equal("the good Service is reached", &reached, &true);

    for (name, ..) in &cases {
        fs::remove_file(lab.node("node1")?.machine.directory.join(format!("manifests/{name}.yaml")))?;
    }
    let silent = wait_until(LIMIT, || problems(&lab).is_ok_and(|lines| lines.is_empty()));
    findings.equal("nothing is told once all is mended", &silent, &true);
    findings.check("the good Service", stream::greet(&client, SocketAddrV4::new(good.cluster_ip, PORT)));
    findings.finish(lab)
}

/// A ClusterIP Service at an address that all of these want.
fn service(name: &str, created: &str, port: u32) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default, creationTimestamp: \"{created}\"}}
spec:
  clusterIP: 10.96.0.91
  clusterIPs: [10.96.0.91]
  ports: [{{name: a, protocol: TCP, port: {port}}}]
"
    )
}

/// A slice of one endpoint for the Service `service`.
fn slice(service: &str, name: &str, endpoint: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, namespace: default, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{{name: tcp, protocol: TCP, port: {PORT}}}]
endpoints: [{{addresses: [{endpoint}]}}]
"
    )
}

/// Puts a manifest into the agent's folder in one step.
fn write(lab: &Lab, name: &str, text: &str) -> Result<()> {
    let folder = lab.node("node1")?.machine.directory.join("manifests");
    let unfinished = folder.join(format!(".{name}"));
    fs::write(&unfinished, text)?;
    Ok(fs::rename(unfinished, folder.join(format!("{name}.yaml")))?)
}

fn report(lab: &Lab) -> Result<std::path::PathBuf> {
    Ok(lab.node("node1")?.run_dir().join("agent.json"))
}

fn problems(lab: &Lab) -> Result<Vec<String>> {
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report(lab)?)?)?;
    let lines = report["problems"].as_array().context("no problems in agent.json")?;
    Ok(lines.iter().filter_map(|line| line.as_str().map(ToOwned::to_owned)).collect())
}
