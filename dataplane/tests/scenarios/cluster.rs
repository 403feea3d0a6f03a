//! More than one worker, and a process that takes over from another.

use headrace_dataplane::flows::Seconds;
use headrace_flowmap::{FlowMap, Geometry, Origin};

use crate::walk::oracle::{fragments, reassembled};
use crate::walk::packet::{TIME_EXCEEDED, error, syn, syn_ack, tcp, udp};
use crate::walk::place::At::{NodeB, PodA, PodB, Wire};
use crate::walk::{Plan, World};

const A: &str = "10.1.0.2:4000";
const VIP: &str = "10.96.0.1:80";
const HERE: &str = "10.1.0.3:8080";
const FAR: &str = "10.1.1.5:8080";
const OUTSIDE: &str = "203.0.113.9:443";

fn two_workers(endpoints: &[&str]) -> World {
    let mut plan = Plan::new().desired(|d| {
        d.service("tcp 10.96.0.1:80", endpoints);
        d.service("udp 10.96.0.1:80", endpoints);
    });
    plan.workers = 2;
    plan.world()
}

#[test]
fn either_worker_carries_either_direction() {
    let mut w = two_workers(&[HERE]);
    for (first, second) in [(0, 1), (1, 0)] {
        let client = format!("10.1.0.2:{}", 4000 + first);
        w.send_to(first, PodA, [syn(&client, VIP)]).is(&[(PodB, syn(&client, HERE).hop())], &[]);
        w.send_to(second, PodB, [syn_ack(HERE, &client)]).is(&[(PodA, syn_ack(VIP, &client).hop())], &[]);
        w.send_to(second, PodA, [tcp(&client, VIP)]).is(&[(PodB, tcp(&client, HERE).hop())], &[]);
        let out = w.send_to(first, PodA, [udp(&client, OUTSIDE)]).only(Wire);
        w.send_to(second, Wire, [out.back()]).is(&[(PodA, udp(OUTSIDE, &client).hop())], &[]);
        let told = error("198.51.100.1", "192.168.7.10", TIME_EXCEEDED, 0, &out);
        let expected = error("198.51.100.1", "10.1.0.2", TIME_EXCEEDED, 0, &udp(&client, OUTSIDE).hop());
        w.send_to(second, Wire, [told]).is(&[(PodA, expected.hop())], &[]);
    }
}

#[test]
fn a_flow_has_one_endpoint_whichever_worker_sees_it_first() {
    let mut w = two_workers(&["10.1.0.3:1", "10.1.0.3:2", "10.1.0.3:3", "10.1.0.3:4"]);
    for i in 0..200 {
        let client = format!("10.1.0.2:{}", 2000 + i);
        let one = w.send_to(i % 2, PodA, [udp(&client, VIP)]).only(PodB);
        let other = w.send_to((i + 1) % 2, PodA, [udp(&client, VIP)]).only(PodB);
        assert_eq!(one, other);
    }
}

#[test]
fn workers_that_race_agree() {
    let mut w = two_workers(&["10.1.0.3:1", "10.1.0.3:2", "10.1.1.5:3", "10.1.1.5:4"]);
    for round in 0..20 {
        let client = |i| format!("10.1.0.2:{}", 2000 + 50 * round + i);
        for destination in [VIP, OUTSIDE, "10.1.0.3:9"] {
            let packets: Vec<_> = (0..50).map(|i| udp(&client(i), destination)).collect();
            let before = w.flows();
            let outcomes = w.race(PodA, &packets);
            assert!(outcomes.iter().all(|o| o.drops.is_empty() && o.out.len() == 50), "{outcomes:#?}");
            assert_eq!(outcomes[0].out, outcomes[1].out);
            assert_eq!(w.flows(), before + 100, "half a connection is left over");
        }
        w.pass_time(30);
    }
}

#[test]
fn later_fragments_follow_on_the_other_worker() {
    let mut w = two_workers(&[FAR]);
    let whole = udp(A, VIP).may_be_fragmented().data(3000);
    let sent = fragments(&whole, 1400);
    let mut out = w.send_to(0, PodA, &sent[..1]).all(NodeB);
    out.extend(w.send_to(1, PodA, &sent[1..]).all(NodeB));
    assert_eq!(reassembled(&out), whole.to(FAR).hop());
}

#[test]
fn a_new_process_takes_connections_over() {
    let directory = tempfile::tempdir().unwrap();
    let geometry = Geometry { capacity: 4096, content_version: 1 };
    let open = || FlowMap::open(&directory.path().join("flows"), &geometry).unwrap();
    let start = |flows, route_generation, endpoint: &str, now: Seconds| {
        let mut plan = Plan::new().desired(|d| {
            d.service("tcp 10.96.0.1:80", &[endpoint]);
            d.service("udp 10.96.0.1:80", &[endpoint]);
        });
        (plan.flows, plan.route_generation) = (flows, route_generation);
        let mut world = plan.world();
        world.now = now;
        world
    };
    let (flows, origin) = open();
    assert_eq!(origin, Origin::Created);
    let mut w = start(flows, 70_000, HERE, 1000);
    w.pass(PodA, &syn(A, VIP), PodB, &syn(A, HERE).hop());
    w.pass(PodA, &udp(A, VIP), PodB, &udp(A, HERE).hop());
    w.forward(PodA, &syn("10.1.0.2:4001", FAR), NodeB);
    let masqueraded = w.send(PodA, [syn(A, OUTSIDE)]).only(Wire);
    drop(w);

    let (flows, origin) = open();
    assert_eq!(origin, Origin::TakenOver { live: 8, repaired: 0 });
    // Ports have other slots, the Service another endpoint.
    let mut w = start(flows, 3, FAR, 1030);
    w.change(|d| {
        d.peers.reverse();
        d.facts.routes.insert("198.51.100.0/24".parse().unwrap(), Some("192.168.7.11".parse().unwrap()));
    });
    w.pass(PodB, &syn_ack(HERE, A), PodA, &syn_ack(VIP, A).hop());
    w.pass(PodA, &tcp(A, VIP).data(1), PodB, &tcp(A, HERE).data(1).hop());
    w.forward(PodA, &tcp("10.1.0.2:4001", FAR), NodeB);
    w.pass(Wire, &masqueraded.back(), PodA, &syn(OUTSIDE, A).hop());
    let out = w.send(PodA, [tcp(A, OUTSIDE).data(9)]).only(Wire);
    assert_eq!(out.ports, masqueraded.ports);
    w.pass(PodA, &udp(A, VIP), NodeB, &udp(A, FAR).hop());
    w.pass(PodA, &syn("10.1.0.2:4002", VIP), NodeB, &syn("10.1.0.2:4002", FAR).hop());
}
