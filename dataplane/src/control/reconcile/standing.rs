//! Workers that have stopped going round their loop: they hang, or something keeps them off their cores.
//!
//! An idle worker goes round several times a second, so one that did not for [`LONG`] carries nothing.

use std::time::{Duration, Instant};

use super::Reconciler;
use crate::control::warnings::Topic;
use crate::worker::WorkerHandle;

/// Longer than any core is away for other reasons that pass by themselves.
const LONG: Duration = Duration::from_secs(3);

/// What was seen of each worker, in their order.
#[derive(Debug, Default)]
pub(super) struct Standing(Vec<Seen>);

/// How often it had gone round, and since when it was so often.
#[derive(Clone, Copy, Debug)]
struct Seen {
    loops: u64,
    since: Instant,
}

impl Standing {
    /// Takes the workers' counts of now; tells of each worker whether it stands.
    fn look(&mut self, loops: impl Iterator<Item = u64>, now: Instant) -> Vec<bool> {
        let before = std::mem::take(&mut self.0);
        let seen = loops.enumerate().map(|(i, loops)| match before.get(i) {
            Some(seen) if seen.loops == loops => *seen,
            _ => Seen { loops, since: now },
        });
        self.0 = seen.collect();
        // Without counters nothing is known.
        let told = cfg!(feature = "counters");
        self.0.iter().map(|seen| told && now.duration_since(seen.since) >= LONG).collect()
    }
}

impl Reconciler {
    /// Workers that have stopped are told wherever one looks.
    pub(super) fn watch_workers(&mut self) {
        let loops = self.workers.handles().map(|handle| handle.stats().hot().loops.get());
        let standing = self.standing.look(loops, Instant::now());
        let warning = |(handle, _): (&WorkerHandle, bool)| {
            let core = handle.core().0.map(|core| format!(" on core {core}")).unwrap_or_default();
            format!(
                "worker {} stands still{core}: nothing that comes to its queues is carried; something keeps it off its core, \
                 or it hangs (starting headrace-dataplane again loses no connection)",
                handle.id().0
            )
        };
        let warnings =
            self.workers.handles().zip(standing).filter(|(_, stands)| *stands).map(warning).collect();
        self.warnings.set(Topic::Standing, warnings);
    }

    /// Those that run on another core than they should, for all their life.
    pub(super) fn warn_of_cores(&mut self) {
        let unpinned = |handle: &&WorkerHandle| matches!(handle.core(), (Some(_), false));
        let warning = |handle: &WorkerHandle| {
            format!("worker {} could not be pinned to core {}", handle.id().0, handle.core().0.unwrap_or(0))
        };
        let warnings = self.workers.handles().filter(unpinned).map(warning).collect();
        self.warnings.set(Topic::Cores, warnings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_go_round_for_long_stands_until_it_does() {
        let (mut standing, start) = (Standing::default(), Instant::now());
        let mut look =
            |loops: [u64; 2], at: u64| standing.look(loops.into_iter(), start + Duration::from_secs(at));
        assert_eq!(look([5, 0], 0), [false, false]);
        assert_eq!(look([9, 0], 2), [false, false], "not long enough");
        assert_eq!(look([9, 0], 4), [false, true]);
        assert_eq!(look([9, 1], 6), [true, false]);
        assert_eq!(look([10, 1], 8), [false, false]);
    }
}
