//! What the counters cost: the pipeline with them against the same pipeline without (feature `counters` of the dataplane), two
//! programs that run in turns. `make bench-counters` builds both and gives this one the other's path.
//!
//! Time of a round is the fastest of many short runs, so that what else the machine does counts for little; the ratio is the
//! median over the rounds, with its spread.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use headrace_bench::{NEIGHBOUR, POD, REMOTE, SERVICE, node, udp};
use headrace_dataplane::port::BURST;

const ROUNDS: usize = 21;
/// Runs of one round, of so many turns each.
const RUNS: usize = 60;
const TURNS: usize = 100;
/// Time for a core to reach its speed.
const WARM_UP: Duration = Duration::from_millis(100);

type Case = (&'static str, (std::net::Ipv4Addr, u16), u16);

const CASES: [Case; 4] = [
    ("same node, 64 B, 1 flow", (NEIGHBOUR, 53), 1),
    ("vxlan out, 64 B, 1 flow", (REMOTE, 53), 1),
    ("vxlan out, 64 B, 10 000 flows", (REMOTE, 53), 10_000),
    ("service and vxlan out, 64 B, 10 000 flows", (SERVICE, 80), 10_000),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.as_slice() {
        [argument] if argument == "--measure" => measure(),
        [without] => compare(Path::new(without)),
        _ => eprintln!("usage: counters PATH-OF-THE-SAME-WITHOUT-COUNTERS (make bench-counters)"),
    }
}

/// Prints ns per packet, a line for each case.
fn measure() {
    for (_, dst, flows) in CASES {
        let packets = (0..flows).map(|flow| udp(POD, dst, flow, 22)).collect();
        let mut worker = node(packets, Vec::new());
        let begin = Instant::now();
        while begin.elapsed() < WARM_UP {
            worker.turn(1);
        }
        let run = || {
            let begin = Instant::now();
            for _ in 0..TURNS {
                worker.turn(1);
            }
            begin.elapsed().as_nanos()
        };
        let fastest = std::iter::repeat_with(run).take(RUNS).min().unwrap();
        println!("{}", fastest as f64 / (TURNS * BURST) as f64);
    }
}

fn compare(without: &Path) {
    let with = std::env::current_exe().unwrap();
    let mut ratios = vec![Vec::new(); CASES.len()];
    let mut times = vec![[f64::MAX; 2]; CASES.len()];
    for round in 0..ROUNDS {
        // Who goes first changes.
        let first = ask(if round.is_multiple_of(2) { &with } else { without });
        let second = ask(if round.is_multiple_of(2) { without } else { &with });
        let (on, off) = if round.is_multiple_of(2) { (first, second) } else { (second, first) };
        for (i, (on, off)) in on.into_iter().zip(off).enumerate() {
            ratios[i].push(on / off);
            times[i] = [times[i][0].min(on), times[i][1].min(off)];
        }
    }
    println!("{:45} {:>8} {:>8}  ratio (middle half)", "case", "with", "without");
    for ((name, ..), (ratios, [on, off])) in CASES.iter().zip(ratios.iter_mut().zip(times)) {
        ratios.sort_by(f64::total_cmp);
        let at = |part: usize| ratios[ROUNDS * part / 4];
        println!("{name:45} {on:5.1} ns {off:5.1} ns  {:.3} ({:.3} to {:.3})", at(2), at(1), at(3));
    }
}

fn ask(program: &Path) -> Vec<f64> {
    let output = Command::new(program).arg("--measure").output().unwrap();
    assert!(output.status.success(), "{}: {}", program.display(), output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}
