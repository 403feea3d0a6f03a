//! Pod to pod across nodes. What the tunnel's headers must be is checked for every packet: see `walk::verify`.

use headrace_api::state::Encapsulation;
use headrace_dataplane::drop_reason::DropReason;
use headrace_wire::tcp::TcpFlags;

use crate::walk::World;
use crate::walk::oracle::segments;
use crate::walk::packet::{FRAGMENTATION_NEEDED, Sum, error, ping, syn, syn_ack, tcp, udp};
use crate::walk::place::At::{Host, NodeB, NodeC, PodA, PodB, Wire};
use crate::walk::place::Vxlan;

const A: &str = "10.1.0.2:4000";
const B: &str = "10.1.0.3:4000";
const FAR: &str = "10.1.1.5:80";

#[test]
fn packets_pass_both_ways_one_hop_older() {
    let mut w = World::new();
    w.forward(PodA, &syn(A, FAR), NodeB);
    w.forward(NodeB, &syn_ack(FAR, A), PodA);
    w.forward(PodA, &tcp(A, FAR).data(1), NodeB);
    w.forward(PodA, &udp(A, FAR).tos(0xba), NodeB);
    w.forward(NodeB, &udp(FAR, A), PodA);
    w.forward(PodA, &ping("10.1.0.2", "10.1.2.5", 3), NodeC);
    w.forward(NodeC, &ping("10.1.0.2", "10.1.2.5", 3).back(), PodA);
    w.forward(NodeC, &udp("10.1.2.5:9", B), PodB);
    w.pass(PodA, &udp(A, FAR).checksum(Sum::Partial), NodeB, &udp(A, FAR).hop());
    w.forward(PodA, &udp(A, FAR).checksum(Sum::Absent), NodeB);
    w.forward(NodeB, &udp(FAR, A).checksum(Sum::Wrong), PodA);
}

#[test]
fn port_and_network_of_the_tunnel_are_configured() {
    let mut w = World::with(|d| {
        d.settings().vxlan_port = 4789.try_into().unwrap();
        d.settings().vni = headrace_wire::vxlan::Vni::new(0xabcdef).unwrap();
    });
    w.forward(PodA, &udp(A, FAR), NodeB);
}

#[test]
fn a_superframe_becomes_segments_that_fit_the_tunnel() {
    let mut w = World::new();
    let flags = TcpFlags::ACK | TcpFlags::PSH | TcpFlags::FIN | TcpFlags::CWR;
    let big = tcp(A, FAR).flags(flags).timestamps().data(60_000);
    for checksum in [Sum::Partial, Sum::Right] {
        let out = w.send(PodA, [big.checksum(checksum)]).all(NodeB);
        assert_eq!(out, segments(&big.hop(), 1450 - 52));
    }
    let bare = tcp(A, FAR).id(0xfff0).sequence(u32::MAX - 5).data(65_495);
    assert_eq!(w.send(PodA, [bare.checksum(Sum::Partial)]).all(NodeB), segments(&bare.hop(), 1410));
    assert_eq!(w.count(|h| &h.segments_out), 43 + 43 + 47);
    w.drop(PodA, &big.checksum(Sum::Wrong), DropReason::BadChecksum);
}

#[test]
fn segments_are_as_long_as_the_receiver_says_less_the_options() {
    for (announced, options, size) in
        [(1398, 0, 1398), (1398, 12, 1386), (536, 12, 524), (9000, 0, 1410), (9000, 12, 1398)]
    {
        let mut w = World::new();
        w.forward(PodA, &syn(A, FAR).mss(1460), NodeB);
        w.forward(NodeB, &syn_ack(FAR, A).mss(announced), PodA);
        let big = tcp(A, FAR).data(20_000);
        let big = if options > 0 { big.timestamps() } else { big };
        let out = w.send(PodA, [big.checksum(Sum::Partial)]).all(NodeB);
        assert_eq!(out, segments(&big.hop(), size), "MSS {announced}, {options} bytes of options");
    }
}

#[test]
fn the_client_s_syn_limits_the_server_s_segments() {
    let mut w = World::new();
    w.forward(NodeB, &syn(FAR, A).mss(1000), PodA);
    w.forward(PodA, &syn_ack(A, FAR).mss(1410), NodeB);
    let big = tcp(A, FAR).data(5_000);
    assert_eq!(w.send(PodA, [big.checksum(Sum::Partial)]).all(NodeB), segments(&big.hop(), 1000));
}

#[test]
fn a_tiny_mss_does_not_make_thousands_of_segments() {
    let mut w = World::new();
    w.forward(PodA, &syn(A, FAR), NodeB);
    w.forward(NodeB, &syn_ack(FAR, A).mss(1), PodA);
    let big = tcp(A, FAR).data(60_000);
    assert!(w.send(PodA, [big.checksum(Sum::Partial)]).all(NodeB).len() < 300);
}

#[test]
fn a_pod_s_own_path_mtu_counts_towards_the_wire_alone() {
    let mut w = World::with(|d| d.ports[0].1.path_mtu = Some(1000));
    let (big, datagram) = (tcp(A, FAR).data(5_000), udp(A, FAR).data(1200));
    assert_eq!(w.send(PodA, &big).all(NodeB), segments(&big.hop(), 960));
    let answer = error("10.1.0.1", "10.1.0.2", FRAGMENTATION_NEEDED, 1000, &datagram);
    w.refuse(PodA, &datagram, DropReason::TooBig, &answer);
    w.forward(PodA, &big.to("10.1.0.3:80"), PodB);
    w.forward(PodB, &datagram.from(B), NodeB);
}

#[test]
fn congestion_in_the_tunnel_reaches_the_pod() {
    const ECT_0: u8 = 2;
    const CE: u8 = 3;
    let mut w = World::new();
    let inner = udp(FAR, B).tos(0xb8 | ECT_0);
    let marked = Vxlan { tos: CE, ..Vxlan::from(NodeB) };
    let outcome = w.send_frames(0, NodeB, vec![marked.around(&inner.bytes())]);
    outcome.is(&[(PodB, inner.tos(0xb8 | CE).hop())], &[]);
    w.drop_frame(NodeB, marked.around(&udp(FAR, B).bytes()), DropReason::CongestionNotEcn);
}

#[test]
fn direct_mode_needs_no_tunnel_on_the_subnet() {
    let mut w = World::with(|d| d.settings().encapsulation = Encapsulation::Direct);
    w.forward(PodA, &syn(A, FAR), Wire);
    w.forward(Wire, &syn_ack(FAR, A).mss(1460), PodA);
    let big = tcp(A, FAR).data(30_000);
    assert_eq!(w.send(PodA, [big.checksum(Sum::Partial)]).all(Wire), segments(&big.hop(), 1460));
    w.forward(Wire, &udp(FAR, B), PodB);
    w.forward(PodB, &udp(B, FAR), Wire);
    w.forward(PodA, &udp(A, "192.168.7.11:22"), Wire);
    w.forward(Host, &udp("192.168.7.10:9", FAR), Wire);
    w.forward(PodA, &udp(A, "10.1.2.5:80"), NodeC);
    w.forward(NodeC, &udp("10.1.2.5:80", A), PodA);
}
