//! The table and what workers do with it.
//!
//! A key that is in the table is in exactly one of its two buckets, once, and stays in its place until it is
//! removed or evicted. No operation allocates, makes a system call or fails.

use std::fs::File;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use crossbeam::utils::CachePadded;

use crate::bucket::{Bucket, Locked, WAYS};
use crate::hash::{Hash, Seed};
use crate::mapping::Mapping;
use crate::occupied::Occupied;
use crate::prefetch::prefetch_read;
use crate::record::Snapshot;
use crate::types::{Entry, EvictionRank, Found, Insert, Key, Slot, Value};

/// A flow table, shared by all workers. See the [crate](crate) for its form.
pub struct FlowMap {
    mapping: Mapping,
    /// The number of buckets less one.
    mask: usize,
    seed: Seed,
    pub(crate) occupied: Occupied,
    /// Inserts less removals, split by bucket so that workers seldom meet on one line.
    counts: [CachePadded<AtomicI64>; COUNTS],
    /// Open for its lock alone.
    _file: Option<File>,
}

const COUNTS: usize = 16;

/// Entries that a key's first bucket gets before the emptier of the two is chosen. Lower spreads better,
/// higher lets more lookups end in the first bucket: 91 % in a half-full table with 5 (69 % with 0, 98 % with
/// 7), while evictions begin at 69 % of the capacity (74 %, 53 %).
const SPILL: u32 = 5;

impl FlowMap {
    pub(crate) fn new(
        mapping: Mapping,
        seed: Seed,
        occupied: Occupied,
        live: usize,
        file: Option<File>,
    ) -> FlowMap {
        let counts =
            std::array::from_fn(|i| CachePadded::new(AtomicI64::new(if i == 0 { live as i64 } else { 0 })));
        let mask = mapping.buckets().len() - 1;
        FlowMap { mapping, mask, seed, occupied, counts, _file: file }
    }

    /// The hash of `key` in this table, for the calls below.
    #[inline]
    pub fn hash(&self, key: &Key) -> Hash {
        self.seed.hash(key)
    }

    /// Begins to load what [`lookup`](FlowMap::lookup) reads first. Called for a whole burst before its first
    /// lookup, it hides most of the time that memory takes.
    #[inline]
    pub fn prefetch(&self, hash: Hash) {
        prefetch_read(self.bucket(hash.first_bucket(self.mask)));
    }

    /// Begins to load the entry itself, whose place the line got by [`prefetch`](FlowMap::prefetch) tells. A
    /// second pass over the burst, for tables that do not fit the cache. Returns that place, where
    /// [`lookup_at`](FlowMap::lookup_at) looks first.
    #[inline]
    pub fn prefetch_entry(&self, hash: Hash) -> Slot {
        let [first, second] = hash.buckets(self.mask);
        let bucket = self.bucket(first);
        match bucket.tagged(hash.tag()).next() {
            Some(lane) => {
                prefetch_read(bucket.record(lane));
                slot(first, lane)
            }
            None => {
                prefetch_read(self.bucket(second));
                slot(second, 0)
            }
        }
    }

    /// Finds a flow, without a lock, which probably is in `likely`: wherever it is, it is found.
    #[inline(always)]
    pub fn lookup_at(&self, likely: Slot, key: &Key, hash: Hash) -> Option<Found> {
        // A key has one place: if it is there, it is nowhere else.
        let there = self.place(likely).and_then(|(bucket, lane)| bucket.record(lane).read_of(key));
        match there {
            Some(found) => Some(Found { slot: likely, last_seen: found.last_seen, value: found.value }),
            None => self.lookup(key, hash),
        }
    }

    /// Finds a flow, without a lock.
    #[inline]
    pub fn lookup(&self, key: &Key, hash: Hash) -> Option<Found> {
        hash.buckets(self.mask).into_iter().find_map(|index| {
            let (lane, found) = self.bucket(index).find(key, hash.tag())?;
            Some(Found { slot: slot(index, lane), last_seen: found.last_seen, value: found.value })
        })
    }

    /// Puts a flow into the table, unless its key is there already; of several threads that insert one key at
    /// once, exactly one finds it new.
    ///
    /// When both of the key's buckets are full, the entry that `rank` puts highest goes and is returned.
    /// `rank` gets key, value and seconds of idleness; it runs under the buckets' locks, so it must be short
    /// and must not call the table. Entries of the same rank take turns.
    pub fn insert(
        &self,
        key: &Key,
        hash: Hash,
        value: Value,
        now: u32,
        rank: impl Fn(&Key, &Value, u32) -> EvictionRank,
    ) -> Insert {
        let indexes = hash.buckets(self.mask);
        let pair = self.lock_pair(indexes);
        for (bucket, index) in pair.iter().zip(indexes) {
            if let Some((lane, found)) = bucket.find(key, hash.tag()) {
                return Insert::Exists { slot: slot(index, lane), value: found.value };
            }
        }
        let free = free_place(&pair);
        let (which, lane) = free.unwrap_or_else(|| victim(&pair, hash, now, rank));
        let slot = slot(indexes[which], lane);
        let evicted = match free {
            Some(_) => None,
            None => pair[which].record(lane).read().map(|old| entry(slot, &old)),
        };
        pair[which].put(lane, hash.tag(), &Snapshot { key: *key, value, last_seen: now });
        if evicted.is_none() {
            self.count(indexes[which], 1);
            self.occupied.mark(indexes[which]);
        }
        Insert::New { slot, evicted }
    }

    /// Changes the value of a flow in place; `false` when `key` is no longer in `slot`. `change` runs under
    /// the bucket's lock, so it must be short and must not call the table. Readers see the value before or
    /// after.
    pub fn update(&self, slot: Slot, key: &Key, change: impl FnOnce(&mut Value)) -> bool {
        let updated = self.with_locked(slot, key, |bucket, lane, old| {
            let mut value = old.value;
            change(&mut value);
            if value != old.value {
                bucket.set_value(lane, &value);
            }
        });
        updated.is_some()
    }

    /// Marks a flow as used at `now`, in seconds; a plain load in all packets of a second but the first.
    ///
    /// It takes no lock: when another worker replaces the flow at this very moment, its successor, which is
    /// as new, gets the mark instead.
    #[inline]
    pub fn touch(&self, slot: Slot, key: &Key, now: u32) {
        if let Some((bucket, lane)) = self.place(slot) {
            let record = bucket.record(lane);
            if record.looks_like(key) {
                record.touch(now);
            }
        }
    }

    /// Removes a flow and returns its value; `None` when `key` is no longer in `slot`.
    pub fn remove(&self, slot: Slot, key: &Key) -> Option<Value> {
        self.with_locked(slot, key, |bucket, lane, old| {
            self.clear_lane(bucket, lane, slot);
            old.value
        })
    }

    /// Removes a flow, wherever it is.
    pub fn remove_key(&self, key: &Key) -> Option<Value> {
        let hash = self.hash(key);
        loop {
            let found = self.lookup(key, hash)?;
            // Lost to another thread that removed it, and maybe put it back elsewhere: look again.
            if let Some(value) = self.remove(found.slot, key) {
                return Some(value);
            }
        }
    }

    /// Removes the flow `seen`, if it still is as it was seen: neither changed nor touched.
    pub(crate) fn remove_unchanged(&self, seen: &Entry) -> bool {
        let removed = self.with_locked(seen.slot, &seen.key, |bucket, lane, old| {
            let unchanged = entry(seen.slot, old) == *seen;
            if unchanged {
                self.clear_lane(bucket, lane, seen.slot);
            }
            unchanged
        });
        removed.unwrap_or(false)
    }

    /// A copy of what is in `slot`.
    pub fn get(&self, slot: Slot) -> Option<Entry> {
        let (bucket, lane) = self.place(slot)?;
        bucket.record(lane).read().map(|found| entry(slot, &found))
    }

    /// How many flows there are. Exact when no other thread is writing.
    pub fn len(&self) -> usize {
        let sum = self.counts.iter().map(|count| count.load(Relaxed)).sum::<i64>();
        usize::try_from(sum).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many flows there can be: what was asked for, rounded up.
    pub fn capacity(&self) -> usize {
        self.buckets() * WAYS
    }

    /// The number of buckets, which is what sweeping counts in.
    pub fn buckets(&self) -> usize {
        self.mask + 1
    }

    #[inline]
    pub(crate) fn bucket(&self, index: usize) -> &Bucket {
        &self.mapping.buckets()[index]
    }

    /// The bucket and lane of `slot`; `None` outside the table.
    #[inline]
    fn place(&self, slot: Slot) -> Option<(&Bucket, usize)> {
        let raw = slot.raw() as usize;
        Some((self.mapping.buckets().get(raw / WAYS)?, raw % WAYS))
    }

    /// Locks two different buckets, in the order of their addresses so that no two threads wait for each
    /// other.
    fn lock_pair(&self, [first, second]: [usize; 2]) -> [Locked<'_>; 2] {
        if first < second {
            let first = self.bucket(first).lock();
            [first, self.bucket(second).lock()]
        } else {
            let second = self.bucket(second).lock();
            [self.bucket(first).lock(), second]
        }
    }

    /// Runs `act` on the entry of `slot` under the lock, if `key` is in it.
    fn with_locked<T>(
        &self,
        slot: Slot,
        key: &Key,
        act: impl FnOnce(&Locked<'_>, usize, &Snapshot) -> T,
    ) -> Option<T> {
        let (bucket, lane) = self.place(slot)?;
        let locked = bucket.lock();
        let old = locked.record(lane).read().filter(|old| old.key == *key)?;
        Some(act(&locked, lane, &old))
    }

    pub(crate) fn clear_lane(&self, bucket: &Locked<'_>, lane: usize, slot: Slot) {
        bucket.clear(lane);
        self.count(slot.raw() as usize / WAYS, -1);
    }

    fn count(&self, bucket: usize, by: i64) {
        self.counts[bucket % COUNTS].fetch_add(by, Relaxed);
    }
}

impl std::fmt::Debug for FlowMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlowMap")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

pub(crate) fn slot(bucket: usize, lane: usize) -> Slot {
    Slot::from_raw((bucket * WAYS + lane) as u32)
}

pub(crate) fn entry(slot: Slot, found: &Snapshot) -> Entry {
    Entry { slot, key: found.key, value: found.value, last_seen: found.last_seen }
}

/// Which of two buckets a new entry goes into, and where; `None` when both are full.
fn free_place(pair: &[Locked<'_>; 2]) -> Option<(usize, usize)> {
    let used = pair.each_ref().map(|bucket| bucket.used().count());
    let which = usize::from(used[0] >= SPILL && used[1] < used[0]);
    Some((which, pair[which].tagged(0).next()?))
}

/// The entry of two full buckets that goes.
fn victim(
    pair: &[Locked<'_>; 2],
    hash: Hash,
    now: u32,
    rank: impl Fn(&Key, &Value, u32) -> EvictionRank,
) -> (usize, usize) {
    // Sixteen lines that are seldom in the cache, fetched at once.
    for bucket in pair {
        (0..WAYS).for_each(|lane| prefetch_read(bucket.record(lane)));
    }
    // Beginning anywhere lets equal ranks take turns; else a burst of new flows would evict itself from one
    // place.
    let begin = usize::from(hash.tag());
    let places = (0..2 * WAYS).map(|i| (begin + i) % (2 * WAYS)).map(|i| (i / WAYS, i % WAYS));
    let ranked = places.map(|(which, lane)| {
        let rank = pair[which].record(lane).read().map(|old| {
            let idle = now.saturating_sub(old.last_seen);
            rank(&old.key, &old.value, idle)
        });
        (rank, (which, lane))
    });
    ranked.max_by_key(|(rank, _)| *rank).map_or((0, 0), |(_, place)| place)
}

#[cfg(test)]
mod tests;
