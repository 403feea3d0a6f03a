//! What looking costs those who are looked at: traffic beside a capture of everything, and without it, in turns.
//!
//! `make bench-capture` measures with more rounds; it judges only that traffic goes on and losses are told.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use headrace_lab::process::{Process, wait_until};
use headrace_lab::traffic::Iperf;
use headrace_lab::{Lab, LabConfig, daemon};
use rustix::process::Signal;

use crate::findings::Findings;
use crate::support;

/// Rounds of a test; HEADRACE_ROUNDS is another number.
const ROUNDS: usize = 3;
/// Time for a capture to end: it runs at the lowest priority.
const LIMIT: Duration = Duration::from_secs(60);
/// On a machine with other work a ratio of single seconds says little: less than this is a capture that stops traffic.
const LEAST: f64 = 0.5;

#[test]
#[ignore = "measures; make bench-capture runs it"]
fn a_capture_of_everything_loses_frames_and_not_traffic() -> Result<()> {
    let rounds = std::env::var("HEADRACE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let config = LabConfig { nodes: 1, pods_per_node: 2, ..LabConfig::default() };
    let Some(lab) = support::lab(config)? else { return Ok(()) };
    let mut findings = Findings::default();
    let measured: Option<Vec<Round>> =
        findings.check("rounds", (0..rounds).map(|i| Round::run(&lab, i)).collect());
    let measured = measured.unwrap_or_default();
    let mut ratios: Vec<f64> = measured.iter().map(|round| round.watched / round.alone).collect();
    ratios.sort_by(f64::total_cmp);
    if let Some(median) = ratios.get(ratios.len() / 2) {
        let (first, last) = (ratios[0], ratios[ratios.len() - 1]);
        println!("beside a capture: {median:.2} ({first:.2} to {last:.2}) of what it is without");
        findings.equal(format!("the ratio {median:.2} is above {LEAST}"), &(*median > LEAST), &true);
    }
    let (frames, lost) = measured.iter().fold((0, 0), |sum, r| (sum.0 + r.frames, sum.1 + r.lost));
    println!("{frames} frames captured, {lost} lost and counted");
    findings.equal("frames are captured", &(frames > 0), &true);
    findings.finish(lab)
}

/// Gbit/s of one TCP stream, and what the capture says of itself.
struct Round {
    alone: f64,
    watched: f64,
    frames: u64,
    lost: u64,
}

impl Round {
    fn run(lab: &Lab, number: usize) -> Result<Self> {
        let (client, server) = (lab.space("node1-pod1")?, lab.space("node1-pod2")?);
        let stream = Iperf::tcp(client, server, lab.address("node1-pod2")?);
        // Who goes first changes.
        let before = if number.is_multiple_of(2) { Some(stream.run()?) } else { None };
        let capture = capture(lab)?;
        let watched = stream.run();
        let (frames, lost) = end(capture)?;
        let alone = before.map_or_else(|| stream.run(), Ok)?.gbps;
        Ok(Self { alone, watched: watched?.gbps, frames, lost })
    }
}

/// Everything that crosses any port, whole.
fn capture(lab: &Lab) -> Result<Child> {
    let mut command = Command::new(daemon::binary("headracectl")?);
    command.arg("--run-dir").arg(lab.node("node1")?.run_dir()).args(["capture", "-w", "/dev/null"]);
    Ok(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?)
}

/// "12 frames captured, 3 lost because they came too fast".
fn end(mut capture: Child) -> Result<(u64, u64)> {
    Process::of(capture.id())?.signal(Signal::INT)?;
    let ended = wait_until(LIMIT, || capture.try_wait().is_ok_and(|exit| exit.is_some()));
    if !ended {
        capture.kill()?;
    }
    let output = capture.wait_with_output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(ended, "a capture that is interrupted does not end: {told}");
    ensure!(output.status.success(), "{:?}: {told}", output.status);
    let mut numbers = told.split(' ').filter_map(|word| word.parse().ok());
    let frames = numbers.next().with_context(|| told.clone())?;
    Ok((frames, numbers.next().with_context(|| told.clone())?))
}
