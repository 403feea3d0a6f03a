//! Random connections through everything that translates: no two share a reply's tuple, and all ways back are the ways there
//! reversed.

use std::collections::BTreeMap;

use headrace_api::state::TrafficPolicy;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::walk::World;
use crate::walk::packet::{PORT_UNREACHABLE, Packet, error, sctp, syn, udp};
use crate::walk::place::At::{self, Host, NodeB, NodeC, PodA, PodB, Wire};

const CLIENTS: [(At, &str); 8] = [
    (PodA, "10.1.0.2"),
    (PodB, "10.1.0.3"),
    (Host, "192.168.7.10"),
    (Host, "10.1.0.0"),
    (Wire, "203.0.113.9"),
    (Wire, "203.0.113.10"),
    (NodeB, "10.1.1.9"),
    (NodeC, "10.1.2.9"),
];
const DESTINATIONS: [&str; 4] = ["10.96.0.1:80", "192.168.7.10:30080", "198.51.100.7:80", "10.1.0.3:8080"];
type Make = fn(&str, &str) -> Packet;
const PROTOCOLS: [(&str, Make); 3] = [("tcp", syn), ("udp", udp), ("sctp", sctp)];

fn world(policy: TrafficPolicy) -> World {
    World::with(|d| {
        d.detect_pods();
        for (protocol, _) in PROTOCOLS {
            let frontends = [
                format!("{protocol} 10.96.0.1:80"),
                format!("node {protocol} 30080"),
                format!("lb {protocol} 198.51.100.7:80"),
            ];
            let frontends: Vec<_> = frontends.iter().map(String::as_str).collect();
            let endpoints = ["10.1.0.3:8080", "10.1.0.2:8080", "10.1.1.5:8080", "10.1.2.5:8080"];
            d.service_at(protocol, &frontends, &endpoints).external_policy = policy;
        }
    })
}

/// A connection: who began it with what, and who saw what of it.
#[derive(Clone, Debug, PartialEq)]
struct Live {
    from: At,
    sent: Packet,
    at: At,
    seen: Packet,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_two_share_a_reply_and_all_go_back(
        connections in vec((0..CLIENTS.len(), 0u16..4, 0..DESTINATIONS.len(), 0..PROTOCOLS.len()), 1..80),
        local in any::<bool>(),
    ) {
        let mut w = world(if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster });
        let mut live: BTreeMap<_, Live> = BTreeMap::new();
        for (client, port, destination, protocol) in connections {
            let (from, address) = CLIENTS[client];
            let itself = from == PodB && destination == 3;
            if itself {
                continue;
            }
            let sent = PROTOCOLS[protocol].1(&format!("{address}:{}", 4000 + port), DESTINATIONS[destination]);
            let mut outcome = w.send(from, [sent.clone()]);
            prop_assert!(outcome.drops.is_empty() && outcome.out.len() == 1, "{sent:?}: {outcome:?}");
            let (at, seen) = outcome.out.remove(0);
            let reply = (protocol, seen.dst, seen.ports.1, seen.src, seen.ports.0);
            let one = Live { from, sent, at, seen };
            if let Some(other) = live.insert(reply, one.clone()) {
                prop_assert_eq!(other, one, "two connections have one reply");
            }
        }
        for ((protocol, ..), Live { from, sent, at, seen }) in &live {
            w.pass(*at, &seen.back(), *from, &sent.back().hop());
            w.pass(*from, sent, *at, seen);
            if PROTOCOLS[*protocol].0 != "sctp" {
                let told = |packet: &Packet| {
                    error(&packet.dst.to_string(), &packet.src.to_string(), PORT_UNREACHABLE, 0, packet)
                };
                w.pass(*at, &told(seen), *from, &told(&sent.hop()).hop());
            }
        }
    }
}
