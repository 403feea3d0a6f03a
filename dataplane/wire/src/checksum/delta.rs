//! Incremental update of checksums (RFC 1624): the effect of changed fields, computed once per flow and
//! applied to each of its packets.
//!
//! Equation 3 of the RFC is `HC' = ~(~HC + ~m + m')`. A [`Delta`] is the `~m + m'` of all changed words, so
//! deltas compose by addition and a flow entry stores 16 bits.

use std::net::Ipv4Addr;

/// The effect that changing some fields has on a one's complement sum that covers them.
///
/// The fields must lie at even offsets of the summed data, as all fields of IP, TCP, UDP and ICMP do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delta(u16);

impl Delta {
    /// Nothing changes.
    pub const NONE: Self = Self(0);

    /// A 16-bit field goes from `old` to `new`.
    #[inline]
    pub const fn new(old: u16, new: u16) -> Self {
        Self(add(!old, new))
    }

    /// A 32-bit field goes from `old` to `new`.
    #[inline]
    pub const fn of_u32(old: u32, new: u32) -> Self {
        let high = Self::new((old >> 16) as u16, (new >> 16) as u16);
        let low = Self::new(old as u16, new as u16);
        high.and(low)
    }

    /// An address goes from `old` to `new`.
    #[inline]
    pub const fn of_addr(old: Ipv4Addr, new: Ipv4Addr) -> Self {
        Self::of_u32(old.to_bits(), new.to_bits())
    }

    /// Both changes.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(add(self.0, other.0))
    }

    /// The delta of the way back.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self(!self.0)
    }

    /// The new value of a complete checksum field.
    ///
    /// For UDP use [`Delta::apply_udp`]. A field of 0xFFFF, which only UDP senders write, may come out as its equal 0x0000.
    #[inline]
    pub const fn apply(self, checksum: u16) -> u16 {
        !add(!checksum, self.0)
    }

    /// The new value of a complete UDP checksum field: 0 (no checksum) stays 0, and a result of 0 is 0xFFFF (RFC 768).
    #[inline]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 { 0 } else { super::udp_checksum(self.apply(checksum)) }
    }

    /// The new value of a field that holds an uncomplemented partial sum, where only changes of what the
    /// pseudo-header covers (the addresses) may be applied.
    #[inline]
    pub const fn apply_partial(self, partial: u16) -> u16 {
        add(partial, self.0)
    }

    /// The 16 bits to be stored in a flow entry.
    #[inline]
    pub const fn to_bits(self) -> u16 {
        self.0
    }

    /// The delta that [`Delta::to_bits`] gave.
    #[inline]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

/// A complete `checksum` after a 16-bit field that it covers went from `old` to `new` (RFC 1624, equation 3).
#[inline]
pub const fn update16(checksum: u16, old: u16, new: u16) -> u16 {
    Delta::new(old, new).apply(checksum)
}

/// A complete `checksum` after a 32-bit field that it covers went from `old` to `new` (RFC 1624, equation 3).
#[inline]
pub const fn update32(checksum: u16, old: u32, new: u32) -> u16 {
    Delta::of_u32(old, new).apply(checksum)
}

/// One's complement addition: the carry comes back in at the bottom.
const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}
