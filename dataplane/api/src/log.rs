//! What both daemons do with their log lines: no place in the code may flood it.
//!
//! [`Limit`] lets a number of lines of each place pass in a while and counts the rest; the first line of the next while is
//! followed by how many were held back.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_core::Metadata;
use tracing_core::callsite::Identifier;
use tracing_subscriber::fmt::MakeWriter;

/// Lines of one place in a [`WHILE`].
const LINES: u32 = 20;
/// The time in which they are counted.
const WHILE: Duration = Duration::from_secs(10);

/// Standard error, for a subscriber of either form.
pub struct Limited {
    limit: Limit<Identifier>,
    json: bool,
}

impl Limited {
    /// `json` says how the number of lines that were held back is told.
    pub fn new(json: bool) -> Self {
        Self { limit: Limit::default(), json }
    }
}

impl<'a> MakeWriter<'a> for Limited {
    type Writer = Box<dyn Write>;

    fn make_writer(&'a self) -> Self::Writer {
        Box::new(io::stderr())
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        match self.limit.ask(meta.callsite(), Instant::now()) {
            Passage::Passes => {}
            Passage::HeldBack => return Box::new(io::sink()),
            Passage::PassesAfter(n) if self.json => {
                eprintln!("{{\"level\":\"WARN\",\"held_back\":{n},\"target\":\"{}\"}}", meta.target());
            }
            Passage::PassesAfter(n) => eprintln!("({n} lines like the next one were held back)"),
        }
        Box::new(io::stderr())
    }
}

/// Counts lines by the place they come from.
pub struct Limit<K> {
    places: Mutex<HashMap<K, Place>>,
}

impl<K> Default for Limit<K> {
    fn default() -> Self {
        Self { places: Mutex::default() }
    }
}

struct Place {
    since: Instant,
    passed: u32,
    held_back: u64,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It is written.
    Passes,
    /// It is written, and so many before it were not.
    PassesAfter(u64),
    /// It is not written.
    HeldBack,
}

impl<K: Hash + Eq> Limit<K> {
    /// A line of a place.
    pub fn ask(&self, place: K, now: Instant) -> Passage {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(place).or_insert(Place { since: now, passed: 0, held_back: 0 });
        if now.duration_since(place.since) >= WHILE {
            let held_back = std::mem::replace(place, Place { since: now, passed: 1, held_back: 0 }).held_back;
            return if held_back == 0 { Passage::Passes } else { Passage::PassesAfter(held_back) };
        }
        if place.passed < LINES {
            place.passed += 1;
            return Passage::Passes;
        }
        place.held_back += 1;
        Passage::HeldBack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_floods_is_held_back_and_others_are_not() {
        let (limit, begin) = (Limit::default(), Instant::now());
        for _ in 0..LINES {
            assert_eq!(limit.ask(1, begin), Passage::Passes);
        }
        for _ in 0..7 {
            assert_eq!(limit.ask(1, begin), Passage::HeldBack);
        }
        assert_eq!(limit.ask(2, begin), Passage::Passes);
        assert_eq!(limit.ask(1, begin + WHILE), Passage::PassesAfter(7));
        assert_eq!(limit.ask(1, begin + WHILE), Passage::Passes);
    }
}
