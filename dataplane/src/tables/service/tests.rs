use std::collections::BTreeMap;

use FrontendKind::{ClusterIp, ExternalIp, HostPort, LoadBalancer, NodePort};
use Origin::{Node, Outside, Pod};
use TrafficPolicy::{Cluster, Local};

use super::*;

const HERE: Endpoint = (Ipv4Addr::new(10, 1, 0, 2), 8080);
const FAR: Endpoint = (Ipv4Addr::new(10, 1, 1, 2), 8080);

fn service(internal_policy: TrafficPolicy, external_policy: TrafficPolicy) -> Service {
    Service {
        name: "default/web:http".into(),
        id: ServiceId::of("default/web:http"),
        cluster: [HERE, FAR].into(),
        local: [HERE].into(),
        serving: [HERE, FAR].into(),
        has_any: true,
        internal_policy,
        external_policy,
        affinity: None,
        source_ranges: [].into(),
        hits: Hits::default(),
    }
}

#[test]
fn the_policy_of_the_frontend_chooses_the_list() {
    let all: &[Endpoint] = &[HERE, FAR];
    let here: &[Endpoint] = &[HERE];
    // Frontend, from, then the list under: both Cluster, external Local, internal Local.
    let table = [
        (ClusterIp, Pod, [all, all, here]),
        (ClusterIp, Node, [all, all, here]),
        (ClusterIp, Outside, [all, all, here]),
        (NodePort, Pod, [all, all, all]),
        (NodePort, Node, [all, all, all]),
        (NodePort, Outside, [all, here, all]),
        (LoadBalancer, Pod, [all, all, all]),
        (LoadBalancer, Outside, [all, here, all]),
        (ExternalIp, Node, [all, all, all]),
        (ExternalIp, Outside, [all, here, all]),
        (HostPort, Outside, [all, all, all]),
    ];
    for (kind, from, expected) in table {
        let policies = [(Cluster, Cluster), (Cluster, Local), (Local, Cluster)];
        for ((internal, external), expected) in policies.into_iter().zip(expected) {
            let service = service(internal, external);
            assert_eq!(
                service.usable(kind, from),
                expected,
                "{kind:?} from {from:?}, {internal:?} {external:?}"
            );
        }
    }
}

#[test]
fn every_endpoint_is_chosen_equally_often() {
    for count in 1..=9u8 {
        let endpoints: Vec<_> = (0..count).map(|last| (Ipv4Addr::new(10, 1, 0, last), 8080)).collect();
        let mut chosen = BTreeMap::new();
        let draws = u64::from(count) * 1000;
        for draw in 0..draws {
            // All of the 32 bits that count, evenly; the others are noise.
            let word = ((draw << 32) / draws) | (draw << 32);
            *chosen.entry(choose(&endpoints, word).unwrap()).or_insert(0) += 1;
        }
        assert_eq!(chosen.len(), usize::from(count));
        assert!(chosen.values().all(|times| (999..=1001).contains(times)), "{chosen:?}");
    }
    assert_eq!(choose(&[], u64::MAX), None);
}

#[test]
fn random_words_choose_endpoints_evenly() {
    let endpoints: Vec<_> = (0..7).map(|last| (Ipv4Addr::new(10, 1, 0, last), 8080)).collect();
    let mut random = crate::random::Random::with_seed(1);
    let mut chosen = BTreeMap::new();
    for _ in 0..70_000 {
        *chosen.entry(choose(&endpoints, random.word()).unwrap()).or_insert(0) += 1;
    }
    // Five standard deviations of a binomial distribution.
    assert!(chosen.values().all(|times: &i32| (times - 10_000).abs() < 463), "{chosen:?}");
}

#[test]
fn a_udp_flow_stays_while_its_endpoint_serves_or_nobody_does() {
    let mut service = service(Cluster, Cluster);
    service.serving = [HERE].into();
    assert!(service.keeps(HERE) && !service.keeps(FAR));
    service.serving = [].into();
    assert!(service.keeps(FAR));
}
