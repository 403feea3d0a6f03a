//! The `headrace-lab` command: one process makes a lab, others use and remove it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use headrace_lab::process;
use serde_json::Value;

use crate::support;

const KERNEL_PAIR: [&str; 4] = ["--nodes", "0", "--kernel-nodes", "2"];

#[test]
fn a_lab_outlives_the_command_that_made_it_and_another_one_removes_it() -> Result<()> {
    let Some(name) = support::lab_name()? else { return Ok(()) };
    let up = command("up", &name).args(KERNEL_PAIR).output()?;
    ensure!(up.status.success(), "{}", text(&up));
    let again = command("up", &name).args(KERNEL_PAIR).output()?;
    ensure!(text(&again).contains(&format!("down --name {name}")), "no remedy in: {}", text(&again));

    let status: Value =
        serde_json::from_slice(&command("status", &name).args(["-o", "json"]).output()?.stdout)?;
    ensure!(status["nodes"][1]["name"] == "kernel2", "{status}");
    let address =
        status["nodes"][1]["pods"][0]["address"].as_str().context("no address of a pod")?.to_owned();
    let ping =
        command("exec", &name).args(["kernel1-pod1", "--", "ping", "-c1", "-W2", &address]).output()?;
    ensure!(ping.status.success(), "{}", text(&ping));
    let exit = command("exec", &name).args(["kernel1", "--", "sh", "-c", "exit 7"]).status()?;
    ensure!(exit.code() == Some(7), "exit status {exit}");

    let down = command("down", &name).output()?;
    ensure!(down.status.success() && is_gone(&name), "{}", text(&down));
    let nothing = command("status", &name).output()?;
    ensure!(!nothing.status.success() && text(&nothing).contains("no lab named"), "{}", text(&nothing));
    Ok(())
}

#[test]
fn what_a_killed_command_has_made_is_removed_by_the_next_one() -> Result<()> {
    let Some(name) = support::lab_name()? else { return Ok(()) };
    let mut up =
        command("up", &name).args(["--nodes", "0", "--kernel-nodes", "9"]).stderr(Stdio::piped()).spawn()?;
    let mut steps = BufReader::new(up.stderr.take().context("no stderr")?).lines();
    let reached = steps.any(|line| line.is_ok_and(|line| line.contains("kernel3-pod1")));
    up.kill()?;
    up.wait()?;
    ensure!(reached && !process::marked(&name).is_empty(), "there was nothing to remove");
    let down = command("down", &name).output()?;
    ensure!(down.status.success() && is_gone(&name), "{}", text(&down));
    Ok(())
}

fn command(verb: &str, name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headrace-lab"));
    command.args([verb, "--name", name]);
    command
}

fn is_gone(name: &str) -> bool {
    process::marked(name).is_empty() && !Path::new(headrace_lab::ROOT).join(name).exists()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
