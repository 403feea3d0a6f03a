//! Frames that lie: each is dropped for its own reason.

use headrace_dataplane::drop_reason::DropReason;
use headrace_wire::ethernet::MacAddr;

use crate::walk::packet::{Body, Packet, error, icmp, ping, tcp, udp};
use crate::walk::place::At::{Host, NodeB, NodeC, PodA, PodB, Wire};
use crate::walk::place::{Vxlan, ethernet};
use crate::walk::{Plan, World};

const A: &str = "10.1.0.2:4000";
const B: &str = "10.1.0.3:80";
const FAR: &str = "10.1.1.5:80";

#[test]
fn pods_send_from_their_own_address_to_their_gateway() {
    let mut w = World::new();
    for source in ["10.1.0.3:9", "10.1.0.9:9", "10.1.0.0:9", "10.1.0.1:9", "192.168.7.10:9", "10.96.0.1:9"] {
        w.drop(PodA, &udp(source, B), DropReason::SpoofedSource);
    }
    for source in ["0.0.0.0:68", "127.0.0.1:9", "224.0.0.1:9", "255.255.255.255:9"] {
        w.drop(PodA, &udp(source, B), DropReason::InvalidSource);
    }
    let packet = udp(A, B).bytes();
    let frame = |dst, ethertype| ethernet(PodA.pod_mac(), dst, ethertype, &packet);
    w.drop_frame(PodA, frame(PodB.pod_mac(), 0x0800), DropReason::NotToGateway);
    w.drop_frame(PodA, frame(MacAddr::BROADCAST, 0x0800), DropReason::Multicast);
    w.drop_frame(PodA, frame(MacAddr([0x33, 0x33, 0, 0, 0, 1]), 0x86dd), DropReason::NotIpv4);
    w.drop_frame(PodA, frame(MacAddr([0xee; 6]), 0x8100), DropReason::NotIpv4);
    w.drop(PodA, &udp(A, "224.0.0.251:5353"), DropReason::Multicast);
    w.drop(PodA, &udp(A, "255.255.255.255:67"), DropReason::Multicast);
    w.drop_frame(Host, frame(MacAddr::BROADCAST, 0x0800), DropReason::Multicast);
    assert_eq!(w.flows(), 0);
}

/// The packet with its IPv4 header changed and its checksum right again.
fn lie(packet: &Packet, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = packet.bytes();
    change(&mut bytes);
    if let Ok(mut header) = etherparse::Ipv4Header::from_slice(&bytes).map(|(h, _)| h) {
        header.header_checksum = header.calc_header_checksum();
        bytes[10..12].copy_from_slice(&header.header_checksum.to_be_bytes());
    }
    bytes
}

#[test]
fn headers_that_cannot_be_true_are_dropped_from_pods_and_from_tunnels() {
    use DropReason as R;
    let udp = |data| udp(A, B).data(data);
    let cut = |len: usize| udp(20).bytes()[..len].to_vec();
    let other = |protocol, fragment, data: usize| {
        Packet { fragment, body: Body::Other(protocol), ..udp(data) }.bytes()
    };
    let cases = [
        ("no IPv4 header", cut(19), R::Truncated),
        ("version 5", lie(&udp(20), |b| b[0] = 0x55), R::BadIpv4Header),
        ("header of 16 bytes", lie(&udp(20), |b| b[0] = 0x44), R::BadIpv4Header),
        (
            "header longer than the frame",
            lie(&udp(20), |b| {
                b[0] = 0x4f;
                b.truncate(40);
            }),
            R::Truncated,
        ),
        (
            "total length below the header",
            lie(&udp(20), |b| b[2..4].copy_from_slice(&[0, 19])),
            R::BadIpv4Header,
        ),
        ("total length beyond the frame", lie(&udp(20), |b| b[3] += 1), R::BadIpv4Header),
        (
            "wrong header checksum",
            {
                let mut b = udp(20).bytes();
                b[10] ^= 1;
                b
            },
            R::BadIpv4Checksum,
        ),
        ("loose source route", udp(1).ip_options(&[131, 7, 4, 1, 2, 3, 4, 0]).bytes(), R::BadIpv4Options),
        ("option beyond the header", udp(1).ip_options(&[148, 9, 0, 0]).bytes(), R::BadIpv4Options),
        (
            "UDP length below its header",
            lie(&udp(20), |b| b[24..26].copy_from_slice(&[0, 7])),
            R::BadTransportHeader,
        ),
        ("UDP length beyond the packet", lie(&udp(20), |b| b[25] += 1), R::BadTransportHeader),
        ("TCP header of 16 bytes", lie(&tcp(A, B), |b| b[32] = 0x40), R::BadTransportHeader),
        ("TCP header beyond the packet", lie(&tcp(A, B), |b| b[32] = 0xf0), R::BadTransportHeader),
        ("half a UDP header", other(17, (0, false), 4), R::BadTransportHeader),
        ("first fragment with half a header", other(6, (0, true), 8), R::BadFragment),
        ("fragment over the flags of TCP", other(6, (8, false), 16), R::BadFragment),
        ("fragment that is no multiple of 8", other(17, (0, true), 20), R::BadFragment),
        ("fragment beyond the largest datagram", other(17, (65_528, false), 20), R::BadFragment),
        ("fragment of nothing", other(17, (16, false), 0), R::BadFragment),
    ];
    let mut w = World::new();
    let tunnel = Vxlan::from(NodeB);
    for (name, packet, reason) in cases {
        println!("{name}");
        let frame = ethernet(PodA.pod_mac(), MacAddr([0xee; 6]), 0x0800, &packet);
        w.drop_frame(PodA, frame, reason);
        w.drop_frame(NodeB, tunnel.around(&packet), reason);
    }
    for len in 0..14 {
        w.drop_frame(PodA, vec![0xee; len.max(1)], R::Truncated);
    }
}

#[test]
fn tunnels_are_for_known_peers_and_their_own_addresses() {
    use DropReason as R;
    let mut w = World::new();
    let (good, inner) = (Vxlan::from(NodeB), udp(FAR, A).bytes());
    let cases = [
        ("unknown peer", Vxlan { src: "192.168.7.99", ..good.clone() }, R::UnknownPeer),
        ("no VNI flag", Vxlan { flags: 0, ..good.clone() }, R::BadVxlanHeader),
        ("other VNI", Vxlan { vni: 2, ..good.clone() }, R::WrongVni),
        ("to another MAC", Vxlan { inner_dst: NodeC.vtep(), ..good.clone() }, R::WrongInnerMac),
        ("to all", Vxlan { inner_dst: MacAddr::BROADCAST, ..good.clone() }, R::WrongInnerMac),
        ("IPv6 inside", Vxlan { ethertype: 0x86dd, ..good.clone() }, R::NotIpv4),
        ("ARP inside", Vxlan { ethertype: 0x0806, ..good.clone() }, R::NotIpv4),
        ("pods of another", Vxlan { src: "192.168.9.12", ..good.clone() }, R::ForeignInnerSource),
    ];
    for (name, vxlan, reason) in cases {
        println!("{name}");
        w.drop_frame(NodeB, vxlan.around(&inner), reason);
    }
    for source in ["10.1.2.5:9", B, "192.168.7.10:9", "203.0.113.9:9", "10.96.0.1:80"] {
        w.drop(NodeB, &udp(source, A), R::ForeignInnerSource);
    }
    w.drop(NodeB, &udp(FAR, "224.0.0.1:9"), R::Multicast);
    for len in 0..8 {
        w.drop_frame(NodeB, good.around_vxlan(&[8, 0, 0, 0, 0, 0, 1, 0][..len]), R::BadVxlanHeader);
    }
    for len in 0..14 {
        w.drop_frame(NodeB, good.around_frame(&vec![0; len]), R::Truncated);
    }
    for len in 14..34 {
        let frame = ethernet(good.inner_src, good.inner_dst, 0x0800, &inner);
        w.drop_frame(NodeB, good.around_frame(&frame[..len]), R::Truncated);
    }
    w.forward(NodeB, &udp(FAR, A), PodA);
    w.forward(NodeB, &udp("192.168.7.11:9", A), PodA);
    // A peer may send from another of its addresses than the one that its tunnel ends at.
    let other = Vxlan { src: "192.168.7.12", ..good };
    w.send_frames(0, NodeB, vec![other.around(&inner)]).only(PodA);
}

#[test]
fn what_came_by_a_tunnel_has_arrived() {
    let mut w = World::new();
    for destination in ["10.1.2.5:9", "10.1.1.6:9", "192.168.9.12:9", "203.0.113.9:9", "10.1.0.77:9"] {
        w.drop(NodeB, &udp(FAR, destination), DropReason::TunnelTransit);
    }
    w.drop(NodeB, &udp(FAR, "10.96.0.1:80"), DropReason::NoService);
}

#[test]
fn the_wire_may_not_speak_for_pods_nor_for_the_node() {
    let mut w = World::new();
    w.forward(PodA, &udp(A, B), PodB);
    for source in [A, "10.1.0.9:4000", "192.168.7.10:4000", "10.1.0.0:4000"] {
        w.drop(Wire, &udp(source, B), DropReason::SpoofedSource);
    }
    w.drop(Wire, &udp("127.0.0.1:4000", B), DropReason::InvalidSource);
}

#[test]
fn a_stolen_packet_that_nobody_wants_goes_to_the_node_as_it_is() {
    let mut w = World::new();
    let unwanted = [
        udp("203.0.113.9:53", "192.168.7.10:61500").ttl(1),
        tcp("203.0.113.9:443", "192.168.7.10:61500").timestamps(),
        ping("203.0.113.9", "192.168.7.10", 61500).tos(0xb8),
        ping("192.168.7.10", "203.0.113.9", 61500).back(),
        error("203.0.113.1", "192.168.7.10", (3, 3), 0, &udp("192.168.7.10:61500", "203.0.113.9:53")),
        icmp("203.0.113.9", "192.168.7.10", 13, 0, [0; 4]).data(12),
        udp("10.1.1.5:9", "192.168.7.10:61500").ip_options(&[148, 4, 0, 0]),
        udp("203.0.113.9:9", "192.168.7.10:8472").may_be_fragmented().data(100),
    ];
    for (i, packet) in unwanted.iter().enumerate().take(7) {
        w.pass(Wire, packet, Host, packet);
        assert_eq!(w.count(|h| &h.to_host), i as u64 + 1);
    }
    w.drop(Wire, &unwanted[7], DropReason::UnknownPeer);
    assert_eq!(w.flows(), 0);
}

#[test]
fn headers_split_over_chunks_are_refused() {
    for first_chunk in [10, 14, 30, 40] {
        let mut plan = Plan::new();
        plan.first_chunk = first_chunk;
        plan.world().drop(PodA, &udp(A, B).data(100), DropReason::HeaderSplit);
    }
    let mut plan = Plan::new();
    plan.first_chunk = 42;
    plan.world().forward(PodA, &udp(A, B).data(100), PodB);
}
