//! What counters say of known packets: of Services, of tunnels, and of the worker's own doing.

use headrace_api::state::Encapsulation;
use headrace_dataplane::drop_reason::DropReason;
use headrace_dataplane::observe::StageId;
use headrace_wire::tcp::TcpFlags;

use crate::walk::packet::{Packet, TIME_EXCEEDED, error, ping, syn, syn_ack, tcp, udp};
use crate::walk::place::At::{NodeB, NodeC, PodA, PodB, Wire};
use crate::walk::{Plan, World};

const A: &str = "10.1.0.2:4000";
const VIP: &str = "10.96.0.1:80";
const FAR: &str = "10.1.1.5:8080";
const GONE: &str = "10.1.2.5:8080";

#[test]
fn a_service_counts_connections_and_not_packets() {
    let mut w = World::with(|d| d.service("tcp 10.96.0.1:80", &[FAR]));
    for client in [A, "10.1.0.2:4001", "10.1.0.2:4002"] {
        w.pass(PodA, &syn(client, VIP), NodeB, &syn(client, FAR).hop());
        w.pass(PodA, &syn(client, VIP), NodeB, &syn(client, FAR).hop());
        w.pass(NodeB, &syn_ack(FAR, client), PodA, &syn_ack(VIP, client).hop());
        w.pass(PodA, &tcp(client, VIP).data(7), NodeB, &tcp(client, FAR).data(7).hop());
    }
    w.forward(PodA, &syn("10.1.0.2:4005", FAR), NodeB);
    // What is only explained is no connection.
    assert_eq!(w.explain(PodA, PodA.frame(&syn("10.1.0.2:4009", VIP))).out.len(), 1);
    assert_eq!(w.hits("10.96.0.1", FAR), (3, 3));
    assert_eq!(w.hits("10.96.0.1", GONE), (3, 0));
    assert_eq!(w.count(|h| &h.service_connections), 3);
}

#[test]
fn a_tunnel_counts_what_it_carries_both_ways() {
    let mut w = World::new();
    assert_eq!(w.send(PodA, [tcp(A, FAR).data(60_000)]).all(NodeB).len(), 43);
    w.send(PodA, [udp(A, FAR).data(100), udp(A, GONE).data(10), udp(A, FAR).data(1)]);
    w.forward(NodeB, &udp("10.1.1.5:9", A).data(50), PodA);
    w.forward(NodeC, &ping("10.1.2.5", "10.1.0.3", 1), PodB);
    w.explain(PodA, PodA.frame(&udp(A, FAR)));
    // Within the node there is no tunnel.
    w.forward(PodA, &udp(A, "10.1.0.3:9"), PodB);
    let ping = ping("10.1.2.5", "10.1.0.3", 1).bytes().len() as u64;
    assert_eq!(w.peer("192.168.7.11"), [1, 28 + 50, 3, 40 + 60_000 + 2 * 28 + 101]);
    assert_eq!(w.peer("192.168.9.12"), [1, ping, 1, 28 + 10]);
}

#[test]
fn a_direct_path_counts_what_it_carries_both_ways() {
    let mut w = World::with(|d| {
        d.settings().encapsulation = Encapsulation::Direct;
        d.service("tcp 10.96.0.1:80", &[FAR]);
    });
    w.send(
        PodA,
        [udp(A, FAR).data(100), udp(A, "203.0.113.9:53").data(5), udp(A, FAR).data(1), udp(A, GONE).data(0)],
    );
    assert_eq!(w.peer("192.168.7.11"), [0, 0, 2, 2 * 28 + 101]);
    // It is not on this subnet: a tunnel all the same.
    assert_eq!(w.peer("192.168.9.12"), [0, 0, 1, 28]);
    let plain = [udp(FAR, A).data(50), udp("203.0.113.9:53", A).data(9), udp(FAR, A).data(2)];
    let frames = plain.iter().map(|packet| Wire.frame(packet)).collect();
    w.send_frames(0, Wire, frames);
    assert_eq!(w.peer("192.168.7.11"), [2, 2 * 28 + 52, 2, 2 * 28 + 101]);
    // What an answer is translated to is not where it comes from.
    w.send(PodA, [syn(A, VIP)]);
    let before = w.peer("192.168.7.11");
    w.send_frames(0, Wire, vec![Wire.frame(&syn_ack(FAR, A))]);
    assert_eq!((w.peer("192.168.7.11")[0], before[2]), (3, 3));
}

#[test]
fn a_drop_counts_where_it_came_in_or_should_have_left() {
    let mut w = World::with(|d| d.service("udp 10.96.0.3:80", &[]));
    w.drop(PodB, &udp("10.1.0.9:1", A), DropReason::SpoofedSource);
    w.drop(Wire, &udp("127.0.0.1:1", A), DropReason::InvalidSource);
    w.send(PodA, [udp(A, "10.96.0.3:80"), udp(A, "10.96.0.9:80")]);
    let at = |reason| [PodA, PodB, Wire].map(|at| w.drops_at(at, reason));
    assert_eq!(at(DropReason::SpoofedSource), [0, 1, 0]);
    assert_eq!(at(DropReason::InvalidSource), [0, 0, 1]);
    assert_eq!((at(DropReason::NoEndpoint), at(DropReason::NoService)), ([1, 0, 0], [1, 0, 0]));
}

#[test]
fn workers_that_count_at_the_same_time_lose_nothing() {
    const PACKETS: u64 = 500;
    let mut w = Plan { workers: 2, ..Plan::new() }.world();
    let packets: Vec<Packet> = (0..PACKETS).map(|i| udp(&format!("10.1.0.2:{}", 2000 + i), FAR)).collect();
    w.race(PodA, &packets);
    let [received, _, sent, bytes] = w.peer("192.168.7.11");
    assert_eq!((received, sent, bytes), (0, 2 * PACKETS, 2 * PACKETS * packets[0].bytes().len() as u64));
}

#[test]
fn bursts_turns_flows_and_errors_are_what_happened() {
    let mut w = World::new();
    let five: Vec<Packet> = (1..=5).map(|port| udp(&format!("10.1.0.2:{port}"), "10.1.0.3:9")).collect();
    assert_eq!(w.send(PodA, &five).all(PodB).len(), 5);
    w.forward(PodA, &five[0], PodB);
    let expired = five[0].ttl(1);
    w.refuse(
        PodA,
        &expired,
        DropReason::TtlExceeded,
        &error("10.1.0.1", "10.1.0.2", TIME_EXCEEDED, 0, &expired),
    );
    // An RST that nobody waits for makes no flow.
    w.forward(PodA, &tcp(A, "10.1.0.3:9").flags(TcpFlags::RST), PodB);
    assert_eq!((w.count(|h| &h.bursts), w.count(|h| &h.frames)), (4, 8));
    assert_eq!((w.count(|h| &h.flow_hits), w.count(|h| &h.flow_misses)), (2, 6));
    assert_eq!((w.count(|h| &h.flows_inserted), w.count(|h| &h.icmp_errors_sent)), (10, 1));
    let (sizes, durations) = w.histograms();
    assert_eq!(sizes, [3, 0, 0, 1, 0, 0, 0], "three of one frame, one of five");
    assert_eq!(durations.iter().sum::<u64>(), 4, "a duration for each turn that had frames");
    assert!(w.count(|h| &h.busy) > 0);
    w.pass_time(1_000_000);
    assert_eq!(w.count(|h| &h.flows_expired), 5, "both entries of a connection go as one");
}

#[test]
fn every_stage_is_measured_now_and_then() {
    let mut w = World::new();
    for _ in 0..200 {
        w.forward(PodA, &udp(A, FAR), NodeB);
    }
    for stage in StageId::all() {
        let (ticks, packets) = w.stage(stage);
        assert!((1..=10).contains(&packets) && ticks > 0, "{stage}: {packets} packets in {ticks} ticks");
    }
}
