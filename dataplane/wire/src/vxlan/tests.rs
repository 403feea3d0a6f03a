use etherparse::{Ethernet2Header, Ipv4Header as OracleIpv4, UdpHeader as OracleUdp};
use proptest::prelude::*;

use super::*;
use crate::testing::address;

const TUNNEL: Tunnel = Tunnel {
    src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
    dst_mac: MacAddr([2, 0, 0, 0, 0, 2]),
    src: Ipv4Addr::new(192, 168, 0, 1),
    dst: Ipv4Addr::new(192, 168, 0, 2),
    port: 8472,
    vni: Vni(1),
};

#[test]
fn the_header_is_that_of_rfc_7348() {
    let mut out = [0; ENCAP_LEN];
    let inner = Inner { frame_len: 98, tos: 0, flow_hash: 0, id: 0 };
    encap_header(&mut out, &TUNNEL, &inner).unwrap();
    assert_eq!(out[34..36], 32768u16.to_be_bytes());
    assert_eq!(out[36..38], 8472u16.to_be_bytes());
    assert_eq!(out[42..], [0x08, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(MTU_OVERHEAD, 50);
}

#[test]
fn a_header_without_the_i_flag_has_no_network() {
    assert_eq!(VxlanHeader::of(&[0x08, 0, 0, 0, 1, 2, 3, 0]).unwrap().vni(), Vni::new(0x010203));
    assert_eq!(VxlanHeader::of(&[0xff; 8]).unwrap().vni(), Vni::new(0xffffff), "reserved bits are ignored");
    assert_eq!(VxlanHeader::of(&[0xf7; 8]).unwrap().vni(), None);
    assert!(VxlanHeader::of(&[8; 7]).is_none());
    assert_eq!((Vni::new(1 << 24), Vni::new(0).map(Vni::get)), (None, Some(0)));
}

#[test]
fn an_inner_frame_beyond_the_largest_packet_is_refused() {
    let mut out = [0; ENCAP_LEN];
    let mut inner = Inner { frame_len: 65_499, tos: 0, flow_hash: 0, id: 0 };
    encap_header(&mut out, &TUNNEL, &inner).unwrap();
    assert_eq!(out[16..18], 65_535u16.to_be_bytes());
    inner.frame_len += 1;
    assert_eq!(encap_header(&mut out, &TUNNEL, &inner), Err(NoRoom { need: 65_500, have: 65_499 }));
}

#[test]
fn source_ports_span_the_ephemeral_range() {
    assert_eq!((source_port(0), source_port(u32::MAX)), (32_768, 60_999));
}

/// RFC 6040, figure 4: rows are the inner field, columns the outer one, in the order not-ECT, ECT(0), ECT(1), CE.
#[test]
fn ecn_leaves_the_tunnel_as_rfc_6040_says() {
    let order = [0b00, 0b10, 0b01, 0b11];
    let expected = [
        [Some(0b00), Some(0b00), Some(0b00), None],
        [Some(0b10), Some(0b10), Some(0b01), Some(0b11)],
        [Some(0b01), Some(0b01), Some(0b01), Some(0b11)],
        [Some(0b11), Some(0b11), Some(0b11), Some(0b11)],
    ];
    for (inner, row) in order.iter().zip(expected) {
        for (outer, ecn) in order.iter().zip(row) {
            assert_eq!(
                decap_tos(0xb8 | outer, 0x48 | inner),
                ecn.map(|ecn| 0x48 | ecn),
                "{inner:02b} {outer:02b}"
            );
        }
    }
}

proptest! {
    #[test]
    fn etherparse_reads_what_was_written(
        src in address(), dst in address(), port in any::<u16>(), vni in 0u32..1 << 24,
        frame_len in 14usize..65_000, tos in any::<u8>(), flow_hash in any::<u32>(), id in any::<u16>()
    ) {
        let tunnel = Tunnel { src, dst, port, vni: Vni::new(vni).unwrap(), ..TUNNEL };
        let mut out = [0xee; ENCAP_LEN];
        encap_header(&mut out, &tunnel, &Inner { frame_len, tos, flow_hash, id }).unwrap();

        let (ethernet, rest) = Ethernet2Header::from_slice(&out).unwrap();
        prop_assert_eq!((ethernet.source, ethernet.destination), (TUNNEL.src_mac.0, TUNNEL.dst_mac.0));
        prop_assert_eq!(ethernet.ether_type.0, 0x0800);
        let (ip, rest) = OracleIpv4::from_slice(rest).unwrap();
        prop_assert_eq!((ip.source, ip.destination), (src.octets(), dst.octets()));
        prop_assert_eq!((ip.protocol.0, ip.time_to_live, ip.dont_fragment, ip.identification), (17, 64, false, id));
        prop_assert_eq!((ip.dscp.value(), ip.ecn.value()), (0, tos & 3));
        prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        prop_assert_eq!(usize::from(ip.total_len), 36 + frame_len);
        let (udp, rest) = OracleUdp::from_slice(rest).unwrap();
        prop_assert_eq!((udp.destination_port, udp.checksum, usize::from(udp.length)), (port, 0, 16 + frame_len));
        prop_assert!((32_768..=60_999).contains(&udp.source_port));
        prop_assert_eq!(VxlanHeader::of(rest).unwrap().vni(), Vni::new(vni));
    }
}
