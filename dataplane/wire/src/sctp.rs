//! The SCTP common header (RFC 9260, 3.1), and its CRC32c updated without reading the packet.
//!
//! The CRC covers no addresses, but the ports at the front of the packet. It is linear: the CRCs of two packets of one
//! length differ by the CRC of their difference, which here is four bytes and then zeros. A wrong CRC stays wrong.

use zerocopy::little_endian::U32 as LittleU32;
use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Header;

/// An SCTP common header in place: 12 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SctpHeader {
    /// Source port.
    pub src_port: U16,
    /// Destination port.
    pub dst_port: U16,
    /// Verification tag.
    pub tag: U32,
    /// CRC32c of the packet with this field 0, lowest byte first (RFC 9260, appendix A).
    pub checksum: LittleU32,
}

impl Header for SctpHeader {}

/// Castagnoli's polynomial, lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// x^(8 * 2^k): what 2^k bytes of zeros behind a message multiply its CRC by.
const ZEROS: [u32; 16] = {
    let mut powers = [1 << (31 - 8); 16];
    let mut k = 1;
    while k < powers.len() {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
};

impl SctpHeader {
    /// Gives a packet of `len` bytes, this header included, other ports.
    pub fn set_ports(&mut self, src_port: u16, dst_port: u16, len: u16) {
        let of = |src: u16, dst: u16| (u32::from(src) << 16 | u32::from(dst)).to_be_bytes();
        let (old, new) = (of(self.src_port.get(), self.dst_port.get()), of(src_port, dst_port));
        let difference = old.iter().zip(&new).fold(0, |crc, (old, new)| step(crc, old ^ new));
        let change = followed_by_zeros(difference, len.saturating_sub(4));
        self.checksum.set(self.checksum.get() ^ change);
        self.src_port.set(src_port);
        self.dst_port.set(dst_port);
    }
}

/// The CRC32c of a packet whose checksum field is 0, as the field holds it.
pub fn crc32c(packet: &[u8]) -> u32 {
    !packet.iter().fold(!0, |crc, byte| step(crc, *byte))
}

/// One byte more.
const fn step(crc: u32, byte: u8) -> u32 {
    let mut crc = crc ^ byte as u32;
    let mut bit = 0;
    while bit < 8 {
        crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
        bit += 1;
    }
    crc
}

fn followed_by_zeros(crc: u32, zeros: u16) -> u32 {
    (0..16).filter(|k| zeros >> k & 1 == 1).fold(crc, |crc, k| multiply(crc, ZEROS[k]))
}

/// Product of two polynomials modulo Castagnoli's.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1 << 31;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
        bit >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_crc_is_castagnoli_s() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn new_ports_give_the_crc_of_the_new_packet(
            mut bytes in proptest::collection::vec(any::<u8>(), 12..1500), ports: (u16, u16), error: u32,
        ) {
            let right = |bytes: &[u8]| {
                let mut without = bytes.to_vec();
                without[8..12].fill(0);
                crc32c(&without)
            };
            let (len, before) = (bytes.len() as u16, right(&bytes));
            let header = SctpHeader::of_mut(&mut bytes).unwrap();
            header.checksum.set(before ^ error);
            header.set_ports(ports.0, ports.1, len);
            prop_assert_eq!((header.src_port.get(), header.dst_port.get()), ports);
            let stored = header.checksum.get();
            prop_assert_eq!(stored ^ right(&bytes), error, "as wrong as it was");
        }
    }
}
