use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn key(number: u8) -> FrontendKey {
    let address = Ipv4Addr::new(10, 96, 0, number / 4);
    FrontendKey { address, port: 80 + u16::from(number % 2), protocol: if number % 4 < 2 { 6 } else { 17 } }
}

fn service(endpoints: u8) -> Arc<Service> {
    let endpoints = (0..endpoints).map(|last| (Ipv4Addr::new(10, 1, 0, last), 8080)).collect();
    Arc::new(Service { name: "default/web:http".into(), endpoints })
}

fn contents(services: &Services) -> BTreeMap<FrontendKey, Arc<Service>> {
    (0..=255).filter_map(|number| Some((key(number), Arc::clone(services.get(&key(number))?)))).collect()
}

proptest! {
    #[test]
    fn changes_one_by_one_equal_building_anew(
        steps in vec((vec(any::<u8>(), 0..20), vec((any::<u8>(), 0u8..4), 0..20)), 0..20),
    ) {
        let (mut services, mut oracle) = (Services::default(), BTreeMap::new());
        for (remove, insert) in steps {
            let remove: Vec<_> = remove.into_iter().map(key).collect();
            let insert: Vec<_> = insert.into_iter().map(|(number, count)| (key(number), service(count))).collect();
            let before = contents(&services);
            let next = services.with(&remove, &insert);
            prop_assert_eq!(contents(&services), before, "a snapshot never changes");
            prop_assert_ne!(next.generation(), services.generation());
            services = next;
            oracle.retain(|key, _| !remove.contains(key));
            oracle.extend(insert);
            prop_assert_eq!(&contents(&services), &oracle);
            prop_assert_eq!((services.len(), services.is_empty()), (oracle.len(), oracle.is_empty()));
        }
        let anew = Services::default().with(&[], &oracle.clone().into_iter().collect::<Vec<_>>());
        prop_assert_eq!(contents(&anew), contents(&services));
    }
}

#[test]
fn a_change_shares_what_it_does_not_touch() {
    let all: Vec<_> = (0..=255).map(|number| (key(number), service(1))).collect();
    let before = Services::default().with(&[], &all);
    let after = before.with(&[], &[(key(7), service(2))]);
    let copied = before.shards.iter().zip(&after.shards).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
    assert_eq!(copied, 1);
}

#[test]
fn every_endpoint_is_chosen_equally_often() {
    for count in 1..=9u8 {
        let service = service(count);
        let mut chosen = BTreeMap::new();
        let draws = u64::from(count) * 1000;
        for draw in 0..draws {
            // All of the 32 bits that count, evenly; the others are noise.
            let word = ((draw << 32) / draws) | (draw << 32);
            *chosen.entry(service.choose(word).unwrap()).or_insert(0) += 1;
        }
        assert_eq!(chosen.len(), usize::from(count));
        assert!(chosen.values().all(|times| (999..=1001).contains(times)), "{chosen:?}");
    }
    assert_eq!(service(0).choose(u64::MAX), None);
}

#[test]
fn random_words_choose_endpoints_evenly() {
    let (service, mut random) = (service(7), crate::random::Random::with_seed(1));
    let mut chosen = BTreeMap::new();
    for _ in 0..70_000 {
        *chosen.entry(service.choose(random.word()).unwrap()).or_insert(0) += 1;
    }
    // Five standard deviations of a binomial distribution.
    assert!(chosen.values().all(|times: &i32| (times - 10_000).abs() < 463), "{chosen:?}");
}
