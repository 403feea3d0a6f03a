//! Segments from the wire become superframes.

use headrace_wire::tcp::TcpFlags;

use crate::walk::World;
use crate::walk::oracle::segments;
use crate::walk::packet::{Packet, Sum, tcp, udp};
use crate::walk::place::At::{self, NodeB, Plain, PodA, PodB};

const FAR: &str = "10.1.1.5:80";
const A: &str = "10.1.0.2:4000";
const B: &str = "10.1.0.3:4000";

/// What comes out at a place of a burst of segments.
fn burst(w: &mut World, sent: &[Packet], at: At) -> Vec<Packet> {
    w.send(NodeB, sent).all(at)
}

/// The superframe that segments `range` of `whole` make, one hop older.
fn merged(whole: &Packet, size: usize, range: std::ops::Range<usize>) -> Packet {
    let all = segments(whole, size);
    let last = all[range.end - 1].clone();
    let Packet { body: crate::walk::packet::Body::Tcp { flags, .. }, .. } = last else { unreachable!() };
    let data: Vec<u8> = all[range.clone()].iter().flat_map(|s| s.data.clone()).collect();
    Packet { data, ..all[range.start].flags(flags).hop() }
}

#[test]
fn segments_in_order_become_one_superframe() {
    for size in [1398, 1397, 1, 536] {
        let mut w = World::new();
        let flags = TcpFlags::ACK | TcpFlags::PSH;
        let whole = tcp(FAR, B).flags(flags).timestamps().data(size * 9 + size / 2);
        assert_eq!(burst(&mut w, &segments(&whole, size), PodB), [whole.hop()], "{size}");
        let whole = whole.to(A);
        let expected = whole.hop().checksum(Sum::Partial);
        assert_eq!(burst(&mut w, &segments(&whole, size), PodA), [expected], "{size}");
        let pieces = segments(&whole, size).len() as u64;
        assert_eq!(w.count(|h| &h.segments_in), 2 * (pieces - 1));
    }
}

#[test]
fn a_superframe_is_64_kilobytes_at_most() {
    let mut w = World::new();
    let whole = tcp(FAR, B).data(60 * 1398);
    let out = burst(&mut w, &segments(&whole, 1398), PodB);
    assert_eq!(out, [merged(&whole, 1398, 0..46), merged(&whole, 1398, 46..60)]);
}

#[test]
fn a_push_and_a_short_segment_end_a_superframe() {
    let mut w = World::new();
    let whole = tcp(FAR, B).data(4000);
    let mut sent = segments(&whole, 1000);
    sent[1] = sent[1].flags(TcpFlags::ACK | TcpFlags::PSH);
    let first = merged(&whole, 1000, 0..2).flags(TcpFlags::ACK | TcpFlags::PSH);
    assert_eq!(burst(&mut w, &sent, PodB), [first, merged(&whole, 1000, 2..4)]);

    let short = tcp(FAR, B).data(1500);
    let next = tcp(FAR, B).sequence(2500).data(1000);
    let sent = [segments(&short, 1000), vec![next.clone()]].concat();
    assert_eq!(burst(&mut w, &sent, PodB), [short.hop(), next.hop()]);
}

#[test]
fn what_does_not_follow_is_not_merged() {
    let whole = tcp(FAR, B).data(4000);
    let s = segments(&whole, 1000);
    let hopped = |list: &[Packet]| list.iter().map(Packet::hop).collect::<Vec<_>>();
    let cases = [
        ("out of order", vec![s[0].clone(), s[2].clone(), s[1].clone(), s[3].clone()]),
        ("twice the same", vec![s[0].clone(), s[0].clone()]),
        ("congestion experienced", vec![s[0].tos(2), s[1].tos(3), s[2].tos(2)]),
        ("other options", vec![s[0].clone(), s[1].timestamps(), s[2].clone()]),
        ("other time to live", vec![s[0].clone(), s[1].ttl(63)]),
        ("may be fragmented", vec![s[0].clone(), s[1].may_be_fragmented()]),
        ("echo of congestion", vec![s[0].clone(), s[1].flags(TcpFlags::ACK | TcpFlags::ECE), s[2].clone()]),
        ("end of data", vec![s[0].clone(), s[1].flags(TcpFlags::ACK | TcpFlags::FIN)]),
        ("no data", vec![s[0].clone(), tcp(FAR, B).sequence(2000), s[1].clone()]),
        ("longer", vec![s[0].clone(), s[1].data(1001)]),
        ("IPv4 options", vec![s[0].clone(), s[1].ip_options(&[148, 4, 0, 0]), s[2].clone()]),
        ("no TCP", vec![udp(FAR, B), udp(FAR, B)]),
    ];
    for (name, sent) in cases {
        let mut w = World::new();
        assert_eq!(burst(&mut w, &sent, PodB), hopped(&sent), "{name}");
        assert_eq!(w.count(|h| &h.segments_in), 0, "{name}");
    }
}

#[test]
fn a_corrupt_segment_passes_alone_and_stays_corrupt() {
    for (at, rest) in [(PodA, Sum::Partial), (PodB, Sum::Right)] {
        let mut w = World::new();
        let whole = tcp(FAR, if at == PodA { A } else { B }).data(5000);
        let mut sent = segments(&whole, 1000);
        sent[1] = sent[1].checksum(Sum::Wrong);
        let out = burst(&mut w, &sent, at);
        let first = sent[0].hop().checksum(rest);
        let last = merged(&whole, 1000, 2..5).checksum(rest);
        assert_eq!(out, [first, sent[1].hop(), last], "{at:?}");
    }
}

#[test]
fn flows_that_take_turns_are_merged_each() {
    let mut w = World::new();
    let wholes: Vec<_> = (0..4).map(|i| tcp(&format!("10.1.1.5:{}", 80 + i), B).data(5000)).collect();
    let all: Vec<_> = wholes.iter().map(|whole| segments(whole, 1000)).collect();
    let sent: Vec<_> = (0..5).flat_map(|i| all.iter().map(move |s| s[i].clone())).collect();
    let mut out = burst(&mut w, &sent, PodB);
    out.sort_by_key(|p| p.ports);
    assert_eq!(out, wholes.iter().map(Packet::hop).collect::<Vec<_>>());
}

#[test]
fn more_flows_than_are_merged_at_a_time_lose_nothing() {
    let mut w = World::new();
    let wholes: Vec<_> = (0..20).map(|i| tcp(&format!("10.1.1.5:{}", 80 + i), B).data(3000)).collect();
    let all: Vec<_> = wholes.iter().map(|whole| segments(whole, 1000)).collect();
    let sent: Vec<_> = (0..3).flat_map(|i| all.iter().map(move |s| s[i].clone())).collect();
    let out = burst(&mut w, &sent, PodB);
    let bytes: usize = out.iter().map(|p| p.data.len()).sum();
    assert_eq!(bytes, 20 * 3000);
}

#[test]
fn a_port_without_superframes_gets_segments_as_they_are() {
    let mut w = World::new();
    let sent = segments(&tcp(FAR, "10.1.0.4:9").data(5000), 1000);
    assert_eq!(burst(&mut w, &sent, Plain), sent.iter().map(Packet::hop).collect::<Vec<_>>());
}

#[test]
fn few_chunks_are_enough() {
    let mut plan = crate::walk::Plan::new();
    plan.chunks = 8;
    let mut w = plan.world();
    let whole = tcp(FAR, B).data(1398 * 7);
    w.send(NodeB, segments(&whole, 1398)).is(&[(PodB, whole.hop())], &[]);
    let many: Vec<_> = (0..8).map(|i| tcp(&format!("10.1.1.5:{}", 80 + i), B).data(1398)).collect();
    w.send(NodeB, &many).is(&many.iter().map(|p| (PodB, p.hop())).collect::<Vec<_>>(), &[]);
}
