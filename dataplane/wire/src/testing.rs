//! Packets for the tests of this crate, built and checked by etherparse, which shares no code with it.

use std::net::Ipv4Addr;

use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv4Options, PacketBuilder, TcpHeader, TcpOptionElement,
    UdpHeader,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::nat::Rewrite;
use crate::parse::{Ipv4Packet, parse_ipv4};

/// The checksum of RFC 1071 as plainly as it can be written.
pub(crate) fn naive_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for (i, &byte) in bytes.iter().enumerate() {
        sum += if i % 2 == 0 { u64::from(byte) * 256 } else { u64::from(byte) };
    }
    while sum > 0xffff {
        sum = sum % 0x1_0000 + sum / 0x1_0000;
    }
    !(sum as u16)
}

pub(crate) fn address() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from_bits)
}

pub(crate) fn rewrite() -> impl Strategy<Value = Rewrite> {
    (address(), address(), any::<u16>(), any::<u16>()).prop_map(|(src, dst, src_port, dst_port)| Rewrite {
        src,
        dst,
        src_port,
        dst_port,
    })
}

/// Well-formed option lists, a multiple of 4 bytes long: record route, router alert (copied), no-ops.
pub(crate) fn ip_options() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        Just(vec![1]),
        Just(vec![7, 7, 4, 0, 0, 0, 0]),
        Just(vec![148, 4, 0, 0]),
        Just(vec![0x82, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ];
    prop_oneof![
        4 => Just(Vec::new()),
        1 => vec(option, 0..4).prop_map(|options| {
            let mut bytes = options.concat();
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        }),
    ]
}

fn ipv4_header(protocol: IpNumber) -> impl Strategy<Value = Ipv4Header> {
    (address(), address(), any::<(u8, u8, u16, bool)>(), ip_options()).prop_map(
        move |(source, destination, (tos, ttl, id, df), options)| {
            let mut header =
                Ipv4Header::new(0, ttl, protocol, source.octets(), destination.octets()).unwrap();
            header.dscp = (tos >> 2).try_into().unwrap();
            header.ecn = (tos & 3).try_into().unwrap();
            header.identification = id;
            header.dont_fragment = df;
            header.fragment_offset = IpFragOffset::ZERO;
            header.options = Ipv4Options::try_from(options.as_slice()).unwrap();
            header
        },
    )
}

fn builder(header: Ipv4Header) -> etherparse::PacketBuilderStep<IpHeaders> {
    PacketBuilder::ip(IpHeaders::Ipv4(header, Default::default()))
}

pub(crate) fn tcp_packet() -> impl Strategy<Value = Vec<u8>> {
    let options = prop_oneof![
        Just(vec![]),
        Just(vec![TcpOptionElement::MaximumSegmentSize(1398), TcpOptionElement::WindowScale(7)]),
        Just(vec![TcpOptionElement::Noop, TcpOptionElement::Noop, TcpOptionElement::Timestamp(7, 9)]),
    ];
    let fields = any::<(u16, u16, u32, u32, u16, u16)>();
    (ipv4_header(IpNumber::TCP), fields, options, vec(any::<u8>(), 0..1600)).prop_map(
        |(ip, (src, dst, sequence, ack, window, flags), options, payload)| {
            let mut tcp = TcpHeader::new(src, dst, sequence, window);
            tcp.acknowledgment_number = ack;
            (tcp.fin, tcp.syn, tcp.rst) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
            (tcp.psh, tcp.ack, tcp.urg) = (flags & 8 != 0, flags & 16 != 0, flags & 32 != 0);
            (tcp.ece, tcp.cwr, tcp.ns) = (flags & 64 != 0, flags & 128 != 0, flags & 256 != 0);
            tcp.set_options(&options).unwrap();
            let mut bytes = Vec::new();
            builder(ip).tcp_header(tcp).write(&mut bytes, &payload).unwrap();
            bytes
        },
    )
}

pub(crate) fn udp_packet() -> impl Strategy<Value = Vec<u8>> {
    (ipv4_header(IpNumber::UDP), any::<(u16, u16)>(), vec(any::<u8>(), 0..1600)).prop_map(
        |(ip, (src, dst), payload)| {
            let mut bytes = Vec::new();
            builder(ip).udp(src, dst).write(&mut bytes, &payload).unwrap();
            bytes
        },
    )
}

pub(crate) fn echo_packet() -> impl Strategy<Value = Vec<u8>> {
    (ipv4_header(IpNumber::ICMP), any::<(bool, u16, u16)>(), vec(any::<u8>(), 0..1600)).prop_map(
        |(ip, (request, id, sequence), payload)| {
            let ip = builder(ip);
            let icmp = if request {
                ip.icmpv4_echo_request(id, sequence)
            } else {
                ip.icmpv4_echo_reply(id, sequence)
            };
            let mut bytes = Vec::new();
            icmp.write(&mut bytes, &payload).unwrap();
            bytes
        },
    )
}

/// Whole TCP, UDP and ICMP echo packets with right checksums, from the IPv4 header on.
pub(crate) fn packet() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![tcp_packet(), udp_packet(), echo_packet()]
}

/// A packet of 10.1.0.2:40000 to 10.96.0.10:53 with a payload of `len` bytes.
pub(crate) fn plain_udp(len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = PacketBuilder::ipv4([10, 1, 0, 2], [10, 96, 0, 10], 64).udp(40_000, 53);
    builder.write(&mut bytes, &vec![0xa5; len]).unwrap();
    bytes
}

/// A SYN of 10.1.0.2:40000 to 10.96.0.10:443.
pub(crate) fn plain_syn() -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = PacketBuilder::ipv4([10, 1, 0, 2], [10, 96, 0, 10], 64).tcp(40_000, 443, 1, 65_535).syn();
    builder.write(&mut bytes, &[]).unwrap();
    bytes
}

pub(crate) fn parse(bytes: &[u8]) -> Ipv4Packet {
    parse_ipv4(bytes, bytes.len()).unwrap()
}

/// Puts the right checksum into an IPv4 header that a test has changed, when its length is possible.
pub(crate) fn fix_ipv4_checksum(bytes: &mut [u8]) {
    let len = usize::from(bytes[0] & 15) * 4;
    if len >= 20 && len <= bytes.len() {
        bytes[10..12].fill(0);
        let checksum = naive_checksum(&bytes[..len]);
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Panics unless all checksums of a whole packet are what etherparse computes.
pub(crate) fn assert_checksums(bytes: &[u8]) {
    let (ip, l4) = Ipv4Header::from_slice(bytes).unwrap();
    assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "IPv4");
    match ip.protocol {
        IpNumber::TCP => {
            let (tcp, payload) = TcpHeader::from_slice(l4).unwrap();
            let expected = tcp.calc_checksum_ipv4_raw(ip.source, ip.destination, payload).unwrap();
            assert_eq!(tcp.checksum, expected, "TCP");
        }
        IpNumber::UDP => {
            let (udp, payload) = UdpHeader::from_slice(l4).unwrap();
            let expected = udp.calc_checksum_ipv4_raw(ip.source, ip.destination, payload).unwrap();
            assert_eq!(udp.checksum, expected, "UDP");
        }
        _ => assert_eq!(naive_checksum(l4), 0, "ICMP"),
    }
}
