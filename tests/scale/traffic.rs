//! One endpoint changes ten times a second while a TCP stream runs through another Service of the same node.

use std::time::{Duration, Instant};

use headrace_lab::traffic::Iperf;
use headrace_lab::{Lab, Service};

use super::cluster::Version;
use super::feeder::Feeder;

/// Rounds with changes, and as many without, in turns.
const ROUNDS: usize = 15;
/// Of one measurement.
const SECONDS: u32 = 2;
/// Between two changes.
const PERIOD: Duration = Duration::from_millis(100);

/// What was measured.
pub(super) struct Traffic {
    /// Gbit/s of each round, with changes and without.
    pub(super) rates: Vec<(f64, f64)>,
    /// From an object to the tables that every worker reads with its next burst.
    pub(super) changes: Vec<Duration>,
}

impl Traffic {
    /// How much slower the stream is with changes, in percent: the middle one of all rounds.
    pub(super) fn loss(&self) -> f64 {
        let mut losses: Vec<f64> =
            self.rates.iter().map(|(with, without)| 100.0 * (1.0 - with / without)).collect();
        losses.sort_by(f64::total_cmp);
        losses.get(losses.len() / 2).copied().unwrap_or_default()
    }
}

/// A Service whose endpoint is the second pod.
pub(super) fn service(lab: &Lab) -> Service {
    Service::new("stream", 99, headrace_lab::traffic::iperf::PORT, &[lab.address("node1-pod2").unwrap()])
}

/// Measures while `feeder` is the node's agent and holds `size` Services.
pub(super) fn measure(lab: &Lab, feeder: &mut Feeder, size: usize) -> Traffic {
    let mut traffic = Traffic { rates: Vec::new(), changes: Vec::new() };
    let rate = || {
        let (client, server) = (lab.space("node1-pod1").unwrap(), lab.space("node1-pod2").unwrap());
        Iperf { seconds: SECONDS, ..Iperf::tcp(client, server, service(lab).cluster_ip) }.run().unwrap().gbps
    };
    for round in 0..ROUNDS {
        let changed = |feeder: &mut Feeder, changes: &mut Vec<Duration>| {
            std::thread::scope(|scope| {
                let running = scope.spawn(rate);
                while !running.is_finished() {
                    let begin = Instant::now();
                    // After those without traffic: a Service that is as wanted already would change nothing.
                    let i = super::OBJECT_CHANGES + changes.len();
                    changes.push(feeder.change(i % size, Version::of(i / size)));
                    std::thread::sleep(PERIOD.saturating_sub(begin.elapsed()));
                }
                running.join().unwrap()
            })
        };
        let pair = if round % 2 == 0 {
            let without = rate();
            (changed(feeder, &mut traffic.changes), without)
        } else {
            let with = changed(feeder, &mut traffic.changes);
            (with, rate())
        };
        traffic.rates.push(pair);
    }
    traffic
}
