//! Pod to outside: from the node's address, and back.

use std::collections::BTreeSet;

use headrace_dataplane::drop_reason::DropReason;

use crate::walk::World;
use crate::walk::oracle::segments;
use crate::walk::packet::{Body, Packet, Sum, ping, syn, syn_ack, tcp, udp};
use crate::walk::place::At::{Host, PodA, PodB, Wire};

const A: &str = "10.1.0.2:4000";
const B: &str = "10.1.0.3:4000";
const OUTSIDE: &str = "203.0.113.9:443";

/// Sends a first packet and returns the source port that it left with.
#[track_caller]
fn open(w: &mut World, sent: &Packet) -> u16 {
    let at = if sent.src.octets() == [10, 1, 0, 2] { PodA } else { PodB };
    let out = w.send(at, sent).only(Wire);
    let port = match out.body {
        Body::Icmp { rest, .. } => u16::from_be_bytes([rest[0], rest[1]]),
        _ => out.ports.0,
    };
    let expected = match sent.body {
        Body::Icmp { .. } => sent.echo_id(port),
        _ => sent.from(&format!("10.1.0.2:{port}")),
    };
    assert_eq!(out, expected.hop().from("192.168.7.10"));
    assert!((61_000..=61_999).contains(&port), "{port}");
    port
}

#[test]
fn connections_leave_from_the_node_and_come_back() {
    let mut w = World::new();
    let port = open(&mut w, &syn(A, OUTSIDE));
    let node = format!("192.168.7.10:{port}");
    w.pass(Wire, &syn_ack(OUTSIDE, &node), PodA, &syn_ack(OUTSIDE, A).hop());
    w.pass(PodA, &tcp(A, OUTSIDE).data(9), Wire, &tcp(&node, OUTSIDE).data(9).hop());
    let big = tcp(A, OUTSIDE).data(9_000);
    let out = w.send(PodA, [big.checksum(Sum::Partial)]).all(Wire);
    assert_eq!(out, segments(&big.from(&node).hop(), 1460));
    let back = tcp(OUTSIDE, &node).data(6_000);
    let out = w.send(Wire, segments(&back, 1000)).all(PodA);
    assert_eq!(out, [back.to(A).hop().checksum(Sum::Partial)]);
}

#[test]
fn datagrams_and_echoes_leave_from_the_node_and_come_back() {
    let mut w = World::new();
    for checksum in [Sum::Right, Sum::Absent] {
        let sent = udp(A, OUTSIDE).checksum(checksum);
        let port = open(&mut w, &sent);
        let node = format!("192.168.7.10:{port}");
        w.pass(Wire, &sent.from(&node).back(), PodA, &sent.back().hop());
        w.pass_time(300);
    }
    let request = ping("10.1.0.2", "203.0.113.9", 1);
    let id = open(&mut w, &request);
    assert_eq!(open(&mut w, &request), id);
    w.pass(Wire, &request.back().to("192.168.7.10").echo_id(id), PodA, &request.back().hop());
}

#[test]
fn two_pods_with_one_port_get_two() {
    let mut w = World::new();
    let (one, other) = (open(&mut w, &udp(A, OUTSIDE)), open(&mut w, &udp(B, OUTSIDE)));
    assert_ne!(one, other);
    for (port, pod, at) in [(one, A, PodA), (other, B, PodB)] {
        let back = udp(OUTSIDE, &format!("192.168.7.10:{port}"));
        w.pass(Wire, &back, at, &back.to(pod).hop());
    }
}

#[test]
fn it_can_be_switched_off_and_spares_some_ranges() {
    let mut w = World::with(|d| d.settings().masquerade = false);
    w.forward(PodA, &udp(A, OUTSIDE), Wire);
    w.forward(Wire, &udp(OUTSIDE, A), PodA);
    let mut w = World::new();
    w.forward(PodA, &udp(A, "172.20.0.1:9"), Wire);
    w.forward(Wire, &udp("172.20.0.1:9", A), PodA);
    w.forward(Host, &udp("192.168.7.10:9", OUTSIDE), Wire);
}

#[test]
fn ports_with_listeners_are_left_out_and_exhaustion_is_counted() {
    let listening: BTreeSet<u16> = (61_000..61_996).collect();
    let mut w = World::with(|d| d.facts.listening = listening);
    let ports: BTreeSet<u16> =
        (0..4).map(|i| open(&mut w, &udp(&format!("10.1.0.2:{}", 5000 + i), OUTSIDE))).collect();
    assert_eq!(ports, (61_996..=61_999).collect());
    w.drop(PodA, &udp("10.1.0.2:6000", OUTSIDE), DropReason::SnatPortsExhausted);
    open(&mut w, &udp("10.1.0.2:6000", "203.0.113.10:443"));
    open(&mut w, &syn("10.1.0.2:6000", OUTSIDE));
    w.pass_time(200);
    open(&mut w, &udp("10.1.0.2:6000", OUTSIDE));
}

#[test]
fn a_protocol_without_ports_has_one_pod_at_a_time() {
    let other = |source: &str| Packet { body: Body::Other(47), ..udp(source, OUTSIDE).data(40) }.from(source);
    let strip = |p: Packet| Packet { ports: (0, 0), ..p };
    let mut w = World::new();
    let (one, other) = (strip(other(A)), strip(other(B)));
    w.pass(PodA, &one, Wire, &strip(one.from("192.168.7.10").hop()));
    w.drop(PodB, &other, DropReason::SnatConflict);
    w.pass(Wire, &strip(one.from("192.168.7.10").back()), PodA, &strip(one.back().hop()));
}
