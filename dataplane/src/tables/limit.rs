//! A token bucket that all workers share: how much of a pod's traffic may pass.
//!
//! It keeps one number, the time at which the bucket would be full again (the virtual scheduling algorithm of ITU-T I.371,
//! annex A, "GCRA"): a frame moves it on by the time its bytes take at the rate, and frames end while it lies further ahead
//! than the burst allows. A frame may pass while there is any token at all, and leaves a debt that the next ones wait for:
//! so a frame of 64 KiB passes a small bucket, and the rate holds all the same.
//!
//! What is above the rate is dropped, where tc-tbf(8) would queue it: a queue would need timers in the worker's loop and
//! chunks to wait in. TCP finds the rate by these losses.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use headrace_api::state::RateLimit;

/// Nanoseconds of a worker's clock, of which only differences count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

const SECOND: u128 = 1_000_000_000;

/// Bits of the burst where none is asked for: a tenth of a second's, at least two of the largest frames.
const LEAST_BURST: u64 = 2 * 8 * (65_535 + 14);

/// The bucket. Equal are those with the same limit, whatever is in them.
#[derive(Debug)]
pub struct Bucket {
    limit: RateLimit,
    /// How far ahead [`Self::full_at`] may lie, in nanoseconds.
    tolerance: u64,
    full_at: AtomicU64,
}

impl Bucket {
    /// A full one.
    pub fn new(limit: RateLimit) -> Self {
        let rate = limit.rate.get();
        let burst = limit.burst.map_or_else(|| LEAST_BURST.max(rate / 10), NonZeroU64::get);
        Self { limit, tolerance: duration(burst, rate), full_at: AtomicU64::new(0) }
    }

    /// Whether a frame of `bytes` may pass at `now`; its tokens are gone then.
    #[inline]
    pub fn take(&self, bytes: usize, now: Nanos) -> bool {
        let cost = duration(bytes as u64 * 8, self.limit.rate.get());
        let mut seen = self.full_at.load(Ordering::Relaxed);
        loop {
            let from = seen.max(now.0);
            if from - now.0 >= self.tolerance.max(1) {
                return false;
            }
            let next = from.saturating_add(cost);
            match self.full_at.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => seen = other,
            }
        }
    }
}

impl PartialEq for Bucket {
    fn eq(&self, other: &Self) -> bool {
        self.limit == other.limit
    }
}

impl Eq for Bucket {}

/// Nanoseconds that `bits` take.
fn duration(bits: u64, rate: u64) -> u64 {
    u64::try_from(u128::from(bits) * SECOND / u128::from(rate)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket(rate: u64, burst: u64) -> Bucket {
        Bucket::new(RateLimit { rate: NonZeroU64::new(rate).unwrap(), burst: NonZeroU64::new(burst) })
    }

    proptest! {
        /// Over any stretch of time no more passes than the burst, the rate times the stretch, and one frame of debt; and a
        /// sender who always has something to send gets no less than the rate.
        #[test]
        fn the_rate_holds_over_every_stretch(
            rate in 1_000u64..10_000_000_000,
            burst in 8u64..10_000_000,
            steps in prop::collection::vec((0u64..2_000_000, 60usize..65_549), 1..200),
        ) {
            let bucket = bucket(rate, burst);
            let (mut now, mut passed) = (0, Vec::new());
            for (later, bytes) in steps {
                now += later;
                if bucket.take(bytes, Nanos(now)) {
                    passed.push((now, bytes as u128 * 8));
                }
            }
            for (i, (from, _)) in passed.iter().enumerate() {
                let mut bits = 0;
                for (to, more) in &passed[i..] {
                    let allowed = u128::from(burst) + u128::from(rate) * u128::from(to - from) / SECOND + 65_549 * 8;
                    bits += more;
                    // Each frame's time is rounded down by less than a nanosecond.
                    prop_assert!(bits <= allowed + passed.len() as u128 * u128::from(rate) / SECOND + passed.len() as u128);
                }
            }
        }

        #[test]
        fn a_busy_sender_gets_the_whole_rate(rate in 100_000u64..10_000_000_000, bytes in 60usize..65_549) {
            let bucket = bucket(rate, 0);
            let frame = bytes as u64 * 8;
            let step = duration(frame, rate) / 4 + 1;
            let frames = (0..4_000).filter(|n| bucket.take(bytes, Nanos(n * step))).count() as u128;
            let fair = u128::from(rate) * u128::from(4_000 * step) / SECOND / u128::from(frame);
            prop_assert!(frames >= fair, "{frames} of {fair}");
        }
    }

    #[test]
    fn limits_at_the_ends_of_their_types_hold() {
        let slow = bucket(1, 1);
        assert!(slow.take(65_549, Nanos(0)));
        assert!(!slow.take(60, Nanos(3_600_000_000_000)));
        let fast = bucket(u64::MAX, u64::MAX);
        assert!((0..1_000).all(|_| fast.take(65_549, Nanos(0))));
        let endless = bucket(1, u64::MAX);
        assert!((0..1_000).all(|_| endless.take(65_549, Nanos(u64::MAX / 2))));
    }
}
