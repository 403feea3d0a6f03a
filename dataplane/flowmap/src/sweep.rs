//! Going through the table: ageing flows a few buckets at a time, listing them, removing them all.
//!
//! None of it stops other workers: entries are copied without a lock, and a bucket is locked only to remove
//! from it.

use crate::bucket::Lanes;
use crate::map::{self, FlowMap};
use crate::occupied::Step;
use crate::types::Entry;

/// How far a [sweep](FlowMap::sweep) has come. Several may be on their way at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    next: usize,
}

/// What becomes of a flow that a sweep came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// It stays.
    Keep,
    /// It goes, unless it has been changed or touched in the meantime.
    Remove,
}

impl FlowMap {
    /// Shows `judge` the flows of up to `steps` buckets from where `cursor` stands, and returns how many it
    /// removed.
    ///
    /// A step is a bucket that has flows, or some dozens that have none, so the work is bounded either way.
    /// At the end of the table the sweep returns early and the next begins anew; `steps` of
    /// [`buckets`](FlowMap::buckets) thus go through the whole table once. `judge` runs without a lock and
    /// may call the table.
    pub fn sweep(&self, cursor: &mut Cursor, steps: usize, mut judge: impl FnMut(&Entry) -> Sweep) -> usize {
        let mut removed = 0;
        for _ in 0..steps {
            match self.occupied.step(cursor.next) {
                Step::Bucket(index) => {
                    removed += self.sweep_bucket(index, &mut judge);
                    cursor.next = index + 1;
                }
                Step::Onward(next) => cursor.next = next,
                Step::End => break,
            }
        }
        if cursor.next >= self.buckets() {
            cursor.next = 0;
        }
        removed
    }

    /// All flows. Each is copied whole, at one time or another during the iteration: one that is there
    /// throughout is seen once, one that comes or goes may be.
    pub fn iter(&self) -> Iter<'_> {
        Iter { map: self, next: 0, bucket: 0, lanes: Lanes::none() }
    }

    /// Removes all flows that are there when it is called.
    pub fn clear(&self) {
        let mut next = 0;
        loop {
            match self.occupied.step(next) {
                Step::Bucket(index) => {
                    self.clear_bucket(index);
                    next = index + 1;
                }
                Step::Onward(onward) => next = onward,
                Step::End => return,
            }
        }
    }

    fn sweep_bucket(&self, index: usize, judge: &mut impl FnMut(&Entry) -> Sweep) -> usize {
        let lanes = self.bucket(index).used();
        if lanes.is_empty() {
            self.unmark_if_empty(index);
        }
        let entries = lanes.filter_map(|lane| self.get(map::slot(index, lane)));
        entries.filter(|entry| judge(entry) == Sweep::Remove && self.remove_unchanged(entry)).count()
    }

    fn unmark_if_empty(&self, index: usize) {
        let locked = self.bucket(index).lock();
        if locked.used().is_empty() {
            self.occupied.unmark(index);
        }
    }

    fn clear_bucket(&self, index: usize) {
        let locked = self.bucket(index).lock();
        for lane in locked.used() {
            self.clear_lane(&locked, lane, map::slot(index, lane));
        }
        self.occupied.unmark(index);
    }
}

/// Goes through all flows; see [`FlowMap::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    map: &'a FlowMap,
    /// The bucket to look at when `lanes` has run out.
    next: usize,
    bucket: usize,
    lanes: Lanes,
}

impl Iterator for Iter<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            if let Some(lane) = self.lanes.next() {
                match self.map.get(map::slot(self.bucket, lane)) {
                    Some(entry) => return Some(entry),
                    None => continue,
                }
            }
            match self.map.occupied.step(self.next) {
                Step::Bucket(index) => {
                    (self.bucket, self.next) = (index, index + 1);
                    self.lanes = self.map.bucket(index).used();
                }
                Step::Onward(next) => self.next = next,
                Step::End => return None,
            }
        }
    }
}

impl<'a> IntoIterator for &'a FlowMap {
    type Item = Entry;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
