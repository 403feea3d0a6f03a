//! How much the machine itself wavers: measured first, so that nobody takes its moods for findings.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::process::busy_time;
use crate::statistics::{Spread, percentile};

/// Work of one piece takes about this long.
const PIECE: Duration = Duration::from_millis(5);
/// More of a core than this in use by others, and the machine counts as loaded.
const LOADED: f64 = 0.1;
/// Pieces of equal work that differ by more than this make figures worth little.
const WAVERING: f64 = 0.1;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Cores in use by others while nothing was measured.
    pub load: f64,
    /// Equal pieces of work on all cores at once: the 90th percentile's time over the 10th's, less 1.
    pub wavering: f64,
    /// The kernel's path against itself: how far ratios that should be 1 lie apart. 0 when no lab was measured.
    pub path: f64,
}

impl Noise {
    /// Takes `time` each for listening and for working.
    #[must_use]
    pub fn measure(time: Duration, cores: usize) -> Self {
        let (before, start) = (busy_time(), Instant::now());
        std::thread::sleep(time);
        let load = busy_time().saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
        Self { load, wavering: wavering(time, cores), path: 0.0 }
    }

    /// Takes note of ratios that should be 1.
    pub(super) fn note_path(&mut self, ratio: &Spread) {
        self.path = self.path.max(ratio.width());
    }

    /// What must be said about figures from here; empty when all is well.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.load > LOADED {
            warnings.push(format!(
                "the machine is loaded: others use {:.2} cores; absolute figures are worth little, ratios more",
                self.load
            ));
        }
        if self.wavering > WAVERING {
            warnings.push(format!(
                "the machine wavers: equal pieces of work differ by {:.0} %; believe no smaller difference",
                self.wavering * 100.0
            ));
        }
        warnings
    }

    /// One line.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "{:.2} cores in use by others, equal work differs by {:.0} %, the kernel's path from itself by {:.0} %",
            self.load,
            self.wavering * 100.0,
            self.path * 100.0
        )
    }
}

/// All cores at once, as a lab keeps them busy.
fn wavering(time: Duration, cores: usize) -> f64 {
    let pieces = size_of_a_piece();
    let mut times: Vec<f64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(move || work_for(time, pieces))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    times.sort_by(f64::total_cmp);
    match percentile(&times, 0.9).zip(percentile(&times, 0.1)) {
        Some((slow, fast)) if fast > 0.0 => slow / fast - 1.0,
        _ => 0.0,
    }
}

/// Steps of [`work`] that take [`PIECE`] at best.
fn size_of_a_piece() -> u64 {
    let steps = 1 << 20;
    let best = (0..5).map(|_| work(steps)).fold(f64::INFINITY, f64::min);
    (steps as f64 * PIECE.as_secs_f64() / best) as u64
}

fn work_for(time: Duration, steps: u64) -> Vec<f64> {
    let end = Instant::now() + time;
    let mut times = Vec::new();
    while Instant::now() < end {
        times.push(work(steps));
    }
    times
}

/// Seconds for so many steps of Marsaglia's xorshift64, which no compiler shortens.
fn work(steps: u64) -> f64 {
    let start = Instant::now();
    let mut x = 88_172_645_463_325_252_u64;
    for _ in 0..steps {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    std::hint::black_box(x);
    start.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaded_machine_is_named_and_a_quiet_one_is_not() {
        let quiet = Noise { load: 0.02, wavering: 0.01, path: 0.02 };
        assert!(quiet.warnings().is_empty());
        assert!(Noise { load: 1.0, ..quiet }.warnings()[0].contains("loaded"));
        assert!(Noise { wavering: 0.4, ..quiet }.warnings()[0].contains("40 %"));
    }
}
