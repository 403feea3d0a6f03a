use etherparse::{Ipv4HeaderSlice, TcpHeader as OracleTcp, UdpHeader as OracleUdp};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::testing::{fix_ipv4_checksum, naive_checksum, packet, parse, plain_syn, plain_udp};

/// What must hold for any packet that the parser takes, by etherparse's reading of the same bytes.
fn assert_agrees(bytes: &[u8], packet: &Ipv4Packet) {
    let ip = Ipv4HeaderSlice::from_slice(bytes).unwrap();
    assert_eq!((packet.src, packet.dst), (ip.source_addr(), ip.destination_addr()));
    assert_eq!((packet.protocol.0, packet.ttl, packet.id), (ip.protocol().0, ip.ttl(), ip.identification()));
    assert_eq!(packet.tos, ip.dcp().value() << 2 | ip.ecn().value());
    assert_eq!((packet.header_len, packet.total_len), (ip.ihl() * 4, ip.total_len()));
    assert_eq!(packet.dont_fragment, ip.dont_fragment());
    // Not etherparse's own sum, which leaves the reserved flag out.
    assert_eq!(naive_checksum(&bytes[..packet.l4_offset()]), 0);
    let (offset, more) = (ip.fragments_offset().byte_offset(), ip.more_fragments());
    let fragment = match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later { offset, more },
    };
    assert_eq!(packet.fragment, fragment);
    assert!(packet.payload_offset() <= usize::from(packet.total_len));
    assert_eq!(packet.payload_offset() + packet.payload_len(), usize::from(packet.total_len));

    let l4 = &bytes[packet.l4_offset()..];
    match packet.l4 {
        L4::Tcp { src_port, dst_port, flags, header_len } => {
            let (tcp, _) = OracleTcp::from_slice(l4).unwrap();
            assert_eq!((src_port, dst_port), (tcp.source_port, tcp.destination_port));
            assert_eq!(usize::from(header_len), tcp.header_len());
            let bits = [tcp.fin, tcp.syn, tcp.rst, tcp.psh, tcp.ack, tcp.urg, tcp.ece, tcp.cwr, tcp.ns];
            let expected = bits.iter().enumerate().map(|(bit, &set)| u16::from(set) << bit).sum();
            assert_eq!(flags, TcpFlags(expected));
            let oracle_mss = tcp.options_iterator().map_while(Result::ok).find_map(|option| match option {
                etherparse::TcpOptionElement::MaximumSegmentSize(mss) => Some(mss),
                _ => None,
            });
            if oracle_mss.is_some() {
                assert_eq!(crate::tcp::mss(l4), oracle_mss);
            }
        }
        L4::Udp { src_port, dst_port, length } => {
            let (udp, _) = OracleUdp::from_slice(l4).unwrap();
            assert_eq!((src_port, dst_port, length), (udp.source_port, udp.destination_port, udp.length));
        }
        L4::IcmpEcho { request, id } => {
            assert_eq!((l4[0], id), (if request { 8 } else { 0 }, u16::from_be_bytes([l4[4], l4[5]])));
        }
        L4::IcmpError { icmp_type, code } | L4::Icmp { icmp_type, code } => {
            assert_eq!((icmp_type, code), (l4[0], l4[1]));
        }
        L4::Sctp { src_port, dst_port } => {
            assert_eq!(packet.protocol.0, 132);
            assert_eq!([src_port.to_be_bytes(), dst_port.to_be_bytes()].concat(), l4[..4]);
        }
        L4::Other => assert!(![1, 6, 17, 132].contains(&packet.protocol.0)),
        L4::Later => assert!(matches!(packet.fragment, Fragment::Later { .. })),
    }
}

/// A plain packet with bytes changed at places, its header checksum right.
fn changed(mut bytes: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for &(at, value) in changes {
        bytes[at] = value;
    }
    fix_ipv4_checksum(&mut bytes);
    bytes
}

#[test]
fn every_lie_has_its_own_error() {
    use ParseError::*;
    let udp = || plain_udp(40);
    let syn = plain_syn;
    let with_options = |options: [u8; 4]| {
        let mut bytes = udp();
        bytes.splice(20..20, options);
        changed(bytes, &[(0, 0x46), (3, 72)])
    };
    let mut wrong_checksum = udp();
    wrong_checksum[11] ^= 1;
    let cases = [
        ("version 6", changed(udp(), &[(0, 0x65)]), NotIpv4),
        ("header of 16 bytes", changed(udp(), &[(0, 0x44)]), BadIhl),
        ("header beyond the frame", changed(udp()[..24].to_vec(), &[(0, 0x47)]), TruncatedIpv4),
        ("length below the header's", changed(udp(), &[(3, 19)]), BadTotalLength),
        ("length beyond the frame", changed(udp(), &[(3, 69)]), BadTotalLength),
        ("wrong checksum", wrong_checksum, BadIpv4Checksum),
        ("loose source route", with_options([131, 4, 4, 0]), SourceRoute),
        ("strict source route behind a no-op", with_options([1, 137, 3, 4]), SourceRoute),
        ("option of length 0", with_options([7, 0, 0, 0]), BadOptions),
        ("option of length 1", with_options([7, 1, 0, 0]), BadOptions),
        ("option beyond the header", with_options([7, 5, 4, 0]), BadOptions),
        ("option without length", with_options([1, 1, 1, 7]), BadOptions),
        ("fragment beyond 65535", changed(udp(), &[(6, 0x1f), (7, 0xff)]), BadFragment),
        ("odd length with more fragments", changed(udp()[..63].to_vec(), &[(3, 63), (6, 0x20)]), BadFragment),
        ("empty fragment", changed(udp(), &[(3, 20), (7, 10)]), BadFragment),
        ("first fragment with 8 bytes of TCP", changed(syn(), &[(3, 28), (6, 0x20)]), TinyFragment),
        ("TCP fragment at offset 8", changed(syn(), &[(7, 1)]), TinyFragment),
        ("UDP header cut", changed(udp(), &[(3, 27)]), TruncatedL4),
        ("TCP header cut", changed(syn(), &[(3, 39)]), TruncatedL4),
        ("ICMP header cut", changed(udp(), &[(3, 27), (9, 1)]), TruncatedL4),
        ("TCP header of 16 bytes", changed(syn(), &[(32, 0x40)]), BadTcpHeaderLength),
        ("TCP header beyond the packet", changed(syn(), &[(32, 0x60)]), BadTcpHeaderLength),
        ("UDP length of 7", changed(udp(), &[(25, 7)]), BadUdpLength),
        ("UDP length beyond the packet", changed(udp(), &[(25, 49)]), BadUdpLength),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(parse_ipv4(&bytes, bytes.len()), Err(expected), "{name}");
    }
}

#[test]
fn what_is_unusual_but_legal_is_taken() {
    let later = changed(plain_syn(), &[(6, 0x20), (7, 2), (3, 36)]);
    assert_eq!(parse(&later).l4, L4::Later);
    assert_eq!(parse(&later).fragment, Fragment::Later { offset: 16, more: true });
    assert_eq!(parse(&changed(plain_udp(0), &[(9, 47)])).l4, L4::Other);
    let unreachable = changed(plain_udp(0), &[(9, 1), (20, 3), (21, 4)]);
    assert_eq!(parse(&unreachable).l4, L4::IcmpError { icmp_type: 3, code: 4 });
    let timestamp = changed(plain_udp(0), &[(9, 1), (20, 13), (21, 0)]);
    assert_eq!(parse(&timestamp).l4, L4::Icmp { icmp_type: 13, code: 0 });
    // The UDP length of a first fragment is that of the whole datagram.
    let first = changed(plain_udp(40), &[(6, 0x20), (24, 0x10)]);
    assert!(matches!(parse(&first).l4, L4::Udp { length: 0x1030, .. }));
}

#[test]
fn echo_identifiers_stand_in_place_of_ports() {
    let request = L4::IcmpEcho { request: true, id: 7 };
    let reply = L4::IcmpEcho { request: false, id: 7 };
    assert_eq!((request.ports(), reply.ports()), (Some((7, 0)), Some((0, 7))));
}

#[test]
fn ethernet_is_read_and_its_shortness_told_apart() {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    frame.extend([0; 46]);
    let ether = parse_ethernet(&frame, frame.len()).unwrap();
    assert_eq!((ether.dst.0[5], ether.src.0[5], ether.ethertype, ether.l3_len), (1, 2, EtherType::IPV4, 46));
    assert_eq!(parse_ethernet(&frame[..13], 13), Err(ParseError::TruncatedEthernet));
    assert_eq!(parse_ethernet(&frame[..13], 60), Err(ParseError::HeaderSplit));
}

proptest! {
    #[test]
    fn built_packets_are_read_as_etherparse_reads_them(bytes in packet(), padding in 0usize..50) {
        let packet = parse(&bytes);
        assert_agrees(&bytes, &packet);
        let mut padded = bytes.clone();
        padded.resize(bytes.len() + padding, 0xee);
        prop_assert_eq!(parse(&padded), packet);
    }

    #[test]
    fn a_packet_cut_anywhere_is_refused_and_a_split_one_named(bytes in packet()) {
        let whole = parse(&bytes);
        for len in 0..bytes.len() {
            prop_assert!(parse_ipv4(&bytes[..len], len).is_err());
            let first_chunk = parse_ipv4(&bytes[..len], bytes.len());
            let expected = if len < whole.payload_offset() { Err(ParseError::HeaderSplit) } else { Ok(whole) };
            prop_assert_eq!(first_chunk, expected, "{} of {}", len, bytes.len());
        }
    }

    #[test]
    fn damaged_packets_never_panic_and_hold_what_is_promised(
        mut bytes in packet(), damage in vec((0usize..64, any::<u8>()), 1..6), cut in 0usize..2000
    ) {
        bytes.truncate(cut.max(20));
        for (at, value) in damage {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        fix_ipv4_checksum(&mut bytes);
        if let Ok(packet) = parse_ipv4(&bytes, bytes.len()) {
            assert_agrees(&bytes, &packet);
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..120), len in 0usize..200, ihl in 0u8..16) {
        let _ = parse_ethernet(&bytes, len);
        let _ = parse_ipv4(&bytes, len);
        if bytes.len() >= 20 {
            bytes[0] = 0x40 | ihl;
            bytes[2] = 0;
            fix_ipv4_checksum(&mut bytes);
            if let Ok(packet) = parse_ipv4(&bytes, bytes.len()) {
                assert_agrees(&bytes, &packet);
            }
            let _ = parse_ipv4(&bytes, len);
        }
    }
}
