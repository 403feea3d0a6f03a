//! Runs one case so many turns, for tools that count instructions: `headrace-bench-count NUMBER TURNS`, or without arguments a
//! list of the cases. Only what [`measured`] does is the case.

use std::process::ExitCode;

use headrace_bench::cases::{Case, Way};
use headrace_dataplane::worker::Worker;

const WAYS: [Way; 7] =
    [Way::ParseOnly, Way::Forward, Way::VxlanOut, Way::Service, Way::VxlanIn, Way::Segment, Way::Coalesce];

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let (Some(Ok(number)), Some(Ok(turns))) = (numbers.next(), numbers.next()) else {
        WAYS.map(case).iter().for_each(|case| println!("{}", case.name()));
        return ExitCode::SUCCESS;
    };
    let Some(case) = WAYS.get(number).copied().map(case) else {
        eprintln!("there is no case {number}: without arguments the cases are listed, from 0 on");
        return ExitCode::FAILURE;
    };
    let node = headrace_bench::Node::new(&case.size);
    let mut worker = case.worker(&node, 0);
    // All flows become known before anything is counted.
    for _ in 0..turns {
        worker.turn(1);
    }
    measured(&mut worker, turns);
    println!("{}", turns as u64 * case.packets());
    ExitCode::SUCCESS
}

/// Few flows: each instruction takes a tool a hundred times as long.
fn case(way: Way) -> Case {
    let burst = match way {
        Way::Segment => 16,
        Way::Coalesce => 45,
        _ => 64,
    };
    Case { flows: 1000, burst, ..Case::of(way) }
}

/// A tool that counts looks for this name.
#[inline(never)]
fn measured(worker: &mut Worker, turns: usize) {
    for _ in 0..turns {
        worker.turn(1);
    }
}
