//! A bucket: a line of eight tags and a lock, then the eight entries that they stand for.
//!
//! A tag is 0 exactly when its entry is empty, and otherwise the tag of the entry's key; both change only
//! under the lock. Only a [`Locked`] bucket can be written, which the types see to.

use std::ops::Deref;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crossbeam::utils::Backoff;

use crate::record::{Record, Snapshot};
use crate::types::{Key, Value};

/// Entries in a bucket.
pub(crate) const WAYS: usize = 8;

/// The bytes of a bucket in the file.
pub(crate) const BUCKET_SIZE: usize = 576;
const _: () = assert!(size_of::<Bucket>() == BUCKET_SIZE);

/// A bucket in the mapping. All zeros is an empty, unlocked one.
#[repr(C, align(64))]
pub(crate) struct Bucket {
    /// Eight tags of 16 bits, the first in the lowest bits.
    tags: [AtomicU64; 2],
    lock: AtomicU32,
    records: [Record; WAYS],
}

const FREE: u32 = 0;
const HELD: u32 = 1;

impl Bucket {
    /// The lanes that carry `tag`; with 0, the empty ones.
    #[inline]
    pub(crate) fn tagged(&self, tag: u16) -> Lanes {
        // Pairs with the release in `set_tag`: whoever sees a tag sees the entry written before it.
        let [low, high] = self.tags.each_ref().map(|word| equal_lanes(word.load(Acquire), tag));
        Lanes(low | high << 4)
    }

    /// The lanes whose entry is not empty.
    #[inline]
    pub(crate) fn used(&self) -> Lanes {
        Lanes(!self.tagged(0).0)
    }

    /// Whether it is empty and nobody is changing that.
    pub(crate) fn is_unused(&self) -> bool {
        self.used().is_empty() && self.lock.load(Relaxed) == FREE
    }

    /// The tag of `lane`.
    pub(crate) fn tag(&self, lane: usize) -> u16 {
        (self.tags[lane / 4].load(Relaxed) >> (lane % 4 * 16)) as u16
    }

    /// The entry of `lane`, which is below [`WAYS`].
    #[inline]
    pub(crate) fn record(&self, lane: usize) -> &Record {
        &self.records[lane]
    }

    /// Finds `key`, whose tag is `tag`.
    #[inline]
    pub(crate) fn find(&self, key: &Key, tag: u16) -> Option<(usize, Snapshot)> {
        self.tagged(tag).find_map(|lane| Some((lane, self.record(lane).read_of(key)?)))
    }

    /// Waits for the lock, which is held for some tens of nanoseconds.
    pub(crate) fn lock(&self) -> Locked<'_> {
        let backoff = Backoff::new();
        while self.lock.compare_exchange_weak(FREE, HELD, Acquire, Relaxed).is_err() {
            backoff.snooze(); // yields after a while: the holder may have lost its core
        }
        Locked(self)
    }

    /// Takes the lock from a holder that is dead. Only for a process that has just taken over the file.
    pub(crate) fn seize(&self) -> Locked<'_> {
        self.lock.store(HELD, Relaxed);
        Locked(self)
    }
}

/// A bucket whose lock this thread holds, until it is dropped.
pub(crate) struct Locked<'a>(&'a Bucket);

impl Locked<'_> {
    /// Puts an entry into `lane`, over whatever is there.
    pub(crate) fn put(&self, lane: usize, tag: u16, new: &Snapshot) {
        self.record(lane).fill(new);
        self.set_tag(lane, tag);
    }

    /// Replaces the value of `lane`'s entry.
    pub(crate) fn set_value(&self, lane: usize, value: &Value) {
        self.record(lane).set_value(value);
    }

    /// Empties `lane`.
    pub(crate) fn clear(&self, lane: usize) {
        self.record(lane).clear();
        self.set_tag(lane, 0);
    }

    /// Sets the tag of `lane`.
    pub(crate) fn set_tag(&self, lane: usize, tag: u16) {
        let (word, shift) = (&self.tags[lane / 4], lane % 4 * 16);
        let others = word.load(Relaxed) & !(0xffff << shift);
        word.store(others | u64::from(tag) << shift, Release);
    }
}

impl Deref for Locked<'_> {
    type Target = Bucket;

    fn deref(&self) -> &Bucket {
        self.0
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.lock.store(FREE, Release);
    }
}

/// A set of lanes, lowest first when iterated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lanes(u8);

impl Lanes {
    pub(crate) fn none() -> Lanes {
        Lanes(0)
    }

    pub(crate) fn count(self) -> u32 {
        self.0.count_ones()
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Iterator for Lanes {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let lane = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (lane < WAYS).then_some(lane)
    }
}

/// Bit i is set when the i-th 16-bit lane of `tags` equals `tag`.
#[inline]
fn equal_lanes(tags: u64, tag: u16) -> u8 {
    const ONES: u64 = 0x0001_0001_0001_0001;
    const LOW: u64 = 0x7fff * ONES;
    let difference = tags ^ (u64::from(tag) * ONES);
    // The top bit of a lane stays 0 only when the lane is 0: no carry leaves a lane, so none disturbs
    // another.
    let differs = ((difference & LOW) + LOW) | difference;
    let equal = (!differs >> 15) & ONES;
    // Bits 0, 16, 32 and 48 are moved side by side at 48; the sixteen partial products never share a bit.
    (equal.wrapping_mul(1 << 48 | 1 << 33 | 1 << 18 | 1 << 3) >> 48) as u8 & 0xf
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equal_lanes_agrees_with_a_loop(
            // Few values, so that lanes do match; extreme ones, so that carries would show.
            tags in prop::array::uniform4(prop::sample::select(vec![0_u16, 1, 0x7fff, 0x8000, 0xffff])),
            tag in prop::sample::select(vec![0_u16, 1, 0x7fff, 0x8000, 0xffff]),
        ) {
            let word = (0..4).fold(0, |word, lane| word | u64::from(tags[lane]) << (16 * lane));
            let expected = (0..4).filter(|&lane| tags[lane] == tag).fold(0, |mask, lane| mask | 1 << lane);
            prop_assert_eq!(equal_lanes(word, tag), expected);
        }
    }

    #[test]
    fn lanes_come_lowest_first() {
        assert_eq!(Lanes(0b1010_0001).collect::<Vec<_>>(), [0, 5, 7]);
        assert_eq!(Lanes(0).next(), None);
    }
}
