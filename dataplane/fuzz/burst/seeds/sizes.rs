//! Fragments, superframes, and what does not fit.

use super::*;

pub(super) fn fragments() -> Vec<Seed> {
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

/// In a world in which the first pod may send one frame, and the second one receive one.
pub(super) fn limits() -> Vec<Seed> {
    let to_first = op(udp(HOST, NODE, P1));
    let to_second = op(udp(HOST, NODE, P2));
    let from_first = op(udp(POD1, P1, P3));
    vec![(
        "bandwidth",
        66,
        vec![from_first.clone(), from_first, to_first, to_second.clone(), to_second, TURN],
    )]
}

pub(super) fn superframes() -> Vec<Seed> {
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
        ("no_chunk", 0, no_chunk()),
        (
            "transmit_ring_full",
            2,
            (0..4).map(|_| big(style::PARTIAL, POD1, P1, OUTSIDE)).chain([TURN]).collect(),
        ),
    ]
}

/// Packets that wait hold chunks until too few are left to coalesce in.
fn no_chunk() -> Vec<Op> {
    let waits = [REMOTE, OUTSIDE, NEIGHBOR].map(|dst| op(Built { payload: 64_000, ..udp(POD1, P1, dst) }));
    let segment = |n: u8| Built {
        tunnel: 1,
        src_port: n / 4,
        number: 8 * n,
        payload: 8000,
        ..tcp(UPLINK, REMOTE, P1, ACK)
    };
    let mut ops = vec![Op::Swap { variant: 1 }];
    ops.extend(waits);
    ops.push(TURN);
    ops.extend((0..28).map(|n| op(segment(n))));
    ops.push(TURN);
    ops
}
