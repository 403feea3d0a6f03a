//! Cost: what bulk takes of all cores, by each driver and by the kernel; what daemons take while nothing happens.

use std::fs;
use std::time::{Duration, Instant};

use super::figure::{Against, Figure, Metric, Part};
use super::load::Load;
use super::wire::{Ends, PathLeg, contenders, up};
use super::{BenchError, Run, Scope, turns};
use crate::daemon::Daemon;
use crate::leg::{far, near};
use crate::process::Process;
use crate::statistics::Spread;
use crate::{Lab, LabConfig, LabError, Wire};

/// The node whose daemons are looked at.
const NODE: &str = "node1";

/// Measures both.
pub(super) fn run(run: &mut Run<'_>) -> Result<(), BenchError> {
    busy(run)?;
    idle(run)
}

fn busy(run: &mut Run<'_>) -> Result<(), BenchError> {
    let paths: [(&str, PathLeg, Ends); 2] = [
        ("same node", |pair| pair.direct(&near(pair)), Ends::WithinNode),
        ("across nodes", |pair| pair.direct(&far(pair)), Ends::Apart),
    ];
    let lab = up(run, Wire::Segmented)?;
    for (name, leg, ends) in paths {
        let case = format!("{name}, {}", Load::Cores.name());
        run.say(&case);
        let effort = run.effort;
        let contenders = contenders(&lab, leg, ends)?;
        let rounds = turns::in_turns(&contenders, effort.rounds, |leg| Load::Cores.measure(leg, &effort));
        run.take(Part::Cost, &case, &rounds);
    }
    Ok(lab.down()?)
}

/// A node with more and more pods, where nothing happens.
fn idle(run: &mut Run<'_>) -> Result<(), BenchError> {
    let (counts, time): (&[usize], u64) = match run.scope {
        Scope::Full => (&[2, 10, 110], 10),
        Scope::Quick => (&[2, 10], 3),
        Scope::Smoke => (&[2], 1),
    };
    let config = LabConfig { name: run.lab_name.clone(), nodes: 1, pods_per_node: 0, ..LabConfig::default() };
    let mut lab = Lab::up(&config, &mut |_| {})?;
    let mut pods = 0;
    for &count in counts {
        run.say(&format!("a node with {count} pods where nothing happens"));
        while pods < count {
            pods += 1;
            lab.attach(NODE, &format!("idle{pods}"))?;
        }
        // What attaching has set going comes to rest.
        std::thread::sleep(Duration::from_secs(time.min(3)));
        for kind in Daemon::ALL {
            for (metric, value) in look(&lab, kind, Duration::from_secs(time))? {
                run.figures.extend(figure(kind, metric, value, count));
            }
        }
    }
    Ok(lab.down()?)
}

fn figure(kind: Daemon, metric: Metric, value: f64, count: usize) -> Option<Figure> {
    Some(Figure {
        part: Part::Cost,
        case: format!("idle, {}", kind.binary()),
        subject: "headrace".to_owned(),
        metric,
        against: Some(Against { what: "pods".to_owned(), count: count as u64 }),
        value: Spread::of(&[value])?,
        ratio: None,
    })
}

/// Cores that a daemon uses, and its memory.
fn look(lab: &Lab, kind: Daemon, time: Duration) -> Result<[(Metric, f64); 2], LabError> {
    let process = lab.node(NODE)?.daemons.and_then(|daemons| daemons.process(kind));
    let process = process.ok_or_else(|| LabError::Status {
        node: NODE.to_owned(),
        problem: format!("{} does not run", kind.binary()),
    })?;
    let failed = || LabError::io(format!("look at process {}", process.pid));
    let (before, start) = (process.cpu_time().map_err(failed())?, Instant::now());
    std::thread::sleep(time);
    let used = process.cpu_time().map_err(failed())?.saturating_sub(before);
    let cores = used.as_secs_f64() / start.elapsed().as_secs_f64();
    let megabytes = resident(&process).map_err(failed())? / 1e6;
    Ok([(Metric::lower("cores"), cores), (Metric::lower("MB resident"), megabytes)])
}

/// Bytes of a process that are in RAM (VmRSS, proc_pid_status(5)).
fn resident(process: &Process) -> std::io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.map(|kib| kib * 1024.0).ok_or_else(|| std::io::Error::other("it has no VmRSS"))
}
