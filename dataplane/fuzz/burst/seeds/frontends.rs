//! Services at other addresses than their own, and fragments that come before their first one.

use super::*;

/// Indexes of ports at which the node answers.
const NODE_PORT: u8 = 4;
const HOST_PORT: u8 = 5;
const DNS_PORT: u8 = 3;

/// To TCP 8080 of the node.
fn to_node(place: Place, src: u8, number: u8) -> Op {
    op(Built { dst_port: NODE_PORT, src_port: number, number, ..tcp(place, src, NODE, SYN) })
}

pub(super) fn all() -> Vec<Seed> {
    let balancer = |place, src| op(tcp(place, src, BALANCER, SYN));
    let by_tunnel = |number| {
        let packet = tcp(UPLINK, REMOTE, NODE, SYN);
        op(Built { dst_port: NODE_PORT, src_port: number, tunnel: tunnel::PEER1, ..packet })
    };
    vec![
        (
            "node_port",
            0,
            (0..8).flat_map(|n| [to_node(UPLINK, OUTSIDE, n), to_node(POD1, P1, n), TURN]).collect(),
        ),
        ("node_port_of_process", 0, vec![to_node(HOST, NODE, 0), to_node(HOST, 14, 1), TURN]),
        ("node_port_on_loopback", 1, vec![loopback(HOST, LOOPBACK), loopback(POD1, P1), TURN]),
        ("node_port_not_on_loopback", 0, vec![loopback(HOST, LOOPBACK), loopback(HOST, NODE), TURN]),
        ("node_port_by_tunnel", 0, (0..8).flat_map(|n| [by_tunnel(n), TURN]).collect()),
        ("node_port_without_local", 0, vec![Op::Swap { variant: 2 }, to_node(UPLINK, OUTSIDE, 0), TURN]),
        (
            "node_port_masquerade_exhausted",
            0,
            (0..16)
                .flat_map(|n| {
                    [op(Built { src_port: n, dst_port: DNS_PORT, ..udp(UPLINK, OUTSIDE, NODE) }), TURN]
                })
                .collect(),
        ),
        (
            "source_ranges",
            0,
            vec![
                balancer(UPLINK, OUTSIDE),
                balancer(UPLINK, NEIGHBOR),
                balancer(POD1, P1),
                balancer(POD2, P2),
                balancer(HOST, NODE),
                op(echo(POD1, P1, BALANCER)),
                TURN,
            ],
        ),
        ("service_port_unknown", 0, vec![op(Built { dst_port: 3, ..tcp(POD1, P1, WEB, SYN) }), TURN]),
        ("host_port", 0, vec![op(Built { dst_port: HOST_PORT, ..tcp(UPLINK, OUTSIDE, NODE, SYN) }), TURN]),
        (
            "sctp",
            0,
            [P2, WEB, OUTSIDE, REMOTE]
                .into_iter()
                .map(|dst| op(Built { kind: kind::SCTP, ..udp(POD1, P1, dst) }))
                .chain([TURN])
                .collect(),
        ),
        ("later_fragment_first", 0, out_of_order(&Built { dst_port: DNS_PORT, ..udp(POD1, P1, DNS) })),
        ("later_fragment_first_of_node", 0, out_of_order(&udp(UPLINK, OUTSIDE, NODE))),
        ("later_fragment_first_to_outside", 0, out_of_order(&udp(POD1, P1, OUTSIDE))),
        (
            "later_fragment_alone",
            0,
            vec![
                later(&udp(UPLINK, OUTSIDE, NODE)),
                later(&udp(POD1, P1, DNS)),
                TURN,
                Op::Advance { seconds: 3 },
                TURN,
            ],
        ),
        (
            "too_many_later_fragments",
            0,
            (0..90)
                .map(|number| later(&Built { number, ..udp(POD1, P1, DNS) }))
                .chain([TURN, TURN])
                .collect(),
        ),
    ]
}

fn loopback(place: Place, src: u8) -> Op {
    op(Built { dst_port: NODE_PORT, ..tcp(place, src, LOOPBACK, SYN) })
}

fn later(datagram: &Built) -> Op {
    op(Built { extra: 9, ..datagram.clone() })
}

fn out_of_order(datagram: &Built) -> Vec<Op> {
    let first = Built { style: style::MORE_FRAGMENTS, ..datagram.clone() };
    vec![later(datagram), TURN, op(first), TURN, TURN, later(datagram), TURN]
}
