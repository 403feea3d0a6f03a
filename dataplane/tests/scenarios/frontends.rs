//! The kinds of addresses at which a Service is reached, and what becomes of those who may not or cannot be served.

use headrace_api::state::{HostPort, Protocol, TrafficPolicy};
use headrace_dataplane::drop_reason::DropReason as R;
use headrace_wire::tcp::TcpFlags;

use crate::walk::World;
use crate::walk::desired::Desired;
use crate::walk::packet::{
    FRAGMENTATION_NEEDED, PORT_UNREACHABLE, Packet, error, ping, sctp, syn, syn_ack, tcp, udp,
};
use crate::walk::place::At::{self, Host, NodeB, NodeC, PodA, PodB, Wire};

const A: &str = "10.1.0.2:4000";
const HERE: &str = "10.1.0.3:8080";
const FAR: &str = "10.1.1.5:8080";
const CLIENT: &str = "203.0.113.9:5000";
const VIP: &str = "10.96.0.1:80";
const NODE_PORT: &str = "192.168.7.10:30080";
const EXTERNAL: &str = "198.51.100.8:80";
const BALANCER: &str = "198.51.100.7:80";
const ALL: [&str; 4] =
    ["tcp 10.96.0.1:80", "node tcp 30080", "external tcp 198.51.100.8:80", "lb tcp 198.51.100.7:80"];

/// One Service at all kinds of addresses, with external policy Local: sources stay, if they are not the node's.
fn world(endpoints: &[&str]) -> World {
    World::with(|d| {
        d.detect_pods();
        d.service_at("web", &ALL, endpoints).external_policy = TrafficPolicy::Local;
    })
}

/// A connection that is not masqueraded, both ways.
#[track_caller]
fn connects(w: &mut World, from: At, client: &str, frontend: &str, at: At, endpoint: &str) {
    w.pass(from, &syn(client, frontend), at, &syn(client, endpoint).hop());
    w.pass(at, &syn_ack(endpoint, client), from, &syn_ack(frontend, client).hop());
    w.pass(from, &tcp(client, frontend).data(100), at, &tcp(client, endpoint).data(100).hop());
}

#[test]
fn one_service_is_reached_at_all_of_its_addresses() {
    let mut w = world(&[HERE]);
    for (i, frontend) in [VIP, NODE_PORT, EXTERNAL, BALANCER].into_iter().enumerate() {
        connects(&mut w, PodA, &format!("10.1.0.2:{}", 4000 + i), frontend, PodB, HERE);
        if frontend != VIP {
            connects(&mut w, Wire, CLIENT, frontend, PodB, HERE);
            w.pass(PodB, &tcp(HERE, CLIENT).flags(TcpFlags::RST).sequence(1001), Wire, &{
                tcp(frontend, CLIENT).flags(TcpFlags::RST).sequence(1001).hop()
            });
            w.pass_time(11);
        }
    }
}

type Make = fn(&str, &str) -> Packet;

#[test]
fn protocols_share_an_address_and_port() {
    let mut w = World::with(|d| {
        d.service_at("t", &["tcp 10.96.0.1:80"], &["10.1.0.3:1"]);
        d.service_at("u", &["udp 10.96.0.1:80"], &["10.1.0.3:2"]);
        d.service_at("s", &["sctp 10.96.0.1:80"], &["10.1.0.3:3"]);
    });
    let make: [(Make, &str); 3] = [(syn, "10.1.0.3:1"), (udp, "10.1.0.3:2"), (sctp, "10.1.0.3:3")];
    for (packet, endpoint) in make {
        w.pass(PodA, &packet(A, VIP), PodB, &packet(A, endpoint).hop());
        w.pass(PodB, &packet(A, endpoint).back(), PodA, &packet(VIP, A).hop());
    }
}

#[test]
fn sctp_is_masqueraded_with_ports() {
    let mut w = World::with(|d| {
        d.detect_pods();
        d.service_at("s", &["node sctp 30080"], &[FAR]);
    });
    let mut ports = Vec::new();
    for client in ["203.0.113.9:5000", "203.0.113.10:5000"] {
        let out = w.send(Wire, [sctp(client, NODE_PORT)]).only(NodeB);
        assert_eq!(out, sctp(&format!("192.168.7.10:{}", out.ports.0), FAR).hop());
        w.pass(NodeB, &out.back(), Wire, &sctp(NODE_PORT, client).hop());
        ports.push(out.ports.0);
    }
    assert_ne!(ports[0], ports[1]);
    let wrong = sctp("203.0.113.9:5000", NODE_PORT).checksum(crate::walk::packet::Sum::Wrong);
    let expected = wrong.from(&format!("192.168.7.10:{}", ports[0])).to(FAR).hop();
    w.pass(Wire, &wrong, NodeB, &expected);
}

#[test]
fn two_clients_behind_one_node_never_collide() {
    let mut w = World::with(|d| {
        d.detect_pods();
        d.service_at("u", &["node udp 30080"], &[FAR]);
    });
    let mut seen = std::collections::BTreeSet::new();
    for host in 1..=200 {
        let client = format!("203.0.113.{host}:5000");
        let out = w.send(Wire, [udp(&client, NODE_PORT)]).only(NodeB);
        assert!(seen.insert(out.ports.0), "{} is taken twice", out.ports.0);
        w.pass(NodeB, &out.back(), Wire, &udp(NODE_PORT, &client).hop());
    }
}

#[test]
fn exhausted_source_ports_are_a_named_drop() {
    let mut w = World::with(|d| {
        d.detect_pods();
        d.facts.listening = (61_000..61_998).collect();
        d.service_at("u", &["node udp 30080"], &[FAR]);
    });
    for host in 1..=2 {
        w.send(Wire, [udp(&format!("203.0.113.{host}:5000"), NODE_PORT)]).only(NodeB);
    }
    w.drop(Wire, &udp("203.0.113.3:5000", NODE_PORT), R::SnatPortsExhausted);
}

#[test]
fn node_ports_answer_on_the_chosen_addresses_alone() {
    let mut w = World::with(|d| {
        d.detect_pods();
        d.settings().node_port_ranges = vec!["192.168.7.0/24".parse().unwrap()];
        d.facts.local.insert("172.20.0.5".parse().unwrap());
        d.service_at("web", &["node tcp 30080"], &[HERE]);
    });
    w.send(PodA, [syn(A, NODE_PORT)]).only(PodB);
    w.pass(PodA, &syn(A, "172.20.0.5:30080"), Host, &syn(A, "172.20.0.5:30080").hop());
    // Not on loopback, unless that is asked for, and then to the node alone.
    w.drop(Host, &syn("127.0.0.1:4000", "127.0.0.1:30080"), R::InvalidSource);
    w.drop(PodA, &syn(A, "127.0.0.1:30080"), R::LoopbackDestination);
    w.drop(NodeB, &syn(FAR, "127.0.0.1:30080"), R::LoopbackDestination);
    w.drop(Wire, &syn(CLIENT, "127.0.0.1:30080"), R::LoopbackDestination);
    w.change(|d| d.settings().node_port_loopback = true);
    let seen = w.send(Host, [syn("127.0.0.1:4001", "127.0.0.1:30080")]).only(PodB);
    assert_eq!(seen, syn("10.1.0.1:4001", HERE).hop());
    w.drop(PodA, &syn(A, "127.0.0.1:30080"), R::LoopbackDestination);
}

#[test]
fn other_ports_of_the_node_are_the_node_s() {
    let mut w = world(&[HERE]);
    w.pass(Wire, &syn(CLIENT, "192.168.7.10:22"), Host, &syn(CLIENT, "192.168.7.10:22"));
    w.forward(PodA, &syn(A, "192.168.7.10:22"), Host);
    w.forward(PodA, &ping("10.1.0.2", "192.168.7.10", 1), Host);
}

#[test]
fn without_endpoints_everyone_is_told() {
    let mut w = world(&[]);
    for (from, client, who) in [(PodA, A, "10.1.0.1"), (Wire, CLIENT, "192.168.7.10")] {
        for frontend in [VIP, NODE_PORT, EXTERNAL, BALANCER] {
            let sent = syn(client, frontend);
            let answer = error(who, client.split(':').next().unwrap(), PORT_UNREACHABLE, 0, &sent);
            w.refuse(from, &sent, R::NoEndpoint, &answer);
        }
    }
    assert_eq!(w.flows(), 0);
}

#[test]
fn local_policy_without_local_endpoints_drops_what_comes_from_outside() {
    let mut w = world(&[FAR]);
    for frontend in [NODE_PORT, EXTERNAL, BALANCER] {
        w.drop(Wire, &syn(CLIENT, frontend), R::NoLocalEndpoint);
        w.send(PodA, [syn(A, frontend)]).only(NodeB);
        w.send(Host, [syn("192.168.7.10:4000", frontend)]).only(NodeB);
        w.pass_time(121);
    }
    w.change_quietly(|d| d.service_at("web", &ALL, &[FAR]).internal_policy = TrafficPolicy::Local);
    w.drop(PodA, &syn(A, VIP), R::NoLocalEndpoint);
}

#[test]
fn source_ranges_count_before_translation_for_load_balancers_alone() {
    let mut w = World::with(|d| {
        d.detect_pods();
        let service = d.service_at("web", &ALL, &[HERE]);
        service.external_policy = TrafficPolicy::Local;
        service.source_ranges = vec!["203.0.113.0/28".parse().unwrap()];
    });
    connects(&mut w, Wire, CLIENT, BALANCER, PodB, HERE);
    w.drop(Wire, &syn("203.0.113.16:5000", BALANCER), R::SourceNotAllowed);
    w.drop(PodA, &syn(A, BALANCER), R::SourceNotAllowed);
    w.drop(Host, &syn("192.168.7.10:4000", BALANCER), R::SourceNotAllowed);
    for frontend in [NODE_PORT, EXTERNAL] {
        w.send(Wire, [syn("203.0.113.16:5000", frontend)]).only(PodB);
        w.pass_time(121);
    }
    // A range with the node in it admits its processes, whichever address their socket took.
    w.change_quietly(|d| d.services[0].source_ranges = vec!["192.168.7.10/32".parse().unwrap()]);
    for process in ["192.168.7.10:4000", "10.1.0.0:4000"] {
        w.send(Host, [syn(process, BALANCER)]).only(PodB);
    }
    w.drop(Wire, &syn(CLIENT, BALANCER).from("203.0.113.9:5001"), R::SourceNotAllowed);
}

#[test]
fn pods_of_other_nodes_reach_node_ports_by_the_tunnel() {
    let mut w = world(&[HERE]);
    connects(&mut w, NodeB, FAR, NODE_PORT, PodB, HERE);
    // To an endpoint on a third node it goes on, under this node's address.
    w.change_quietly(|d| {
        d.service_at("web", &ALL, &["10.1.2.5:8080"]);
    });
    let client = "10.1.1.6:4000";
    let seen = w.send(NodeB, [syn(client, NODE_PORT)]).only(NodeC);
    assert_eq!(seen, syn(&format!("192.168.7.10:{}", seen.ports.0), "10.1.2.5:8080").hop());
    let answer = seen.back().flags(TcpFlags::SYN | TcpFlags::ACK);
    w.pass(NodeC, &answer, NodeB, &syn_ack(NODE_PORT, client).hop());
}

#[test]
fn with_the_node_s_range_as_detector_pods_of_other_nodes_are_clients_from_outside() {
    let mut w = world(&["10.1.2.5:8080"]);
    w.change(|d| d.settings().local_sources = vec!["10.1.0.0/24".parse().unwrap()]);
    w.drop(NodeB, &syn("10.1.1.6:4000", NODE_PORT), R::NoLocalEndpoint);
    connects(&mut w, PodA, A, NODE_PORT, NodeC, "10.1.2.5:8080");
}

#[test]
fn a_port_that_changes_hands_leaves_nothing_stale() {
    let give = |d: &mut Desired, name: &str, endpoint: &str| {
        d.services.clear();
        for protocol in ["tcp", "udp"] {
            let frontend = format!("node {protocol} 30080");
            let service = d.service_at(&format!("{name}:{protocol}"), &[&frontend], &[endpoint]);
            service.external_policy = TrafficPolicy::Local;
        }
    };
    let mut w = World::with(|d| {
        d.detect_pods();
        give(d, "old", HERE);
    });
    connects(&mut w, Wire, CLIENT, NODE_PORT, PodB, HERE);
    w.pass(Wire, &udp(CLIENT, NODE_PORT), PodB, &udp(CLIENT, HERE).hop());
    w.change_quietly(|d| give(d, "new", A));
    // A connection stays with its endpoint until it ends; datagrams and new connections go to whom the port belongs now.
    w.pass(Wire, &tcp(CLIENT, NODE_PORT).data(5), PodB, &tcp(CLIENT, HERE).data(5).hop());
    w.pass(Wire, &udp(CLIENT, NODE_PORT), PodA, &udp(CLIENT, A).hop());
    let new = "203.0.113.9:5001";
    w.pass(Wire, &syn(new, NODE_PORT), PodA, &syn(new, A).hop());
}

#[test]
fn a_forged_pod_on_the_wire_gets_nothing() {
    let mut w = world(&[HERE]);
    w.drop(Wire, &syn("10.1.1.5:4000", NODE_PORT), R::UntunnelledSource);
    w.drop(Wire, &syn("10.1.0.2:4000", NODE_PORT), R::SpoofedSource);
}

#[test]
fn host_ports_lead_to_their_pod() {
    let host_port = |address: Option<&str>, port: u16, protocol, pod_port: u16| HostPort {
        address: address.map(|a| a.parse().unwrap()),
        port: port.try_into().unwrap(),
        protocol,
        pod_port: pod_port.try_into().unwrap(),
    };
    let mut w = World::with(|d| {
        d.detect_pods();
        d.facts.local.insert("172.20.0.5".parse().unwrap());
        d.ports[1].1.host_ports = vec![
            host_port(None, 8080, Protocol::Tcp, 80),
            host_port(Some("172.20.0.5"), 53, Protocol::Udp, 5353),
        ];
    });
    connects(&mut w, Wire, CLIENT, "192.168.7.10:8080", PodB, "10.1.0.3:80");
    connects(&mut w, PodA, A, "172.20.0.5:8080", PodB, "10.1.0.3:80");
    connects(&mut w, Host, "192.168.7.10:4000", "192.168.7.10:8080", PodB, "10.1.0.3:80");
    w.pass(PodA, &udp(A, "172.20.0.5:53"), PodB, &udp(A, "10.1.0.3:5353").hop());
    w.forward(PodA, &udp(A, "192.168.7.10:53"), Host);
    // Itself, by its own host port.
    w.pass(
        PodB,
        &syn("10.1.0.3:4000", "192.168.7.10:8080"),
        PodB,
        &syn("10.1.0.1:4000", "10.1.0.3:80").hop(),
    );
    // A UDP port that passes to another pod takes its flows along; one that goes back to the node as well.
    w.change(|d| {
        let moved = std::mem::take(&mut d.ports[1].1.host_ports);
        d.ports[2].1.host_ports = moved;
    });
    w.pass(PodA, &udp(A, "172.20.0.5:53"), At::Plain, &udp(A, "10.1.0.4:5353").hop());
    w.change(|d| d.ports[2].1.host_ports.clear());
    w.forward(PodA, &udp(A, "172.20.0.5:53"), Host);
}

#[test]
fn udp_goes_to_a_service_that_comes_to_be_at_its_destination() {
    let mut w = World::with(Desired::detect_pods);
    w.forward(PodA, &udp(A, "192.168.7.10:30053"), Host);
    w.forward(Host, &udp("192.168.7.10:30053", A), PodA);
    let outside = w.send(PodA, [udp(A, "198.51.100.8:53")]).only(Wire);
    assert_eq!(outside.src.to_string(), "192.168.7.10");
    w.change_quietly(|d| {
        let service = d.service_at("dns", &["node udp 30053", "external udp 198.51.100.8:53"], &[]);
        service.external_policy = TrafficPolicy::Local;
    });
    // Without an endpoint nothing changes for those who are there already.
    w.forward(PodA, &udp(A, "192.168.7.10:30053"), Host);
    w.change_quietly(|d| {
        let frontends = ["node udp 30053", "external udp 198.51.100.8:53"];
        d.service_at("dns", &frontends, &[HERE]).external_policy = TrafficPolicy::Local;
    });
    w.pass(PodA, &udp(A, "192.168.7.10:30053"), PodB, &udp(A, HERE).hop());
    assert_eq!(w.send(PodA, [udp(A, "198.51.100.8:53")]).only(PodB).dst.to_string(), "10.1.0.3");
}

#[test]
fn udp_moves_when_its_endpoint_no_longer_serves_and_not_for_policy() {
    let mut w = World::with(|d| {
        d.service_at("dns", &["udp 10.96.0.1:80"], &[HERE, FAR]).endpoints[1].cluster = false;
    });
    w.pass(PodA, &udp(A, VIP), PodB, &udp(A, HERE).hop());
    // It gets no new connections, and keeps what it has while it serves.
    w.change_quietly(|d| {
        let endpoints = &mut d.services[0].endpoints;
        (endpoints[0].cluster, endpoints[1].cluster) = (false, true);
    });
    w.pass(PodA, &udp(A, VIP), PodB, &udp(A, HERE).hop());
    w.pass(PodA, &udp("10.1.0.2:4001", VIP), NodeB, &udp("10.1.0.2:4001", FAR).hop());
    w.change_quietly(|d| d.services[0].endpoints[0].serving = false);
    w.pass(PodA, &udp(A, VIP), NodeB, &udp(A, FAR).hop());
}

#[test]
fn too_big_is_told_to_the_true_sender() {
    let mut w = World::with(|d| {
        d.detect_pods();
        d.service_at("u", &["node udp 30080", "udp 10.96.0.1:80"], &[FAR]);
    });
    // This node says so: to an outside client, to a pod and to a process.
    let cases = [
        (Wire, CLIENT, NODE_PORT, "192.168.7.10"),
        (PodA, A, VIP, "10.1.0.1"),
        (Host, "192.168.7.10:4000", VIP, "10.1.0.1"),
    ];
    for (from, client, frontend, who) in cases {
        let sent = udp(client, frontend).data(1460);
        let answer = error(who, client.split(':').next().unwrap(), FRAGMENTATION_NEEDED, 1450, &sent);
        w.refuse(from, &sent, R::TooBig, &answer);
    }
    // A router on the way of an answer says so: it reaches the endpoint, about what the endpoint sent.
    let seen = w.send(Wire, [udp(CLIENT, NODE_PORT)]).only(NodeB);
    let answer = seen.back().data(1400);
    let left = w.send(NodeB, [answer.clone()]).only(Wire);
    let told = error("198.51.100.1", "192.168.7.10", FRAGMENTATION_NEEDED, 1300, &left);
    let expected = error("198.51.100.1", "10.1.1.5", FRAGMENTATION_NEEDED, 1300, &answer.hop());
    w.pass(Wire, &told, NodeB, &expected.hop());
    // A router on the way to the endpoint: it reaches the client, about the frontend.
    let told = error("10.1.1.1", "192.168.7.10", FRAGMENTATION_NEEDED, 1300, &seen);
    let expected =
        error("10.1.1.1", "203.0.113.9", FRAGMENTATION_NEEDED, 1300, &udp(CLIENT, NODE_PORT).hop());
    w.pass(NodeB, &told, Wire, &expected.hop());
}

#[test]
fn external_addresses_are_no_hosts() {
    let mut w = world(&[HERE]);
    w.drop(PodA, &ping("10.1.0.2", "198.51.100.7", 1), R::NoService);
    w.drop(PodA, &ping("10.1.0.2", "198.51.100.8", 1), R::NoService);
    // A frontend at the node's own address leaves the rest of it alone.
    w.change_quietly(|d| {
        d.service_at("own", &["external tcp 192.168.7.10:443"], &[HERE]);
    });
    w.forward(PodA, &ping("10.1.0.2", "192.168.7.10", 1), Host);
    w.send(PodA, [syn(A, "192.168.7.10:443")]).only(PodB);
}

#[test]
fn the_middle_of_a_connection_is_never_let_in() {
    let mut w = world(&[HERE]);
    for (from, client) in [(PodA, A), (Wire, CLIENT), (Host, "192.168.7.10:4000")] {
        for frontend in [NODE_PORT, EXTERNAL, BALANCER] {
            for flags in [TcpFlags::ACK, TcpFlags::RST, TcpFlags::FIN | TcpFlags::ACK] {
                w.drop(from, &tcp(client, frontend).flags(flags).data(7), R::TcpMidStream);
            }
        }
    }
    assert_eq!(w.flows(), 0);
}
