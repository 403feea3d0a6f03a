//! Bandwidth limits: what is above one ends with a reason of its own, by bytes and not by frames.

use std::num::NonZeroU64;

use headrace_api::state::{Bandwidth, RateLimit};
use headrace_dataplane::drop_reason::DropReason;
use headrace_dataplane::tables::Nanos;

use crate::walk::World;
use crate::walk::packet::{Packet, Sum, tcp, udp};
use crate::walk::place::At::{self, Host, NodeB, PodA, PodB};

const A: &str = "10.1.0.2:4000";
const B: &str = "10.1.0.3:80";
const FAR: &str = "10.1.1.5:80";

/// 8 Mbit/s: a byte takes a microsecond. Bursts of 10 000 bytes.
const LIMIT: Option<RateLimit> =
    Some(RateLimit { rate: NonZeroU64::new(8_000_000).unwrap(), burst: NonZeroU64::new(80_000) });
const INGRESS: Bandwidth = Bandwidth { ingress: LIMIT, egress: None };
const EGRESS: Bandwidth = Bandwidth { ingress: None, egress: LIMIT };

/// A world in which one pod is limited.
fn limited(at: At, bandwidth: Bandwidth) -> World {
    World::with(|d| {
        d.ports.iter_mut().filter(|(i, _)| *i == at.port()).for_each(|(_, p)| p.bandwidth = bandwidth);
    })
}

fn later(w: &mut World, microseconds: u64) {
    w.clock = Nanos(w.clock.0 + microseconds * 1000);
}

/// 1000 bytes of frame.
fn kilobyte(src: &str, dst: &str) -> Packet {
    udp(src, dst).data(1000 - 14 - 20 - 8)
}

/// Sends twenty kilobytes at once: how many pass, and why the others do not.
fn passed(w: &mut World, from: At, sent: &Packet, to: At, reason: DropReason) -> usize {
    let outcome = w.send(from, vec![sent.clone(); 20]);
    let dropped = outcome.drops.get(reason.label()).copied().unwrap_or(0) as usize;
    let arrived = outcome.out.iter().filter(|(at, _)| *at == to).count();
    assert_eq!(arrived + dropped, 20, "{reason:?}");
    arrived
}

#[test]
fn a_pod_sends_its_burst_and_then_its_rate_to_wherever() {
    for (dst, at) in [(B, PodB), (FAR, NodeB), ("192.168.7.10:9", Host)] {
        let mut w = limited(PodA, EGRESS);
        let sent = kilobyte(A, dst);
        assert_eq!(passed(&mut w, PodA, &sent, at, DropReason::EgressLimit), 10);
        later(&mut w, 3_000);
        assert_eq!(passed(&mut w, PodA, &sent, at, DropReason::EgressLimit), 3);
        later(&mut w, 1_000_000);
        assert_eq!(
            passed(&mut w, PodA, &sent, at, DropReason::EgressLimit),
            10,
            "no more than a burst is saved up"
        );
    }
}

#[test]
fn a_pod_receives_its_burst_and_then_its_rate_from_wherever() {
    for (src, at) in [(A, PodA), (FAR, NodeB), ("10.1.0.0:9", Host)] {
        let mut w = limited(PodB, INGRESS);
        let sent = kilobyte(src, B);
        assert_eq!(passed(&mut w, at, &sent, PodB, DropReason::IngressLimit), 10, "{src}");
        later(&mut w, 3_000);
        assert_eq!(passed(&mut w, at, &sent, PodB, DropReason::IngressLimit), 3, "{src}");
    }
}

#[test]
fn limits_are_of_one_direction_and_of_one_pod() {
    let mut w = limited(PodA, EGRESS);
    assert_eq!(passed(&mut w, PodB, &kilobyte(B, A), PodA, DropReason::IngressLimit), 20);
    let mut w = limited(PodA, INGRESS);
    assert_eq!(passed(&mut w, PodA, &kilobyte(A, B), PodB, DropReason::EgressLimit), 20);
}

#[test]
fn a_superframe_counts_its_bytes_and_may_leave_a_debt() {
    let mut w = limited(PodA, EGRESS);
    let big = tcp(A, B).data(40_000).checksum(Sum::Partial);
    assert_eq!(w.send(PodA, [big.clone()]).all(PodB).len(), 1);
    w.send(PodA, [kilobyte(A, B)]).is(&[], &[DropReason::EgressLimit]);
    later(&mut w, 29_000);
    w.send(PodA, [kilobyte(A, B)]).is(&[], &[DropReason::EgressLimit]);
    later(&mut w, 2_000);
    w.forward(PodA, &kilobyte(A, B), PodB);
}

#[test]
fn other_changes_do_not_fill_the_bucket_and_a_new_limit_is_in_force_at_once() {
    let mut w = limited(PodA, EGRESS);
    let sent = kilobyte(A, B);
    assert_eq!(passed(&mut w, PodA, &sent, PodB, DropReason::EgressLimit), 10);
    w.change(|d| d.peers.clear());
    assert_eq!(passed(&mut w, PodA, &sent, PodB, DropReason::EgressLimit), 0);
    w.change(|d| d.ports.iter_mut().for_each(|(_, port)| port.bandwidth = Bandwidth::default()));
    assert_eq!(passed(&mut w, PodA, &sent, PodB, DropReason::EgressLimit), 20);
}
