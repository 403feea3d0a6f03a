//! The keyed hash that spreads flows over buckets: SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast
//! short-input PRF", 2012) of the key's two words.
//!
//! The key of the hash is drawn from the kernel when a table is created and kept in its header, so that
//! places stay the same across restarts, while a pod cannot pick addresses and ports that push a chosen flow
//! out of its buckets.

use std::io;

use crate::types::Key;

/// The hash of a key under one table's seed. Computed once per packet, good for every operation on that
/// table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(u64);

/// Bits of the hash that each of the two bucket choices can use; the 16 above them are the tag.
const CHOICE_BITS: u32 = 24;

/// The most buckets that a hash can tell apart.
pub(crate) const MAX_BUCKETS: usize = 1 << CHOICE_BITS;

impl Hash {
    /// The two candidate buckets among `mask + 1`, a power of two and at least 2. They always differ.
    #[inline]
    pub(crate) fn buckets(self, mask: usize) -> [usize; 2] {
        let first = self.first_bucket(mask);
        [first, first ^ (((self.0 >> CHOICE_BITS) as usize & mask) | 1)]
    }

    /// The first of them.
    #[inline]
    pub(crate) fn first_bucket(self, mask: usize) -> usize {
        self.0 as usize & mask
    }

    /// The tag, never 0.
    #[inline]
    pub(crate) fn tag(self) -> u16 {
        ((self.0 >> 48) as u16).max(1)
    }
}

/// The key of the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) [u64; 2]);

impl Seed {
    /// A new one, from the kernel's random numbers.
    pub(crate) fn random() -> io::Result<Seed> {
        let mut bytes = [[0_u8; 8]; 2];
        // Up to 256 bytes are never returned short (getrandom(2)).
        rustix::rand::getrandom(bytes.as_flattened_mut(), rustix::rand::GetRandomFlags::empty())?;
        Ok(Seed(bytes.map(u64::from_ne_bytes)))
    }

    /// The hash of `key`.
    #[inline]
    pub(crate) fn hash(&self, key: &Key) -> Hash {
        let [k0, k1] = self.0;
        let mut v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        let length = 16 << 56; // SipHash ends a message with its length in bytes
        let [first, second] = key.words();
        for word in [first, second, length] {
            v[3] ^= word;
            sip_round(&mut v);
            v[0] ^= word;
        }
        v[2] ^= 0xff;
        for _ in 0..3 {
            sip_round(&mut v);
        }
        Hash(v[0] ^ v[1] ^ v[2] ^ v[3])
    }
}

#[inline]
fn sip_round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_hash_is_the_standard_librarys_siphash_under_a_zero_key(first in 1_u64.., second: u64) {
            // DefaultHasher::new() is SipHash-1-3 with both keys 0, and the only one that std lets us reach.
            let mut std_hasher = DefaultHasher::new();
            std_hasher.write(&[first.to_le_bytes(), second.to_le_bytes()].concat());
            let key = Key::from_words([first, second]).unwrap();
            prop_assert_eq!(Seed([0, 0]).hash(&key).0, std_hasher.finish());
        }

        #[test]
        fn the_two_buckets_differ_and_lie_in_the_table(hash: u64, bits in 1_u32..=CHOICE_BITS) {
            let mask = (1 << bits) - 1;
            let [first, second] = Hash(hash).buckets(mask);
            prop_assert_ne!(first, second);
            prop_assert!(first <= mask && second <= mask);
            prop_assert_eq!(first, Hash(hash).first_bucket(mask));
            prop_assert_ne!(Hash(hash).tag(), 0);
        }

        #[test]
        fn both_halves_of_the_seed_matter(seed: [u64; 2], first in 1_u64.., second: u64) {
            let key = Key::from_words([first, second]).unwrap();
            let hash = Seed(seed).hash(&key);
            prop_assert_ne!(hash, Seed([seed[0] ^ 1, seed[1]]).hash(&key));
            prop_assert_ne!(hash, Seed([seed[0], seed[1] ^ 1]).hash(&key));
        }
    }

    #[test]
    fn two_random_seeds_differ() {
        assert_ne!(Seed::random().unwrap(), Seed::random().unwrap());
    }
}
