//! What in the objects cannot be used, and where it is fixed.

use std::fmt;

/// Something in the objects that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// "Node a", "Service default/web".
    pub object: String,
    /// What is wrong or missing.
    pub what: String,
    /// What would help.
    pub remedy: String,
}

impl Problem {
    pub(super) fn new(object: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { object: object.into(), what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.object, self.what, self.remedy)
    }
}

/// All problems there are, each with the number of places that tell it. Copies are cheap, and so is the difference of
/// two that are nearly the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    counts: imbl::OrdMap<Problem, usize>,
}

impl Problems {
    pub(super) fn add(&mut self, problems: &[Problem]) {
        for problem in problems {
            *self.counts.entry(problem.clone()).or_default() += 1;
        }
    }

    /// Puts `now` in the place of what the same source told `before`.
    pub(super) fn replace(&mut self, before: &mut Vec<Problem>, now: Vec<Problem>) {
        self.add(&now);
        self.remove(before);
        *before = now;
    }

    pub(super) fn remove(&mut self, problems: &[Problem]) {
        for problem in problems {
            match self.counts.get(problem) {
                Some(1) | None => drop(self.counts.remove(problem)),
                Some(more) => drop(self.counts.insert(problem.clone(), more - 1)),
            }
        }
    }

    /// How many different ones there are.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether all is well.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Sorted, each once.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.counts.keys()
    }

    /// Those that were not there before.
    pub fn since<'a>(&'a self, before: &'a Self) -> Vec<&'a Problem> {
        let added = |item| match item {
            imbl::ordmap::DiffItem::Add(problem, _) => Some(problem),
            _ => None,
        };
        before.counts.diff(&self.counts).filter_map(added).collect()
    }
}
