//! That what is told stays small however much there is.

use headrace_api::state::{Endpoint, Frontend, Protocol, Service};

use super::*;

/// Ten thousand Services of two frontends; the later ones are used more, the first one not at all.
#[test]
fn of_ten_thousand_services_the_most_used_are_named() {
    let port = |port: u16| port.try_into().unwrap();
    let endpoint = (Ipv4Addr::new(10, 1, 0, 2), 8080);
    let service = |n: u16| {
        let address = Ipv4Addr::from(0x0a60_0000 + u32::from(n));
        let frontends = [80, 81].map(|p| Frontend::cluster_ip(address.into(), port(p), Protocol::Tcp));
        let endpoint = Endpoint::ready(endpoint.0.into(), port(endpoint.1));
        build::service(&Service::new(format!("s{n}"), frontends.into(), vec![endpoint]))
    };
    let frontends: Vec<_> = (0..10_000).flat_map(service).collect();
    for (_, frontend) in frontends.iter().step_by(2) {
        let n: u64 = frontend.service.name[1..].parse().unwrap();
        (0..n / 100).for_each(|_| frontend.service.hits.add(endpoint));
    }
    let most = most_used(&Services::default().with(&[], &frontends));
    assert_eq!(most.len(), MOST_USED);
    assert!(most.iter().all(|used| used.connections == 99), "{most:?}");
    let few: Vec<_> = (0..2).flat_map(service).collect();
    assert!(most_used(&Services::default().with(&[], &few)).is_empty(), "nothing was used");
}
