//! Prometheus itself reads a node's metrics and the alert rules.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use headrace_lab::plan::METRICS;
use headrace_lab::process::wait_until;
use headrace_lab::{LabConfig, Space};
use serde_json::Value;

use crate::findings::Findings;
use crate::support;

/// Time for Prometheus to start and to look twice.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn prometheus_reads_every_metric_and_finds_no_fault_with_the_rules() -> Result<()> {
    let config = LabConfig { nodes: 1, ..LabConfig::default() };
    let Some(lab) = support::lab(config)? else { return Ok(()) };
    let node = lab.space("node1")?.clone();
    let directory = tempfile::tempdir()?;
    let rules =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring/alerts.yaml").canonicalize()?;
    node.run(&format!("promtool check rules {}", rules.display()))?;
    lint(&node)?;
    let _prometheus = Prometheus::start(&node, directory.path(), &rules)?;
    let mut findings = Findings::default();
    let value = |query: &str| query_value(&node, query).unwrap_or(f64::NAN);
    for (query, least) in [
        ("up{job=\"headrace\"}", 1.0),
        ("headrace_dataplane_up{node=\"node1\"}", 1.0),
        ("count({__name__=~\"headrace_.+\"})", 60.0),
        ("sum(headrace_port_ready{role=\"pod\"})", 2.0),
        ("rate(headrace_worker_loops_total[10s])", f64::MIN_POSITIVE),
    ] {
        let found = wait_until(LIMIT, || value(query) >= least);
        findings.equal(format!("{query} is {}, at least {least}", value(query)), &found, &true);
    }
    let healthy = wait_until(LIMIT, || healthy_rules(&node).is_some_and(|all| all));
    findings.equal("all alert rules can be evaluated", &healthy, &true);
    findings.finish(lab)
}

/// promtool's conventions for names, units and help. It reads the older text format only, in which a counter's family has its
/// samples' name and information is a gauge.
fn lint(node: &Space) -> Result<()> {
    let text = node.run(&format!("curl -sf http://127.0.0.1:{METRICS}/metrics"))?;
    let suffixes: HashMap<&str, &str> = text
        .lines()
        .filter_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            ["#", "TYPE", name, "counter"] => Some((name, "_total")),
            ["#", "TYPE", name, "info"] => Some((name, "_info")),
            _ => None,
        })
        .collect();
    let older = |line: &str| match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
        ["#", "EOF", ..] | ["#", "UNIT", ..] => String::new(),
        ["#", what, name, rest] => {
            let suffix = suffixes.get(name).copied().unwrap_or_default();
            format!("# {what} {name}{suffix} {}\n", if rest == "info" { "gauge" } else { rest })
        }
        _ => format!("{line}\n"),
    };
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn()?;
    child
        .stdin
        .take()
        .context("no standard input")?
        .write_all(text.lines().map(older).collect::<String>().as_bytes())?;
    let output = child.wait_with_output()?;
    let told =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && told.is_empty(), "promtool: {told}");
    Ok(())
}

fn query_value(node: &Space, query: &str) -> Option<f64> {
    let url = "http://127.0.0.1:9090/api/v1/query";
    let query = format!("query={query}");
    let argv = ["curl", "-sf", "-G", url, "--data-urlencode", &query];
    let answer: Value = serde_json::from_str(&node.succeed(&argv, LIMIT).ok()?).ok()?;
    answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

/// `None` until all have been evaluated.
fn healthy_rules(node: &Space) -> Option<bool> {
    let answer = node.run("curl -sf http://127.0.0.1:9090/api/v1/rules").ok()?;
    let answer: Value = serde_json::from_str(&answer).ok()?;
    let rules = answer["data"]["groups"][0]["rules"].as_array()?;
    let health: Vec<&str> = rules.iter().filter_map(|rule| rule["health"].as_str()).collect();
    (!health.contains(&"unknown")).then(|| !health.is_empty() && health.iter().all(|state| *state == "ok"))
}

/// A server in the node's namespace, ended when dropped.
struct Prometheus(Child);

impl Prometheus {
    fn start(node: &Space, directory: &Path, rules: &Path) -> Result<Self> {
        let file = directory.join("prometheus.yml");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n- job_name: headrace\n  \
             static_configs: [{{targets: ['127.0.0.1:{METRICS}']}}]\n",
            rules.display()
        );
        std::fs::write(&file, config)?;
        let mut command = node.command();
        command.arg("prometheus").arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.join("data").display()));
        command.arg("--web.listen-address=127.0.0.1:9090");
        let log = std::fs::File::create(directory.join("log"))?;
        let server = Self(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?);
        let ready = || node.run("curl -sf http://127.0.0.1:9090/-/ready").is_ok();
        let log = || std::fs::read_to_string(directory.join("log")).unwrap_or_default();
        ensure!(wait_until(LIMIT, ready), "prometheus does not start: {}", log());
        Ok(server)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nobody to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
