//! Recognising and completing partial checksums.
//!
//! A socket on this machine leaves the TCP or UDP checksum to the device: the field holds the uncomplemented sum
//! of the pseudo-header, and AF_XDP does not say so. A field that equals that sum is taken as partial. A complete
//! checksum equals it by chance once in 65535 packets; completing such a packet anew gives the same complete
//! checksum only if the packet is intact, so the pipeline asks only where partial checksums can come from.

use crate::checksum::{Sum, pseudo_header, udp_checksum};
use crate::ipv4::Protocol;
use crate::parse::{Fragment, Ipv4Packet, L4};

/// Sum of the pseudo-header of a whole TCP or UDP packet; `None` for all else.
///
/// Folded it is what a partial checksum field holds.
#[inline]
pub fn pseudo_sum(packet: &Ipv4Packet) -> Option<Sum> {
    let len = match packet.l4 {
        L4::Tcp { .. } => packet.l4_len(),
        L4::Udp { length, .. } => length,
        _ => return None,
    };
    let whole = packet.fragment == Fragment::Whole;
    whole.then(|| pseudo_header(packet.src, packet.dst, packet.protocol, len))
}

/// Whether the checksum field of a packet holds just the pseudo-header sum.
///
/// `stored` is the field's value ([`stored_checksum`]). Only whole TCP and UDP packets can have one; a UDP
/// checksum of 0 is none.
#[inline]
pub fn is_partial(packet: &Ipv4Packet, stored: u16) -> bool {
    pseudo_sum(packet).is_some_and(|sum| sum.fold() == stored)
}

/// The TCP or UDP checksum field of a packet whose `bytes` begin with the IPv4 header; `None` where there is none.
#[inline]
pub fn stored_checksum(bytes: &[u8], packet: &Ipv4Packet) -> Option<u16> {
    let offset = packet.l4_checksum_offset()?;
    let field: [u8; 2] = bytes.get(offset..offset + 2)?.try_into().ok()?;
    Some(u16::from_be_bytes(field))
}

/// The complete checksum of a packet whose field holds a partial one.
///
/// `l4` is the sum over the whole TCP segment or UDP datagram, the field itself included, which brings the
/// pseudo-header in.
#[inline]
pub fn complete(protocol: Protocol, l4: Sum) -> u16 {
    let checksum = l4.finish();
    if protocol == Protocol::UDP { udp_checksum(checksum) } else { checksum }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::sum;
    use crate::testing::{assert_checksums, parse, plain_syn, plain_udp};

    fn with_stored(mut bytes: Vec<u8>, stored: u16) -> Vec<u8> {
        let offset = parse(&bytes).l4_checksum_offset().unwrap();
        bytes[offset..offset + 2].copy_from_slice(&stored.to_be_bytes());
        bytes
    }

    #[test]
    fn the_pseudo_header_sum_is_recognised_and_completed() {
        for bytes in [plain_syn(), plain_udp(11)] {
            let packet = parse(&bytes);
            assert!(!is_partial(&packet, stored_checksum(&bytes, &packet).unwrap()));
            let partial = with_stored(bytes.clone(), pseudo_sum(&packet).unwrap().fold());
            assert!(is_partial(&packet, stored_checksum(&partial, &packet).unwrap()));
            let completed = with_stored(partial.clone(), complete(packet.protocol, sum(&partial[20..])));
            assert_checksums(&completed);
            assert_eq!(completed, bytes);
        }
    }

    #[test]
    fn fragments_other_protocols_and_no_checksum_are_not_partial() {
        let udp = parse(&plain_udp(11));
        let stored = pseudo_sum(&udp).unwrap().fold();
        assert!(is_partial(&udp, stored));
        assert!(!is_partial(&udp, 0));
        assert!(!is_partial(&Ipv4Packet { fragment: Fragment::First, ..udp }, stored));
        let later = Fragment::Later { offset: 8, more: false };
        assert!(!is_partial(&Ipv4Packet { fragment: later, l4: L4::Later, ..udp }, stored));
        assert!(!is_partial(&Ipv4Packet { l4: L4::Other, ..udp }, stored));
        assert!(!is_partial(&Ipv4Packet { l4: L4::IcmpEcho { request: true, id: 1 }, ..udp }, stored));
    }
}
