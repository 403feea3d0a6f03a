//! Next hops whose MAC address is not known yet.

use headrace_dataplane::drop_reason::DropReason;
use headrace_wire::ethernet::MacAddr;

use crate::walk::World;
use crate::walk::desired::Desired;
use crate::walk::packet::{TIME_EXCEEDED, error, ping, udp};
use crate::walk::place::At::{NodeB, PodA, PodB, Wire};
use crate::walk::place::{NODE_B, NODE_B_MAC};

const A: &str = "10.1.0.2:4000";
const NEIGHBOR: &str = "192.168.7.50";

fn learn(d: &mut Desired) {
    let address = NEIGHBOR.parse().unwrap();
    d.asked.insert(address);
    d.facts.neighbors.insert(address, MacAddr([2, 0, 0, 0, 7, 50]));
}

fn forget_node_b(d: &mut Desired) {
    d.facts.neighbors.remove(&NODE_B.parse().unwrap());
}

fn learn_node_b(d: &mut Desired) {
    d.facts.neighbors.insert(NODE_B.parse().unwrap(), NODE_B_MAC);
}

#[test]
fn one_packet_waits_for_a_neighbor_and_goes_out() {
    let mut w = World::with(|d| d.settings().masquerade = false);
    let sent = udp(A, "192.168.7.50:53");
    w.waiting = 1;
    w.send(PodA, &sent).is(&[], &[]);
    w.drop(PodA, &sent, DropReason::NeighborUnresolved);
    w.drop(PodB, &sent.from("10.1.0.3:1"), DropReason::NeighborUnresolved);
    assert_eq!(w.asked.try_iter().collect::<Vec<_>>(), [NEIGHBOR.parse::<std::net::Ipv4Addr>().unwrap(); 3]);
    w.turn(0).is(&[], &[]);
    w.change(learn);
    w.waiting = 0;
    w.turn(0).is(&[(Wire, sent.hop())], &[]);
    w.forward(PodA, &sent, Wire);
}

#[test]
fn a_masqueraded_packet_waits_untranslated() {
    let mut w = World::new();
    w.waiting = 1;
    w.send(PodA, [udp(A, "192.168.7.50:53")]).is(&[], &[]);
    w.change(learn);
    w.waiting = 0;
    let out = w.turn(0).only(Wire);
    assert_eq!(out, udp(A, "192.168.7.50:53").from(&format!("192.168.7.10:{}", out.ports.0)).hop());
}

#[test]
fn patience_ends_after_three_seconds() {
    let mut w = World::new();
    w.waiting = 1;
    w.send(PodA, [udp(A, "192.168.7.50:53")]).is(&[], &[]);
    w.pass_time(3).is(&[], &[]);
    w.waiting = 0;
    w.pass_time(1).is(&[], &[DropReason::NeighborUnresolved]);
}

#[test]
fn packets_and_answers_wait_for_a_peer_s_next_hop() {
    let answer = error("10.1.0.1", "10.1.1.5", TIME_EXCEEDED, 0, &udp("10.1.1.5:9", A).ttl(1));
    let cases = [
        (PodA, udp(A, "10.1.1.5:9"), udp(A, "10.1.1.5:9").hop(), vec![]),
        (NodeB, ping("10.1.1.5", "10.1.0.1", 4), ping("10.1.1.5", "10.1.0.1", 4).back(), vec![]),
        (NodeB, udp("10.1.1.5:9", A).ttl(1), answer, vec![DropReason::TtlExceeded]),
    ];
    for (at, sent, expected, drops) in cases {
        let mut w = World::with(forget_node_b);
        w.waiting = 1;
        w.send(at, [sent]).is(&[], &[]);
        w.waiting = 0;
        w.change_quietly(learn_node_b);
        w.turn(0).is(&[(NodeB, expected)], &drops);
    }
}

#[test]
fn a_translated_error_waits_and_is_translated_once() {
    let mut w = World::with(|d| d.service("udp 10.96.0.53:53", &["10.1.0.3:5353"]));
    // A process of the node behind node B's tunnel is the client.
    let (client, vip, endpoint) = ("10.1.0.2:4000", "10.96.0.53:53", "10.1.0.3:5353");
    w.pass(PodA, &udp(client, vip), PodB, &udp(client, endpoint).hop());
    w.change(|d| {
        d.ports.remove(0);
        d.peers[0].pod_cidrs.push("10.1.0.2/32".parse().unwrap());
        forget_node_b(d);
    });
    w.waiting = 1;
    let sent = error("10.1.0.3", "10.1.0.2", (3, 3), 0, &udp(client, endpoint).hop());
    w.send(PodB, [sent]).is(&[], &[]);
    w.waiting = 0;
    w.change_quietly(learn_node_b);
    let expected = error("10.96.0.53", "10.1.0.2", (3, 3), 0, &udp(client, vip).hop());
    w.turn(0).is(&[(NodeB, expected.hop())], &[]);
}

#[test]
fn a_waiting_superframe_keeps_its_chunks() {
    let mut w = World::with(forget_node_b);
    let big = crate::walk::packet::tcp(A, "10.1.1.5:9").data(14_000);
    w.waiting = 4;
    w.send(PodA, &big).is(&[], &[]);
    w.waiting = 0;
    w.change_quietly(learn_node_b);
    assert_eq!(w.turn(0).all(NodeB), crate::walk::oracle::segments(&big.hop(), 1410));
}

#[test]
fn only_so_many_hosts_are_waited_for() {
    let mut w = World::new();
    w.waiting = 32;
    let packets: Vec<_> = (0..40).map(|i| udp(A, &format!("192.168.7.{}:9", 60 + i))).collect();
    w.send(PodA, &packets).is(&[], &[DropReason::NeighborUnresolved; 8]);
    w.waiting = 0;
    assert_eq!(w.pass_time(4).drops["neighbor_unresolved"], 32);
}
