//! Every input that fuzzing has kept, and thousands made from them, through the whole burst function.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use headrace_dataplane::drop_reason::DropReason;
use headrace_dataplane::random::Random;

#[path = "../fuzz/burst/mod.rs"]
mod burst;
#[path = "../fuzz/burst/seeds/mod.rs"]
mod seeds;

/// Inputs made from the corpus; HEADRACE_MUTATIONS asks for another number.
const MUTATIONS: usize = 4000;

#[test]
fn every_input_of_the_corpus_holds() {
    let corpus = corpus();
    assert!(corpus.len() >= 50, "{} inputs under {}", corpus.len(), folder().display());
    let mut reasons = BTreeSet::new();
    for (name, bytes) in corpus {
        println!("{name}");
        reasons.extend(burst::run(&bytes));
    }
    let missing: Vec<_> = DropReason::ALL.iter().filter(|reason| !reasons.contains(reason)).collect();
    assert!(missing.is_empty(), "no input is dropped as {missing:?}");
}

/// When the meaning of bytes changes, seeds are written anew: HEADRACE_WRITE_SEEDS=1.
#[test]
fn the_seeds_are_in_the_corpus_as_they_are_written_down() {
    for (name, world, ops) in seeds::all() {
        let bytes = seeds::encode(world, &ops);
        let path = folder().join(name);
        if std::env::var_os("HEADRACE_WRITE_SEEDS").is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(std::fs::read(&path).ok(), Some(bytes), "{}", path.display());
    }
}

#[test]
fn a_script_is_read_as_it_was_written() {
    for (name, world, ops) in seeds::all() {
        let bytes = seeds::encode(world, &ops);
        let mut reader = burst::script::Reader::new(&bytes);
        assert_eq!(reader.byte(), world);
        let read: Vec<_> = std::iter::from_fn(|| burst::script::Op::decode(&mut reader)).collect();
        assert_eq!(read, ops, "{name}");
    }
}

#[test]
fn inputs_made_from_the_corpus_hold() {
    let corpus: Vec<_> = corpus().into_values().collect();
    let count = std::env::var("HEADRACE_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(MUTATIONS);
    let mut random = Random::with_seed(20_250_704);
    for number in 0..count {
        let input = mutated(&corpus, &mut random);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| burst::run(&input))) {
            let path = std::env::temp_dir().join(format!("headrace-burst-{number}"));
            std::fs::write(&path, &input).unwrap();
            eprintln!("input {number} does not hold; it is in {}", path.display());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn random_bytes_hold() {
    let mut random = Random::with_seed(4711);
    for _ in 0..1000 {
        let len = random.below(600);
        let bytes: Vec<_> = (0..len).map(|_| random.word() as u8).collect();
        burst::run(&bytes);
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/burst")
}

fn corpus() -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect()
}

/// Two inputs spliced and some bytes changed, as fuzzers do.
fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let pick = |random: &mut Random| corpus[random.below(corpus.len())].clone();
    let mut input = pick(random);
    for _ in 0..random.below(3) {
        let other = pick(random);
        let at = random.below(input.len() + 1);
        let from = random.below(other.len() + 1);
        input.truncate(at);
        input.extend(&other[from..]);
    }
    input.truncate(4000);
    for _ in 0..random.below(12) {
        if input.is_empty() {
            break;
        }
        let at = random.below(input.len());
        match random.below(4) {
            0 => input[at] ^= 1 << random.below(8),
            1 => input[at] = random.word() as u8,
            2 => input[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            _ => input.insert(at, random.word() as u8),
        }
    }
    input
}
