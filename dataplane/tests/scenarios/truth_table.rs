//! Which endpoints get a connection, and whether they see its client: kube-proxy's truth table, cell by cell
//! (kubernetes, pkg/proxy/iptables/proxier_test.go, TestInternalExternalMasquerade).

use std::collections::BTreeSet;

use headrace_api::state::TrafficPolicy::{self, Cluster, Local};

use crate::walk::packet::{Packet, syn, syn_ack, udp};
use crate::walk::place::At::{self, Host, NodeB, PodA, PodB, Wire};
use crate::walk::{Plan, World};

const CLUSTER_IP: &str = "10.96.0.1:80";
const NODE_PORT: &str = "192.168.7.10:30080";
const LOAD_BALANCER: &str = "198.51.100.7:443";
const LOCALHOST: &str = "127.0.0.1:30080";
const HERE: &str = "10.1.0.3:8080";
const FAR: &str = "10.1.1.5:8080";

const POD: (At, &str) = (PodA, "10.1.0.2");
const NODE: (At, &str) = (Host, "192.168.7.10");
/// A process whose socket took the address of the host link.
const NODE_AS_S0: (At, &str) = (Host, "10.1.0.0");
const PROCESS: (At, &str) = (Host, "127.0.0.1");
const EXTERNAL: (At, &str) = (Wire, "203.0.113.9");

/// Client, frontend, then for both policies Cluster, external Local and internal Local: C = all endpoints, L = local ones,
/// M = masqueraded.
type Row = ((At, &'static str), &'static str, [&'static str; 3]);

const COLUMNS: [(TrafficPolicy, TrafficPolicy); 3] = [(Cluster, Cluster), (Cluster, Local), (Local, Cluster)];

const TABLE: [Row; 13] = [
    (POD, CLUSTER_IP, ["C-", "C-", "L-"]),
    (POD, NODE_PORT, ["CM", "C-", "CM"]),
    (POD, LOAD_BALANCER, ["CM", "C-", "CM"]),
    (NODE, CLUSTER_IP, ["CM", "CM", "LM"]),
    (NODE, NODE_PORT, ["CM", "CM", "CM"]),
    (PROCESS, LOCALHOST, ["CM", "CM", "CM"]),
    (NODE, LOAD_BALANCER, ["CM", "CM", "CM"]),
    (NODE_AS_S0, CLUSTER_IP, ["CM", "CM", "LM"]),
    (NODE_AS_S0, NODE_PORT, ["CM", "CM", "CM"]),
    (NODE_AS_S0, LOAD_BALANCER, ["CM", "CM", "CM"]),
    (EXTERNAL, CLUSTER_IP, ["CM", "CM", "LM"]),
    (EXTERNAL, NODE_PORT, ["CM", "L-", "CM"]),
    (EXTERNAL, LOAD_BALANCER, ["CM", "L-", "CM"]),
];

fn world(policies: (TrafficPolicy, TrafficPolicy), masquerade_all: bool, detect: bool) -> World {
    let plan = Plan::new().desired(|d| {
        d.detect_pods();
        d.settings().node_port_loopback = true;
        d.settings().masquerade_all = masquerade_all;
        if !detect {
            d.settings().local_sources.clear();
        }
        for protocol in ["tcp", "udp"] {
            let frontends = [
                format!("{protocol} {CLUSTER_IP}"),
                format!("node {protocol} 30080"),
                format!("lb {protocol} {LOAD_BALANCER}"),
            ];
            let frontends: Vec<_> = frontends.iter().map(String::as_str).collect();
            let service = d.service_at(protocol, &frontends, &[HERE, FAR]);
            (service.internal_policy, service.external_policy) = policies;
        }
    });
    plan.world()
}

/// Opens connections, answers each, and says what the endpoints were and saw.
fn cell(
    w: &mut World,
    (from, client): (At, &str),
    frontend: &str,
    first: fn(&str, &str) -> Packet,
) -> String {
    let (mut reached, mut masqueraded) = (BTreeSet::new(), BTreeSet::new());
    for port in 4000..4024 {
        let client = format!("{client}:{port}");
        let mut out = w.send(from, [first(&client, frontend)]).out;
        let (at, seen) = out.remove(0);
        let endpoint = if at == PodB { HERE } else { FAR };
        let is_masqueraded = format!("{}:{}", seen.src, seen.ports.0) != client;
        let expected = match (is_masqueraded, at) {
            (false, _) => client.clone(),
            (true, PodB) => format!("10.1.0.1:{port}"),
            (true, _) => format!("192.168.7.10:{}", seen.ports.0),
        };
        assert!(!is_masqueraded || at == PodB || (61_000..=61_999).contains(&seen.ports.0), "{seen:?}");
        assert_eq!((out, &seen), (vec![], &first(&expected, endpoint).hop()));
        let answer = if first(&client, frontend) == syn(&client, frontend) {
            (syn_ack(endpoint, &expected), syn_ack(frontend, &client))
        } else {
            (udp(endpoint, &expected), udp(frontend, &client))
        };
        w.pass(at, &answer.0, from, &answer.1.hop());
        reached.insert(at);
        masqueraded.insert(is_masqueraded);
    }
    assert_eq!(masqueraded.len(), 1, "either all or none are masqueraded");
    let list = if reached == BTreeSet::from([PodB, NodeB]) { "C" } else { "L" };
    assert!(reached.contains(&PodB));
    format!("{list}{}", if masqueraded.contains(&true) { "M" } else { "-" })
}

#[test]
fn every_cell_is_kube_proxy_s() {
    for first in [syn, udp] {
        for (column, policies) in COLUMNS.into_iter().enumerate() {
            for (client, frontend, expected) in TABLE {
                let mut w = world(policies, false, true);
                let found = cell(&mut w, client, frontend, first);
                assert_eq!(found, expected[column], "{client:?} to {frontend}, {policies:?}");
            }
        }
    }
}

#[test]
fn masquerade_all_counts_for_cluster_addresses() {
    for (frontend, expected) in [(CLUSTER_IP, "CM"), (NODE_PORT, "C-")] {
        let mut w = world((Cluster, Local), true, true);
        assert_eq!(cell(&mut w, POD, frontend, syn), expected);
    }
}

#[test]
fn without_a_detector_nobody_is_masqueraded_for_being_no_pod() {
    let mut cases = vec![(POD, CLUSTER_IP, "C-"), (NODE, CLUSTER_IP, "C-")];
    for frontend in [NODE_PORT, LOAD_BALANCER] {
        cases.extend([(POD, frontend, "L-"), (NODE, frontend, "CM"), (EXTERNAL, frontend, "L-")]);
    }
    for (client, frontend, expected) in cases {
        let mut w = world((Cluster, Local), false, false);
        assert_eq!(cell(&mut w, client, frontend, syn), expected, "{client:?} to {frontend}");
    }
}

#[test]
fn a_pod_that_is_its_own_endpoint_is_masqueraded_by_every_frontend() {
    for policies in COLUMNS {
        let mut w = world(policies, false, true);
        w.change_quietly(|d| d.services.iter_mut().for_each(|s| s.endpoints.truncate(1)));
        for frontend in [CLUSTER_IP, NODE_PORT, LOAD_BALANCER] {
            let client = "10.1.0.3:4000";
            let seen = w.send(PodB, [syn(client, frontend)]).only(PodB);
            assert_eq!(seen.src.to_string(), "10.1.0.1", "{frontend}");
            w.pass(PodB, &seen.back().flags(headrace_wire::tcp::TcpFlags::ACK), PodB, &{
                let back = syn(frontend, client).flags(headrace_wire::tcp::TcpFlags::ACK);
                back.hop()
            });
        }
    }
}
