//! A BPF array (BPF_F_MMAPABLE) as words that programs, other threads and this one read and write at any time.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::mapping::Mapping;

/// The words of an array.
pub(super) struct Words(Mapping);

impl Words {
    /// Maps the first `count` words.
    pub(super) fn map(array: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        Mapping::shared(array, count * size_of::<u64>(), 0).map(Self)
    }

    /// A word; 0 behind the last one.
    pub(super) fn get(&self, at: usize) -> u64 {
        self.words().get(at).map_or(0, |word| word.load(Ordering::SeqCst))
    }

    /// Changes a word; nothing happens behind the last one.
    pub(super) fn set(&self, at: usize, value: u64) {
        if let Some(word) = self.words().get(at) {
            word.store(value, Ordering::SeqCst);
        }
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, has so many words and lives as long as `self`. Whoever else changes them, the
        // kernel's programs included, does it word by word or by halves of words, as atomics may be changed.
        unsafe { std::slice::from_raw_parts(self.0.base().as_ptr().cast(), self.0.len() / size_of::<u64>()) }
    }
}
