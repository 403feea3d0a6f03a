//! Throughput of the checksum functions, over data that stays in the first-level cache and over data that does not.
//!
//!     cargo run -p headrace-wire --release --example sums

use std::hint::black_box;
use std::time::{Duration, Instant};

use headrace_wire::checksum::{copy_and_sum, sum};

const RUN: Duration = Duration::from_millis(300);

fn main() {
    println!("{:>10} {:>12} {:>18} {:>12}   GB/s", "bytes", "sum", "copy_and_sum", "copy only");
    for len in [20, 64, 256, 1448, 4096, 16 << 10, 64 << 10, 64 << 20] {
        let src: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let mut dst = vec![0; len];
        let summed = gigabytes_per_second(len, || sum(black_box(&src)).finish());
        let copied =
            gigabytes_per_second(len, || copy_and_sum(black_box(&mut dst), black_box(&src)).finish());
        let plain = gigabytes_per_second(len, || {
            black_box(&mut dst).copy_from_slice(black_box(&src));
            0
        });
        println!("{len:>10} {summed:>12.2} {copied:>18.2} {plain:>12.2}");
    }
}

fn gigabytes_per_second(len: usize, mut work: impl FnMut() -> u16) -> f64 {
    let batch = (1 << 20) / len.min(1 << 20);
    let (start, mut bytes) = (Instant::now(), 0);
    while start.elapsed() < RUN {
        for _ in 0..batch.max(1) {
            black_box(work());
        }
        bytes += batch.max(1) * len;
    }
    bytes as f64 / start.elapsed().as_secs_f64() / 1e9
}
