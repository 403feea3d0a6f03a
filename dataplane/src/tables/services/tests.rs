use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::tables::build;
use headrace_api::state;

fn key(number: u8) -> FrontendKey {
    let address = Ipv4Addr::new(10, 96, 0, number / 4);
    FrontendKey { address, port: 80 + u16::from(number % 2), protocol: if number % 4 < 2 { 6 } else { 17 } }
}

fn frontend(external: bool, endpoints: u8) -> Frontend {
    let port = 80.try_into().unwrap();
    let address = std::net::IpAddr::from([10, 96, 0, 1]);
    let endpoint = |last| state::Endpoint::ready([10, 1, 0, last].into(), port);
    let at = state::Frontend::cluster_ip(address, port, state::Protocol::Tcp);
    let service = state::Service::new("default/web:http", vec![at], (0..endpoints).map(endpoint).collect());
    let built = build::service(&service).remove(0).1;
    Frontend { kind: if external { FrontendKind::ExternalIp } else { FrontendKind::ClusterIp }, ..built }
}

fn contents(services: &Services) -> BTreeMap<FrontendKey, Frontend> {
    (0..=255).filter_map(|number| Some((key(number), services.get(&key(number))?.clone()))).collect()
}

/// What an address is used for, counted anew.
fn uses(all: &BTreeMap<FrontendKey, Frontend>, address: Ipv4Addr) -> Uses {
    let of = |cluster: bool| {
        let wanted = |(key, f): &(&FrontendKey, &Frontend)| {
            key.address == address && (f.kind == FrontendKind::ClusterIp) == cluster
        };
        all.iter().filter(wanted).count() as u32
    };
    Uses { cluster: of(true), external: of(false) }
}

proptest! {
    #[test]
    fn changes_one_by_one_equal_building_anew(
        steps in vec((vec(any::<u8>(), 0..20), vec((any::<u8>(), any::<bool>(), 0u8..4), 0..20)), 0..20),
    ) {
        let (mut services, mut oracle) = (Services::default(), BTreeMap::new());
        for (remove, insert) in steps {
            let remove: Vec<_> = remove.into_iter().map(key).collect();
            let built = |(number, external, count)| (key(number), frontend(external, count));
            let insert: Vec<_> = insert.into_iter().map(built).collect();
            let before = contents(&services);
            let next = services.with(&remove, &insert);
            prop_assert_eq!(contents(&services), before, "a snapshot never changes");
            prop_assert_ne!(next.generation(), services.generation());
            services = next;
            oracle.retain(|key, _| !remove.contains(key));
            oracle.extend(insert);
            prop_assert_eq!(&contents(&services), &oracle);
            prop_assert_eq!((services.len(), services.is_empty()), (oracle.len(), oracle.is_empty()));
            for number in (0..=255).step_by(4) {
                let address = key(number).address;
                prop_assert_eq!(services.uses(address), uses(&oracle, address));
            }
        }
        let anew = Services::default().with(&[], &oracle.clone().into_iter().collect::<Vec<_>>());
        prop_assert_eq!(contents(&anew), contents(&services));
    }
}

#[test]
fn a_change_shares_what_it_does_not_touch() {
    let all: Vec<_> = (0..=255).map(|number| (key(number), frontend(false, 1))).collect();
    let before = Services::default().with(&[], &all);
    let after = before.with(&[key(7)], &[(key(7), frontend(false, 2))]);
    let copied = before.frontends.iter().zip(&after.frontends).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
    assert_eq!(copied, 1);
    let copied = before.addresses.iter().zip(&after.addresses).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
    assert_eq!(copied, 1);
}
