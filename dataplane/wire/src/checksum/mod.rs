//! The Internet checksum (RFC 1071): one's complement sums of 16-bit words, and changing them without a
//! second look at the data (RFC 1624).
//!
//! A [`Sum`] is kept as the bytes lie in memory, in whatever width is fastest. One's complement addition does
//! not care about byte order (RFC 1071, 2(B)), so the order is put right once, when a number leaves: all `u16`
//! of this module are numbers as the protocol means them, to be stored big-endian (`U16::set`).
//!
//! What always holds: in one's complement 0x0000 and 0xFFFF are the same value. Sums over data that is not all
//! zero come out as 0x0001..=0xFFFF, so two ways to compute a checksum give the same bits, not only the same value.

mod delta;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

pub use delta::{Delta, update16, update32};

use crate::ipv4::Protocol;

/// What the checksum field of a TCP or UDP packet holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum L4Checksum {
    /// The complete checksum, as on the wire (for UDP, 0 says that there is none).
    #[default]
    Complete,
    /// The uncomplemented sum of the pseudo-header only; whoever puts the packet on a wire completes it
    /// (`CHECKSUM_PARTIAL` in Linux's include/linux/skbuff.h).
    Partial,
}

/// A one's complement sum of 16-bit words in memory byte order, not yet folded to 16 bits.
///
/// Every `Sum` made by this module is below 2^34, so billions of them add up without overflow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of no bytes.
    pub const ZERO: Self = Self(0);

    /// The sum of one 16-bit word of the packet, given as the number it stands for.
    #[inline]
    pub const fn of_word(word: u16) -> Self {
        Self(word.to_be() as u64)
    }

    /// The sum as it counts when its bytes begin at an odd offset (RFC 1071, 2(B): a swap of the bytes).
    #[inline]
    #[must_use]
    pub const fn swapped(self) -> Self {
        Self(self.fold_memory_order().swap_bytes() as u64)
    }

    /// The sum folded to 16 bits, not complemented: what a partial checksum field holds.
    #[inline]
    pub const fn fold(self) -> u16 {
        u16::from_be(self.fold_memory_order())
    }

    /// The checksum: the complement of the folded sum, to be stored big-endian.
    ///
    /// Over bytes that include a right checksum it is 0. For UDP pass it through [`udp_checksum`].
    #[inline]
    pub const fn finish(self) -> u16 {
        !self.fold()
    }

    /// The sum folded to 32 bits, so that many of them can be added.
    #[inline]
    const fn folded_once(wide: u64) -> Self {
        Self((wide & 0xffff_ffff) + (wide >> 32))
    }

    #[inline]
    const fn fold_memory_order(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32); // at most 2^33 - 2
        let sum = (sum & 0xffff_ffff) + (sum >> 32); // at most 2^32 - 1
        let sum = (sum & 0xffff) + (sum >> 16); // at most 0x1_fffe
        let sum = (sum & 0xffff) + (sum >> 16); // at most 0xffff
        sum as u16
    }
}

impl std::ops::Add for Sum {
    type Output = Self;

    /// The sum of two pieces that both begin at an even offset of the summed data.
    #[inline]
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl std::ops::AddAssign for Sum {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// Sums `bytes`, which begin at an even offset; an odd last byte counts as if a zero followed it.
#[inline]
pub fn sum(bytes: &[u8]) -> Sum {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let tail = sum_tail(rest);
    if blocks.is_empty() {
        return tail;
    }
    let mut lanes = Lanes::default();
    for block in blocks {
        lanes.add(block);
    }
    lanes.total() + tail
}

/// Sums a few bytes of a length that is known beforehand, a multiple of four, which begin at an even offset: no loop.
#[inline(always)]
pub(crate) fn sum_words<const N: usize>(bytes: &[u8; N]) -> Sum {
    const { assert!(N.is_multiple_of(4) && N <= BLOCK) };
    let (words, _) = bytes.as_chunks::<4>();
    Sum(words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum())
}

/// Copies `src` to `dst` and sums it, with one pass over memory.
///
/// # Panics
/// When the two differ in length, as [`slice::copy_from_slice`] does.
#[inline]
pub fn copy_and_sum(dst: &mut [u8], src: &[u8]) -> Sum {
    assert_eq!(dst.len(), src.len(), "copy_and_sum needs slices of the same length");
    let mut total = Sum::ZERO;
    for (dst, src) in dst.chunks_mut(COPY_STEP).zip(src.chunks(COPY_STEP)) {
        dst.copy_from_slice(src);
        total += sum(src);
    }
    total
}

/// Sums data that comes in pieces of any length, the odd ones included.
#[derive(Debug, Clone, Copy, Default)]
pub struct PieceSum {
    sum: Sum,
    odd: bool,
}

impl PieceSum {
    /// A sum that begins with `sum`, for example the pseudo-header, of an even number of bytes.
    #[inline]
    pub const fn starting_with(sum: Sum) -> Self {
        Self { sum, odd: false }
    }

    /// Appends bytes.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        self.push_sum(sum(bytes), bytes.len());
    }

    /// Appends `len` bytes whose sum (as of an even offset) is known, for example from [`copy_and_sum`].
    #[inline]
    pub fn push_sum(&mut self, sum: Sum, len: usize) {
        self.sum += if self.odd { sum.swapped() } else { sum };
        self.odd ^= len % 2 == 1;
    }

    /// The sum of all pieces so far.
    #[inline]
    pub const fn sum(self) -> Sum {
        self.sum
    }
}

/// The sum of the IPv4 pseudo-header of TCP and UDP (RFC 9293, 3.1; RFC 768).
///
/// `l4_len` is the length of the TCP segment or UDP datagram, header included, in bytes.
#[inline]
pub fn pseudo_header(src: Ipv4Addr, dst: Ipv4Addr, protocol: Protocol, l4_len: u16) -> Sum {
    let src = u32::from_ne_bytes(src.octets());
    let dst = u32::from_ne_bytes(dst.octets());
    Sum(u64::from(src) + u64::from(dst)) + Sum::of_word(u16::from(protocol.0)) + Sum::of_word(l4_len)
}

/// The checksum as UDP sends it: "If the computed checksum is zero, it is transmitted as all ones" (RFC 768),
/// since 0 in the field says that there is no checksum.
#[inline]
pub const fn udp_checksum(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// Bytes per step: 8 lanes of 8 bytes, which is what fills the vector registers of x86-64-v2 without spilling.
const BLOCK: usize = 64;
const LANES: usize = BLOCK / 8;
/// Bytes copied before they are summed: they are still in the first-level cache then, where summing costs next
/// to nothing and the platform's copy is faster than any loop that does both. Even, so that pieces add up.
const COPY_STEP: usize = 4096;

/// Separate sums of the low and the high halves of every 64-bit lane. The halves have 32 bits of room for
/// carries, so nothing needs an add-with-carry and the compiler turns a step into plain vector additions.
/// Their total could overflow after 2^28 blocks, 16 GiB.
#[derive(Default)]
struct Lanes {
    low: [u64; LANES],
    high: [u64; LANES],
}

impl Lanes {
    #[inline(always)]
    fn add(&mut self, block: &[u8; BLOCK]) {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in words.iter().enumerate() {
            let word = u64::from_ne_bytes(*word);
            self.low[lane] += word & 0xffff_ffff;
            self.high[lane] += word >> 32;
        }
    }

    #[inline(always)]
    fn total(&self) -> Sum {
        let low: u64 = self.low.iter().sum();
        let high: u64 = self.high.iter().sum();
        Sum::folded_once(low) + Sum::folded_once(high)
    }
}

/// Sums fewer than [`BLOCK`] bytes.
#[inline(always)]
fn sum_tail(bytes: &[u8]) -> Sum {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total = 0;
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    Sum::folded_once(total + u64::from(u32::from_ne_bytes(last)))
}
