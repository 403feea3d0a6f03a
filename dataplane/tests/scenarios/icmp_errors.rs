//! ICMP errors: those a router sends, and those of others about translated connections.

use headrace_dataplane::drop_reason::DropReason;
use headrace_wire::tcp::TcpFlags;

use crate::walk::World;
use crate::walk::oracle::segments;
use crate::walk::packet::{
    FRAGMENTATION_NEEDED, PORT_UNREACHABLE, Packet, Sum, TIME_EXCEEDED, error, icmp, ping, syn, tcp, udp,
};
use crate::walk::place::At::{Host, NodeB, Plain, PodA, PodB, Wire};

const A: &str = "10.1.0.2:4000";
const B: &str = "10.1.0.3:80";
const VIP: &str = "10.96.0.1:80";
const FAR: &str = "10.1.1.5:8080";
const OUTSIDE: &str = "203.0.113.9:443";

#[test]
fn a_packet_at_its_last_hop_is_answered() {
    let mut w = World::with(|d| d.service("udp 10.96.0.1:80", &[B]));
    for destination in [B, FAR, OUTSIDE, VIP] {
        let sent = udp(A, destination).ttl(1).data(900);
        w.refuse(
            PodA,
            &sent,
            DropReason::TtlExceeded,
            &error("10.1.0.1", "10.1.0.2", TIME_EXCEEDED, 0, &sent),
        );
    }
    let sent = udp("10.1.1.5:9", A).ttl(1);
    w.refuse(NodeB, &sent, DropReason::TtlExceeded, &error("10.1.0.1", "10.1.1.5", TIME_EXCEEDED, 0, &sent));
    let sent = udp("192.168.7.10:9", A).ttl(0);
    w.refuse(
        Host,
        &sent,
        DropReason::TtlExceeded,
        &error("10.1.0.1", "192.168.7.10", TIME_EXCEEDED, 0, &sent),
    );
    let sent = udp("203.0.113.9:9", A).ttl(1);
    w.refuse(
        Wire,
        &sent,
        DropReason::TtlExceeded,
        &error("192.168.7.10", "203.0.113.9", TIME_EXCEEDED, 0, &sent),
    );
}

#[test]
fn too_large_a_packet_that_must_stay_whole_is_answered_with_the_mtu() {
    let mut w = World::new();
    let too_big = |w: &mut World, sent: Packet, mtu| {
        let answer = error("10.1.0.1", "10.1.0.2", FRAGMENTATION_NEEDED, mtu, &sent);
        w.refuse(PodA, &sent, DropReason::TooBig, &answer);
    };
    too_big(&mut w, udp(A, FAR).data(1451 - 28), 1450);
    too_big(&mut w, udp(A, OUTSIDE).data(1501 - 28), 1500);
    too_big(&mut w, udp(A, "10.1.0.4:9").data(20_000), 1450);
    too_big(&mut w, ping("10.1.0.2", "10.1.1.5", 1).data(1451 - 28), 1450);
    w.forward(PodA, &udp(A, FAR).data(1450 - 28), NodeB);
    w.forward(PodA, &udp(A, B).data(20_000), PodB);
}

#[test]
fn never_an_error_about_an_error_a_later_fragment_or_a_dubious_source() {
    let mut w = World::new();
    let inner = udp("10.1.0.3:80", A);
    let about = error("10.1.0.2", "10.1.0.3", PORT_UNREACHABLE, 0, &inner).ttl(1);
    w.send(PodA, [about]).is(&[], &[DropReason::TtlExceeded]);
    let later = &crate::walk::oracle::fragments(&udp(A, B).data(100), 64)[1].ttl(1);
    w.send(PodA, later).is(&[], &[DropReason::TtlExceeded]);
}

#[test]
fn an_endpoint_s_error_comes_from_the_service() {
    let mut w = World::with(|d| d.service("udp 10.96.0.1:80", &[B]));
    let (sent, seen) = (udp(A, VIP), udp(A, B).hop());
    w.pass(PodA, &sent, PodB, &seen);
    let told = error("10.1.0.3", "10.1.0.2", PORT_UNREACHABLE, 0, &seen);
    let expected = error("10.96.0.1", "10.1.0.2", PORT_UNREACHABLE, 0, &sent.hop());
    w.pass(PodB, &told, PodA, &expected.hop());
    // The client speaks of an answer that it got from the Service.
    let (answer, seen) = (udp(B, A), udp(VIP, A).hop());
    w.pass(PodB, &answer, PodA, &seen);
    let told = error("10.1.0.2", "10.96.0.1", PORT_UNREACHABLE, 0, &seen);
    w.pass(PodA, &told, PodB, &error("10.1.0.2", "10.1.0.3", PORT_UNREACHABLE, 0, &answer.hop()).hop());
}

#[test]
fn a_router_s_error_keeps_its_sender() {
    let mut w = World::with(|d| d.service("tcp 10.96.0.1:80", &[FAR]));
    let (sent, seen) = (syn(A, VIP), syn(A, FAR).hop());
    w.pass(PodA, &sent, NodeB, &seen);
    let told = error("192.168.7.11", "10.1.0.2", TIME_EXCEEDED, 0, &seen);
    w.pass(NodeB, &told, PodA, &error("192.168.7.11", "10.1.0.2", TIME_EXCEEDED, 0, &sent.hop()).hop());
}

#[test]
fn errors_about_masqueraded_packets_reach_the_pod() {
    let mut w = World::new();
    for sent in [udp(A, OUTSIDE), syn(A, OUTSIDE), ping("10.1.0.2", "203.0.113.9", 3)] {
        let seen = w.send(PodA, &sent).only(Wire);
        for (router, kind) in [("198.51.100.1", TIME_EXCEEDED), ("203.0.113.9", PORT_UNREACHABLE)] {
            let told = error(router, "192.168.7.10", kind, 0, &seen);
            w.pass(Wire, &told, PodA, &error(router, "10.1.0.2", kind, 0, &sent.hop()).hop());
        }
        // The pod speaks of an answer from outside.
        let answer = if sent.ports == (0, 0) { seen.back() } else { seen.back().ttl(60) };
        let got = w.send(Wire, &answer).only(PodA);
        let told = error("10.1.0.2", "203.0.113.9", PORT_UNREACHABLE, 0, &got);
        let expected = error("192.168.7.10", "203.0.113.9", PORT_UNREACHABLE, 0, &answer.hop());
        w.pass(PodA, &told, Wire, &expected.hop());
    }
}

#[test]
fn a_short_quote_is_translated_too() {
    let mut w = World::with(|d| d.service("tcp 10.96.0.1:80", &[FAR]));
    let (sent, seen) = (syn(A, VIP).timestamps(), syn(A, FAR).timestamps().hop());
    w.pass(PodA, &sent, NodeB, &seen);
    let cut = |p: &Packet| {
        let mut told = error("192.168.7.11", "10.1.0.2", TIME_EXCEEDED, 0, p);
        told.data.truncate(28);
        told
    };
    w.pass(NodeB, &cut(&seen), PodA, &cut(&sent.hop()).hop());
    let mut none = cut(&seen);
    none.data.truncate(27);
    w.drop(NodeB, &none, DropReason::IcmpErrorMalformed);
}

#[test]
fn fragmentation_needed_shortens_the_segments_that_follow() {
    let mut w = World::with(|d| d.service("tcp 10.96.0.1:80", &[FAR]));
    for (destination, at, source) in [(VIP, NodeB, A), (OUTSIDE, Wire, "10.1.0.2:4001")] {
        let sent = syn(source, destination).mss(1410);
        let seen = w.send(PodA, &sent).only(at);
        w.send(at, [seen.back().flags(TcpFlags::SYN | TcpFlags::ACK).mss(1410)]).only(PodA);
        let big = tcp(source, destination).data(20_000);
        let as_seen = Packet { src: seen.src, dst: seen.dst, ports: seen.ports, ..big.hop() };
        let out = w.send(PodA, [big.checksum(Sum::Partial)]).all(at);
        assert_eq!(out, segments(&as_seen, 1410));
        for (mtu, size) in [(1300, 1260), (1400, 1260), (68, 512), (0, 512)] {
            let told = error("192.168.7.11", &seen.src.to_string(), FRAGMENTATION_NEEDED, mtu, &out[0]);
            w.send(at, [told]).only(PodA);
            let out = w.send(PodA, [big.checksum(Sum::Partial)]).all(at);
            assert_eq!(out, segments(&as_seen, size), "{destination} after {mtu}");
        }
    }
}

#[test]
fn an_error_may_be_longer_than_a_chunk() {
    let mut w = World::with(|d| d.service("udp 10.96.0.1:80", &[B]));
    let (sent, seen) = (udp(A, VIP).data(9000), udp(A, B).data(9000).hop());
    w.pass(PodA, &sent, PodB, &seen);
    let whole =
        |src: &str, quote: &Packet| Packet { data: quote.bytes(), ..icmp(src, "10.1.0.2", 3, 3, [0; 4]) };
    let out = w.send(PodB, [whole("10.1.0.3", &seen)]).only(PodA);
    // The quoted checksum covers what is not looked at: the quote is right all the same.
    assert_eq!(out, whole("10.96.0.1", &sent.hop()).hop());
}

#[test]
fn errors_about_nothing_known() {
    let mut w = World::with(|d| d.service("udp 10.96.0.1:80", &[B]));
    let plain = error("10.1.0.3", "10.1.0.2", PORT_UNREACHABLE, 0, &udp(A, B));
    w.forward(PodB, &plain, PodA);
    let forged = error("10.1.0.3", "10.1.0.2", PORT_UNREACHABLE, 0, &udp("10.1.0.9:1", B));
    w.drop(PodB, &forged, DropReason::IcmpErrorUnrelated);
    let to_service = error("10.1.0.2", "10.96.0.1", PORT_UNREACHABLE, 0, &udp(VIP, A));
    w.drop(PodA, &to_service, DropReason::NoServicePort);
    let outside = error("10.1.0.2", "203.0.113.9", PORT_UNREACHABLE, 0, &udp(OUTSIDE, A));
    w.drop(PodA, &outside, DropReason::IcmpErrorUnrelated);
}

#[test]
fn pods_speak_of_their_own_connections_alone() {
    let mut w = World::new();
    w.forward(PodA, &syn(A, FAR).mss(1410), NodeB);
    let forged = error("10.1.0.4", "10.1.0.2", FRAGMENTATION_NEEDED, 600, &syn(A, FAR).hop());
    w.drop(Plain, &forged, DropReason::IcmpErrorUnrelated);
    let big = tcp(A, FAR).data(5_000);
    assert_eq!(w.send(PodA, [big.checksum(Sum::Partial)]).all(NodeB), segments(&big.hop(), 1410));
}
