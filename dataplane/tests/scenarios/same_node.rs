//! Pod to pod on one node.

use headrace_dataplane::drop_reason::DropReason;
use headrace_wire::tcp::TcpFlags;

use crate::walk::World;
use crate::walk::oracle::segments;
use crate::walk::packet::{Sum, ping, syn, syn_ack, tcp, udp};
use crate::walk::place::At::{Plain, PodA, PodB};

const A: &str = "10.1.0.2:4000";
const B: &str = "10.1.0.3:80";

#[test]
fn packets_pass_both_ways_one_hop_older() {
    let mut w = World::new();
    w.forward(PodA, &syn(A, B), PodB);
    w.forward(PodB, &syn_ack(B, A), PodA);
    w.forward(PodA, &tcp(A, B).data(500), PodB);
    w.forward(PodA, &udp(A, B).data(1), PodB);
    w.forward(PodB, &udp(B, A).data(0), PodA);
    w.forward(PodA, &ping("10.1.0.2", "10.1.0.3", 7), PodB);
    w.forward(PodB, &ping("10.1.0.2", "10.1.0.3", 7).back(), PodA);
    assert_eq!(w.flows(), 6);
    assert_eq!((w.count(|h| &h.flow_hits), w.count(|h| &h.flow_misses)), (4, 3));
}

#[test]
fn headers_are_kept_but_for_the_time_to_live() {
    let mut w = World::new();
    let plain = udp(A, B);
    w.forward(PodA, &plain.tos(0xb9).id(0), PodB);
    w.forward(PodA, &plain.may_be_fragmented().ttl(2), PodB);
    w.forward(PodA, &plain.ip_options(&[148, 4, 0, 0, 1, 1, 1, 0]), PodB);
    w.forward(PodA, &plain.checksum(Sum::Absent), PodB);
    w.forward(PodA, &plain.checksum(Sum::Wrong), PodB);
    w.forward(PodA, &tcp(A, B).timestamps().flags(TcpFlags::ALL.without(TcpFlags::SYN)).data(3), PodB);
}

#[test]
fn bytes_behind_the_packet_are_cut_off() {
    let mut w = World::new();
    let sent = udp(A, B).data(4);
    for padding in [1, 14, 4000] {
        let frame = [PodA.frame(&sent), vec![0xa5; padding]].concat();
        w.send_frames(0, PodA, vec![frame]).is(&[(PodB, sent.hop())], &[]);
        assert_eq!(w.last_frame().len(), PodA.frame(&sent).len());
    }
}

#[test]
fn a_superframe_passes_whole() {
    let mut w = World::new();
    let (a, b) = (A, B);
    w.forward(PodA, &tcp(a, b).data(60_000), PodB);
    w.forward(PodB, &tcp(b, a).data(65_495), PodA);
    assert_eq!(w.count(|h| &h.segments_out), 0);
}

#[test]
fn a_partial_checksum_is_kept_where_the_port_takes_it_and_completed_elsewhere() {
    let mut w = World::new();
    for data in [0, 1, 999, 60_001] {
        let (there, back) = (tcp(A, B).data(data), tcp(B, A).data(data));
        w.pass(PodA, &there.checksum(Sum::Partial), PodB, &there.hop());
        w.forward(PodB, &back.checksum(Sum::Partial), PodA);
    }
    let datagram = udp(A, B).data(77);
    w.pass(PodA, &datagram.checksum(Sum::Partial), PodB, &datagram.hop());
    assert_eq!(w.count(|h| &h.checksums_completed), 5);
}

#[test]
fn a_port_without_superframes_gets_segments() {
    let mut w = World::new();
    let big =
        tcp(A, "10.1.0.4:80").flags(TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN).timestamps().data(10_000);
    let out = w.send(PodA, [big.checksum(Sum::Partial)]).all(Plain);
    assert_eq!(out, segments(&big.hop(), 1450 - 52));
    w.drop(PodA, &big.checksum(Sum::Wrong), DropReason::BadChecksum);
    w.forward(PodA, &tcp(A, "10.1.0.4:80").data(1410), Plain);
}
