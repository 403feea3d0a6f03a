//! The reference runtime library drives the installed plugin: what it validates, converts, caches and forwards.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use headrace_lab::daemon::{self, Daemon};
use headrace_lab::machine::Machine;
use headrace_lab::{LabConfig, counters};
use serde_json::{Value, json};

use crate::findings::Findings;
use crate::support;

/// build.sh's exit status when Go is not installed.
const NO_GO: i32 = 3;
/// Time for one call of the library.
const LIMIT: Duration = Duration::from_secs(60);

/// The library with an installed plugin.
struct Libcni<'a> {
    program: String,
    machine: &'a Machine,
    conflist: String,
    plugins: String,
    cache: String,
}

/// Builds the driver. `None`, said loudly, without Go; an error then when CI=true.
fn build() -> Result<Option<String>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s/build.sh");
    let built = Command::new(&script).arg("libcni").stderr(Stdio::inherit()).output()?;
    if built.status.code() == Some(NO_GO) && std::env::var("CI").as_deref() != Ok("true") {
        eprintln!("SKIPPED: the reference library drives nothing, because Go is missing");
        return Ok(None);
    }
    ensure!(built.status.success(), "{} libcni: {}", script.display(), built.status);
    Ok(Some(String::from_utf8(built.stdout)?.trim().to_owned()))
}

impl<'a> Libcni<'a> {
    /// Installs the plugin on the node as its operator does.
    fn install(program: String, machine: &'a Machine) -> Result<Self> {
        let place = |name: &str| machine.directory.join(name).display().to_string();
        let (plugins, configurations, run) = (place("cni-bin"), place("net.d"), place("run"));
        let agent = daemon::binary(Daemon::Agent.binary())?.display().to_string();
        let flags = ["--bin-dir", &plugins, "--conf-dir", &configurations, "--run-dir", &run];
        machine.space.succeed(&[&[agent.as_str(), "install-cni"], &flags[..]].concat(), LIMIT)?;
        let conflist = format!("{configurations}/00-headrace.conflist");
        Ok(Self { program, machine, conflist, plugins, cache: place("cni-cache") })
    }

    /// What the library prints, or its error.
    fn call(&self, verb: &str, rest: &[&str]) -> Result<String> {
        let first = [self.program.as_str(), verb, &self.conflist, &self.plugins, &self.cache];
        let output = self.machine.space.try_run(&[&first[..], rest].concat(), LIMIT)?;
        if output.status.success() { Ok(output.stdout) } else { bail!("{}", output.stderr.trim()) }
    }

    fn fails(&self, verb: &str, rest: &[&str], words: &str) -> Result<()> {
        match self.call(verb, rest) {
            Ok(printed) => bail!("succeeded: {printed}"),
            Err(error) => {
                ensure!(error.to_string().contains(words), "no {words:?} in {error}");
                Ok(())
            }
        }
    }
}

#[test]
fn the_reference_library_attaches_checks_collects_and_detaches() -> Result<()> {
    let config = LabConfig { nodes: 1, pods_per_node: 0, ..LabConfig::default() };
    let Some(program) = build()? else { return Ok(()) };
    let Some(lab) = support::lab(config)? else { return Ok(()) };
    let machine = lab.node("node1")?.machine.clone();
    let mut findings = Findings::default();
    let outcome = Libcni::install(program, &machine).and_then(|libcni| life(&libcni, &machine));
    findings.check("libcni", outcome);
    findings.finish(lab)
}

fn life(libcni: &Libcni<'_>, machine: &Machine) -> Result<()> {
    let links = counters::links(&machine.space)?;
    let netns = |pod: &str| format!("/run/netns/{pod}");
    for pod in ["kept", "gone"] {
        machine.add_namespace(pod)?;
    }
    let capabilities = libcni.call("validate", &[]).context("validate")?;
    ensure!(capabilities.contains("portMappings"), "capabilities {capabilities:?}");
    libcni.call("status", &[]).context("status")?;

    let mapping =
        json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}).to_string();
    let added = libcni.call("add", &["kept", &netns("kept"), &mapping]).context("add")?;
    let result: Value = serde_json::from_str(&added)?;
    ensure!(result["cniVersion"] == "1.1.0", "the newest version both know: {result}");
    ensure!(result["interfaces"][1]["mtu"] == 65535, "{result}");
    libcni.fails("add", &["kept", &netns("kept")], "duplicate allocation is not allowed")?;
    libcni.fails(
        "add",
        &["gone", &netns("gone"), &mapping],
        "host port 8080/tcp leads to pod kept already",
    )?;
    libcni.call("add", &["gone", &netns("gone")]).context("second add")?;
    libcni.call("check", &["kept", &netns("kept"), &mapping]).context("check")?;

    libcni.call("gc", &["kept", ""]).context("gc")?;
    libcni.call("check", &["kept", &netns("kept"), &mapping]).context("check of what was kept")?;
    libcni.fails("check", &["gone", &netns("gone")], "")?;
    libcni.call("gc", &["-", ""]).context("gc of all")?;
    libcni.fails("check", &["kept", &netns("kept")], "")?;
    for _ in 0..2 {
        libcni.call("del", &["kept", &netns("kept"), &mapping]).context("del")?;
    }
    libcni.call("del", &["kept", "", &mapping]).context("del without a namespace")?;
    ensure!(counters::links(&machine.space)? == links, "links stay");
    Ok(())
}
