//! When something is missing or full: counted, and no chunk is lost.

use headrace_dataplane::drop_reason::DropReason;

use crate::walk::oracle::segments;
use crate::walk::packet::{Sum, ping, tcp, udp};
use crate::walk::place::At::{Host, NodeB, NodeC, PodA, PodB, Wire};
use crate::walk::place::NODE_B;
use crate::walk::{Plan, World};

const A: &str = "10.1.0.2:4000";
const B: &str = "10.1.0.3:80";
const FAR: &str = "10.1.1.5:80";

#[test]
fn before_the_controller_has_spoken_nothing_is_forwarded() {
    let settings = Plan::new().desired.settings;
    let mut w = World::with(|d| d.settings = None);
    for (at, sent) in [(PodA, udp(A, B)), (Host, udp("10.1.0.0:9", B)), (Wire, udp("203.0.113.9:9", A))] {
        w.drop(at, &sent, DropReason::NotConfigured);
    }
    w.change(|d| d.settings = settings);
    w.forward(PodA, &udp(A, B), PodB);
}

#[test]
fn a_full_transmit_ring_drops_what_does_not_fit() {
    for (destination, at) in [(B, PodB), (FAR, NodeB)] {
        let mut plan = Plan::new();
        plan.room = 3;
        let mut w = plan.world();
        let sent = vec![udp(A, destination); 5];
        w.send(PodA, &sent).is(&vec![(at, sent[0].hop()); 3], &[DropReason::TxRingFull; 2]);
        w.forward(PodA, &sent[0], at);
    }
    let mut plan = Plan::new();
    plan.room = 3;
    let big = tcp(A, FAR).data(1410 * 5);
    let expected: Vec<_> = segments(&big.hop(), 1410).into_iter().take(3).map(|p| (NodeB, p)).collect();
    plan.world().send(PodA, [big.checksum(Sum::Partial)]).is(&expected, &[DropReason::TxRingFull; 2]);
}

#[test]
fn without_a_free_chunk_a_packet_ends() {
    // A superframe of 14 chunks takes all but two of its pool; the uplink's has room for 16 segments at a time.
    let mut plan = Plan::new();
    plan.chunks = 16;
    let mut w = plan.world();
    let near = tcp(A, B).data(50_000);
    w.pass(PodA, &near.checksum(Sum::Partial), PodB, &near.hop());
    let far = tcp(A, FAR).data(50_000);
    assert_eq!(w.send(PodA, [far.checksum(Sum::Partial)]).all(NodeB).len(), 36);
}

#[test]
fn while_packets_wait_in_all_chunks_others_end() {
    let mut plan = Plan::new().desired(|d| {
        d.facts.neighbors.remove(&NODE_B.parse().unwrap());
    });
    plan.chunks = 8;
    let mut w = plan.world();
    w.waiting = 8;
    w.send(PodA, [tcp(A, FAR).data(30_000)]).is(&[], &[]);
    w.drop(NodeC, &udp("10.1.2.5:9", B), DropReason::NoChunk);
    w.drop(NodeC, &tcp("10.1.2.5:9", B).data(100), DropReason::NoChunk);
    w.waiting = 0;
    w.pass_time(4).is(&[], &[DropReason::NeighborUnresolved]);
    w.forward(NodeC, &udp("10.1.2.5:9", B), PodB);
}

#[test]
fn a_port_that_is_gone_takes_nothing() {
    let mut w = World::new();
    w.forward(PodA, &udp(A, B), PodB);
    w.unplug(PodB);
    w.drop(PodA, &udp(A, B), DropReason::PortGone);
    w.unplug(Host);
    w.drop(PodA, &udp(A, "192.168.7.10:9"), DropReason::NoHostLink);
    w.drop(Wire, &ping("203.0.113.9", "192.168.7.10", 61500), DropReason::NoHostLink);
    w.unplug(Wire);
    w.drop(PodA, &udp(A, FAR), DropReason::PortGone);
}

#[test]
fn a_port_that_the_controller_has_not_named_may_send_nothing() {
    let mut w = World::new();
    w.change(|d| {
        d.ports.remove(0);
    });
    w.drop(PodA, &udp(A, B), DropReason::PortGone);
}

#[test]
fn a_peer_without_a_route_is_not_reached() {
    let mut w = World::with(|d| d.facts.routes.clear());
    w.drop(PodA, &udp(A, FAR), DropReason::NoRoute);
}

#[test]
fn bursts_larger_than_a_worker_takes_at_once_lose_nothing() {
    let mut w = World::new();
    let sent: Vec<_> = (0..300).map(|i| udp(&format!("10.1.0.2:{}", 1000 + i), B)).collect();
    w.send(PodA, &sent).is(&sent.iter().map(|p| (PodB, p.hop())).collect::<Vec<_>>(), &[]);
}
