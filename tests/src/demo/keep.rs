//! What the demo leaves behind when it is asked to: the lab, some traffic, and the way to its dashboard.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::forward::Forward;
use crate::plan::DASHBOARD;
use crate::space::MARK;
use crate::{Lab, LabError};

/// The node whose dashboard is shown.
const NODE: &str = "node1";
/// Seconds of traffic: until tomorrow.
const SECONDS: &str = "86400";

/// Lets the lab stay, and says how to look at it and how to end it. What is started here carries the lab's mark, so that
/// `headrace-lab down` ends it.
///
/// # Errors
/// [`LabError::Io`] when a process cannot be started.
pub(super) fn keep(lab: Lab) -> Result<(), LabError> {
    let name = lab.state().config.name.clone();
    let run_dir = lab.node(NODE)?.run_dir();
    traffic(&lab)?;
    // Another dashboard may have the usual port.
    let space = lab.space(NODE)?;
    let free =
        Forward::listen(space, DASHBOARD, DASHBOARD).or_else(|_| Forward::listen(space, DASHBOARD, 0))?;
    let port = free.local_port()?;
    drop(free);
    let program = std::env::current_exe().map_err(LabError::io("find the running program"))?;
    let listen = port.to_string();
    let mut dashboard = Command::new(program);
    dashboard.args(["dashboard", "--name", &name, NODE, "--listen", &listen]).env(MARK, &name);
    start(dashboard, "the way to the dashboard")?;
    lab.stay()?;
    println!("The lab stays up: two nodes, their pods, and some traffic from {NODE}-pod1.");
    println!("  dashboard     http://127.0.0.1:{port}/");
    println!("  the same here target/release/headracectl --run-dir {} top", run_dir.display());
    println!("  look around   target/release/headrace-lab status --name {name}");
    println!("  end it        target/release/headrace-lab down --name {name}");
    Ok(())
}

/// A little of everything that the dashboard shows: on the node, across nodes, and drops.
fn traffic(lab: &Lab) -> Result<(), LabError> {
    let near = lab.address("node1-pod2")?.to_string();
    let far = lab.address("node2-pod1")?.to_string();
    let lines = [
        ("node1-pod2", vec!["iperf3", "-s"]),
        ("node2-pod1", vec!["iperf3", "-s"]),
        (
            "node1-pod1",
            vec![
                "sh",
                "-c",
                "sleep 1; exec \"$@\"",
                "sh",
                "iperf3",
                "-c",
                &near,
                "-b",
                "400M",
                "-t",
                SECONDS,
            ],
        ),
        (
            "node1-pod1",
            vec!["sh", "-c", "sleep 1; exec \"$@\"", "sh", "iperf3", "-c", &far, "-b", "150M", "-t", SECONDS],
        ),
        ("node1-pod2", vec!["ping", "-q", "-i", "0.5", "10.96.255.254"]),
    ];
    for (space, argv) in lines {
        let mut command = lab.space(space)?.command();
        command.args(&argv);
        start(command, argv[0])?;
    }
    Ok(())
}

fn start(mut command: Command, what: &str) -> Result<(), LabError> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().map(drop).map_err(LabError::io(format!("start {what}")))
}
