//! What both daemons do with their log lines: no place in the code may flood it.
//!
//! [`Limit`] lets a number of lines of each place pass in a while and counts the rest; the first line of the next while is
//! followed by how many were held back.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of one place in a [`WHILE`].
const LINES: u32 = 20;
/// The time in which they are counted.
const WHILE: Duration = Duration::from_secs(10);

/// Counts lines by the place they come from.
#[derive(Default)]
pub struct Limit {
    places: Mutex<HashMap<(&'static str, u32), Place>>,
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

impl Limit {
    /// A line of the place `file`, `line`.
    pub fn ask(&self, file: &'static str, line: u32, now: Instant) -> Passage {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place =
            places.entry((file, line)).or_insert(Place { since: now, passed: 0, held_back: 0 });
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
            assert_eq!(limit.ask("a.rs", 1, begin), Passage::Passes);
        }
        for _ in 0..7 {
            assert_eq!(limit.ask("a.rs", 1, begin), Passage::HeldBack);
        }
        assert_eq!(limit.ask("a.rs", 2, begin), Passage::Passes);
        assert_eq!(limit.ask("a.rs", 1, begin + WHILE), Passage::PassesAfter(7));
        assert_eq!(limit.ask("a.rs", 1, begin + WHILE), Passage::Passes);
    }
}
