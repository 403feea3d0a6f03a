//! Packets that lie: about lengths, about who sent them, about what went wrong.

use super::*;
use crate::burst::packets::tunnel;

pub(super) fn malformed() -> Vec<Seed> {
    let runt = |len: usize, place| raw(place, vec![0xee; len]);
    vec![
        ("runt", 0, vec![runt(1, POD1), runt(13, UPLINK), runt(14, HOST), runt(33, POD2), TURN]),
        ("multicast", 0, vec![op(udp(POD1, P1, MULTICAST)), op(udp(HOST, NODE, MULTICAST)), TURN]),
        ("not_to_gateway", 0, vec![patched(&udp(POD1, P1, P2), &[(0, 2)]), TURN]),
        (
            "to_gateway",
            0,
            vec![
                op(tcp(POD1, P1, GATEWAY, SYN)),
                op(Built { kind: kind::SCTP, ..udp(POD1, P1, GATEWAY) }),
                TURN,
            ],
        ),
        ("padding", 0, vec![padded(&udp(POD1, P1, P2), 20_000), padded(&udp(HOST, OUTSIDE, P2), 3), TURN]),
        ("v4_options", 0, vec![op(Built { style: style::IP_OPTIONS, ..udp(POD1, P1, REMOTE) }), TURN]),
        (
            "source_route",
            0,
            vec![patched(&Built { style: style::IP_OPTIONS, ..udp(POD1, P1, P2) }, &[(34, 131)]), TURN],
        ),
        ("bad_ihl", 0, [0x44, 0x4f, 0x65, 0x40].map(|v| patched(&udp(POD1, P1, P2), &[(14, v)])).into()),
        ("lying_lengths", 0, [0, 19, 255].map(|v| patched(&udp(POD1, P1, P2), &[(16, v), (17, v)])).into()),
        ("wrong_header_checksum", 0, vec![op(Built { patches: vec![(24, 1)], ..udp(POD1, P1, P2) }), TURN]),
        (
            "tcp_header_length",
            0,
            [0x10, 0x40, 0xf0].map(|v| patched(&tcp(POD1, P1, P2, ACK), &[(46, v)])).into(),
        ),
        ("udp_length", 0, [0, 7, 255].map(|v| patched(&udp(POD1, P1, P2), &[(38, v), (39, v)])).into()),
        ("udp_length_short_partial", 0, vec![short_partial_udp(), TURN]),
        (
            "headers_split",
            0,
            (1..70).map(|n| op(Built { split: (n, n), ..tcp(POD1, P1, REMOTE, SYN) })).collect(),
        ),
        (
            "spoofed_sources",
            0,
            vec![op(udp(POD1, P2, REMOTE)), op(udp(UPLINK, LOOPBACK, P1)), op(udp(UPLINK, P2, P1)), TURN],
        ),
        (
            "arp",
            0,
            vec![
                op(arp(POD1, GATEWAY)),
                op(arp(POD1, P2)),
                op(Built { split: (30, 30), ..arp(HOST, 15) }),
                TURN,
            ],
        ),
    ]
}

pub(super) fn tunnels() -> Vec<Seed> {
    let from = |choice, src, dst| op(Built { tunnel: choice, ..udp(UPLINK, src, dst) });
    let inner_runt = |len: u16| {
        let built = Built { tunnel: tunnel::PEER1, payload: 0, ..udp(UPLINK, REMOTE, P1) };
        let frame = crate::burst::packets::frame(&built);
        let mut bytes = frame[..usize::from(len)].to_vec();
        bytes[16..18].copy_from_slice(&(len - 14).to_be_bytes());
        bytes[38..40].copy_from_slice(&(len - 34).to_be_bytes());
        Op::Raw(Raw { place: UPLINK, split: (0, 0), fix: 1, padding: 0, bytes })
    };
    vec![
        ("vxlan_inner_runt", 0, [42, 49, 50, 63, 64, 83, 91].map(inner_runt).into()),
        ("vxlan_wrong", 0, (0..7).map(|choice| from(choice, REMOTE, P1)).collect()),
        (
            "vxlan_foreign_inner_source",
            0,
            vec![from(1, REMOTE2, P1), from(1, P2, P1), from(2, REMOTE, P1), TURN],
        ),
        (
            "untunnelled",
            0,
            vec![
                op(udp(UPLINK, REMOTE, P1)),
                op(udp(UPLINK, PEER1, P1)),
                op(udp(UPLINK, REMOTE, NODE)),
                TURN,
            ],
        ),
        (
            "vxlan_transit",
            0,
            vec![from(1, REMOTE, OUTSIDE), from(1, REMOTE, REMOTE2), from(1, REMOTE, WEB), TURN],
        ),
        (
            "vxlan_split",
            0,
            (20..140)
                .step_by(7)
                .map(|n| op(Built { tunnel: 1, split: (n, 9), ..udp(UPLINK, REMOTE, P1) }))
                .collect(),
        ),
        (
            "vxlan_congestion",
            0,
            vec![
                op(Built { tunnel: tunnel::CONGESTED, style: style::ECN, ..tcp(UPLINK, REMOTE, P1, ACK) }),
                from(tunnel::CONGESTED, REMOTE, P1),
                TURN,
            ],
        ),
        (
            "direct_plain",
            1,
            vec![
                op(udp(POD1, P1, REMOTE)),
                op(udp(UPLINK, REMOTE, P1)),
                op(udp(UPLINK, REMOTE, REMOTE2)),
                op(udp(UPLINK, OUTSIDE, P3)),
                op(udp(POD3, P3, OUTSIDE)),
                TURN,
            ],
        ),
    ]
}

pub(super) fn errors() -> Vec<Seed> {
    let about_tcp = |place, src, dst, quoted, payload| {
        op(Built { kind: kind::FRAGMENTATION_NEEDED, extra: quoted, payload, ..tcp(place, src, dst, ACK) })
    };
    let start = || vec![op(tcp(POD1, P1, REMOTE, SYN)), TURN];
    let with = |mut ops: Vec<Op>, more: Vec<Op>| {
        ops.extend(more);
        ops.push(TURN);
        ops
    };
    let data = || op(Built { payload: 20_000, style: style::PARTIAL, ..tcp(POD1, P1, REMOTE, ACK) });
    vec![
        ("icmp_error_malformed", 0, vec![patched(&error(POD1, P1, P2, P3, 64), &[(42, 0x65)]), TURN]),
        (
            "icmp_error_withheld",
            0,
            vec![op(Built { extra: 9, style: style::LAST_HOP, ..udp(POD1, P1, P2) }), TURN],
        ),
        (
            "icmp_error_long",
            0,
            with(
                start(),
                vec![
                    op(Built { tunnel: 1, split: (150, 100), ..error(UPLINK, PEER1, P1, REMOTE, 9000) }),
                    op(Built { split: (100, 100), ..error(POD3, P3, P1, REMOTE, 9000) }),
                ],
            ),
        ),
        (
            "icmp_error_forged",
            0,
            with(
                start(),
                vec![
                    op(Built { extra: REMOTE, dst: P2, ..error(POD3, P3, P1, REMOTE, 100) }),
                    about_tcp(POD3, P3, P2, P1, 100),
                    data(),
                ],
            ),
        ),
        ("icmp_error_tiny_mtu", 0, with(start(), vec![about_tcp(POD3, P3, P1, REMOTE, 41), TURN, data()])),
        (
            "icmp_error_masqueraded",
            0,
            vec![op(udp(POD1, P1, OUTSIDE)), TURN]
                .into_iter()
                .chain((8..16).map(|n| {
                    op(Built {
                        style: style::QUOTES_UDP,
                        src_port: n,
                        ..error(UPLINK, NEIGHBOR, NODE, OUTSIDE, 600)
                    })
                }))
                .chain([TURN])
                .collect(),
        ),
        (
            "icmp_error_about_service",
            0,
            vec![
                op(tcp(POD1, P1, HAIRPIN, SYN)),
                op(tcp(POD3, P3, HAIRPIN, SYN)),
                TURN,
                op(Built { kind: kind::PORT_UNREACHABLE, dst_port: 4, ..error(POD1, P1, P3, P1, 64) }),
                op(Built { kind: kind::PORT_UNREACHABLE, dst_port: 4, ..error(POD1, P1, 15, P1, 64) }),
                TURN,
            ],
        ),
        (
            "last_hop",
            0,
            vec![
                op(Built { style: style::LAST_HOP, ..udp(POD1, P1, REMOTE) }),
                op(Built { style: style::LAST_HOP, ..udp(UPLINK, OUTSIDE, P1) }),
                op(Built { style: style::LAST_HOP, tunnel: 1, ..udp(UPLINK, REMOTE, P1) }),
                op(Built { style: style::LAST_HOP, ..tcp(POD1, P1, WEB, SYN) }),
                TURN,
            ],
        ),
    ]
}
