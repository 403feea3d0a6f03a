use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::testing::{address, naive_checksum};

#[test]
fn sums_of_every_short_length_match_the_naive_oracle() {
    let bytes: Vec<u8> = (0..400u32).map(|i| (i * 167 + 13) as u8).collect();
    for start in 0..4 {
        for end in start..bytes.len() {
            let piece = &bytes[start..end];
            assert_eq!(sum(piece).finish(), naive_checksum(piece), "{start}..{end}");
            let mut copy = vec![0; piece.len()];
            assert_eq!(copy_and_sum(&mut copy, piece).finish(), naive_checksum(piece), "{start}..{end}");
            assert_eq!(copy, piece);
        }
    }
}

#[test]
fn the_example_of_rfc_1071_sums_to_ddf2() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(sum(&bytes).fold(), 0xddf2);
    assert_eq!(sum(&bytes).finish(), !0xddf2);
}

#[test]
fn carries_are_not_lost_in_the_worst_case() {
    let bytes = vec![0xff; 65_536 + 63];
    assert_eq!(sum(&bytes).finish(), naive_checksum(&bytes));
    let mut total = Sum::ZERO;
    for _ in 0..100_000 {
        total += sum(&bytes[..65_536]);
    }
    assert_eq!(total.fold(), 0xffff);
}

#[test]
#[should_panic(expected = "same length")]
fn copying_between_different_lengths_panics() {
    copy_and_sum(&mut [0; 3], &[0; 4]);
}

#[test]
fn a_udp_checksum_of_zero_goes_out_as_ones() {
    assert_eq!(udp_checksum(0), 0xffff);
    assert_eq!(udp_checksum(0x1234), 0x1234);
    assert_eq!(Delta::new(1, 2).apply_udp(0), 0, "none stays none");
    // 0xfffe is the checksum of a sum of 1; one less makes it a sum of 0, whose nonzero form is 0xffff.
    assert_eq!(Delta::new(1, 0).apply_udp(0xfffe), 0xffff);
}

#[test]
fn the_corner_case_of_rfc_1624_is_right() {
    // Section 4: header sum 0xCD7A + 0x5555, where the method of RFC 1141 gives 0xFFFF.
    assert_eq!(update16(0xdd2f, 0x5555, 0x3285), 0x0000);
}

proptest! {
    #[test]
    fn long_sums_match_the_naive_oracle(bytes in vec(any::<u8>(), 0..70_000), start in 0usize..64) {
        let piece = &bytes[start.min(bytes.len())..];
        prop_assert_eq!(sum(piece).finish(), naive_checksum(piece));
        let mut copy = vec![0; piece.len()];
        prop_assert_eq!(copy_and_sum(&mut copy, piece).finish(), naive_checksum(piece));
        prop_assert_eq!(copy, piece);
    }

    #[test]
    fn pieces_of_any_length_add_up(pieces in vec(vec(any::<u8>(), 0..200), 0..20)) {
        let mut total = PieceSum::default();
        for (i, piece) in pieces.iter().enumerate() {
            if i % 2 == 0 { total.push(piece) } else { total.push_sum(sum(piece), piece.len()) }
        }
        prop_assert_eq!(total.sum().finish(), naive_checksum(&pieces.concat()));
    }

    #[test]
    fn a_sum_is_swapped_when_it_begins_at_an_odd_offset(first in any::<u8>(), rest in vec(any::<u8>(), 0..300)) {
        let mut bytes = vec![first];
        bytes.extend(&rest);
        prop_assert_eq!((sum(&bytes[..1]) + sum(&rest).swapped()).finish(), naive_checksum(&bytes));
    }

    #[test]
    fn words_add_up_like_their_bytes(a in any::<u16>(), b in any::<u16>()) {
        let bytes = [a.to_be_bytes(), b.to_be_bytes()].concat();
        prop_assert_eq!((Sum::of_word(a) + Sum::of_word(b)).fold(), sum(&bytes).fold());
    }

    #[test]
    fn the_pseudo_header_is_summed_like_its_bytes(
        src in address(), dst in address(), protocol in any::<u8>(), len in any::<u16>()
    ) {
        let bytes = [&src.octets()[..], &dst.octets(), &[0, protocol], &len.to_be_bytes()].concat();
        prop_assert_eq!(pseudo_header(src, dst, Protocol(protocol), len).finish(), naive_checksum(&bytes));
    }

    /// One word of the data stays nonzero, as in any packet; over zeros alone both forms of zero are right.
    #[test]
    fn an_incremental_update_equals_a_full_sum(
        mut bytes in vec(any::<u8>(), 8..200), place in any::<prop::sample::Index>(), new in any::<u32>()
    ) {
        bytes[..2].copy_from_slice(&[0x45, 0]);
        let at = 2 + place.index((bytes.len() - 4) / 2) * 2;
        let before = naive_checksum(&bytes);
        let partial = sum(&bytes).fold();

        let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let new16 = new as u16;
        bytes[at..at + 2].copy_from_slice(&new16.to_be_bytes());
        let delta = Delta::new(old, new16);
        prop_assert_eq!(update16(before, old, new16), naive_checksum(&bytes));
        prop_assert_eq!(delta.apply_partial(partial), sum(&bytes).fold());
        prop_assert_eq!(delta.reversed().apply(naive_checksum(&bytes)), before);
        prop_assert_eq!(Delta::from_bits(delta.to_bits()), delta);

        if at + 4 <= bytes.len() {
            let middle = naive_checksum(&bytes);
            let old = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            bytes[at..at + 4].copy_from_slice(&new.to_be_bytes());
            let second = Delta::of_u32(old, new);
            prop_assert_eq!(update32(middle, old, new), naive_checksum(&bytes));
            prop_assert_eq!(Delta::of_addr(old.into(), new.into()), second);
            prop_assert_eq!(delta.and(second).apply(before), naive_checksum(&bytes));
        }
    }
}
