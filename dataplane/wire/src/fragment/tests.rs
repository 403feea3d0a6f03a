use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::parse::{Fragment, parse_ipv4};
use crate::testing::{fix_ipv4_checksum, ip_options};

/// A header of a protocol that is not looked into, for a payload of `len` bytes.
fn header(options: &[u8], len: usize, flags_offset: u16) -> Vec<u8> {
    let mut header = vec![0x45 + (options.len() / 4) as u8, 0, 0, 0, 0x12, 0x34, 0, 0, 64, 99, 0, 0];
    header.extend([10, 1, 0, 2, 10, 2, 0, 2]);
    header.extend(options);
    let total_len = (header.len() + len) as u16;
    header[2..4].copy_from_slice(&total_len.to_be_bytes());
    header[6..8].copy_from_slice(&flags_offset.to_be_bytes());
    fix_ipv4_checksum(&mut header);
    header
}

/// The fragments as complete packets.
fn split(header: &[u8], payload: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let plan = FragmentPlan::new(header, payload.len(), mtu).unwrap();
    let fragments = plan.clone().map(|piece| {
        let mut fragment = vec![0; piece.header_len];
        assert_eq!(plan.write_header(&piece, &mut fragment), Ok(piece.header_len));
        fragment.extend(&payload[piece.offset..piece.offset + piece.len]);
        fragment
    });
    fragments.collect()
}

/// Puts fragments together; panics unless they follow each other and only the last is the last.
fn join(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (i, fragment) in fragments.iter().enumerate() {
        let packet = parse_ipv4(fragment, fragment.len()).unwrap();
        assert_eq!((packet.id, usize::from(packet.total_len)), (0x1234, fragment.len()));
        let (offset, more) = match packet.fragment {
            Fragment::Whole => (0, false),
            Fragment::First => (0, true),
            Fragment::Later { offset, more } => (usize::from(offset), more),
        };
        assert_eq!((offset, more), (payload.len(), i + 1 < fragments.len()));
        payload.extend(&fragment[packet.l4_offset()..]);
    }
    payload
}

#[test]
fn only_copied_options_are_in_later_fragments() {
    let copied = [148, 4, 0, 0];
    let record_route = [7, 7, 4, 0, 0, 0, 0, 1];
    let options = [&record_route[..], &copied].concat();
    let fragments = split(&header(&options, 300, 0), &[7; 300], 200);
    assert_eq!(fragments.len(), 2);
    assert_eq!((&fragments[0][20..32], fragments[0][0]), (&options[..], 0x48));
    assert_eq!((&fragments[1][20..24], fragments[1][0]), (&copied[..], 0x46));
}

#[test]
fn a_packet_that_fits_is_one_piece_even_if_it_may_not_be_split() {
    let header = header(&[], 100, DONT_FRAGMENT);
    assert_eq!(split(&header, &[1; 100], 120), [[&header[..], &[1; 100]].concat()]);
    assert_eq!(split(&header[..], &[], 120).len(), 1, "no payload");
}

#[test]
fn what_cannot_be_split_is_refused() {
    let plan = |header: &[u8], len, mtu| FragmentPlan::new(header, len, mtu).map(|_| ());
    assert_eq!(plan(&header(&[], 100, DONT_FRAGMENT), 100, 119), Err(FragmentError::DontFragment));
    assert_eq!(plan(&header(&[], 100, 0), 100, 27), Err(FragmentError::MtuTooSmall { mtu: 27 }));
    assert_eq!(plan(&header(&[], 100, 0), 100, 28), Ok(()));
    assert_eq!(plan(&header(&[], 100, 0)[..19], 100, 500), Err(FragmentError::BadHeader));
    assert_eq!(plan(&header(&[1; 4], 100, 0)[..20], 100, 500), Err(FragmentError::BadHeader));
    assert_eq!(plan(&header(&[], 0, 0), 65_516, 1500), Err(FragmentError::TooLong));
    let piece = FragmentPlan::new(&header(&[], 100, 0), 100, 60).unwrap().next().unwrap();
    let plan = FragmentPlan::new(&header(&[], 100, 0), 100, 60).unwrap();
    assert_eq!(plan.write_header(&piece, &mut [0; 19]), Err(NoRoom { need: 20, have: 19 }));
}

proptest! {
    #[test]
    fn fragments_put_together_give_the_payload(
        options in ip_options(), payload in vec(any::<u8>(), 0..20_000), mtu in 68usize..3000
    ) {
        let fragments = split(&header(&options, payload.len(), 0), &payload, mtu);
        prop_assert!(fragments.iter().all(|fragment| fragment.len() <= mtu));
        // No fragment could have taken 8 bytes more.
        prop_assert!(fragments.iter().rev().skip(1).all(|fragment| fragment.len() + 8 > mtu));
        prop_assert_eq!(join(&fragments), payload);
    }

    #[test]
    fn fragments_can_be_fragmented_again(
        options in ip_options(), payload in vec(any::<u8>(), 1000..9000), mtu in 68usize..1000
    ) {
        let first = split(&header(&options, payload.len(), 0), &payload, 1500);
        let second: Vec<_> = first
            .iter()
            .flat_map(|fragment| {
                let len = usize::from(fragment[0] & 15) * 4;
                split(&fragment[..len], &fragment[len..], mtu)
            })
            .collect();
        prop_assert_eq!(join(&second), payload);
    }

    #[test]
    fn random_headers_never_panic(mut bytes in vec(any::<u8>(), 20..61), len in 0usize..66_000, mtu in 0usize..2000) {
        bytes.truncate(bytes.len() & !3);
        bytes[0] = 0x40 | (bytes.len() / 4) as u8;
        if let Ok(plan) = FragmentPlan::new(&bytes, len, mtu) {
            for piece in plan.clone() {
                plan.write_header(&piece, &mut [0; 60]).unwrap();
            }
        }
    }
}
