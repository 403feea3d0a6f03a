//! Resets of TCP connections: which ones count, and what may follow them.

use headrace_dataplane::drop_reason::DropReason;
use headrace_flowmap::{FlowMap, Geometry};
use headrace_wire::tcp::TcpFlags;

use crate::walk::packet::{Packet, syn, syn_ack, tcp};
use crate::walk::place::At::{PodA, PodB};
use crate::walk::{Plan, World};

const A: &str = "10.1.0.2:4000";
const B: &str = "10.1.0.3:80";
const OTHER: &str = "10.1.0.3:81";
const VIP: &str = "10.96.0.1:80";
/// Where B has come to in [`open`], and A.
const B_END: u32 = 1201;
const A_END: u32 = 1101;

fn plan() -> Plan {
    Plan::new().desired(|d| d.service("tcp 10.96.0.1:80", &[B]))
}

/// A connection by a Service, with a hundred bytes there and two hundred back.
fn open(mut w: World) -> World {
    w.pass(PodA, &syn(A, VIP), PodB, &syn(A, B).hop());
    w.pass(PodB, &syn_ack(B, A), PodA, &syn_ack(VIP, A).hop());
    there(&mut w, A_END - 100, 100);
    back(&mut w, B_END - 200, 200);
    w
}

fn there(w: &mut World, sequence: u32, len: usize) {
    let sent = |dst| tcp(A, dst).sequence(sequence).data(len);
    w.pass(PodA, &sent(VIP), PodB, &sent(B).hop());
}

fn back(w: &mut World, sequence: u32, len: usize) {
    let sent = |src| tcp(src, A).sequence(sequence).data(len);
    w.pass(PodB, &sent(B), PodA, &sent(VIP).hop());
}

fn reset(sequence: u32) -> Packet {
    tcp(B, A).flags(TcpFlags::RST).sequence(sequence)
}

fn reset_passes(w: &mut World, sequence: u32) {
    let arrives = Packet { src: "10.96.0.1".parse().unwrap(), ..reset(sequence) };
    w.pass(PodB, &reset(sequence), PodA, &arrives.hop());
}

#[test]
fn after_a_reset_only_what_was_under_way_to_its_sender_passes() {
    let mut w = open(plan().world());
    reset_passes(&mut w, B_END);
    w.drop(PodB, &tcp(B, A).sequence(B_END).data(10), DropReason::TcpAfterReset);
    w.drop(PodB, &tcp(B, A).sequence(B_END), DropReason::TcpAfterReset);
    // The reset may have got lost: B answers this with another one.
    there(&mut w, A_END, 10);
    reset_passes(&mut w, B_END);
    let outside = tcp(A, VIP).sequence(A_END.wrapping_add(1 << 30)).data(10);
    w.drop(PodA, &outside, DropReason::TcpAfterReset);
}

#[test]
fn a_new_connection_on_the_ports_of_a_reset_one_is_a_new_one() {
    let mut w = open(plan().world());
    reset_passes(&mut w, B_END);
    w.change_quietly(|d| d.service("tcp 10.96.0.1:80", &[OTHER]));
    w.pass(PodA, &syn(A, VIP), PodB, &syn(A, OTHER).hop());
    w.pass(PodB, &syn_ack(OTHER, A), PodA, &syn_ack(VIP, A).hop());
    let late = tcp(B, A).sequence(B_END).data(10);
    w.forward(PodB, &late, PodA);
}

#[test]
fn a_reset_at_what_its_receiver_expects_counts_too() {
    let mut w = open(plan().world());
    // What every segment of a walk acknowledges.
    reset_passes(&mut w, 77);
    w.drop(PodB, &tcp(B, A).sequence(B_END).data(10), DropReason::TcpAfterReset);
}

#[test]
fn a_forged_reset_closes_nothing() {
    let mut w = open(plan().world());
    for far in [1 << 27, 1 << 30, 1 << 31, u32::MAX - (1 << 28)] {
        w.drop(PodB, &reset(B_END.wrapping_add(far)), DropReason::TcpResetForeign);
    }
    // One that is near may be a true one that overtook data; its receiver asks.
    reset_passes(&mut w, B_END + 1000);
    there(&mut w, A_END, 10);
    back(&mut w, B_END, 10);
    w.pass_time(86_399).is(&[], &[]);
    assert_eq!(w.flows(), 2, "it is still an open connection");
}

#[test]
fn forged_segments_do_not_make_the_true_reset_foreign() {
    let mut w = open(plan().world());
    for sequence in [900_000_000, 1_900_000_000, 2_900_000_000] {
        back(&mut w, sequence, 10);
    }
    there(&mut w, A_END, 10);
    reset_passes(&mut w, 77);
    w.drop(PodB, &tcp(B, A).sequence(B_END).data(10), DropReason::TcpAfterReset);
}

#[test]
fn a_reset_behind_data_of_the_same_burst_fits() {
    let mut w = open(plan().world());
    let data = tcp(B, A).sequence(B_END).data(500);
    assert_eq!(w.send(PodB, [data, reset(B_END + 500)]).all(PodA).len(), 2);
    w.drop(PodB, &tcp(B, A).sequence(B_END + 500).data(1), DropReason::TcpAfterReset);
}

#[test]
fn a_server_refuses_with_a_reset() {
    let mut w = plan().world();
    w.pass(PodA, &syn(A, VIP), PodB, &syn(A, B).hop());
    let refusal = |src| tcp(src, A).flags(TcpFlags::RST | TcpFlags::ACK).sequence(0);
    w.pass(PodB, &refusal(B), PodA, &refusal(VIP).hop());
    w.pass_time(10).is(&[], &[]);
    assert_eq!(w.flows(), 0);
}

#[test]
fn after_a_restart_it_is_remembered_that_a_connection_was_reset() {
    let directory = tempfile::tempdir().unwrap();
    let geometry = Geometry { capacity: 4096, content_version: 1 };
    let flows = || FlowMap::open(&directory.path().join("flows"), &geometry).unwrap().0;
    let mut w = open(Plan { flows: flows(), ..plan() }.world());
    reset_passes(&mut w, B_END);
    drop(w);
    let mut w = Plan { flows: flows(), route_generation: 99_999, ..plan() }.world();
    w.drop(PodB, &tcp(B, A).sequence(B_END).data(10), DropReason::TcpAfterReset);
    there(&mut w, A_END, 10);
}

#[test]
fn after_a_restart_any_reset_of_a_connection_counts() {
    let directory = tempfile::tempdir().unwrap();
    let geometry = Geometry { capacity: 4096, content_version: 1 };
    let flows = || FlowMap::open(&directory.path().join("flows"), &geometry).unwrap().0;
    drop(open(Plan { flows: flows(), ..plan() }.world()));
    let mut w = Plan { flows: flows(), route_generation: 99_999, ..plan() }.world();
    reset_passes(&mut w, 3_000_000_000);
    w.drop(PodB, &tcp(B, A).sequence(B_END).data(10), DropReason::TcpAfterReset);
}
