//! Services: one endpoint for each connection, and back under the Service's address.

use std::collections::BTreeMap;

use headrace_dataplane::drop_reason::DropReason;
use headrace_flowmap::{FlowMap, Geometry};
use headrace_wire::tcp::TcpFlags;

use crate::walk::packet::{Body, PORT_UNREACHABLE, Packet, Sum, error, ping, sctp, syn, syn_ack, tcp, udp};
use crate::walk::place::At::{Host, NodeB, NodeC, PodA, PodB, Wire};
use crate::walk::{Plan, World};

const A: &str = "10.1.0.2:4000";
const VIP: &str = "10.96.0.1:80";
const TCP: &str = "tcp 10.96.0.1:80";
const UDP: &str = "udp 10.96.0.1:80";
const HERE: &str = "10.1.0.3:8080";
const FAR: &str = "10.1.1.5:8080";

#[test]
fn an_endpoint_on_this_node_is_reached_and_answers_as_the_service() {
    let mut w = World::with(|d| d.service(TCP, &[HERE]));
    w.pass(PodA, &syn(A, VIP), PodB, &syn(A, HERE).hop());
    w.pass(PodB, &syn_ack(HERE, A), PodA, &syn_ack(VIP, A).hop());
    for process in ["10.1.0.0:5000", "192.168.7.10:5000"] {
        w.pass(Host, &syn(process, VIP), PodB, &syn(process, HERE).hop());
        w.pass(PodB, &syn_ack(HERE, process), Host, &syn_ack(VIP, process).hop());
    }
    w.pass(PodA, &tcp(A, VIP).data(60_000).checksum(Sum::Partial), PodB, &tcp(A, HERE).data(60_000).hop());
    let answer = tcp(HERE, A).data(60_000).checksum(Sum::Partial);
    w.pass(PodB, &answer, PodA, &answer.from(VIP).hop());
    w.pass(PodB, &tcp(HERE, A).data(7), PodA, &tcp(VIP, A).data(7).hop());
    w.pass(PodA, &tcp(A, VIP).checksum(Sum::Wrong).data(7), PodB, &{
        let wrong = tcp(A, VIP).checksum(Sum::Wrong).data(7);
        wrong.to(HERE).hop()
    });
}

#[test]
fn endpoints_elsewhere_are_reached_as_pods_there_are() {
    for (endpoint, at) in [(FAR, NodeB), ("10.1.2.5:8080", NodeC), ("192.168.7.11:6443", NodeB)] {
        let mut w = World::with(|d| {
            d.service(TCP, &[endpoint]);
            d.service(UDP, &[endpoint]);
        });
        w.pass(PodA, &syn(A, VIP), at, &syn(A, endpoint).hop());
        w.pass(at, &syn_ack(endpoint, A), PodA, &syn_ack(VIP, A).hop());
        w.pass(PodA, &udp(A, VIP).checksum(Sum::Absent), at, &udp(A, endpoint).checksum(Sum::Absent).hop());
        w.pass(at, &udp(endpoint, A), PodA, &udp(VIP, A).hop());
        for process in ["10.1.0.0:5000", "192.168.7.10:5000"] {
            w.pass(Host, &syn(process, VIP), at, &syn(process, endpoint).hop());
            w.pass(at, &syn_ack(endpoint, process), Host, &syn_ack(VIP, process).hop());
        }
    }
}

#[test]
fn an_endpoint_outside_of_the_cluster_sees_the_node() {
    let mut w = World::with(|d| d.service(UDP, &["203.0.113.9:53"]));
    let out = w.send(PodA, [udp(A, VIP)]).only(Wire);
    let node = format!("192.168.7.10:{}", out.ports.0);
    assert_eq!(out, udp(&node, "203.0.113.9:53").hop());
    w.pass(Wire, &out.back(), PodA, &udp(VIP, A).hop());
}

#[test]
fn a_pod_that_is_its_own_endpoint_sees_the_dataplane_s_address() {
    let mut w = World::with(|d| d.service(TCP, &[HERE]));
    let client = "10.1.0.3:4000";
    w.pass(PodB, &syn(client, VIP), PodB, &syn("10.1.0.1:4000", HERE).hop());
    w.pass(PodB, &syn_ack(HERE, "10.1.0.1:4000"), PodB, &syn_ack(VIP, client).hop());
    let data = tcp(client, VIP).data(40_000);
    w.pass(PodB, &data.checksum(Sum::Partial), PodB, &data.from("10.1.0.1:4000").to(HERE).hop());
}

#[test]
fn a_process_of_this_node_as_endpoint_sees_its_client_or_the_dataplane_s_address() {
    let process = "192.168.7.10:6443";
    let mut w = World::with(|d| d.service(TCP, &[process]));
    w.pass(PodA, &syn(A, VIP), Host, &syn(A, process).hop());
    w.pass(Host, &syn_ack(process, A), PodA, &syn_ack(VIP, A).hop());
    for client in ["192.168.7.10:4000", "10.1.0.0:4001"] {
        let seen = client.replace("192.168.7.10", "10.1.0.1").replace("10.1.0.0", "10.1.0.1");
        w.pass(Host, &syn(client, VIP), Host, &syn(&seen, process).hop());
        w.pass(Host, &syn_ack(process, &seen), Host, &syn_ack(VIP, client).hop());
        w.pass(Host, &tcp(client, VIP).data(5), Host, &tcp(&seen, process).data(5).hop());
    }
}

#[test]
fn two_clients_behind_the_dataplane_s_address_get_two_ports() {
    let process = "192.168.7.10:6443";
    let mut w = World::with(|d| d.service(TCP, &[process]));
    w.pass(Host, &syn("192.168.7.10:4000", VIP), Host, &syn("10.1.0.1:4000", process).hop());
    let other = w.send(Host, [syn("10.1.0.0:4000", VIP)]).only(Host);
    assert_ne!(other.ports.0, 4000);
    assert_eq!(other, syn(&format!("10.1.0.1:{}", other.ports.0), process).hop());
    w.pass(Host, &other.back(), Host, &other.back().from(VIP).to("10.1.0.0:4000").hop());
}

#[test]
fn connections_spread_evenly_over_endpoints() {
    let mut plan = Plan::new().desired(|d| {
        d.service(TCP, &["10.1.0.3:1", "10.1.1.5:2", "10.1.2.5:3"]);
        d.service(UDP, &["10.1.0.3:1", "10.1.1.5:2", "10.1.2.5:3"]);
    });
    plan.flows = FlowMap::anonymous(&Geometry { capacity: 32_768, content_version: 0 }).unwrap();
    let mut w = plan.world();
    for packet in [syn(A, VIP), udp(A, VIP)] {
        let mut counts = BTreeMap::new();
        for burst in 0..60 {
            let port = |i| format!("10.1.0.2:{}", 10_000 + burst * 50 + i);
            let packets: Vec<_> = (0..50).map(|i| packet.from(&port(i))).collect();
            for (_, out) in w.send(PodA, &packets).out {
                *counts.entry(out.ports.1).or_insert(0) += 1;
            }
        }
        // 1000 expected with a standard deviation of 26.
        assert!(counts.len() == 3 && counts.values().all(|n| (870..1130).contains(n)), "{counts:?}");
    }
}

#[test]
fn packets_of_one_burst_share_their_flow() {
    let mut w = World::with(|d| {
        d.service(TCP, &["10.1.1.5:1", "10.1.1.5:2", "10.1.1.5:3"]);
        d.service(UDP, &["10.1.1.5:1", "10.1.1.5:2", "10.1.1.5:3"]);
    });
    for packets in [vec![syn(A, VIP), tcp(A, VIP).data(9)], vec![udp(A, VIP); 30]] {
        let out = w.send(PodA, &packets).all(NodeB);
        assert!(out.len() == packets.len() && out.iter().all(|p| p.ports == out[0].ports), "{out:?}");
    }
    assert_eq!((w.flows(), w.count(|h| &h.flows_inserted)), (4, 4));
}

#[test]
fn tcp_keeps_an_endpoint_that_went_away_and_new_connections_do_not_get_it() {
    let mut w = World::with(|d| d.service(TCP, &[HERE]));
    w.pass(PodA, &syn(A, VIP), PodB, &syn(A, HERE).hop());
    w.change_quietly(|d| d.service(TCP, &[FAR]));
    w.pass(PodA, &tcp(A, VIP).data(3), PodB, &tcp(A, HERE).data(3).hop());
    w.pass(PodB, &tcp(HERE, A).data(3), PodA, &tcp(VIP, A).data(3).hop());
    w.pass(PodA, &syn("10.1.0.2:4001", VIP), NodeB, &syn("10.1.0.2:4001", FAR).hop());
    w.change_quietly(|d| d.services.clear());
    w.pass(PodA, &tcp(A, VIP).data(3), PodB, &tcp(A, HERE).data(3).hop());
}

#[test]
fn udp_moves_to_an_endpoint_that_serves() {
    let mut w = World::with(|d| d.service(UDP, &[HERE]));
    w.pass(PodA, &udp(A, VIP), PodB, &udp(A, HERE).hop());
    w.pass(PodB, &udp(HERE, A), PodA, &udp(VIP, A).hop());
    w.change_quietly(|d| d.service(UDP, &[HERE, "10.1.1.5:1", "10.1.1.5:2", "10.1.1.5:3"]));
    for _ in 0..20 {
        w.pass(PodA, &udp(A, VIP), PodB, &udp(A, HERE).hop());
    }
    w.change_quietly(|d| d.service(UDP, &[FAR]));
    w.pass(PodA, &udp(A, VIP), NodeB, &udp(A, FAR).hop());
    w.pass(NodeB, &udp(FAR, A), PodA, &udp(VIP, A).hop());
    w.change_quietly(|d| d.services.clear());
    w.drop(PodA, &udp(A, VIP), DropReason::NoService);
}

#[test]
fn without_endpoints_the_client_is_told() {
    let mut w = World::with(|d| {
        d.service(TCP, &[]);
        d.service(UDP, &[]);
    });
    for sent in [syn(A, VIP), tcp(A, VIP).data(2000), udp(A, VIP).data(1000)] {
        let answer = error("10.1.0.1", "10.1.0.2", PORT_UNREACHABLE, 0, &sent);
        w.refuse(PodA, &sent, DropReason::NoEndpoint, &answer);
    }
    let sent = syn("192.168.7.10:4000", VIP);
    w.refuse(
        Host,
        &sent,
        DropReason::NoEndpoint,
        &error("10.1.0.1", "192.168.7.10", PORT_UNREACHABLE, 0, &sent),
    );
    assert_eq!(w.flows(), 0);
}

#[test]
fn clients_are_told_a_thousand_times_a_second_at_most() {
    let mut w = World::with(|d| d.service(UDP, &[]));
    let many = vec![udp(A, VIP); 1100];
    for _ in 0..2 {
        let outcome = w.send(PodA, &many);
        assert_eq!(outcome.out.len(), 1000);
        assert_eq!(outcome.drops["no_endpoint"], 1100);
        w.now += 1;
    }
    assert_eq!(w.count(|h| &h.icmp_errors_sent), 2000);
    assert_eq!(w.count(|h| &h.icmp_errors_withheld), 200);
}

#[test]
fn nothing_to_a_service_leaves_untranslated() {
    use DropReason as R;
    let mut w = World::with(|d| d.service(TCP, &[HERE, FAR, "203.0.113.9:80"]));
    let later = Packet { fragment: (64, false), body: Body::Other(17), ports: (0, 0), ..udp(A, VIP) };
    let cases = [
        ("no such address", syn(A, "10.96.9.9:80"), R::NoService),
        ("echo to no such address", ping("10.1.0.2", "10.96.9.9", 1), R::NoService),
        ("middle of a connection", tcp(A, VIP).data(5), R::TcpMidStream),
        ("its end", tcp(A, VIP).flags(TcpFlags::FIN | TcpFlags::ACK), R::TcpMidStream),
        ("reset", tcp(A, VIP).flags(TcpFlags::RST), R::TcpMidStream),
        ("answer", syn_ack(A, VIP), R::TcpMidStream),
    ];
    for (name, sent, reason) in cases {
        println!("{name}");
        w.drop(PodA, &sent, reason);
        w.drop(Host, &sent.from("10.1.0.0"), reason);
    }
    for from in [PodA, Host] {
        w.waiting = 1;
        let source = if from == PodA { "10.1.0.2" } else { "10.1.0.0" };
        w.send(from, [later.from(source)]).is(&[], &[]);
        w.waiting = 0;
        w.pass_time_quietly(2);
        w.turn(0).is(&[], &[R::FragmentUnknown]);
    }
    assert_eq!(w.flows(), 0);
}

#[test]
fn unknown_ports_of_a_known_cluster_address_are_refused() {
    let mut w = World::with(|d| d.service(TCP, &[HERE]));
    for sent in [syn(A, "10.96.0.1:81"), udp(A, VIP), sctp(A, VIP), ping("10.1.0.2", "10.96.0.1", 1)] {
        let answer = error("10.1.0.1", "10.1.0.2", PORT_UNREACHABLE, 0, &sent);
        w.refuse(PodA, &sent, DropReason::NoServicePort, &answer);
    }
}

#[test]
fn a_frontend_may_be_any_address() {
    let mut w = World::with(|d| d.service("tcp 198.51.100.7:443", &[FAR]));
    w.pass(PodA, &syn(A, "198.51.100.7:443"), NodeB, &syn(A, FAR).hop());
    w.pass(NodeB, &syn_ack(FAR, A), PodA, &syn_ack("198.51.100.7:443", A).hop());
}

#[test]
fn a_direct_connection_to_an_endpoint_is_told_apart_from_one_by_the_service() {
    let mut w = World::with(|d| d.service(TCP, &[HERE]));
    w.pass(PodA, &syn(A, VIP), PodB, &syn(A, HERE).hop());
    let direct = w.send(PodA, [syn(A, HERE)]).only(PodB);
    assert_ne!(direct.ports.0, 4000);
    w.pass(PodB, &direct.back(), PodA, &syn(HERE, A).hop());
    w.pass(PodB, &syn_ack(HERE, A), PodA, &syn_ack(VIP, A).hop());
}
