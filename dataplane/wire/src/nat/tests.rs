use proptest::prelude::*;

use super::*;
use crate::checksum::Sum;
use crate::fragment::FragmentPlan;
use crate::partial;
use crate::testing::{assert_checksums, packet, parse, plain_udp, rewrite, tcp_packet, udp_packet};

const COMPLETE: L4Checksum = L4Checksum::Complete;

fn put_l4_checksum(bytes: &mut [u8], checksum: u16) {
    let offset = parse(bytes).l4_checksum_offset().unwrap();
    bytes[offset..offset + 2].copy_from_slice(&checksum.to_be_bytes());
}

#[test]
fn udp_without_checksum_stays_without() {
    let mut bytes = plain_udp(10);
    put_l4_checksum(&mut bytes, 0);
    let packet = parse(&bytes);
    let new = Rewrite { dst_port: 5353, ..Rewrite::unchanged(&packet) };
    rewrite_ipv4(&mut bytes, &packet, &new, COMPLETE).unwrap();
    assert_eq!(partial::stored_checksum(&bytes, &packet), Some(0));
    assert_eq!(parse(&bytes).l4.ports(), Some((40_000, 5353)));
}

#[test]
fn a_udp_checksum_never_becomes_zero() {
    let original = plain_udp(10);
    let packet = parse(&original);
    let mut all_ones = 0;
    for dst_port in 0..=u16::MAX {
        let mut bytes = original.clone();
        rewrite_ipv4(&mut bytes, &packet, &Rewrite { dst_port, ..Rewrite::unchanged(&packet) }, COMPLETE)
            .unwrap();
        let stored = partial::stored_checksum(&bytes, &packet).unwrap();
        assert_ne!(stored, 0);
        all_ones += u32::from(stored == 0xffff);
    }
    // 65536 ports give 65535 different sums, of which ports 0 and 65535 share one.
    assert!((1..=2).contains(&all_ones), "{all_ones}");
}

#[test]
fn bytes_that_lack_headers_are_left_alone() {
    let bytes = plain_udp(10);
    let packet = parse(&bytes);
    let new = Rewrite { dst_port: 1, ..Rewrite::unchanged(&packet) };
    for len in 0..28 {
        let mut short = bytes[..len].to_vec();
        assert_eq!(rewrite_ipv4(&mut short, &packet, &new, COMPLETE), Err(ParseError::HeaderSplit));
        assert_eq!(short, bytes[..len]);
    }
}

proptest! {
    #[test]
    fn a_rewritten_packet_has_the_checksums_of_a_new_one(bytes in packet(), new in rewrite()) {
        let before = parse(&bytes);
        let mut after = bytes.clone();
        rewrite_ipv4(&mut after, &before, &new, COMPLETE).unwrap();
        assert_checksums(&after);
        let packet = parse(&after);
        prop_assert_eq!((packet.src, packet.dst), (new.src, new.dst));
        let expected = match packet.l4 {
            L4::IcmpEcho { request: true, .. } => (new.src_port, 0),
            L4::IcmpEcho { request: false, .. } => (0, new.dst_port),
            _ => (new.src_port, new.dst_port),
        };
        prop_assert_eq!(packet.l4.ports(), Some(expected));
        prop_assert_eq!(&after[packet.payload_offset()..], &bytes[before.payload_offset()..]);
    }

    #[test]
    fn there_and_back_is_identity(bytes in packet(), new in rewrite()) {
        let before = parse(&bytes);
        let old = Rewrite::unchanged(&before);
        let mut after = bytes.clone();
        rewrite_ipv4(&mut after, &before, &new, COMPLETE).unwrap();
        let packet = parse(&after);
        rewrite_ipv4(&mut after, &packet, &old, COMPLETE).unwrap();
        prop_assert_eq!(after, bytes);
    }

    #[test]
    fn stored_deltas_work_both_ways(bytes in prop_oneof![tcp_packet(), udp_packet()], new in rewrite()) {
        let before = parse(&bytes);
        let old = Rewrite::unchanged(&before);
        let deltas = Deltas::between(&old, &new);
        let (mut stored, mut computed) = (bytes.clone(), bytes.clone());
        apply(&mut stored, &before, &new, deltas, COMPLETE).unwrap();
        rewrite_ipv4(&mut computed, &before, &new, COMPLETE).unwrap();
        prop_assert_eq!(&stored, &computed);
        apply(&mut stored, &parse(&computed), &old, deltas.reversed(), COMPLETE).unwrap();
        prop_assert_eq!(stored, bytes);
    }

    #[test]
    fn a_wrong_checksum_stays_wrong(mut bytes in tcp_packet(), new in rewrite(), error in 1u16..0xffff) {
        let before = parse(&bytes);
        let right = partial::stored_checksum(&bytes, &before).unwrap();
        put_l4_checksum(&mut bytes, Delta::new(0, error).apply(right));
        rewrite_ipv4(&mut bytes, &before, &new, COMPLETE).unwrap();
        let stored = partial::stored_checksum(&bytes, &before).unwrap();
        put_l4_checksum(&mut bytes, Delta::new(error, 0).apply(stored));
        assert_checksums(&bytes);
    }

    #[test]
    fn a_partial_checksum_stays_the_pseudo_header_sum(
        bytes in prop_oneof![tcp_packet(), udp_packet()], new in rewrite()
    ) {
        let before = parse(&bytes);
        let mut bytes = bytes;
        let pseudo = partial::pseudo_sum(&before).map(Sum::fold).unwrap();
        put_l4_checksum(&mut bytes, pseudo);
        rewrite_ipv4(&mut bytes, &before, &new, L4Checksum::Partial).unwrap();
        let after = parse(&bytes);
        let stored = partial::stored_checksum(&bytes, &after).unwrap();
        prop_assert!(partial::is_partial(&after, stored));
        let complete = partial::complete(after.protocol, crate::checksum::sum(&bytes[after.l4_offset()..]));
        put_l4_checksum(&mut bytes, complete);
        assert_checksums(&bytes);
    }

    #[test]
    fn translated_fragments_make_a_right_datagram(mut bytes in packet(), new in rewrite(), mtu in 128usize..600) {
        bytes[6] &= !0x40; // DF
        crate::testing::fix_ipv4_checksum(&mut bytes);
        let whole = parse(&bytes);
        let (header, payload) = bytes.split_at(whole.l4_offset());
        let plan = FragmentPlan::new(header, payload.len(), mtu).unwrap();
        let mut datagram: Vec<u8> = Vec::new();
        for piece in plan.clone() {
            let mut fragment = vec![0; piece.header_len];
            plan.write_header(&piece, &mut fragment).unwrap();
            fragment.extend(&payload[piece.offset..piece.offset + piece.len]);
            let packet = parse(&fragment);
            rewrite_ipv4(&mut fragment, &packet, &new, COMPLETE).unwrap();
            datagram.extend(&fragment[piece.header_len..]);
        }
        let mut expected = bytes.clone();
        rewrite_ipv4(&mut expected, &whole, &new, COMPLETE).unwrap();
        prop_assert_eq!(&datagram, &expected[whole.l4_offset()..]);
    }
}
