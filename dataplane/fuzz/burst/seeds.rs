//! The corpus by name, as scripts. The files under `corpus/burst/` are these, encoded, and inputs that fuzzing has found.

use crate::burst::packets::{kind, style, tunnel};
use crate::burst::script::{Built, Op, Place, Raw};

const HOST: Place = Place(0);
const UPLINK: Place = Place(1);
const POD1: Place = Place(2);
const POD2: Place = Place(3);
const POD3: Place = Place(4);
/// The same ports of the second worker.
const OTHER_POD1: Place = Place(0x82);
const OTHER_POD3: Place = Place(0x84);

const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
const PSH_ACK: u8 = 0x18;
const FIN_ACK: u8 = 0x11;
const RST: u8 = 4;

/// Indexes of addresses and ports.
const P1: u8 = 0;
const P2: u8 = 1;
const P3: u8 = 2;
const REMOTE: u8 = 3;
const REMOTE2: u8 = 4;
const DNS: u8 = 5;
const WEB: u8 = 6;
const EMPTY: u8 = 7;
const HAIRPIN: u8 = 8;
const NO_SERVICE: u8 = 9;
const OUTSIDE: u8 = 10;
const NEIGHBOR: u8 = 11;
const NODE: u8 = 12;
const PEER1: u8 = 13;
const GATEWAY: u8 = 16;
const LOOPBACK: u8 = 18;

const TURN: Op = Op::Turn { times: 0 };

/// Name, world and operations of every seed.
pub(crate) fn all() -> Vec<(&'static str, u8, Vec<Op>)> {
    let mut seeds = malformed();
    seeds.extend(tunnels());
    seeds.extend(fragments());
    seeds.extend(sizes());
    seeds.extend(services());
    seeds.extend(errors());
    seeds.extend(changes());
    seeds
}

/// A world's number and operations as bytes.
pub(crate) fn encode(world: u8, ops: &[Op]) -> Vec<u8> {
    let mut bytes = vec![world];
    ops.iter().for_each(|op| op.encode(&mut bytes));
    bytes
}

fn malformed() -> Vec<(&'static str, u8, Vec<Op>)> {
    let runt = |len: usize, place| raw(place, vec![0xee; len]);
    vec![
        ("runt", 0, vec![runt(1, POD1), runt(13, UPLINK), runt(14, HOST), runt(33, POD2), TURN]),
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

fn tunnels() -> Vec<(&'static str, u8, Vec<Op>)> {
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

fn fragments() -> Vec<(&'static str, u8, Vec<Op>)> {
    let piece = |place, src, dst, extra, more: bool, payload| {
        let style = if more { style::MORE_FRAGMENTS } else { 0 };
        op(Built { extra, style, payload, ..udp(place, src, dst) })
    };
    let to_dns = |extra, more, payload| {
        let style = if more { style::MORE_FRAGMENTS } else { 0 };
        op(Built { extra, style, payload, dst_port: 3, ..udp(POD1, P1, DNS) })
    };
    vec![
        (
            "fragments",
            0,
            vec![
                piece(POD1, P1, REMOTE, 0, true, 1200),
                piece(POD1, P1, REMOTE, 151, true, 1200),
                piece(POD1, P1, REMOTE, 255, false, 9),
                TURN,
            ],
        ),
        (
            "overlapping_fragments",
            0,
            vec![
                piece(POD1, P1, P2, 0, true, 1200),
                piece(POD1, P1, P2, 1, true, 1200),
                piece(POD1, P1, P2, 100, false, 77),
                op(Built { extra: 1, style: style::MORE_FRAGMENTS, ..tcp(POD1, P1, P2, SYN) }),
                TURN,
            ],
        ),
        (
            "fragments_to_service",
            0,
            vec![to_dns(151, false, 100), TURN, to_dns(0, true, 1200), TURN, to_dns(151, false, 100), TURN],
        ),
        (
            "fragments_masqueraded",
            0,
            vec![
                piece(POD1, P1, OUTSIDE, 0, true, 1200),
                piece(POD1, P1, OUTSIDE, 151, false, 100),
                TURN,
                Op::Advance { seconds: 31 },
                Op::Expire { buckets: 255 },
                piece(POD1, P1, OUTSIDE, 151, false, 100),
                TURN,
            ],
        ),
        (
            "fragment_of_tcp",
            0,
            vec![
                op(Built { style: style::MSS, ..tcp(POD1, P1, REMOTE, SYN) }),
                TURN,
                op(Built {
                    tunnel: 1,
                    style: style::MSS,
                    src_port: 2,
                    dst_port: 0,
                    ..tcp(UPLINK, REMOTE, P1, SYN_ACK)
                }),
                TURN,
                op(Built { style: style::MORE_FRAGMENTS, payload: 1188, ..tcp(POD1, P1, REMOTE, ACK) }),
                TURN,
            ],
        ),
        (
            "fragments_made",
            0,
            vec![
                op(Built { payload: 9000, ..udp(POD1, P1, REMOTE) }),
                op(Built {
                    payload: 9000,
                    style: style::PARTIAL | style::IP_OPTIONS,
                    ..udp(POD1, P1, OUTSIDE)
                }),
                op(Built { payload: 9000, ..udp(POD1, P1, P2) }),
                op(Built { payload: 65_000, kind: kind::SCTP, ..udp(POD3, P3, REMOTE) }),
                op(Built { payload: 3000, style: style::MORE_FRAGMENTS, ..udp(POD1, P1, REMOTE) }),
                TURN,
            ],
        ),
    ]
}

fn sizes() -> Vec<(&'static str, u8, Vec<Op>)> {
    let big = |style, place, src, dst| op(Built { payload: 64_000, style, ..tcp(place, src, dst, PSH_ACK) });
    let segment = |number, payload, flags| {
        op(Built { tunnel: 1, number, payload, style: style::TIMESTAMPS, ..tcp(UPLINK, REMOTE, P1, flags) })
    };
    let mut gro: Vec<_> = (0..40).map(|n| segment(n, 1000, ACK)).collect();
    gro.extend([segment(40, 999, PSH_ACK), segment(42, 1000, ACK), segment(43, 1000, FIN_ACK), TURN]);
    vec![
        (
            "tso_64k",
            0,
            vec![
                big(style::PARTIAL, POD1, P1, REMOTE),
                big(0, POD1, P1, REMOTE),
                big(style::WRONG_CHECKSUM, POD1, P1, REMOTE),
                big(style::PARTIAL | style::TIMESTAMPS, POD3, P3, OUTSIDE),
                big(style::PARTIAL, POD1, P1, P2),
                TURN,
            ],
        ),
        (
            "tso_to_pods",
            0,
            vec![
                big(style::PARTIAL, POD1, P1, P3),
                big(style::PARTIAL, POD3, P3, P1),
                big(style::PARTIAL, HOST, NODE, P2),
                big(style::PARTIAL, POD1, P1, NODE),
                TURN,
            ],
        ),
        (
            "tso_small_chunks",
            0,
            vec![
                op(Built {
                    payload: 9001,
                    split: (54, 1001),
                    style: style::PARTIAL,
                    ..tcp(POD1, P1, REMOTE, FIN_ACK)
                }),
                TURN,
            ],
        ),
        (
            "tso_of_syn",
            0,
            vec![
                op(Built { payload: 5000, style: style::PARTIAL | style::MSS, ..tcp(POD1, P1, REMOTE, SYN) }),
                TURN,
            ],
        ),
        (
            "tso_tiny_mss",
            0,
            vec![
                op(tcp(POD1, P1, REMOTE, SYN)),
                TURN,
                patched(
                    &Built {
                        tunnel: 1,
                        style: style::MSS,
                        src_port: 2,
                        dst_port: 0,
                        ..tcp(UPLINK, REMOTE, P1, SYN_ACK)
                    },
                    &[(106, 0), (107, 1)],
                ),
                TURN,
                big(0, POD1, P1, REMOTE),
                TURN,
            ],
        ),
        ("gro_burst", 0, gro),
        (
            "gro_of_partial",
            0,
            (0..9)
                .map(|n| {
                    op(Built {
                        tunnel: 2,
                        number: n,
                        payload: 1000,
                        style: style::PARTIAL,
                        ..tcp(UPLINK, REMOTE2, P3, ACK)
                    })
                })
                .chain([TURN])
                .collect(),
        ),
        (
            "too_big",
            0,
            vec![
                op(Built { payload: 9000, style: style::DONT_FRAGMENT, ..udp(POD1, P1, REMOTE) }),
                op(Built { payload: 9000, style: style::DONT_FRAGMENT, ..udp(POD1, P1, P2) }),
                TURN,
            ],
        ),
        (
            "no_chunk",
            2,
            (0..12)
                .map(|n| {
                    big(
                        style::PARTIAL,
                        if n % 2 == 0 { POD1 } else { POD3 },
                        if n % 2 == 0 { P1 } else { P3 },
                        OUTSIDE,
                    )
                })
                .chain([TURN])
                .collect(),
        ),
    ]
}

fn services() -> Vec<(&'static str, u8, Vec<Op>)> {
    let web = |place, src, number, flags| op(Built { number, ..tcp(place, src, WEB, flags) });
    vec![
        (
            "service_tcp",
            0,
            (0..12).flat_map(|n| [op(Built { src_port: n, ..tcp(POD1, P1, WEB, SYN) }), TURN]).collect(),
        ),
        (
            "service_two_workers",
            0,
            vec![
                web(POD1, P1, 0, SYN),
                web(OTHER_POD1, P1, 0, SYN),
                TURN,
                web(OTHER_POD1, P1, 1, ACK),
                web(POD1, P1, 2, PSH_ACK),
                TURN,
                web(OTHER_POD1, P1, 3, RST),
                web(OTHER_POD3, P3, 3, SYN),
                TURN,
            ],
        ),
        (
            "service_twice_in_a_burst",
            0,
            vec![web(POD1, P1, 0, SYN), web(POD1, P1, 0, SYN), web(POD1, P1, 0, SYN), TURN],
        ),
        (
            "service_without_endpoint",
            0,
            vec![
                op(tcp(POD1, P1, EMPTY, SYN)),
                op(tcp(HOST, NODE, EMPTY, SYN)),
                op(tcp(POD1, P1, NO_SERVICE, SYN)),
                TURN,
            ],
        ),
        ("service_mid_stream", 0, vec![web(POD1, P1, 0, ACK), web(POD1, P1, 0, RST), TURN]),
        (
            "service_hairpin",
            0,
            vec![
                op(tcp(POD1, P1, HAIRPIN, SYN)),
                TURN,
                op(Built { src_port: 4, dst_port: 0, ..tcp(POD1, P1, 15, SYN_ACK) }),
                TURN,
            ],
        ),
        (
            "service_udp_moves",
            0,
            vec![
                op(Built { dst_port: 3, ..udp(POD1, P1, DNS) }),
                TURN,
                Op::Swap { variant: 2 },
                op(Built { dst_port: 3, ..udp(POD1, P1, DNS) }),
                TURN,
            ],
        ),
        (
            "masquerade_exhausted",
            0,
            (0..16).flat_map(|n| [op(Built { src_port: n, ..udp(POD1, P1, OUTSIDE) }), TURN]).collect(),
        ),
        (
            "masquerade_answers",
            0,
            vec![op(udp(POD1, P1, NEIGHBOR)), TURN]
                .into_iter()
                .chain((8..16).map(|n| op(Built { src_port: 2, dst_port: n, ..udp(UPLINK, NEIGHBOR, NODE) })))
                .chain([TURN])
                .collect(),
        ),
        (
            "echo",
            0,
            vec![
                op(echo(POD1, P1, GATEWAY)),
                op(echo(POD1, P1, 15)),
                op(echo(POD1, P1, OUTSIDE)),
                op(echo(POD1, P1, P1)),
                op(Built { kind: kind::ECHO_REPLY, ..echo(POD1, P1, P2) }),
                op(echo(HOST, NODE, 15)),
                TURN,
            ],
        ),
        (
            "to_itself",
            0,
            vec![
                op(Built { dst_port: 0, ..udp(POD1, P1, P1) }),
                TURN,
                op(Built { dst_port: 0, ..udp(POD1, P1, P1) }),
                TURN,
            ],
        ),
        (
            "client_sends_from_service_address",
            0,
            vec![
                op(udp(HOST, WEB, P1)),
                TURN,
                op(Built { src_port: 2, dst_port: 0, ..udp(POD1, P1, WEB) }),
                TURN,
            ],
        ),
    ]
}

fn errors() -> Vec<(&'static str, u8, Vec<Op>)> {
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

fn changes() -> Vec<(&'static str, u8, Vec<Op>)> {
    let all = || {
        vec![
            op(udp(POD1, P1, REMOTE)),
            op(udp(POD3, P3, REMOTE2)),
            op(udp(POD3, P3, NEIGHBOR)),
            op(tcp(POD1, P1, P2, SYN)),
            TURN,
        ]
    };
    let cat = |parts: Vec<Vec<Op>>| parts.concat();
    vec![
        (
            "hop_unresolved",
            0,
            cat(vec![vec![Op::Swap { variant: 1 }], all(), all(), vec![Op::Swap { variant: 0 }], all()]),
        ),
        (
            "hop_never_resolved",
            1,
            cat(vec![
                vec![Op::Swap { variant: 1 }],
                all(),
                vec![Op::Advance { seconds: 4 }, Op::Expire { buckets: 9 }],
                all(),
            ]),
        ),
        (
            "not_configured",
            0,
            cat(vec![vec![Op::Swap { variant: 3 }], all(), vec![Op::Swap { variant: 0 }], all()]),
        ),
        (
            "pod_gone",
            0,
            cat(vec![all(), vec![Op::Swap { variant: 2 }], all(), vec![op(udp(POD2, P2, P1)), TURN]]),
        ),
        (
            "ports_come_and_go",
            0,
            cat(vec![
                all(),
                [HOST, UPLINK, POD2].map(|place| Op::Toggle { place }).into(),
                all(),
                vec![op(tcp(POD1, P1, NODE, SYN)), TURN],
                [HOST, UPLINK, POD2].map(|place| Op::Toggle { place }).into(),
                all(),
            ]),
        ),
        (
            "table_full",
            0,
            (0..120u8)
                .flat_map(|n| {
                    [
                        op(Built {
                            src_port: n,
                            dst_port: n / 16,
                            ..udp(POD1, P1, if n % 3 == 0 { P2 } else { REMOTE })
                        }),
                        TURN,
                    ]
                })
                .collect(),
        ),
        (
            "closes_and_opens_anew",
            0,
            [SYN, ACK, FIN_ACK, SYN, RST, SYN]
                .into_iter()
                .flat_map(|flags| [op(tcp(POD1, P1, WEB, flags)), TURN])
                .collect(),
        ),
        (
            "expires",
            0,
            cat(vec![
                all(),
                vec![
                    Op::Advance { seconds: 60_000 },
                    Op::Expire { buckets: 255 },
                    Op::Advance { seconds: 60_000 },
                    Op::Expire { buckets: 255 },
                ],
                all(),
            ]),
        ),
    ]
}

fn op(built: Built) -> Op {
    Op::Built(built)
}

fn raw(place: Place, bytes: Vec<u8>) -> Op {
    Op::Raw(Raw { place, split: (0, 0), fix: 0, padding: 0, bytes })
}

fn padded(built: &Built, padding: u16) -> Op {
    let bytes = crate::burst::packets::frame(built);
    Op::Raw(Raw { place: built.place, split: (0, 0), fix: 0, padding, bytes })
}

fn patched(built: &Built, patches: &[(u16, u8)]) -> Op {
    op(Built { patches: patches.to_vec(), fix: 3, ..built.clone() })
}

/// UDP whose checksum is left to the device, in an IPv4 packet 4 bytes longer than it.
fn short_partial_udp() -> Op {
    let whole = Built { style: style::PARTIAL, payload: 60, ..udp(POD1, P1, P2) };
    patched(&whole, &[(17, 92)])
}

fn tcp(place: Place, src: u8, dst: u8, tcp_flags: u8) -> Built {
    Built { place, kind: kind::TCP, src, dst, src_port: 0, dst_port: 2, tcp_flags, ..Built::default() }
}

fn udp(place: Place, src: u8, dst: u8) -> Built {
    Built { place, kind: kind::UDP, src, dst, src_port: 0, dst_port: 2, payload: 64, ..Built::default() }
}

fn echo(place: Place, src: u8, dst: u8) -> Built {
    Built { kind: kind::ECHO_REQUEST, ..udp(place, src, dst) }
}

fn arp(place: Place, dst: u8) -> Built {
    Built { kind: kind::ARP_REQUEST, ..udp(place, P1, dst) }
}

fn error(place: Place, src: u8, dst: u8, quoted: u8, payload: u16) -> Built {
    Built { kind: kind::FRAGMENTATION_NEEDED, extra: quoted, payload, ..tcp(place, src, dst, ACK) }
}
