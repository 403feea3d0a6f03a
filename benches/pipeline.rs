//! Cost of the pipeline in ns per packet: in-memory ports, one core, no I/O; the cases are those of [`headrace_bench::cases`].
//!
//! `HEADRACE_BENCH_SCOPE` = `quick` or `smoke` takes fewer cases and less time; `headrace-lab bench` sets it.

use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use headrace_bench::cases::{Case, Order, Ready, Way, all, few};
use headrace_bench::{Node, Size};
use headrace_dataplane::port::{BURST, Port as _, Received};

/// New flows between two times that the table is emptied; it never is full then.
const UNTIL_CLEARED: u64 = 60_000;

/// How much is measured.
#[derive(Clone, Copy, PartialEq)]
enum Scope {
    Full,
    Quick,
    Smoke,
}

impl Scope {
    fn from_environment() -> Self {
        match std::env::var("HEADRACE_BENCH_SCOPE").as_deref() {
            Ok("quick") => Self::Quick,
            Ok("smoke") => Self::Smoke,
            _ => Self::Full,
        }
    }

    fn times(self) -> (Duration, Duration) {
        let (warm_up, measure) = match self {
            Self::Full => (300, 1500),
            Self::Quick => (100, 400),
            Self::Smoke => (5, 10),
        };
        (Duration::from_millis(warm_up), Duration::from_millis(measure))
    }

    fn cases(self) -> Vec<Case> {
        match self {
            Self::Full => all(),
            Self::Quick => few(),
            Self::Smoke => vec![Case::of(Way::Service)],
        }
    }
}

fn pipeline(c: &mut Criterion) {
    let scope = Scope::from_environment();
    let mut group = group(c, "pipeline", scope);
    port_alone(&mut group);
    for case in scope.cases() {
        measure(&mut group, &BenchmarkId::from_parameter(case.name()), &case);
    }
    group.finish();
    if scope == Scope::Smoke {
        return;
    }
    let service = Case::of(Way::Service);
    let name = "established, Service and VXLAN out, 64 B";
    let sized = |size| Case { size, ..service };
    let mut against = |what: &str, counts: &[u32], case: &dyn Fn(u32) -> Case| {
        let mut group = self::group(c, &format!("against {what}"), scope);
        for &count in counts {
            measure(&mut group, &BenchmarkId::new(name, count), &case(count));
        }
        group.finish();
    };
    against("pods", &[2, 10, 110, 250], &|pods| sized(Size { pods, ..Size::default() }));
    against("Services", &[1, 100, 10_000], &|services| sized(Size { services, ..Size::default() }));
    against("flows", &[1, 100, 10_000, 100_000, 1_000_000], &|flows| Case { flows, ..service });
    workers(c, scope, name, &service);
}

/// What receiving and freeing packets of 10 000 flows takes, which is part of every other figure.
fn port_alone(group: &mut BenchmarkGroup<'_, WallTime>) {
    let (mut port, mut pool) = Case::of(Way::Service).port_alone();
    let mut received = Received::new();
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function("port alone, 64 B, 10000 flows", |b| {
        b.iter(|| {
            port.receive(&mut pool, &mut received);
            received.drain(..).for_each(|frame| pool.free(frame));
        });
    });
}

fn group<'a>(c: &'a mut Criterion, name: &str, scope: Scope) -> BenchmarkGroup<'a, WallTime> {
    let (warm_up, measure) = scope.times();
    let mut group = c.benchmark_group(name);
    // The samples themselves are the result; what criterion makes of them only takes time.
    group.warm_up_time(warm_up).measurement_time(measure).sample_size(20).nresamples(1000);
    group
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, id: &BenchmarkId, case: &Case) {
    let Ready { node, mut worker, packets } = case.ready();
    group.throughput(Throughput::Elements(packets));
    let empties = case.order == Order::New && case.size == Size::default();
    group.bench_function(id.clone(), |b| {
        b.iter_custom(|turns| {
            let mut time = Duration::ZERO;
            let mut left = turns;
            let most = if empties { UNTIL_CLEARED / packets } else { turns };
            while left > 0 {
                let now = left.min(most);
                if empties {
                    node.clear();
                }
                let start = Instant::now();
                for _ in 0..now {
                    worker.turn(1);
                }
                time += start.elapsed();
                left -= now;
            }
            time
        });
    });
}

/// Workers with flows of their own, on the same tables, at the same time: the time is that of the slowest, for the packets of
/// all.
fn workers(c: &mut Criterion, scope: Scope, name: &str, case: &Case) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut group = group(c, "against workers", scope);
    for count in [1, 2, 4, 8].into_iter().filter(|count| *count <= cores) {
        let node = Node::new(&case.size);
        let mut workers: Vec<_> = (0..count).map(|number| case.worker(&node, number as u32)).collect();
        group.throughput(Throughput::Elements((count * case.burst) as u64));
        group.bench_function(BenchmarkId::new(name, count), |b| {
            b.iter_custom(|turns| {
                let start = Instant::now();
                std::thread::scope(|scope| {
                    for worker in &mut workers {
                        scope.spawn(|| {
                            for _ in 0..turns {
                                worker.turn(1);
                            }
                        });
                    }
                });
                start.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
