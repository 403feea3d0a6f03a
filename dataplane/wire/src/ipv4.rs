//! The IPv4 header (RFC 791, 3.1): view, checksum, and changes in place that keep the checksum right.

use std::net::Ipv4Addr;

use thiserror::Error;
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Header;
use crate::checksum::{Delta, sum, sum_words};

/// Longest IPv4 header, with 40 bytes of options.
pub const MAX_HEADER_LEN: usize = 60;
/// "Don't fragment" in the flags and offset field.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// "More fragments" in the flags and offset field.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// The fragment offset, in units of 8 bytes, in the flags and offset field.
pub const OFFSET_MASK: u16 = 0x1fff;

/// What an IPv4 packet carries (IANA Protocol Numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP (RFC 792).
    pub const ICMP: Self = Self(1);
    /// TCP (RFC 9293).
    pub const TCP: Self = Self(6);
    /// UDP (RFC 768).
    pub const UDP: Self = Self(17);
    /// SCTP (RFC 9260).
    pub const SCTP: Self = Self(132);
}

/// The fixed part of an IPv4 header in place: 20 bytes.
///
/// The methods that change a field also update the header checksum; writes to public fields do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv4Header {
    /// Version (4) in the high, header length in 32-bit words in the low half.
    pub version_ihl: u8,
    /// Type of service: DSCP in the high 6 bits, ECN in the low 2 (RFC 2474, RFC 3168).
    pub tos: u8,
    /// Length of the packet, header included, in bytes.
    pub total_len: U16,
    /// Identification, by which fragments are put together.
    pub id: U16,
    /// [`DONT_FRAGMENT`], [`MORE_FRAGMENTS`] and the offset in units of 8 bytes.
    pub flags_offset: U16,
    /// Time to live, in hops.
    pub ttl: u8,
    /// See [`Protocol`].
    pub protocol: u8,
    /// Header checksum.
    pub checksum: U16,
    src: [u8; 4],
    dst: [u8; 4],
}

impl Header for Ipv4Header {}

/// The fields of a new packet without options and fragmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewHeader {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// What the packet carries.
    pub protocol: Protocol,
    /// Type of service byte.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub id: u16,
    /// Length with this header, in bytes.
    pub total_len: u16,
}

impl From<NewHeader> for Ipv4Header {
    /// The header with its checksum; "don't fragment" is not set.
    fn from(new: NewHeader) -> Self {
        let mut header = Self {
            version_ihl: 0x45,
            tos: new.tos,
            total_len: U16::new(new.total_len),
            id: U16::new(new.id),
            flags_offset: U16::ZERO,
            ttl: new.ttl,
            protocol: new.protocol.0,
            checksum: U16::ZERO,
            src: new.src.octets(),
            dst: new.dst.octets(),
        };
        header.checksum.set(sum(header.as_bytes()).finish());
        header
    }
}

impl Ipv4Header {
    /// Length of the header with its options as the header says, in bytes: 0 to 60, unchecked.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.version_ihl & 0x0f) * 4
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        self.src.into()
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        self.dst.into()
    }

    /// Offset of the payload in the unfragmented packet's payload, in bytes.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        (self.flags_offset.get() & OFFSET_MASK) << 3
    }

    /// Whether fragments follow this one.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.flags_offset.get() & MORE_FRAGMENTS != 0
    }

    /// Whether routers may not fragment the packet.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.flags_offset.get() & DONT_FRAGMENT != 0
    }

    /// Changes the source address. The checksum of TCP and UDP covers it too: see [`crate::nat`].
    #[inline]
    pub fn set_src(&mut self, src: Ipv4Addr) {
        self.update_checksum(Delta::of_addr(self.src(), src));
        self.src = src.octets();
    }

    /// Changes the destination address. The checksum of TCP and UDP covers it too: see [`crate::nat`].
    #[inline]
    pub fn set_dst(&mut self, dst: Ipv4Addr) {
        self.update_checksum(Delta::of_addr(self.dst(), dst));
        self.dst = dst.octets();
    }

    /// Changes both addresses with a `delta` computed before.
    #[inline]
    pub fn set_addresses(&mut self, src: Ipv4Addr, dst: Ipv4Addr, delta: Delta) {
        self.update_checksum(delta);
        self.src = src.octets();
        self.dst = dst.octets();
    }

    /// Changes the type of service byte.
    #[inline]
    pub fn set_tos(&mut self, tos: u8) {
        let high = self.version_ihl;
        self.update_checksum(Delta::new(
            u16::from_be_bytes([high, self.tos]),
            u16::from_be_bytes([high, tos]),
        ));
        self.tos = tos;
    }

    /// Changes the time to live.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        let low = self.protocol;
        self.update_checksum(Delta::new(u16::from_be_bytes([self.ttl, low]), u16::from_be_bytes([ttl, low])));
        self.ttl = ttl;
    }

    /// Changes the packet's length.
    #[inline]
    pub fn set_total_len(&mut self, total_len: u16) {
        self.update_checksum(Delta::new(self.total_len.get(), total_len));
        self.total_len.set(total_len);
    }

    /// Changes the identification.
    #[inline]
    pub fn set_id(&mut self, id: u16) {
        self.update_checksum(Delta::new(self.id.get(), id));
        self.id.set(id);
    }

    /// What a router does to a packet it forwards (RFC 1812, 5.3.1). Gives the new time to live.
    ///
    /// # Errors
    /// [`TtlExpired`] when the packet must not be forwarded; it is left unchanged, as the ICMP error quotes it.
    #[inline]
    pub fn decrement_ttl(&mut self) -> Result<u8, TtlExpired> {
        if self.ttl <= 1 {
            return Err(TtlExpired);
        }
        self.set_ttl(self.ttl - 1);
        Ok(self.ttl)
    }

    #[inline]
    fn update_checksum(&mut self, delta: Delta) {
        self.checksum.set(delta.apply(self.checksum.get()));
    }
}

/// A packet has used up its time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("time to live expired in transit: answer with ICMP time exceeded")]
pub struct TtlExpired;

/// The checksum of a header with options whose checksum field is taken as 0; `header` is the whole header.
pub fn header_checksum(header: &[u8]) -> u16 {
    let stored = Ipv4Header::of(header).map_or(0, |header| header.checksum.get());
    // Adding the complement of a word takes it out of a one's complement sum.
    Delta::new(stored, 0).apply(sum(header).finish())
}

/// Whether the checksum of a header is right; `header` is the whole header with its options.
#[inline]
pub fn header_checksum_is_right(header: &[u8]) -> bool {
    match <&[u8; Ipv4Header::LEN]>::try_from(header) {
        Ok(plain) => sum_words(plain).finish() == 0,
        Err(_) => sum(header).finish() == 0,
    }
}

/// Whether a packet on a network may carry `addr` as its source (RFC 1122, 3.2.1.3; RFC 1812, 5.3.7):
/// not "this network" 0/8, loopback 127/8, multicast 224/4 or the limited broadcast.
#[inline]
pub const fn is_valid_source(addr: Ipv4Addr) -> bool {
    !(addr.octets()[0] == 0 || addr.is_loopback() || addr.is_multicast() || addr.is_broadcast())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{assert_checksums, packet, parse, plain_udp};

    #[test]
    fn a_packet_at_its_last_hop_is_not_forwarded_and_not_changed() {
        let mut bytes = plain_udp(4);
        for ttl in [1, 0] {
            Ipv4Header::of_mut(&mut bytes).unwrap().set_ttl(ttl);
            let before = bytes.clone();
            assert_eq!(Ipv4Header::of_mut(&mut bytes).unwrap().decrement_ttl(), Err(TtlExpired));
            assert_eq!(bytes, before);
        }
    }

    #[test]
    fn sources_that_are_not_one_host_are_invalid() {
        for text in [
            "0.0.0.0",
            "0.255.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
        ] {
            assert!(!is_valid_source(text.parse().unwrap()), "{text}");
        }
        for text in ["1.0.0.0", "10.0.0.0", "126.255.255.255", "128.0.0.1", "169.254.1.1", "223.255.255.255"]
        {
            assert!(is_valid_source(text.parse().unwrap()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_setter_keeps_the_checksum_right(bytes in packet(), tos in any::<u8>(), id in any::<u16>()) {
            let mut bytes = bytes;
            let len = parse(&bytes).l4_offset();
            prop_assert_eq!(header_checksum(&bytes[..len]), u16::from_be_bytes([bytes[10], bytes[11]]));
            let header = Ipv4Header::of_mut(&mut bytes).unwrap();
            header.set_tos(tos);
            header.set_id(id);
            let ttl = header.ttl;
            prop_assert_eq!(header.decrement_ttl().ok(), (ttl > 1).then(|| ttl - 1));
            assert_checksums(&bytes);
            let header = Ipv4Header::of_mut(&mut bytes).unwrap();
            header.set_total_len(id);
            header.set_src(Ipv4Addr::new(1, 2, 3, 4));
            header.set_dst(Ipv4Addr::new(5, 6, 7, 8));
            prop_assert!(header_checksum_is_right(&bytes[..len]));
            bytes[10] ^= 0x40;
            prop_assert!(!header_checksum_is_right(&bytes[..len]));
        }
    }
}
