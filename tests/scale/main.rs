//! What Services cost, against their number: 10, 100, 1 000 and 10 000 of them with ten endpoints each, in a lab of one
//! node with the real daemons. `cargo bench -p headrace-lab --bench scale` (root); sizes may be given behind `--`.
//!
//! It prints a table, draws a plot (`target/scale.svg`) and judges nothing: times depend on the machine.
//!
//! * from manifests: a file is written, and the dataplane has all of it;
//! * from objects: the agent's own code in this process, without the file: deriving, and until the dataplane has it;
//! * a change: one endpoint of one Service, by both ways, until the dataplane has it in force;
//! * the same under traffic: a TCP stream through another Service, with a change every 100 ms and without, in turns;
//! * memory of both daemons, with everything in force.

#![allow(clippy::unwrap_used)]

mod cluster;
mod feeder;
mod plot;
mod table;
mod traffic;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use headrace_lab::daemon::Daemon;
use headrace_lab::dataplane;
use headrace_lab::process::wait_until;
use headrace_lab::{Lab, LabConfig};

use self::cluster::{ENDPOINTS, Version};
use self::feeder::Feeder;
use self::table::Row;

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
/// Changes by manifests: each waits for the agent's pause after a notice.
const FILE_CHANGES: usize = 20;
/// Changes by objects.
const OBJECT_CHANGES: usize = 500;
/// No step takes that long.
const LIMIT: Duration = Duration::from_secs(120);

fn main() {
    let mut sizes: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = SIZES.to_vec();
    }
    let name = format!("scale{}", std::process::id());
    let config = LabConfig { name, nodes: 1, kernel_nodes: 0, pods_per_node: 2, ..LabConfig::default() };
    let mut lab = Lab::up(&config, &mut |step| eprintln!("up: {step}")).unwrap();
    lab.apply_service(&traffic::service(&lab)).unwrap();
    let rows: Vec<Row> = sizes.into_iter().map(|size| measure(&mut lab, size)).collect();
    lab.down().unwrap();
    println!("{}", table::table(&rows));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/scale.svg");
    fs::write(&file, plot::svg(&rows)).unwrap();
    println!("The plot is in {}", file.display());
}

fn measure(lab: &mut Lab, size: usize) -> Row {
    eprintln!("{size} Services with {ENDPOINTS} endpoints each");
    let node = lab.node("node1").unwrap();
    let (run_dir, folder) = (node.run_dir(), node.machine.directory.join("manifests"));
    let name = node.machine.space.name.clone();
    let manifests = Manifests { folder, run_dir: run_dir.clone() };
    let from_manifests = manifests.apply(size);
    let file_changes = (0..FILE_CHANGES).map(|i| manifests.change(i)).collect();
    let daemons = lab.node("node1").unwrap().daemons.unwrap();
    let memory = Daemon::ALL.map(|daemon| resident(daemons.process(daemon).unwrap().pid));

    // From here on this process is the agent.
    lab.stop("node1", Daemon::Agent).unwrap();
    let mut feeder = Feeder::start(&run_dir, &name, &manifests.folder);
    let (parsing, deriving, from_objects) = feeder.build();
    let object_changes =
        (0..OBJECT_CHANGES).map(|i| feeder.change(i % size, Version::of(i / size))).collect();
    let traffic = traffic::measure(lab, &mut feeder, size);
    drop(feeder);
    lab.start("node1", Daemon::Agent).unwrap();
    Row {
        size,
        from_manifests,
        parsing,
        deriving,
        from_objects,
        file_changes,
        object_changes,
        memory,
        traffic,
    }
}

/// What the agent reads. The first Service has a file of its own, so that a change is one.
struct Manifests {
    folder: PathBuf,
    run_dir: PathBuf,
}

impl Manifests {
    /// Replaces all Services. How long until the dataplane has them.
    fn apply(&self, size: usize) -> Duration {
        let others: String = (1..size).map(|i| cluster::service(i, Version::A)).collect();
        self.write("first.yaml", &cluster::service(0, Version::A));
        let begin = Instant::now();
        self.write("others.yaml", &others);
        // Two more are those of the Service under traffic, TCP and UDP.
        let endpoints = u32::try_from(size * ENDPOINTS + 2).unwrap();
        let complete = || dataplane::status(&self.run_dir).is_ok_and(|s| s.endpoints == endpoints);
        assert!(wait_until(LIMIT, complete), "the dataplane does not get {endpoints} endpoints");
        begin.elapsed()
    }

    /// Changes one endpoint. How long until the dataplane has it.
    fn change(&self, i: usize) -> Duration {
        let generation = || dataplane::status(&self.run_dir).map_or(0, |s| s.generation);
        let before = generation();
        let begin = Instant::now();
        self.write("first.yaml", &cluster::service(0, Version::of(i)));
        assert!(wait_until(LIMIT, || generation() > before), "the dataplane does not get a change");
        begin.elapsed()
    }

    fn write(&self, name: &str, text: &str) {
        let hidden = self.folder.join(".scale");
        fs::write(&hidden, text).unwrap();
        fs::rename(hidden, self.folder.join(name)).unwrap();
    }
}

/// Memory of a process that is in RAM, in bytes.
fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
