//! The life of connections: timeouts, ports used again, a full table, routes that change.

use headrace_dataplane::drop_reason::DropReason;
use headrace_flowmap::{FlowMap, Geometry};
use headrace_wire::tcp::TcpFlags;

use crate::walk::packet::{Body, HOST_UNREACHABLE, Packet, error, ping, sctp, syn, syn_ack, tcp, udp};
use crate::walk::place::At::{self, NodeB, PodA, PodB, Wire};
use crate::walk::{Plan, World};

const A: &str = "10.1.0.2:4000";
const B: &str = "10.1.0.3:80";
const FIN: TcpFlags = TcpFlags(TcpFlags::FIN.0 | TcpFlags::ACK.0);
const RST: TcpFlags = TcpFlags::RST;

#[test]
fn a_connection_is_over_when_its_state_has_been_idle_for_so_long() {
    let (there, back) = (tcp(A, B), tcp(B, A));
    let open = [(PodA, syn(A, B)), (PodB, syn_ack(B, A)), (PodA, there.clone()), (PodB, back.clone())];
    let with = |more: &[(At, Packet)]| [open.as_slice(), more].concat();
    let other = Packet { body: Body::Other(47), ports: (0, 0), ..udp(A, B) };
    let cases = [
        ("SYN", vec![(PodA, syn(A, B))], 120),
        ("SYN and its answer", open[..2].to_vec(), 60),
        ("established", with(&[]), 86_400),
        ("picked up in the middle", vec![(PodA, there.clone())], 300),
        ("picked up both ways", vec![(PodA, there.clone()), (PodB, back.clone())], 86_400),
        ("one FIN", with(&[(PodA, there.flags(FIN))]), 3_600),
        ("two FINs", with(&[(PodA, there.flags(FIN)), (PodB, back.flags(FIN))]), 120),
        ("RST", with(&[(PodB, back.flags(RST).sequence(1001))]), 10),
        ("one datagram", vec![(PodA, udp(A, B))], 30),
        ("datagrams both ways", vec![(PodA, udp(A, B)), (PodB, udp(B, A))], 120),
        ("echo", vec![(PodA, ping("10.1.0.2", "10.1.0.3", 1))], 30),
        ("another protocol", vec![(PodA, other)], 600),
        ("SCTP", vec![(PodA, sctp(A, B))], 600),
    ];
    for (name, packets, seconds) in cases {
        let mut w = World::new();
        for (at, packet) in packets {
            w.send(at, [packet]);
        }
        w.pass_time(seconds - 1).is(&[], &[]);
        assert_eq!(w.flows(), 2, "{name} after {} s", seconds - 1);
        w.pass_time(1).is(&[], &[]);
        assert_eq!(w.flows(), 0, "{name} after {seconds} s");
    }
}

#[test]
fn traffic_in_one_direction_keeps_both() {
    let mut w = World::with(|d| d.service("udp 10.96.0.1:80", &[B]));
    w.pass(PodA, &udp(A, "10.96.0.1:80"), PodB, &udp(A, B).hop());
    for _ in 0..20 {
        w.pass_time(25);
        w.pass(PodB, &udp(B, A), PodA, &udp("10.96.0.1:80", A).hop());
    }
    assert_eq!(w.flows(), 2);
}

#[test]
fn ports_used_again_after_the_end_choose_an_endpoint_anew() {
    let (vip, far) = ("10.96.0.1:80", "10.1.1.5:80");
    for end in [FIN, RST] {
        let mut w = World::with(|d| d.service("tcp 10.96.0.1:80", &[B]));
        w.pass(PodA, &syn(A, vip), PodB, &syn(A, B).hop());
        w.pass(PodB, &syn_ack(B, A), PodA, &syn_ack(vip, A).hop());
        w.change_quietly(|d| d.service("tcp 10.96.0.1:80", &[far]));
        w.pass(PodA, &syn(A, vip), PodB, &syn(A, B).hop());
        let last = |src| tcp(src, A).flags(end).sequence(1001);
        w.pass(PodB, &last(B), PodA, &last(vip).hop());
        w.pass(PodA, &tcp(A, vip), PodB, &tcp(A, B).hop());
        w.pass(PodA, &syn(A, vip), NodeB, &syn(A, far).hop());
        w.pass(NodeB, &syn_ack(far, A), PodA, &syn_ack(vip, A).hop());
        assert_eq!(w.flows(), 2);
        assert_eq!(w.count(|h| &h.flows_inserted), 4);
    }
}

#[test]
fn a_reset_makes_no_flow() {
    let mut w = World::new();
    w.forward(PodA, &tcp(A, B).flags(RST), PodB);
    assert_eq!(w.flows(), 0);
}

#[test]
fn a_full_table_lets_the_longest_idle_go_with_both_directions() {
    let mut plan = Plan::new().desired(|d| d.settings().masquerade = false);
    plan.flows = FlowMap::anonymous(&Geometry { capacity: 64, content_version: 0 }).unwrap();
    let mut w = plan.world();
    for i in 0..200 {
        let client = format!("10.1.0.2:{}", 1000 + i);
        w.forward(PodA, &udp(&client, B), PodB);
        w.forward(PodB, &udp(B, &client), PodA);
        w.now += 1;
    }
    assert!((32..=64).contains(&w.flows()), "{}", w.flows());
    assert!(w.count(|h| &h.flows_evicted) >= 100);
    let (halves, oldest) = w.halves_and_oldest();
    assert_eq!(halves, 0, "connections of which one direction is gone");
    assert!(oldest >= 1000 + 120, "an entry last used at {oldest} outlived newer ones");
}

#[test]
fn a_flow_follows_a_pod_that_moves_and_ends_where_it_was() {
    let mut w = World::with(|d| d.service("tcp 10.96.0.1:80", &[B]));
    w.pass(PodA, &syn(A, "10.96.0.1:80"), PodB, &syn(A, B).hop());
    w.forward(PodA, &udp(A, B), PodB);
    w.change(|d| {
        d.ports.remove(1);
        d.peers[0].pod_cidrs.push("10.1.0.3/32".parse().unwrap());
    });
    w.pass(PodA, &tcp(A, "10.96.0.1:80").data(2), NodeB, &tcp(A, B).data(2).hop());
    w.pass(NodeB, &syn_ack(B, A), PodA, &syn_ack("10.96.0.1:80", A).hop());
    w.forward(PodA, &udp(A, B), NodeB);
    w.change(|d| {
        d.peers[0].pod_cidrs.pop();
    });
    let sent = tcp(A, "10.96.0.1:80").data(2);
    let answer = error("10.1.0.1", "10.1.0.2", HOST_UNREACHABLE, 0, &sent);
    w.refuse(PodA, &sent, DropReason::NoRoute, &answer);
    w.drop(PodB, &udp(B, A), DropReason::PortGone);
}

#[test]
fn a_next_hop_that_changes_its_mac_is_followed_at_once() {
    let mut w = World::with(|d| d.settings().masquerade = false);
    w.forward(PodA, &udp(A, "203.0.113.9:9"), Wire);
    w.change_quietly(|d| {
        let router = "192.168.7.1".parse().unwrap();
        d.facts.neighbors.insert(router, headrace_wire::ethernet::MacAddr([2, 9, 9, 9, 9, 9]));
    });
    w.forward(PodA, &udp(A, "203.0.113.9:9"), Wire);
}
