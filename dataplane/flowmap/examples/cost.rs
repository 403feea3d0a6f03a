//! Prints what the table's operations cost, in nanoseconds: `cargo run -p headrace-flowmap --release
//! --example cost`.
//!
//! One thread, flows in random order. "burst of 32" is how a worker does it: hash and prefetch all, then look
//! up all.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use headrace_flowmap::{Cursor, EvictionRank, FlowMap, Geometry, Hash, Key, Sweep, Value};

const BURST: usize = 32;
const LOOKUPS: usize = 4 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "{:<44}{:>10}{:>10}{:>10}{:>10}",
        "ns each; flows in a table of 1 M:", 1, "10 k", "100 k", "1 M x0.9"
    );
    let sizes = [1, 10_000, 100_000, 943_718];
    let tables = sizes.map(|flows| Table::new(flows, 1 << 20));
    let mut ready = Vec::new();
    for table in tables {
        ready.push(table?);
    }
    row("insert into an empty table (pages untouched)", ready.iter().map(|table| table.insert_cost));
    row("hash", ready.iter().map(Table::hashes));
    row("lookup, one by one", ready.iter().map(Table::lookups));
    row("lookup, burst of 32, prefetch", ready.iter().map(|table| table.bursts(false)));
    row("lookup, burst of 32, prefetch + entry", ready.iter().map(|table| table.bursts(true)));
    row("lookup of an absent key", ready.iter().map(Table::misses));
    row("touch, same second", ready.iter().map(Table::touches));
    row("update", ready.iter().map(Table::updates));
    row("remove and insert again", ready.iter().map(Table::churn));
    row("sweep, per flow", ready.iter().map(Table::sweeps));
    let full = Table::new(2 << 20, 1 << 20)?;
    println!("insert with eviction, table full: {:.1} ns", full.evictions());
    println!("taking over a file of 900 k flows: {:.1} ms", takeover()? / 1e6);
    Ok(())
}

/// Nanoseconds to open a file that a former process left.
fn takeover() -> Result<f64, Box<dyn Error>> {
    let directory = tempfile::tempdir_in("/dev/shm")?;
    let path = directory.path().join("flows");
    let geometry = Geometry { capacity: 1 << 20, content_version: 0 };
    let (map, _) = FlowMap::open(&path, &geometry)?;
    (0..900_000).for_each(|number| insert(&map, &key(number)));
    drop(map);
    let start = Instant::now();
    black_box(FlowMap::open(&path, &geometry)?);
    Ok(start.elapsed().as_nanos() as f64)
}

struct Table {
    map: FlowMap,
    /// In random order, repeated or cut to as many as are looked up.
    keys: Vec<Key>,
    flows: usize,
    insert_cost: f64,
}

impl Table {
    fn new(flows: usize, capacity: usize) -> Result<Table, headrace_flowmap::OpenError> {
        let map = FlowMap::anonymous(&Geometry { capacity, content_version: 0 })?;
        let insert_cost = each(flows, || {
            for number in 0..flows {
                insert(&map, &key(number));
            }
        });
        let mut state = 88_172_645_463_325_252_u64;
        let keys = (0..LOOKUPS).map(|_| key(random(&mut state) as usize % flows)).collect();
        Ok(Table { map, keys, flows, insert_cost })
    }

    fn hashes(&self) -> f64 {
        each(LOOKUPS, || {
            for key in &self.keys {
                black_box(self.map.hash(key));
            }
        })
    }

    fn lookups(&self) -> f64 {
        each(LOOKUPS, || {
            for key in &self.keys {
                serialize(self.map.lookup(key, self.map.hash(key)).is_some());
            }
        })
    }

    fn bursts(&self, entries: bool) -> f64 {
        each(LOOKUPS, || {
            for burst in self.keys.chunks_exact(BURST) {
                let hashes: [Hash; BURST] = std::array::from_fn(|i| {
                    let hash = self.map.hash(&burst[i]);
                    self.map.prefetch(hash);
                    hash
                });
                if entries {
                    hashes.iter().for_each(|&hash| {
                        self.map.prefetch_entry(hash);
                    });
                }
                for (key, hash) in burst.iter().zip(hashes) {
                    serialize(self.map.lookup(key, hash).is_some());
                }
            }
        })
    }

    fn misses(&self) -> f64 {
        let absent: Vec<_> = (0..LOOKUPS / 4).map(|number| key(number + (1 << 30))).collect();
        each(absent.len(), || {
            for key in &absent {
                serialize(self.map.lookup(key, self.map.hash(key)).is_some());
            }
        })
    }

    fn touches(&self) -> f64 {
        let places = self.places();
        each(places.len(), || {
            for (key, slot) in &places {
                self.map.touch(*slot, key, 0);
            }
        })
    }

    fn updates(&self) -> f64 {
        let places = self.places();
        each(places.len(), || {
            for (key, slot) in &places {
                black_box(self.map.update(*slot, key, |value| value.0[0] += 1));
            }
        })
    }

    fn churn(&self) -> f64 {
        let places = self.places();
        each(places.len(), || {
            for (key, _) in &places {
                black_box(self.map.remove_key(key));
                insert(&self.map, key);
            }
        })
    }

    fn sweeps(&self) -> f64 {
        each(self.flows, || {
            self.map.sweep(&mut Cursor::default(), self.map.buckets(), |entry| {
                black_box(entry);
                Sweep::Keep
            });
        })
    }

    fn evictions(&self) -> f64 {
        let new: Vec<_> = (0..LOOKUPS / 4).map(|number| key(number + (1 << 31))).collect();
        each(new.len(), || new.iter().for_each(|key| insert(&self.map, key)))
    }

    /// Keys in random order with their slots, for the calls that a lookup has gone before.
    fn places(&self) -> Vec<(Key, headrace_flowmap::Slot)> {
        let some = self.keys.iter().take(LOOKUPS / 4);
        some.filter_map(|key| Some((*key, self.map.lookup(key, self.map.hash(key))?.slot))).collect()
    }
}

fn insert(map: &FlowMap, key: &Key) {
    let rank = |_: &Key, _: &Value, idle: u32| EvictionRank(u64::from(idle));
    black_box(map.insert(key, map.hash(key), Value::default(), 0, rank));
}

fn key(number: usize) -> Key {
    // Addresses in a /8 and one port, as a node's flows look.
    let number = number as u64;
    Key::new(std::num::NonZeroU64::MIN | (0x0a00_0000 + number) << 1, number << 17 | 443)
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Branches on `value`, as a packet's handling does on what was found.
fn serialize(value: bool) {
    if !black_box(value) {
        std::hint::spin_loop();
    }
}

fn row(name: &str, costs: impl Iterator<Item = f64>) {
    print!("{name:<44}");
    costs.for_each(|cost| print!("{cost:>10.1}"));
    println!();
}

/// Nanoseconds of each of `count` things that `work` does.
fn each(count: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / count as f64
}
