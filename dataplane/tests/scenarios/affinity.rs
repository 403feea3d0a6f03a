//! Session affinity: a client keeps its endpoint.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use headrace_flowmap::{FlowMap, Geometry};

use crate::walk::packet::{syn, udp};
use crate::walk::place::At::{self, PodA, PodB};
use crate::walk::{Plan, World};

const ENDPOINTS: [&str; 8] = [
    "10.1.0.3:1",
    "10.1.0.3:2",
    "10.1.0.3:3",
    "10.1.0.3:4",
    "10.1.0.3:5",
    "10.1.0.3:6",
    "10.1.0.3:7",
    "10.1.0.3:8",
];
const FRONTENDS: [&str; 3] = ["tcp 10.96.0.1:80", "node tcp 30080", "lb tcp 198.51.100.7:80"];

fn plan(seconds: u32) -> Plan {
    Plan::new().desired(|d| {
        d.detect_pods();
        d.service_at("web", &FRONTENDS, &ENDPOINTS).affinity_seconds = NonZeroU32::new(seconds);
        d.service_at("dns", &["udp 10.96.0.1:53"], &ENDPOINTS).affinity_seconds = NonZeroU32::new(seconds);
    })
}

/// The endpoint of a new connection, by its port.
fn connect(w: &mut World, from: At, client: &str, port: u16, frontend: &str) -> u16 {
    w.send(from, [syn(&format!("{client}:{port}"), frontend)]).only(PodB).ports.1
}

#[test]
fn a_client_keeps_its_endpoint_by_every_frontend() {
    let mut w = plan(600).world();
    let first = connect(&mut w, PodA, "10.1.0.2", 3000, "10.96.0.1:80");
    for port in 3001..3040 {
        for frontend in ["10.96.0.1:80", "192.168.7.10:30080", "198.51.100.7:80"] {
            assert_eq!(connect(&mut w, PodA, "10.1.0.2", port, frontend), first);
        }
    }
    let others: BTreeSet<u16> = (1..60)
        .map(|host| connect(&mut w, At::Wire, &format!("203.0.113.{host}"), 3000, "192.168.7.10:30080"))
        .collect();
    assert!(others.len() > 4, "other clients get others: {others:?}");
}

#[test]
fn services_are_kept_apart_and_udp_keeps_too() {
    let mut w = plan(600).world();
    connect(&mut w, PodA, "10.1.0.2", 3000, "10.96.0.1:80");
    let ports: BTreeSet<u16> = (4000..4030)
        .map(|port| w.send(PodA, [udp(&format!("10.1.0.2:{port}"), "10.96.0.1:53")]).only(PodB).ports.1)
        .collect();
    assert_eq!(ports.len(), 1);
}

#[test]
fn it_ends_after_its_timeout_which_new_connections_alone_refresh() {
    let mut w = plan(100).world();
    let mut seen = BTreeSet::new();
    for round in 0..40 {
        let port = 3000 + round * 4;
        let first = connect(&mut w, PodA, "10.1.0.2", port, "10.96.0.1:80");
        w.pass_time(99);
        assert_eq!(connect(&mut w, PodA, "10.1.0.2", port + 1, "10.96.0.1:80"), first);
        w.pass_time(99);
        assert_eq!(connect(&mut w, PodA, "10.1.0.2", port + 2, "10.96.0.1:80"), first);
        w.pass_time(100);
        seen.insert(first);
    }
    assert!(seen.len() > 3, "each round is chosen anew: {seen:?}");
}

#[test]
fn it_goes_with_its_endpoint() {
    let mut w = plan(600).world();
    let first = connect(&mut w, PodA, "10.1.0.2", 3000, "10.96.0.1:80");
    let gone = format!("10.1.0.3:{first}");
    let rest: Vec<_> = ENDPOINTS.into_iter().filter(|e| *e != gone).collect();
    w.change_quietly(|d| d.service_at("web", &FRONTENDS, &rest).affinity_seconds = NonZeroU32::new(600));
    let second = connect(&mut w, PodA, "10.1.0.2", 3001, "10.96.0.1:80");
    assert_ne!(first, second);
    w.change_quietly(|d| d.service_at("web", &FRONTENDS, &ENDPOINTS).affinity_seconds = NonZeroU32::new(600));
    for port in 3002..3020 {
        assert_eq!(connect(&mut w, PodA, "10.1.0.2", port, "10.96.0.1:80"), second, "the new one is kept");
    }
}

#[test]
fn both_workers_and_the_next_process_know_it() {
    let directory = tempfile::tempdir().unwrap();
    let geometry = Geometry { capacity: 4096, content_version: 1 };
    let open = || FlowMap::open(&directory.path().join("affinity"), &geometry).unwrap().0;
    let mut first = plan(600);
    (first.workers, first.affinity) = (2, open());
    let mut w = first.world();
    let endpoint = connect(&mut w, PodA, "10.1.0.2", 3000, "10.96.0.1:80");
    for port in 3001..3030 {
        let out = w.send_to(1, PodA, [syn(&format!("10.1.0.2:{port}"), "10.96.0.1:80")]).only(PodB);
        assert_eq!(out.ports.1, endpoint);
    }
    drop(w);
    let mut next = plan(600);
    (next.route_generation, next.affinity) = (99_999, open());
    let mut w = next.world();
    for port in 3100..3130 {
        assert_eq!(connect(&mut w, PodA, "10.1.0.2", port, "10.96.0.1:80"), endpoint);
    }
}

#[test]
fn clients_by_the_thousand_push_out_clients_alone() {
    let mut plan = plan(600);
    plan.affinity = FlowMap::anonymous(&Geometry { capacity: 512, content_version: 0 }).unwrap();
    let mut w = plan.world();
    for i in 0..1500u32 {
        let client = format!("203.{}.{}.9", i >> 8, i & 255);
        w.send(At::Wire, [syn(&format!("{client}:3000"), "192.168.7.10:30080")]).only(PodB);
    }
    assert!((256..=512).contains(&w.clients()), "{} clients", w.clients());
    assert_eq!(w.flows(), 3000);
    let (halves, _) = w.halves_and_oldest();
    assert_eq!(halves, 0);
}

#[test]
fn connections_by_the_thousand_push_no_client_out() {
    let mut plan = plan(600);
    plan.flows = FlowMap::anonymous(&Geometry { capacity: 64, content_version: 0 }).unwrap();
    let mut w = plan.world();
    let kept: Vec<(String, u16)> = (1..20)
        .map(|i| format!("203.0.113.{i}"))
        .map(|client| (client.clone(), connect(&mut w, At::Wire, &client, 3000, "192.168.7.10:30080")))
        .collect();
    w.pass_time(300);
    for port in 1000..3000 {
        w.forward(PodA, &udp(&format!("10.1.0.2:{port}"), "10.1.0.3:9"), PodB);
    }
    for (client, endpoint) in kept {
        assert_eq!(connect(&mut w, At::Wire, &client, 3001, "192.168.7.10:30080"), endpoint, "{client}");
    }
}
