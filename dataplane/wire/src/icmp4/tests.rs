use std::net::Ipv4Addr;

use etherparse::{Icmpv4Header, Icmpv4Type, Ipv4Header as OracleIpv4, icmpv4};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::NoRoom;
use crate::checksum::L4Checksum;
use crate::nat::{Rewrite, rewrite_ipv4};
use crate::parse::{Fragment, L4};
use crate::testing::{assert_checksums, echo_packet, fix_ipv4_checksum, packet, parse, plain_udp, rewrite};

const ROUTER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// An error about `offending`, of which `quoted_len` bytes are at hand.
fn error_about(offending: &[u8], quoted_len: usize) -> Vec<u8> {
    let mut out = vec![0; ERROR_MAX_LEN];
    let at_hand = &offending[..quoted_len.min(offending.len())];
    let len =
        write_error(&mut out, IcmpError::PortUnreachable, ROUTER, 77, &parse(offending), at_hand).unwrap();
    out.truncate(len);
    out
}

#[test]
fn errors_are_what_etherparse_says_they_are() {
    use icmpv4::DestUnreachableHeader as Oracle;
    let offending = plain_udp(1000);
    let unreachable = Icmpv4Type::DestinationUnreachable;
    let cases = [
        (IcmpError::NetUnreachable, unreachable(Oracle::Network)),
        (IcmpError::HostUnreachable, unreachable(Oracle::Host)),
        (IcmpError::ProtocolUnreachable, unreachable(Oracle::Protocol)),
        (IcmpError::PortUnreachable, unreachable(Oracle::Port)),
        (
            IcmpError::FragmentationNeeded { next_hop_mtu: 1450 },
            unreachable(Oracle::FragmentationNeeded { next_hop_mtu: 1450 }),
        ),
        (IcmpError::AdminProhibited, unreachable(Oracle::FilterProhibited)),
        (IcmpError::TimeExceeded, Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit)),
    ];
    for (error, expected) in cases {
        let mut out = [0xee; 600];
        let len = write_error(&mut out, error, ROUTER, 9, &parse(&offending), &offending).unwrap();
        assert_eq!(len, 576);
        assert_checksums(&out[..len]);
        let (ip, message) = OracleIpv4::from_slice(&out[..len]).unwrap();
        assert_eq!((ip.source, ip.destination), (ROUTER.octets(), [10, 1, 0, 2]));
        assert_eq!((ip.identification, ip.total_len, ip.time_to_live), (9, 576, 64));
        let (icmp, quote) = Icmpv4Header::from_slice(message).unwrap();
        assert_eq!(icmp.icmp_type, expected);
        assert_eq!(quote, &offending[..548]);
        assert_eq!(out[len], 0xee, "nothing is written behind the packet");
    }
}

#[test]
fn padding_is_not_quoted_and_a_short_buffer_is_refused() {
    let mut offending = plain_udp(0);
    let packet = parse(&offending);
    offending.resize(46, 0);
    let mut out = [0; 56];
    let write = |out: &mut [u8]| write_error(out, IcmpError::TimeExceeded, ROUTER, 0, &packet, &offending);
    assert_eq!(write(&mut out), Ok(56));
    assert_eq!(write(&mut out[..55]), Err(NoRoom { need: 56, have: 55 }));
}

#[test]
fn errors_are_not_sent_about_what_the_rfcs_forbid() {
    let about = parse(&plain_udp(8));
    assert!(may_answer_with_error(&about, false));
    assert!(may_answer_with_error(&crate::parse::Ipv4Packet { fragment: Fragment::First, ..about }, false));
    assert!(!may_answer_with_error(&about, true));
    let with = |change: &dyn Fn(&mut crate::parse::Ipv4Packet)| {
        let mut packet = about;
        change(&mut packet);
        may_answer_with_error(&packet, false)
    };
    assert!(!with(&|packet| packet.l4 = L4::IcmpError { icmp_type: 3, code: 3 }));
    assert!(with(&|packet| packet.l4 = L4::IcmpEcho { request: true, id: 1 }));
    assert!(!with(&|packet| packet.fragment = Fragment::Later { offset: 8, more: false }));
    for dst in [Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 251)] {
        assert!(!with(&|packet| packet.dst = dst), "to {dst}");
    }
    for src in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "239.1.1.1", "255.255.255.255"] {
        assert!(!with(&|packet| packet.src = src.parse().unwrap()), "from {src}");
    }
}

#[test]
fn only_errors_with_a_sound_quote_are_read() {
    let error = error_about(&plain_udp(64), usize::MAX);
    let message = &error[20..];
    assert!(quoted(message).is_some());
    for len in 0..8 + 28 {
        assert_eq!(quoted(&message[..len]), None, "{len} bytes");
    }
    assert!(quoted(&message[..8 + 28]).is_some());
    for (name, at, value) in [
        ("no error", 0, ECHO_REQUEST),
        ("IPv6 inside", 8, 0x65),
        ("short header", 8, 0x44),
        ("short packet", 11, 19),
    ] {
        let mut bad = message.to_vec();
        bad[at] = value;
        assert_eq!(quoted(&bad), None, "{name}");
    }
}

#[test]
fn a_quoted_later_fragment_has_no_ports() {
    let mut offending = plain_udp(64);
    let error = {
        let whole = parse(&offending);
        offending[7] = 3;
        fix_ipv4_checksum(&mut offending);
        let mut out = vec![0; ERROR_MAX_LEN];
        let len = write_error(&mut out, IcmpError::TimeExceeded, ROUTER, 0, &whole, &offending).unwrap();
        out[..len].to_vec()
    };
    let quote = quoted(&error[20..]).unwrap();
    assert_eq!((quote.l4, quote.l4_checksum_offset), (QuotedL4::Other, None));
}

proptest! {
    #[test]
    fn an_echo_reply_is_the_one_etherparse_builds(mut bytes in echo_packet()) {
        let at = usize::from(bytes[0] & 15) * 4;
        bytes[at] = ECHO_REQUEST;
        bytes[at + 2..at + 4].fill(0);
        let checksum = crate::testing::naive_checksum(&bytes[at..]);
        bytes[at + 2..at + 4].copy_from_slice(&checksum.to_be_bytes());

        let request = parse(&bytes);
        let before = bytes.clone();
        echo_reply_in_place(&mut bytes, &request).unwrap();
        assert_checksums(&bytes);
        let reply = parse(&bytes);
        prop_assert_eq!((reply.src, reply.dst, reply.ttl), (request.dst, request.src, 64));
        prop_assert_eq!(reply.l4.ports().map(|(a, b)| (b, a)), request.l4.ports());
        prop_assert_eq!(&bytes[at + 4..], &before[at + 4..]);
    }

    #[test]
    fn a_quote_says_what_the_parser_said(offending in packet(), quoted_len in 28usize..600) {
        let original = parse(&offending);
        prop_assume!(original.l4_offset() + 8 <= quoted_len);
        let error = error_about(&offending, quoted_len);
        let packet = parse(&error);
        prop_assert_eq!(packet.l4, L4::IcmpError { icmp_type: 3, code: 3 });
        let quote = quoted(&error[packet.l4_offset()..]).unwrap();
        prop_assert_eq!((quote.src, quote.dst, quote.protocol), (original.src, original.dst, original.protocol));
        prop_assert_eq!((quote.header_offset, quote.l4_offset), (8, 8 + original.l4_offset()));
        prop_assert_eq!((quote.total_len, quote.l4.ports()), (original.total_len, original.l4.ports()));
    }

    /// The oracle: an error about the translated packet, written anew.
    #[test]
    fn a_translated_error_equals_one_about_the_translated_packet(
        offending in packet(), new in rewrite(), quoted_len in prop_oneof![Just(0usize), 0usize..600]
    ) {
        let original = parse(&offending);
        // Half a TCP checksum in the quote cannot be translated.
        prop_assume!(quoted_len != 9);
        let quoted_len = original.l4_offset() + 8 + quoted_len;
        let mut translated = offending.clone();
        rewrite_ipv4(&mut translated, &original, &new, L4Checksum::Complete).unwrap();

        let before = error_about(&offending, quoted_len);
        let mut error = before.clone();
        let message = &mut error[20..];
        let quote = quoted(message).unwrap();
        rewrite_quoted(message, &quote, &new);
        let expected = error_about(&translated, quoted_len);
        prop_assert_eq!(&*message, &expected[20..]);

        let back = quoted(message).unwrap();
        rewrite_quoted(message, &back, &Rewrite::unchanged(&original));
        prop_assert_eq!(error, before);
    }

    #[test]
    fn a_translated_error_cut_anywhere_keeps_its_outer_checksum_right(
        offending in packet(), new in rewrite(), quoted_len in 28usize..140
    ) {
        let mut error = error_about(&offending, quoted_len);
        if let Some(quote) = quoted(&error[20..]) {
            rewrite_quoted(&mut error[20..], &quote, &new);
        }
        assert_checksums(&error);
    }

    #[test]
    fn random_quotes_never_panic(mut message in vec(any::<u8>(), 0..120), new in rewrite(), icmp_type in 0u8..14) {
        if message.len() > 12 {
            (message[0], message[8], message[10]) = (icmp_type, 0x40 | message[8] & 15, 0);
        }
        if let Some(quote) = quoted(&message) {
            prop_assert!(quote.l4_offset <= message.len());
            let len = message.len();
            rewrite_quoted(&mut message, &quote, &new);
            prop_assert_eq!(message.len(), len);
            prop_assert_eq!(quoted(&message).map(|quote| (quote.src, quote.dst)), Some((new.src, new.dst)));
            // A description that does not belong to the bytes does no harm either.
            rewrite_quoted(&mut message[..len / 2], &quote, &new);
        }
    }
}
