//! Connections, and tables that change under them.

use super::*;

pub(super) fn services() -> Vec<Seed> {
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

pub(super) fn changes() -> Vec<Seed> {
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
            "masquerade_conflict",
            0,
            [(P1, POD1), (P3, POD3)]
                .map(|(src, place)| {
                    // GRE has no ports.
                    op(Built { patches: vec![(PROTOCOL, 47)], fix: 1, ..udp(place, src, OUTSIDE) })
                })
                .into_iter()
                .chain([TURN])
                .collect(),
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
        ("after_a_reset", 0, connection_with([RST, ACK, PSH_ACK])),
        (
            "reset_of_another_connection",
            0,
            cat(vec![
                connection_with([]),
                vec![op(Built { patches: vec![(SEQUENCE, 0x40)], ..segment(RST) }), TURN],
                vec![op(segment(ACK)), TURN],
            ]),
        ),
        (
            "fragment_of_sctp",
            0,
            vec![
                op(Built {
                    kind: kind::SCTP,
                    payload: 1204,
                    style: style::MORE_FRAGMENTS,
                    ..udp(POD1, P1, OUTSIDE)
                }),
                TURN,
            ],
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

/// Where a frame has the number of what its IPv4 packet carries.
const PROTOCOL: u16 = 14 + 9;
/// Where a frame without options has the first byte of TCP's sequence number.
const SEQUENCE: u16 = 14 + 20 + 4;

/// A segment without data.
fn segment(flags: u8) -> Built {
    Built { number: 1, payload: 0, ..tcp(POD1, P1, P2, flags) }
}

/// A connection between two pods, and what comes after its beginning.
fn connection_with<const N: usize>(more: [u8; N]) -> Vec<Op> {
    [SYN, ACK].into_iter().chain(more).flat_map(|flags| [op(segment(flags)), TURN]).collect()
}
