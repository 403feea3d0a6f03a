//! Processes of the node and hostNetwork pods, with pods here and there: never translated.

use headrace_dataplane::drop_reason::DropReason;

use crate::walk::World;
use crate::walk::oracle::segments;
use crate::walk::packet::{HOST_UNREACHABLE, Sum, error, ping, syn, syn_ack, tcp, udp};
use crate::walk::place::At::{Host, NodeB, NodeC, PodA, PodB};

const A: &str = "10.1.0.2:4000";
const B: &str = "10.1.0.3:80";
const FAR: &str = "10.1.1.5:80";
/// The node's pod-side address.
const S0: &str = "10.1.0.0:5000";
const NODE: &str = "192.168.7.10:22";

#[test]
fn processes_reach_pods_and_back() {
    let mut w = World::new();
    for source in [S0, NODE] {
        w.forward(Host, &syn(source, B), PodB);
        w.forward(PodB, &syn_ack(B, source), Host);
        w.forward(Host, &udp(source, FAR), NodeB);
        w.forward(NodeB, &udp(FAR, source), Host);
    }
    w.forward(Host, &ping("10.1.0.0", "10.1.2.5", 9), NodeC);
    w.forward(NodeC, &ping("10.1.0.0", "10.1.2.5", 9).back(), Host);
}

#[test]
fn pods_reach_their_node_and_others_from_their_own_address() {
    let mut w = World::new();
    w.forward(PodA, &syn(A, NODE), Host);
    w.forward(Host, &syn_ack(NODE, A), PodA);
    w.forward(PodA, &udp(A, S0), Host);
    w.forward(PodA, &syn(A, "192.168.7.11:22"), NodeB);
    w.forward(NodeB, &syn_ack("192.168.7.11:22", A), PodA);
    w.forward(PodA, &udp(A, "192.168.9.12:22"), NodeC);
    w.forward(NodeB, &syn("10.1.1.5:9", NODE), Host);
    w.forward(Host, &syn_ack(NODE, "10.1.1.5:9"), NodeB);
}

#[test]
fn superframes_of_processes_stay_whole_or_become_segments() {
    let mut w = World::new();
    let near = tcp(S0, A).data(50_000);
    w.forward(Host, &near.checksum(Sum::Partial), PodA);
    w.forward(PodA, &near.back().checksum(Sum::Partial), Host);
    let far = tcp(S0, FAR).data(50_000);
    assert_eq!(w.send(Host, [far.checksum(Sum::Partial)]).all(NodeB), segments(&far.hop(), 1410));
}

#[test]
fn addresses_of_the_cluster_that_nobody_holds_go_nowhere() {
    let mut w = World::new();
    for destination in ["10.1.0.77:9", "10.1.9.9:9"] {
        for (at, source, address) in [(PodA, A, "10.1.0.2"), (Host, S0, "10.1.0.0")] {
            let sent = udp(source, destination);
            let answer = error("10.1.0.1", address, HOST_UNREACHABLE, 0, &sent);
            w.refuse(at, &sent, DropReason::NoRoute, &answer);
        }
    }
    w.drop(Host, &udp(S0, NODE), DropReason::NoRoute);
}
