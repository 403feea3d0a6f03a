//! How long a runtime waits for the plugin: one table, and the same as JSON.
//!
//! The time is that of the whole call, as a runtime sees it: a process that starts, speaks with the agent, and ends. VERSION,
//! which asks nobody, tells how much of it is the call itself.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cni::CniCall;
use crate::machine::Machine;
use crate::{Lab, LabConfig, LabError};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pods, one after another and all at once.
    pub pods: usize,
    /// Where the same is written as JSON.
    pub json: PathBuf,
}

/// One kind of call.
#[derive(Clone, Debug, Serialize)]
struct Row {
    call: String,
    calls: usize,
    failures: usize,
    p50_ms: f64,
    p99_ms: f64,
    longest_ms: f64,
}

/// Measures and prints; `false` when a call failed.
///
/// # Errors
/// [`LabError`] when there is no lab, or the file cannot be written.
pub fn run(options: &Options) -> Result<bool, LabError> {
    let name = format!("cni-latency-{}", std::process::id());
    let lab = Lab::up(&LabConfig { name, nodes: 1, pods_per_node: 0, ..LabConfig::default() }, &mut |_| {})?;
    let machine = lab.node("node1")?.machine.clone();
    let pods: Vec<_> = (0..options.pods).map(|n| format!("latency{n}")).collect();
    pods.iter().try_for_each(|pod| machine.add_namespace(pod).map(drop))?;
    let mut rows = Vec::new();
    for verb in ["VERSION", "ADD", "DEL"] {
        rows.push(row(verb, "one after another", one_after_another(&machine, verb, &pods)));
    }
    for verb in ["ADD", "DEL"] {
        rows.push(row(verb, "all at once", all_at_once(&machine, verb, &pods)));
    }
    lab.down()?;
    print(&rows);
    let json = serde_json::to_string_pretty(&rows).unwrap_or_default();
    std::fs::write(&options.json, json).map_err(LabError::io(format!("write {}", options.json.display())))?;
    Ok(rows.iter().all(|row| row.failures == 0))
}

/// How long a call took; `None` when it failed, for a reason that is printed.
fn time(machine: &Machine, verb: &str, pod: &str) -> Option<Duration> {
    let call = CniCall::new(machine, verb, pod).ok()?;
    let start = Instant::now();
    match call.run(machine) {
        Ok(Ok(_)) => Some(start.elapsed()),
        Ok(Err(refused)) => {
            eprintln!("{verb} {pod}: {refused:?}");
            None
        }
        Err(error) => {
            eprintln!("{verb} {pod}: {error}");
            None
        }
    }
}

fn one_after_another(machine: &Machine, verb: &str, pods: &[String]) -> Vec<Option<Duration>> {
    pods.iter().map(|pod| time(machine, verb, pod)).collect()
}

fn all_at_once(machine: &Machine, verb: &str, pods: &[String]) -> Vec<Option<Duration>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = pods.iter().map(|pod| scope.spawn(move || time(machine, verb, pod))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(None)).collect()
    })
}

fn row(verb: &str, how: &str, times: Vec<Option<Duration>>) -> Row {
    let calls = times.len();
    let mut taken: Vec<f64> = times.into_iter().flatten().map(|time| time.as_secs_f64() * 1e3).collect();
    taken.sort_by(f64::total_cmp);
    let at =
        |share: usize| taken.get((taken.len() * share / 100).min(taken.len().saturating_sub(1))).copied();
    Row {
        call: format!("{verb}, {how}"),
        calls,
        failures: calls - taken.len(),
        p50_ms: at(50).unwrap_or(f64::NAN),
        p99_ms: at(99).unwrap_or(f64::NAN),
        longest_ms: at(100).unwrap_or(f64::NAN),
    }
}

fn print(rows: &[Row]) {
    println!("| call | calls | failures | p50, ms | p99, ms | longest, ms |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for Row { call, calls, failures, p50_ms, p99_ms, longest_ms } in rows {
        println!("| {call} | {calls} | {failures} | {p50_ms:.1} | {p99_ms:.1} | {longest_ms:.1} |");
    }
}
