//! The demo: every path of a pod's traffic, measured through Headrace and, in turns with it, through the kernel.
//!
//! Both sides stand in one lab on one LAN: two Headrace nodes and two kernel nodes. Rounds go A B, B A, A B, so that a
//! machine that gets slower or faster on the way does not favour either; ratios are taken within a round. AF_XDP on every
//! port, which a veth does not get by itself, has rows of its own from a lab of its own.

mod keep;
mod measure;
mod path;
mod row;

use std::path::PathBuf;
use std::time::Instant;

use crate::{Lab, LabConfig, LabError, Wire, interrupt, state};

use measure::{Session, rate_without_loss};
use path::{BETWEEN_PODS, Path, paths};
use row::Row;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// File for the results.
    pub json: PathBuf,
    /// Measurements of each kind on each side.
    pub rounds: u32,
    /// Seconds of each TCP measurement.
    pub seconds: u32,
    /// Workers of each dataplane.
    pub workers: usize,
    /// What the LAN is like.
    pub wire: Wire,
    /// Whether the lab stays up, with traffic and a dashboard to look at.
    pub keep: bool,
}

/// Runs the demo, prints progress and the table, writes the JSON file. `false` when something is not sound: a path
/// without connection, or a wrong checksum.
///
/// # Errors
/// Any [`LabError`] of the lab itself.
pub fn run(options: &Options) -> Result<bool, LabError> {
    let start = Instant::now();
    let mut progress = |step: &str| eprintln!("[{:3} s] {step}", start.elapsed().as_secs());
    interrupt::remove_when_interrupted(&lab_name());
    let lab = up(options, &["--driver", "af_xdp"], &mut progress)?;
    let af_xdp = measure_af_xdp(&paths(&lab)?, options, &mut progress);
    let mut faults = faults(&lab, &af_xdp);
    lab.down()?;
    let mut lab = up(options, &[], &mut progress)?;
    let paths = paths(&lab)?;
    let mut rows = measure_all(&mut lab, &paths, options, &mut progress)?;
    faults.extend(self::faults(&lab, &rows));
    rows.extend(af_xdp);
    println!("\n{}", row::table(&rows));
    write_json(options, &rows)?;
    for fault in &faults {
        println!("NOT SOUND: {fault}");
    }
    if options.keep {
        keep::keep(lab)?;
    } else {
        lab.down()?;
        println!("To look around while it runs: make demo KEEP=1");
    }
    progress("done");
    Ok(faults.is_empty())
}

/// Both labs, one after the other, have one name: an interruption removes whichever is there.
fn up(options: &Options, dataplane_args: &[&str], progress: &mut dyn FnMut(&str)) -> Result<Lab, LabError> {
    let config = LabConfig {
        name: lab_name(),
        kernel_nodes: 2,
        workers: options.workers,
        wire: options.wire,
        dataplane_args: dataplane_args.iter().map(ToString::to_string).collect(),
        ..LabConfig::default()
    };
    Lab::up(&config, &mut |step| progress(&format!("up: {step}")))
}

fn lab_name() -> String {
    format!("demo-{}", std::process::id())
}

/// One TCP stream between pods, which is what the drivers differ in.
fn measure_af_xdp(paths: &[Path], options: &Options, progress: &mut dyn FnMut(&str)) -> Vec<Row> {
    let session = Session { rounds: options.rounds, seconds: options.seconds };
    let mut rows = Vec::new();
    for path in paths.iter().filter(|path| BETWEEN_PODS.contains(&path.name)) {
        progress(&format!("{}, AF_XDP everywhere: TCP", path.name));
        let mut row = session.tcp(path);
        row.path += ", AF_XDP";
        progress(&row.summary());
        rows.push(row);
    }
    rows
}

fn measure_all(
    lab: &mut Lab,
    paths: &[Path],
    options: &Options,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>, LabError> {
    let session = Session { rounds: options.rounds, seconds: options.seconds };
    let mut rows = Vec::new();
    progress("how much UDP the kernel carries without loss");
    let megabits = rate_without_loss(paths)?;
    for path in paths {
        progress(&format!("{}: ping, TCP, UDP at {megabits} Mbit/s", path.name));
        for service in [&path.headrace.service, &path.kernel.service].into_iter().flatten() {
            lab.apply_service(service)?;
        }
        let measured = [session.ping(path), Some(session.tcp(path)), Some(session.udp(path, megabits))];
        for row in measured.into_iter().flatten() {
            progress(&row.summary());
            rows.push(row);
        }
    }
    Ok(rows)
}

fn write_json(options: &Options, rows: &[Row]) -> Result<(), LabError> {
    let failed = || LabError::io(format!("write {}", options.json.display()));
    let text = serde_json::to_string_pretty(rows).map_err(|error| failed()(error.into()))?;
    if let Some(folder) = options.json.parent() {
        std::fs::create_dir_all(folder).map_err(failed())?;
    }
    state::write_whole(&options.json, &(text + "\n"))
}

fn faults(lab: &Lab, rows: &[Row]) -> Vec<String> {
    let broken = rows
        .iter()
        .filter_map(|row| Some(format!("{} {}: {}", row.path, row.protocol, row.failure.as_ref()?)));
    let sums = rows.iter().filter(|row| row.checksum_errors > 0);
    let sums =
        sums.map(|row| format!("{} {}: {} checksum errors", row.path, row.protocol, row.checksum_errors));
    let mut faults: Vec<String> = broken.chain(sums).collect();
    faults.extend(lab.check().err().map(|error| error.to_string()));
    faults.extend(lab.long_frames());
    faults
}
