//! Packets of kube-proxy's own unit tests that no other walk has (kubernetes, pkg/proxy/nftables/proxier_test.go); each test
//! is named after the one it follows.

use headrace_api::state::TrafficPolicy;
use headrace_dataplane::drop_reason::DropReason as R;

use crate::walk::World;
use crate::walk::desired::Desired;
use crate::walk::packet::{PORT_UNREACHABLE, error, syn, syn_ack, tcp, udp};
use crate::walk::place::At::{Host, NodeB, PodA, PodB, Wire};

const A: &str = "10.1.0.2:4000";
const CLIENT: &str = "203.0.113.9:5000";

/// TestClusterIPGeneral: two Services of several ports and protocols, each with target ports of its own.
#[test]
fn cluster_ip_general() {
    let mut w = World::with(|d| {
        d.detect_pods();
        d.service_at("svc1:http", &["tcp 10.96.0.41:80"], &["10.1.0.3:80"]);
        d.service_at("svc2:http", &["tcp 10.96.0.42:80"], &["10.1.1.5:8080"]);
        d.service_at("svc2:https", &["tcp 10.96.0.42:443"], &["10.1.1.5:8443"]);
        d.service_at("svc2:dns-tcp", &["tcp 10.96.0.42:53"], &["10.1.0.3:5353"]);
        d.service_at("svc2:dns-udp", &["udp 10.96.0.42:53"], &["10.1.0.3:5354"]);
    });
    let cases = [
        ("10.96.0.41:80", PodB, "10.1.0.3:80"),
        ("10.96.0.42:80", NodeB, "10.1.1.5:8080"),
        ("10.96.0.42:443", NodeB, "10.1.1.5:8443"),
        ("10.96.0.42:53", PodB, "10.1.0.3:5353"),
    ];
    for (vip, at, endpoint) in cases {
        w.pass(PodA, &syn(A, vip), at, &syn(A, endpoint).hop());
        w.pass(at, &syn_ack(endpoint, A), PodA, &syn_ack(vip, A).hop());
    }
    w.pass(PodA, &udp(A, "10.96.0.42:53"), PodB, &udp(A, "10.1.0.3:5354").hop());
    // A port of the other protocol alone is an undefined one.
    let sent = udp(A, "10.96.0.42:80");
    w.refuse(PodA, &sent, R::NoServicePort, &error("10.1.0.1", "10.1.0.2", PORT_UNREACHABLE, 0, &sent));
}

/// An endpoint that terminates and still serves, as the agent marks it.
fn terminating(d: &mut Desired, endpoints: &[(&str, bool, bool)], policy: TrafficPolicy) {
    let addresses: Vec<_> = endpoints.iter().map(|(address, ..)| *address).collect();
    let service = d.service_at("web", &["tcp 10.96.0.1:80", "lb tcp 198.51.100.7:80"], &addresses);
    service.external_policy = policy;
    for (endpoint, (_, cluster, local)) in service.endpoints.iter_mut().zip(endpoints) {
        (endpoint.cluster, endpoint.local) = (*cluster, *local);
    }
}

/// TestTerminatingEndpointsTrafficPolicyCluster: ready ones alone get connections, and those that terminate when there is no
/// other; when these are gone too, clients are refused.
#[test]
fn terminating_endpoints_traffic_policy_cluster() {
    let ready = [("10.1.0.3:80", true, false), ("10.1.1.5:80", false, false)];
    let mut w = World::with(|d| {
        d.detect_pods();
        terminating(d, &ready, TrafficPolicy::Cluster);
    });
    for port in 5000..5020 {
        w.send(Wire, [syn(&format!("203.0.113.9:{port}"), "198.51.100.7:80")]).only(PodB);
    }
    w.change_quietly(|d| terminating(d, &[("10.1.1.5:80", true, false)], TrafficPolicy::Cluster));
    w.send(Wire, [syn("203.0.113.9:5020", "198.51.100.7:80")]).only(NodeB);
    // What was open stays with the endpoint that is gone.
    w.send(Wire, [tcp(CLIENT, "198.51.100.7:80").data(9)]).only(PodB);
    w.change_quietly(|d| terminating(d, &[], TrafficPolicy::Cluster));
    let sent = syn("203.0.113.9:5021", "198.51.100.7:80");
    w.refuse(Wire, &sent, R::NoEndpoint, &error("192.168.7.10", "203.0.113.9", PORT_UNREACHABLE, 0, &sent));
}

/// TestTerminatingEndpointsTrafficPolicyLocal: outside clients get the local one that terminates, pods and the node the ready
/// ones elsewhere; without a local one, outside clients are dropped and the others served.
#[test]
fn terminating_endpoints_traffic_policy_local() {
    let endpoints = [("10.1.0.3:80", false, true), ("10.1.1.5:80", true, false)];
    let mut w = World::with(|d| {
        d.detect_pods();
        terminating(d, &endpoints, TrafficPolicy::Local);
    });
    w.send(Wire, [syn(CLIENT, "198.51.100.7:80")]).only(PodB);
    w.send(PodA, [syn(A, "198.51.100.7:80")]).only(NodeB);
    w.send(Host, [syn("192.168.7.10:4000", "198.51.100.7:80")]).only(NodeB);
    w.change_quietly(|d| terminating(d, &endpoints[1..], TrafficPolicy::Local));
    w.drop(Wire, &syn("203.0.113.9:5001", "198.51.100.7:80"), R::NoLocalEndpoint);
    w.send(PodA, [syn("10.1.0.2:4001", "198.51.100.7:80")]).only(NodeB);
}

/// TestExternalTrafficPolicyCluster and TestInternalTrafficPolicy: each policy counts for its own frontends alone.
#[test]
fn policies_count_for_their_own_frontends() {
    let endpoints = ["10.1.0.3:80", "10.1.1.5:80"];
    let frontends = ["tcp 10.96.0.1:80", "lb tcp 198.51.100.7:80"];
    let mut w = World::with(|d| {
        d.detect_pods();
        d.service_at("web", &frontends, &endpoints).internal_policy = TrafficPolicy::Local;
    });
    let mut reached = |from, client: &str, frontend| {
        let ends = (0..40).map(|i| {
            let sent = syn(&format!("{client}:{}", 6000 + i), frontend);
            w.send(from, [sent]).out.remove(0).1.dst.to_string()
        });
        ends.collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!(reached(PodA, "10.1.0.2", "10.96.0.1:80"), 1);
    assert_eq!(reached(Wire, "203.0.113.9", "198.51.100.7:80"), 2);
}
