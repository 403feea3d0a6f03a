//! Random numbers for choices that need to be even and cheap: endpoints, source ports.

use std::hash::{BuildHasher, RandomState};

/// xorshift64* (Vigna 2016): not for secrets. Its seed comes from the operating system's.
pub struct Random(u64);

impl Random {
    /// A generator that no other one repeats.
    pub fn new() -> Self {
        Self(RandomState::new().hash_one(std::thread::current().id()) | 1)
    }

    /// A generator that always gives the same numbers, for tests.
    pub fn with_seed(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next 64 bits.
    #[inline]
    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, evenly; 0 for a bound of 0.
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        (((self.word() >> 32) * bound as u64) >> 32) as usize
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}
