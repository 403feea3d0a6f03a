//! One entry as it lies in the mapping: a cache line guarded by a sequence lock.
//!
//! The version is even while the entry is whole and odd while it is being written. Writers exclude each other
//! by the bucket's lock; readers take none, and read again when the version changed under them. Every word is
//! an atomic, so a race is a stale or discarded read and never undefined behaviour (H.-J. Boehm, "Can
//! seqlocks get along with programming language memory models?", 2012, is where the fences come from).

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

use crossbeam::utils::Backoff;

use crate::types::{Key, Value};

/// An entry in the mapping. All zeros is an empty one, so a hole in the file is a table of empty entries.
#[repr(C, align(64))]
pub(crate) struct Record {
    version: AtomicU32,
    /// Outside the sequence lock: `touch` writes it without any lock.
    last_seen: AtomicU32,
    /// The first word is 0 when the entry is empty.
    key: [AtomicU64; 2],
    value: [AtomicU64; 5],
}

/// The bytes of an entry in the file.
pub(crate) const RECORD_SIZE: usize = 64;
const _: () = assert!(size_of::<Record>() == RECORD_SIZE);

/// A whole copy of an entry that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) key: Key,
    pub(crate) value: Value,
    pub(crate) last_seen: u32,
}

impl Record {
    /// Whether the entry's key looks like `key`, without the sequence lock.
    ///
    /// `false` is final: the key's words do not change while the key stays in the entry, so what is read
    /// differs only when the entry held another key at some time during the call. `true` may be half of one
    /// key and half of another.
    #[inline]
    pub(crate) fn looks_like(&self, key: &Key) -> bool {
        self.key_words() == key.words()
    }

    /// A whole copy of the entry if its key is `key`, else `None`.
    #[inline(always)]
    pub(crate) fn read_of(&self, key: &Key) -> Option<Snapshot> {
        // Final, as the words on `looks_like` say: no need to see whether a writer is at work.
        if !self.looks_like(key) {
            return None;
        }
        let (words, value, last_seen) = self.read_words();
        (words == key.words()).then_some(Snapshot { key: *key, value, last_seen })
    }

    /// A whole copy; `None` when the entry is empty.
    #[inline]
    pub(crate) fn read(&self) -> Option<Snapshot> {
        let (words, value, last_seen) = self.read_words();
        Key::from_words(words).map(|key| Snapshot { key, value, last_seen })
    }

    /// All of it as of one moment.
    #[inline]
    fn read_words(&self) -> ([u64; 2], Value, u32) {
        let backoff = Backoff::new();
        loop {
            let before = self.version.load(Acquire);
            let value = Value(self.value.each_ref().map(|word| word.load(Relaxed)));
            let copy = (self.key_words(), value, self.last_seen.load(Relaxed));
            // Pairs with the fence in `write`: whoever read a word of a later write reads its version, too.
            fence(Acquire);
            if before.is_multiple_of(2) && self.version.load(Relaxed) == before {
                return copy;
            }
            backoff.snooze(); // yields after a while: the writer may have lost its core
        }
    }

    /// Marks the entry as used at `now`, if it was not already.
    #[inline]
    pub(crate) fn touch(&self, now: u32) {
        // A store of the same number would take the line away from the other workers' caches for nothing.
        if self.last_seen.load(Relaxed) != now {
            self.last_seen.store(now, Relaxed);
        }
    }

    /// Whether a write was cut short by the death of the process.
    pub(crate) fn is_half_written(&self) -> bool {
        !self.version.load(Relaxed).is_multiple_of(2)
    }

    /// Fills the entry. The caller holds the bucket's lock.
    pub(super) fn fill(&self, new: &Snapshot) {
        self.write(|| {
            store(&self.key, &new.key.words());
            store(&self.value, &new.value.0);
            self.last_seen.store(new.last_seen, Relaxed);
        });
    }

    /// Replaces the value alone. The caller holds the bucket's lock.
    pub(super) fn set_value(&self, value: &Value) {
        self.write(|| store(&self.value, &value.0));
    }

    /// Empties the entry. The caller holds the bucket's lock.
    pub(super) fn clear(&self) {
        self.write(|| store(&self.key, &[0, 0]));
    }

    /// Runs `stores` with the version odd. A version that a crash left odd becomes even.
    fn write(&self, stores: impl FnOnce()) {
        let odd = self.version.load(Relaxed) | 1;
        self.version.store(odd, Relaxed);
        fence(Release);
        stores();
        self.version.store(odd.wrapping_add(1), Release);
    }

    #[inline]
    fn key_words(&self) -> [u64; 2] {
        self.key.each_ref().map(|word| word.load(Relaxed))
    }
}

#[inline]
fn store<const N: usize>(to: &[AtomicU64; N], words: &[u64; N]) {
    for (to, word) in to.iter().zip(words) {
        to.store(*word, Relaxed);
    }
}
