//! One endpoint changes ten times a second while a TCP stream runs through another Service of the same node.
//!
//! Streams differ from one another by a tenth on a machine whose cores they fill, so one stream is measured in slices, with
//! changes and without in turns; what it carries in a slice is what its receiver's device has taken.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use headrace_lab::daemon::Daemon;
use headrace_lab::statistics::median;
use headrace_lab::traffic::Iperf;
use headrace_lab::{Lab, Service, Space, counters};

use super::cluster::Version;
use super::feeder::Feeder;

/// Streams, one after the other.
const STREAMS: usize = 4;
/// Pairs of slices in each, with changes and without.
const PAIRS: usize = 10;
/// Of one slice.
const SLICE: Duration = Duration::from_millis(800);
/// Until a stream has its pace.
const BEGINNING: Duration = Duration::from_secs(1);
/// Between two changes.
const PERIOD: Duration = Duration::from_millis(100);

/// What was measured.
#[derive(Default)]
pub(super) struct Traffic {
    /// Bytes of each pair of slices, with changes and without.
    pairs: Vec<(f64, f64)>,
    /// From an object to the tables that every worker reads with its next burst.
    pub(super) changes: Vec<Duration>,
    /// What threads that carry no packets have used during slices with changes, and without.
    used: (Duration, Duration),
}

impl Traffic {
    /// How much slower the stream is with changes, in percent: the middle one of all pairs, and how far that may be off
    /// (1.86 medians of the distances from it, by the root of their number: a standard error).
    pub(super) fn loss(&self) -> (f64, f64) {
        let losses: Vec<f64> =
            self.pairs.iter().map(|(with, without)| 100.0 * (1.0 - with / without)).collect();
        let middle = median(losses.iter().copied()).unwrap_or_default();
        let distance = median(losses.iter().map(|loss| (loss - middle).abs())).unwrap_or_default();
        (middle, 1.86 * distance / (losses.len() as f64).sqrt())
    }

    /// CPU time of one change in both daemons.
    pub(super) fn cost(&self) -> Duration {
        let (with, without) = self.used;
        with.saturating_sub(without) / u32::try_from(self.changes.len()).unwrap_or(1).max(1)
    }
}

/// A Service whose endpoint is the second pod.
pub(super) fn service(lab: &Lab) -> Service {
    Service::new("stream", 99, headrace_lab::traffic::iperf::PORT, &[lab.address("node1-pod2").unwrap()])
}

/// Measures while `feeder` is the node's agent and holds `size` Services.
pub(super) fn measure(lab: &Lab, feeder: &mut Feeder, size: usize) -> Traffic {
    let mut traffic = Traffic::default();
    let dataplane = lab.node("node1").unwrap().daemons.unwrap().process(Daemon::Dataplane).unwrap().pid;
    let (client, server) = (lab.space("node1-pod1").unwrap(), lab.space("node1-pod2").unwrap());
    let seconds = (BEGINNING + SLICE * 2 * (PAIRS + 1) as u32).as_secs() as u32;
    for _ in 0..STREAMS {
        let stream = Iperf { seconds, ..Iperf::tcp(client, server, service(lab).cluster_ip) };
        std::thread::scope(|scope| {
            let running = scope.spawn(|| stream.run().unwrap());
            std::thread::sleep(BEGINNING);
            for pair in 0..PAIRS {
                // In turns the other one first: a stream may become faster or slower all the time.
                let first = pair % 2 == 0;
                let one = slice(server, dataplane, first.then_some((&mut *feeder, size)), &mut traffic);
                let other = slice(server, dataplane, (!first).then_some((&mut *feeder, size)), &mut traffic);
                traffic.pairs.push(if first { (one, other) } else { (other, one) });
            }
            running.join().unwrap();
        });
    }
    traffic
}

/// Bytes per second that `server` gets, while a feeder of so many Services makes changes or nobody does.
fn slice(
    server: &Space,
    dataplane: i32,
    changes: Option<(&mut Feeder, usize)>,
    traffic: &mut Traffic,
) -> f64 {
    let received = || counters::link(server, "eth0").unwrap().rx_bytes;
    let changing = changes.is_some();
    let (begin, bytes, used) = (Instant::now(), received(), used(dataplane));
    if let Some((feeder, size)) = changes {
        while begin.elapsed() < SLICE {
            let next = Instant::now() + PERIOD;
            // After those without traffic: a Service that is as wanted already would change nothing.
            let i = super::OBJECT_CHANGES + traffic.changes.len();
            traffic.changes.push(feeder.change(i % size, Version::of(i / size)));
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    } else {
        std::thread::sleep(SLICE);
    }
    let rate = (received() - bytes) as f64 / begin.elapsed().as_secs_f64();
    let sum = if changing { &mut traffic.used.0 } else { &mut traffic.used.1 };
    *sum += self::used(dataplane).saturating_sub(used);
    rate
}

/// CPU time of this process and of the dataplane's threads but for its workers (schedstat: nanoseconds come first).
fn used(dataplane: i32) -> Duration {
    let of = |process: &Path| {
        let tasks = fs::read_dir(process.join("task")).unwrap().flatten().map(|task| task.path());
        let name = |task: &Path| fs::read_to_string(task.join("comm")).unwrap_or_default();
        let time = |task: &Path| {
            let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
        };
        tasks.filter(|task| !name(task).starts_with("worker")).map(|task| time(&task)).sum::<u64>()
    };
    Duration::from_nanos(of(Path::new("/proc/self")) + of(&Path::new("/proc").join(dataplane.to_string())))
}
