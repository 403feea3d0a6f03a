//! Which buckets may hold entries: a bit per bucket, in the process's own memory.
//!
//! Sweeping and listing follow these bits instead of reading the whole table, so that a nearly empty table
//! costs nearly nothing, and pages that were never used stay holes (reading a hole of a mapped tmpfs file
//! allocates it). A bucket with an entry always has its bit set; a bucket without may have it for a while.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The bits. They are changed under the bucket's lock, which orders the changes of each.
pub(crate) struct Occupied {
    words: Box<[AtomicU64]>,
    buckets: usize,
}

/// Where a look at one word of bits led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// This bucket is the next that is marked.
    Bucket(usize),
    /// None is, before this one.
    Onward(usize),
    /// The table ends here.
    End,
}

impl Occupied {
    pub(crate) fn new(buckets: usize) -> Occupied {
        Occupied { words: (0..buckets.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(), buckets }
    }

    /// Marks `bucket`.
    #[inline]
    pub(crate) fn mark(&self, bucket: usize) {
        let (word, bit) = (&self.words[bucket / 64], 1 << (bucket % 64));
        // Nearly always set already, and then the line stays shared.
        if word.load(Relaxed) & bit == 0 {
            word.fetch_or(bit, Relaxed);
        }
    }

    /// Takes the mark from `bucket`.
    pub(crate) fn unmark(&self, bucket: usize) {
        self.words[bucket / 64].fetch_and(!(1 << (bucket % 64)), Relaxed);
    }

    /// Looks for the first marked bucket from `bucket` on, in one word.
    pub(crate) fn step(&self, bucket: usize) -> Step {
        if bucket >= self.buckets {
            return Step::End;
        }
        let rest = self.words[bucket / 64].load(Relaxed) >> (bucket % 64);
        if rest == 0 {
            return Step::Onward((bucket / 64 + 1) * 64);
        }
        Step::Bucket(bucket + rest.trailing_zeros() as usize)
    }
}
