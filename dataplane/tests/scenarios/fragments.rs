//! Fragments: passed on, made, translated.

use headrace_dataplane::drop_reason::DropReason;

use crate::walk::oracle::{fragments, reassembled};
use crate::walk::packet::{FRAGMENTATION_NEEDED, Packet, Sum, error, ping, sctp, tcp, udp};
use crate::walk::place::At::{self, Host, NodeB, Plain, PodA, PodB, Wire};
use crate::walk::{Plan, World};

const A: &str = "10.1.0.2:4000";
const B: &str = "10.1.0.3:80";
const FAR: &str = "10.1.1.5:80";
const VIP: &str = "10.96.0.1:80";

fn hopped(list: &[Packet]) -> Vec<Packet> {
    list.iter().map(Packet::hop).collect()
}

fn in_order(mut list: Vec<Packet>) -> Vec<Packet> {
    list.sort_by_key(|p| p.fragment.0);
    list
}

fn both(at: At, list: &[Packet]) -> Vec<(At, Packet)> {
    list.iter().map(|p| (at, p.clone())).collect()
}

#[test]
fn fragments_pass_in_any_order() {
    let mut w = World::new();
    let datagram = udp(A, B).may_be_fragmented().data(3000);
    for (from, to, destination) in [(PodA, PodB, B), (PodA, NodeB, FAR), (PodA, Host, "192.168.7.10:9")] {
        let mut sent = fragments(&datagram.to(destination), 1400);
        w.send(from, &sent).is(&both(to, &hopped(&sent)), &[]);
        sent.reverse();
        w.send(from, &sent).is(&both(to, &hopped(&sent)), &[]);
    }
    let mut sent = fragments(&udp(FAR, A).data(3000), 1400);
    w.send(NodeB, &sent).is(&both(PodA, &hopped(&sent)), &[]);
    sent.reverse();
    w.send(NodeB, &sent).is(&both(PodA, &hopped(&sent)), &[]);
}

#[test]
fn large_packets_are_cut_where_they_may_be() {
    let cases = [
        (PodA, NodeB, udp(A, FAR), 1450),
        (PodA, NodeB, ping("10.1.0.2", "10.1.1.5", 1), 1450),
        (PodA, NodeB, udp(A, FAR).ip_options(&[148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0]), 1450),
        (PodA, Wire, udp(A, "172.16.0.9:9"), 1500),
        (PodA, Plain, udp(A, "10.1.0.4:9"), 1450),
        (Host, NodeB, udp("10.1.0.0:9", FAR), 1450),
    ];
    for (from, to, packet, mtu) in cases {
        let mut w = World::new();
        for len in [mtu - 27, 3_001, 20_000] {
            let sent = packet.may_be_fragmented().data(len);
            let states = if sent.ports == (0, 0) { vec![Sum::Right] } else { vec![Sum::Right, Sum::Partial] };
            for checksum in states {
                let out = w.send(from, [sent.checksum(checksum)]).all(to);
                assert!(out.iter().all(|p| p.bytes().len() <= mtu), "{out:#?}");
                assert!(out.len() > 1 && out.len() <= len / (mtu - 100) + 1, "{} fragments", out.len());
                assert_eq!(reassembled(&out), sent.hop());
            }
        }
        w.drop_whole(from, &packet.data(3_000), mtu);
    }
}

#[test]
fn fragments_are_cut_again() {
    let mut w = World::new();
    let whole = udp(A, FAR).may_be_fragmented().data(12_000);
    let sent = fragments(&whole, 4000);
    let out = w.send(PodA, &sent).all(NodeB);
    assert!(out.len() > sent.len() && out.iter().all(|p| p.bytes().len() <= 1450));
    assert_eq!(reassembled(&out), whole.hop());
}

#[test]
fn fragments_of_tcp_are_not_segmented() {
    let mut w = World::new();
    let whole = tcp(A, FAR).may_be_fragmented().data(5_000);
    let out = w.send(PodA, fragments(&whole, 2400)).all(NodeB);
    assert_eq!(reassembled(&out), whole.hop());
    let mut fixed = fragments(&tcp(A, FAR).data(5_000), 2400);
    fixed.truncate(1);
    let answer = error("10.1.0.1", "10.1.0.2", FRAGMENTATION_NEEDED, 1450, &fixed[0]);
    w.refuse(PodA, &fixed[0], DropReason::TooBig, &answer);
}

#[test]
fn later_fragments_follow_the_first_through_a_service() {
    let mut w = World::with(|d| d.service("udp 10.96.0.1:80", &[FAR]));
    let whole = udp(A, VIP).may_be_fragmented().data(5_000);
    let out = w.send(PodA, fragments(&whole, 1400)).all(NodeB);
    assert_eq!(reassembled(&out), whole.to(FAR).hop());
    let back = whole.back().from(FAR);
    let out = w.send(NodeB, fragments(&back, 1400)).all(PodA);
    assert_eq!(reassembled(&out), back.from(VIP).hop());
    // A datagram too large for the tunnel is translated whole and then cut.
    let out = w.send(PodA, [whole.checksum(Sum::Partial)]).all(NodeB);
    assert_eq!(reassembled(&out), whole.to(FAR).hop());
}

#[test]
fn fragments_of_sctp_are_translated_while_its_ports_stay() {
    let mut w = World::with(|d| {
        d.service_at("same", &["sctp 10.96.0.1:80"], &[FAR]);
        d.service_at("other", &["sctp 10.96.0.2:81"], &[FAR]);
    });
    let whole = sctp(A, VIP).may_be_fragmented().data(5_000);
    let out = w.send(PodA, fragments(&whole, 1400)).all(NodeB);
    assert_eq!(reassembled(&out), whole.to(FAR).hop());
    let back = whole.back().from(FAR);
    let out = w.send(NodeB, fragments(&back, 1400)).all(PodA);
    assert_eq!(reassembled(&out), back.from(VIP).hop());
    // A whole packet of the same association is of the same flow.
    w.pass(PodA, &sctp(A, VIP), NodeB, &sctp(A, FAR).hop());
    assert_eq!(
        w.count(|h| &h.flows_inserted) - 2,
        2,
        "a flow of two entries, and an entry for each datagram"
    );
    let first = &fragments(&sctp(A, "10.96.0.2:81").may_be_fragmented().data(5_000), 1400)[0];
    w.drop(PodA, first, DropReason::SctpFragment);
}

#[test]
fn later_fragments_follow_the_first_to_outside_and_back() {
    let mut w = World::new();
    for whole in [udp(A, "203.0.113.9:53"), ping("10.1.0.2", "203.0.113.9", 5)] {
        let whole = whole.may_be_fragmented().data(5_000);
        let out = reassembled(&w.send(PodA, fragments(&whole, 1400)).all(Wire));
        assert_eq!(
            (out.src.to_string(), out.data.clone(), out.checksum),
            ("192.168.7.10".into(), whole.data.clone(), Sum::Right)
        );
        let back = w.send(Wire, fragments(&out.back(), 1400)).all(PodA);
        assert_eq!(reassembled(&back), whole.back().hop());
    }
}

#[test]
fn later_fragments_without_a_first_are_not_let_out_untranslated() {
    let mut w = World::with(|d| d.service("udp 10.96.0.1:80", &[FAR]));
    for whole in [udp(A, VIP), udp(A, "203.0.113.9:53")] {
        let later = fragments(&whole.data(3_000), 1400)[1].clone();
        w.waiting = 1;
        w.send(PodA, [later]).is(&[], &[]);
        w.waiting = 0;
        w.pass_time_quietly(2);
        w.turn(0).is(&[], &[DropReason::FragmentUnknown]);
    }
}

#[test]
fn an_identification_used_again_follows_its_new_first_fragment() {
    let mut w = World::with(|d| {
        d.service("udp 10.96.0.1:80", &[FAR]);
        d.service("udp 10.96.0.1:81", &[B]);
    });
    let one = udp(A, VIP).may_be_fragmented().data(3_000);
    let other = one.to("10.96.0.1:81");
    assert_eq!(reassembled(&w.send(PodA, fragments(&one, 1400)).all(NodeB)), one.to(FAR).hop());
    assert_eq!(reassembled(&w.send(PodA, fragments(&other, 1400)).all(PodB)), other.to(B).hop());
}

#[test]
fn fragments_are_remembered_for_thirty_seconds() {
    let mut w = World::with(|d| d.service("udp 10.96.0.1:80", &[FAR]));
    let sent = fragments(&udp(A, VIP).data(2_000), 1400);
    w.send(PodA, &sent[..1]).all(NodeB);
    assert_eq!(w.flows(), 3);
    w.pass_time(29);
    assert_eq!(w.flows(), 3);
    w.pass_time(1);
    assert_eq!(w.flows(), 0);
    w.waiting = 1;
    w.send(PodA, &sent[1..2]).is(&[], &[]);
}

#[test]
fn later_fragments_wait_for_their_first_one() {
    let world = || {
        World::with(|d| {
            d.detect_pods();
            d.service_at("u", &["udp 10.96.0.1:80", "node udp 30080"], &[FAR]);
        })
    };
    // Through a Service, in every order.
    let whole = udp(A, VIP).may_be_fragmented().data(4_000);
    let sent = fragments(&whole, 1400);
    for order in [[2, 1, 0], [1, 0, 2], [2, 0, 1], [1, 2, 0]] {
        let mut w = world();
        let mut out = Vec::new();
        for (sent_so_far, index) in order.into_iter().enumerate() {
            let first_is_there = order[..=sent_so_far].contains(&0);
            w.waiting = if first_is_there { 0 } else { sent_so_far as u32 + 1 };
            out.extend(w.send(PodA, &sent[index..=index]).all(NodeB));
            out.extend(w.turn(0).all(NodeB));
        }
        assert_eq!(reassembled(&in_order(out)), whole.to(FAR).hop(), "{order:?}");
    }
    // A NodePort from outside, and the answer to it, which comes by a tunnel.
    let mut w = world();
    let whole = udp("203.0.113.9:5000", "192.168.7.10:30080").may_be_fragmented().data(3_000);
    let mut sent = fragments(&whole, 1400);
    sent.reverse();
    let mut out = w.send(Wire, &sent).all(NodeB);
    out.extend(w.turn(0).all(NodeB));
    let seen = reassembled(&in_order(out));
    assert_eq!(seen, whole.from(&format!("192.168.7.10:{}", seen.ports.0)).to(FAR).hop());
    let mut back = fragments(&seen.back(), 1400);
    back.reverse();
    let mut out = w.send(NodeB, &back).all(Wire);
    out.extend(w.turn(0).all(Wire));
    assert_eq!(reassembled(&in_order(out)), whole.back().hop());
}

#[test]
fn the_first_fragment_may_come_to_another_worker() {
    let mut plan = Plan::new().desired(|d| d.service("udp 10.96.0.1:80", &[FAR]));
    plan.workers = 2;
    let mut w = plan.world();
    let whole = udp(A, VIP).may_be_fragmented().data(2_000);
    let sent = fragments(&whole, 1400);
    w.waiting = 1;
    w.send_to(1, PodA, &sent[1..]).is(&[], &[]);
    let mut out = w.send_to(0, PodA, &sent[..1]).all(NodeB);
    w.waiting = 0;
    out.extend(w.turn(1).all(NodeB));
    assert_eq!(reassembled(&out), whole.to(FAR).hop());
}

#[test]
fn fragments_that_are_the_node_s_own_go_to_its_stack_as_they_came() {
    let mut w = World::with(|d| {
        d.detect_pods();
        d.service_at("u", &["node udp 30080"], &[FAR]);
    });
    let sent = fragments(&udp("203.0.113.9:53", "192.168.7.10:9999").data(4_000), 1400);
    for packet in &sent {
        w.pass(Wire, packet, Host, packet);
    }
    // Out of order they wait for the first one, which says whose they are.
    let sent = fragments(&udp("203.0.113.9:53", "192.168.7.10:9999").id(7).data(2_000), 1400);
    w.waiting = 1;
    w.send(Wire, &sent[1..]).is(&[], &[]);
    w.waiting = 0;
    let mut out = w.send(Wire, &sent[..1]).all(Host);
    out.extend(w.turn(0).all(Host));
    assert_eq!(out, sent);
    // Without a first one they go there too, after a while.
    let lost = fragments(&udp("203.0.113.9:53", "192.168.7.10:9999").id(8).data(2_000), 1400);
    w.waiting = 1;
    w.send(Wire, &lost[1..]).is(&[], &[]);
    w.waiting = 0;
    w.pass_time_quietly(2);
    w.turn(0).is(&both(Host, &lost[1..]), &[]);
}

#[test]
fn only_so_many_fragments_wait() {
    let mut w = World::with(|d| d.service("udp 10.96.0.1:80", &[FAR]));
    let later = |id| fragments(&udp(A, VIP).id(id).data(2_000), 1400)[1].clone();
    w.waiting = 64;
    let many: Vec<_> = (0..64).map(later).collect();
    w.send(PodA, &many).is(&[], &[]);
    w.drop(PodA, &later(64), DropReason::FragmentUnknown);
    w.waiting = 0;
    w.pass_time_quietly(2);
    w.turn(0).is(&[], &[DropReason::FragmentUnknown; 64]);
}

impl World {
    /// A packet that may not be cut is refused with the MTU of its way.
    #[track_caller]
    fn drop_whole(&mut self, from: At, sent: &Packet, mtu: usize) {
        let answer = error("10.1.0.1", &sent.src.to_string(), FRAGMENTATION_NEEDED, mtu as u16, sent);
        self.refuse(from, sent, DropReason::TooBig, &answer);
    }
}
