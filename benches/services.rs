//! Cost of Services by how many there are: building all of them, changing one endpoint, finding a frontend.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use headrace_api::state::{Endpoint, Frontend, FrontendAddress, Protocol, Service};
use headrace_dataplane::tables::Services;
use headrace_dataplane::tables::build;
use headrace_dataplane::tables::services::FrontendKey;

const ENDPOINTS: u32 = 10;
const SIZES: [u32; 4] = [10, 100, 1_000, 10_000];

fn port(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("not 0")
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + number)
}

/// A Service with a clusterIP, a NodePort and ten endpoints, the first of which has a port of choice.
fn service(number: u32, first: u16) -> Service {
    let frontend = Frontend::cluster_ip(address(number).into(), port(80), Protocol::Tcp);
    let node_port =
        Frontend { address: FrontendAddress::NodePort, port: port(20_000 + number as u16), ..frontend };
    let endpoint = |n: u32| {
        let pod = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 128, 0, 0)) + number * ENDPOINTS + n);
        Endpoint::ready(pod.into(), port(if n == 0 { first } else { 8080 }))
    };
    let name = format!("namespace/service-{number}:http");
    Service::new(name, vec![frontend, node_port], (0..ENDPOINTS).map(endpoint).collect())
}

fn all(count: u32) -> Services {
    let built: Vec<_> = (0..count).flat_map(|number| build::service(&service(number, 8080))).collect();
    Services::default().with(&[], &built)
}

fn services(c: &mut Criterion) {
    let mut group = c.benchmark_group("services");
    group.sample_size(20);
    for count in SIZES {
        let wanted: Vec<_> = (0..count).map(|number| service(number, 8080)).collect();
        group.bench_function(BenchmarkId::new("build all", count), |b| {
            b.iter(|| {
                let built: Vec<_> = wanted.iter().flat_map(build::service).collect();
                black_box(Services::default().with(&[], &built))
            });
        });
    }
    for count in SIZES {
        let (tables, mut turn) = (all(count), 0);
        group.bench_function(BenchmarkId::new("change one endpoint", count), |b| {
            b.iter(|| {
                turn += 1;
                let changed = service(turn % count, 9000 + (turn % 2) as u16);
                black_box(tables.with(&build::frontend_keys(&changed), &build::service(&changed)))
            });
        });
    }
    for count in SIZES {
        let (tables, mut turn) = (all(count), 0u32);
        // The same ten Services at every size: what is measured is the lookup, not the cache.
        group.bench_function(BenchmarkId::new("find a frontend", count), |b| {
            b.iter(|| {
                turn = turn.wrapping_add(1);
                let key = FrontendKey { address: address(turn % 10), port: 80, protocol: 6 };
                black_box(tables.get(&key).is_some())
            });
        });
        // Every lookup is of another one: what is measured is the cache too.
        group.bench_function(BenchmarkId::new("find any frontend", count), |b| {
            b.iter(|| {
                turn = turn.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let key = FrontendKey { address: address((turn >> 8) % count), port: 80, protocol: 6 };
                black_box(tables.get(&key).is_some())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, services);
criterion_main!(benches);
