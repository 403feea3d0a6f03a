//! The TCP header (RFC 9293, 3.1): view, flags and options.

use std::fmt;
use std::ops::BitOr;

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Header;

/// Offset of the checksum field in the header.
pub const CHECKSUM_OFFSET: usize = 16;
/// Longest TCP header, with 40 bytes of options.
pub const MAX_HEADER_LEN: usize = 60;

/// The fixed part of a TCP header in place: 20 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TcpHeader {
    /// Source port.
    pub src_port: U16,
    /// Destination port.
    pub dst_port: U16,
    /// Sequence number of the first byte of payload (of SYN, when set).
    pub sequence: U32,
    /// Next sequence number expected from the other side.
    pub acknowledgment: U32,
    /// Header length in 32-bit words in the top 4 bits, then reserved bits and flags.
    pub offset_flags: U16,
    /// Receive window, scaled.
    pub window: U16,
    /// Checksum over pseudo-header, header and payload.
    pub checksum: U16,
    /// Urgent pointer.
    pub urgent: U16,
}

impl Header for TcpHeader {}

impl TcpHeader {
    /// Length of the header with its options as the header says, in bytes: 0 to 60, unchecked.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.offset_flags.get() >> 12) * 4
    }

    /// The flags.
    #[inline]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags(self.offset_flags.get() & TcpFlags::ALL.0)
    }

    /// Changes the flags; the checksum is not touched.
    #[inline]
    pub fn set_flags(&mut self, flags: TcpFlags) {
        self.offset_flags.set((self.offset_flags.get() & !TcpFlags::ALL.0) | flags.0);
    }
}

/// The control bits of a TCP header: a set of nine flags.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(pub u16);

impl TcpFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment field is valid.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is valid.
    pub const URG: Self = Self(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);
    /// Accurate ECN (RFC 9768).
    pub const AE: Self = Self(0x100);
    /// All of them.
    pub const ALL: Self = Self(0x1ff);

    /// Whether all of `flags` are set.
    #[inline]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether any of `flags` is set.
    #[inline]
    pub const fn intersects(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    /// These flags less `flags`.
    #[inline]
    #[must_use]
    pub const fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }
}

impl BitOr for TcpFlags {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for TcpFlags {
    /// The names of the flags, as in `SYN|ACK`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "AE"];
        let mut separator = "";
        for (bit, name) in names.iter().enumerate() {
            if self.0 & (1 << bit) == 0 {
                continue;
            }
            write!(f, "{separator}{name}")?;
            separator = "|";
        }
        if separator.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

/// One option of a TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpOption<'a> {
    /// Kind (IANA TCP Option Kind Numbers).
    pub kind: u8,
    /// The bytes behind kind and length.
    pub data: &'a [u8],
}

impl TcpOption<'_> {
    /// End of option list.
    pub const END: u8 = 0;
    /// No operation, for alignment.
    pub const NOP: u8 = 1;
    /// Maximum segment size.
    pub const MSS: u8 = 2;
    /// Timestamps (RFC 7323).
    pub const TIMESTAMPS: u8 = 8;
}

/// Walks the options of a TCP header, padding left out.
///
/// It ends at the end-of-list option, at the end of the bytes, or at an option whose length is wrong, so it
/// always ends and never reads beyond the bytes given.
#[derive(Debug, Clone)]
pub struct TcpOptions<'a> {
    rest: &'a [u8],
}

impl<'a> TcpOptions<'a> {
    /// `options` are the bytes between the fixed header and the payload.
    pub const fn new(options: &'a [u8]) -> Self {
        Self { rest: options }
    }

    /// The options of the TCP header at the front of `l4`; none when the header is not all there.
    pub fn of_header(l4: &'a [u8]) -> Self {
        let len = TcpHeader::of(l4).map_or(0, TcpHeader::header_len);
        Self::new(l4.get(TcpHeader::LEN..len).unwrap_or_default())
    }
}

impl<'a> Iterator for TcpOptions<'a> {
    type Item = TcpOption<'a>;

    fn next(&mut self) -> Option<TcpOption<'a>> {
        while let [TcpOption::NOP, rest @ ..] = self.rest {
            self.rest = rest;
        }
        let (kind, len) = match *self.rest {
            [kind, len, ..] if kind != TcpOption::END => (kind, usize::from(len)),
            _ => (TcpOption::END, 0),
        };
        if len < 2 || len > self.rest.len() {
            self.rest = &[];
            return None;
        }
        let (option, rest) = self.rest.split_at(len);
        self.rest = rest;
        Some(TcpOption { kind, data: &option[2..] })
    }
}

/// The maximum segment size option of the TCP header at the front of `l4` (RFC 9293, 3.7.1), in bytes of
/// payload and TCP options. Only a SYN may carry it.
pub fn mss(l4: &[u8]) -> Option<u16> {
    TcpOptions::of_header(l4)
        .find(|option| option.kind == TcpOption::MSS)
        .and_then(|option| option.data.try_into().ok())
        .map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(options: &[u8]) -> Vec<(u8, Vec<u8>)> {
        TcpOptions::new(options).map(|option| (option.kind, option.data.to_vec())).collect()
    }

    #[test]
    fn options_are_walked_and_padding_is_left_out() {
        let options = [1, 1, 2, 4, 0x05, 0xb4, 1, 3, 3, 7, 0, 2, 4, 1, 1];
        assert_eq!(walk(&options), [(2, vec![0x05, 0xb4]), (3, vec![7])]);
    }

    #[test]
    fn an_option_with_a_wrong_length_ends_the_walk() {
        assert_eq!(walk(&[8, 0, 2, 4, 5, 5]), []);
        assert_eq!(walk(&[8, 1, 2, 4, 5, 5]), []);
        assert_eq!(walk(&[2, 4, 5, 5, 8, 10, 0]), [(2, vec![5, 5])]);
        assert_eq!(walk(&[2]), []);
    }

    #[test]
    fn mss_of_the_wrong_length_is_no_mss() {
        let mut header = [0; 24];
        header[12] = 6 << 4;
        header[20..].copy_from_slice(&[2, 4, 0x05, 0x78]);
        assert_eq!(mss(&header), Some(1400));
        assert_eq!(mss(&header[..23]), None);
        header[20..].copy_from_slice(&[2, 3, 0x05, 0]);
        assert_eq!(mss(&header), None);
    }

    #[test]
    fn flags_print_by_name() {
        assert_eq!(format!("{:?}", TcpFlags::SYN | TcpFlags::ACK), "SYN|ACK");
        assert_eq!(format!("{:?}", TcpFlags::NONE), "none");
    }

    #[test]
    fn setting_flags_keeps_the_header_length() {
        let mut bytes = [0; 20];
        bytes[12] = 5 << 4;
        let header = TcpHeader::of_mut(&mut bytes).unwrap();
        header.set_flags(TcpFlags::AE | TcpFlags::CWR);
        assert_eq!((header.header_len(), header.flags()), (20, TcpFlags::AE | TcpFlags::CWR));
    }
}
