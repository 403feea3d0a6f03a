//! Many threads on one table: no torn value, no key twice, no flow lost.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use std::collections::HashSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use headrace_flowmap::{Cursor, EvictionRank, FlowMap, Geometry, Insert, Key, Sweep, Value};

fn table(capacity: usize) -> FlowMap {
    FlowMap::anonymous(&Geometry { capacity, content_version: 0 }).unwrap()
}

fn key(id: u64) -> Key {
    Key::from_words([id + 1, !id]).unwrap()
}

/// A value that tells its key and a number, and whether it is whole.
fn stamp(id: u64, number: u64) -> Value {
    let mixed = (id ^ number.rotate_left(20)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Value([id, number, mixed, !mixed, number.wrapping_add(mixed)])
}

fn assert_whole(value: &Value, id: u64) {
    assert_eq!(*value, stamp(id, value.0[1]), "a torn value, or another key's");
}

fn oldest(_: &Key, _: &Value, idle: u32) -> EvictionRank {
    EvictionRank(u64::from(idle))
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// One random write on a random key of `ids`, checking every value that it meets.
fn write_once(map: &FlowMap, state: &mut u64, ids: u64) {
    let id = random(state) % ids;
    let (key, number) = (key(id), random(state));
    let hash = map.hash(&key);
    match number % 4 {
        0 => match map.insert(&key, hash, stamp(id, number), number as u32 % 1000, oldest) {
            Insert::Exists { value, .. } => assert_whole(&value, id),
            Insert::New { evicted: Some(old), .. } => assert_whole(&old.value, old.key.words()[0] - 1),
            Insert::New { evicted: None, .. } => {}
        },
        1 => drop(map.remove_key(&key).inspect(|value| assert_whole(value, id))),
        _ => {
            if let Some(found) = map.lookup(&key, hash) {
                assert_whole(&found.value, id);
                map.touch(found.slot, &key, number as u32 % 1000);
                map.update(found.slot, &key, |value| {
                    assert_whole(value, id);
                    *value = stamp(id, number);
                });
            }
        }
    }
}

#[test]
fn readers_see_whole_values_of_their_own_key() {
    // Fewer places than keys, so that entries change hands all the time.
    const IDS: u64 = 24;
    let map = table(16);
    let done = AtomicBool::new(false);
    let hits = AtomicU64::new(0);
    thread::scope(|scope| {
        for reader in 0..2 {
            let (map, done, hits) = (&map, &done, &hits);
            scope.spawn(move || {
                let mut state = 77 + reader;
                while !done.load(Relaxed) {
                    let id = random(&mut state) % IDS;
                    if let Some(found) = map.lookup(&key(id), map.hash(&key(id))) {
                        assert_whole(&found.value, id);
                        hits.fetch_add(1, Relaxed);
                    }
                    map.iter().for_each(|entry| assert_whole(&entry.value, entry.key.words()[0] - 1));
                }
            });
        }
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let map = &map;
                scope.spawn(move || {
                    let mut state = 1 + writer;
                    (0..1_000_000).for_each(|_| write_once(map, &mut state, IDS));
                })
            })
            .collect();
        let ended: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Relaxed);
        ended.into_iter().for_each(|end| end.unwrap());
    });
    assert!(hits.into_inner() > 1000);
    let keys: Vec<_> = map.iter().map(|entry| entry.key).collect();
    assert_eq!(keys.len(), keys.iter().collect::<HashSet<_>>().len(), "a key twice");
    assert_eq!(keys.len(), map.len());
}

#[test]
fn of_racing_inserts_of_a_key_exactly_one_is_new() {
    const THREADS: u64 = 3;
    const ROUNDS: u64 = 20_000;
    let map = table(1 << 17);
    let barrier = Barrier::new(THREADS as usize);
    let new = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (map, barrier, new) = (&map, &barrier, &new);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    // All meet at times only: a barrier's wake-ups are too uneven to race well on their own.
                    if round % 64 == 0 {
                        barrier.wait();
                    }
                    let key = key(round);
                    match map.insert(&key, map.hash(&key), stamp(round, thread), 0, oldest) {
                        Insert::New { evicted, .. } => {
                            assert_eq!(evicted, None);
                            new.fetch_add(1, Relaxed);
                        }
                        Insert::Exists { slot, value } => {
                            assert_whole(&value, round);
                            assert_eq!(map.get(slot).unwrap().value, value);
                        }
                    }
                }
            });
        }
    });
    assert_eq!(new.into_inner(), ROUNDS);
    assert_eq!(map.iter().count() as u64, ROUNDS);
    assert_eq!(map.len() as u64, ROUNDS);
}

#[test]
fn flows_that_stay_are_found_while_others_come_and_go() {
    const STAYING: u64 = 500;
    let map = table(4096);
    for id in 0..STAYING {
        map.insert(&key(id), map.hash(&key(id)), stamp(id, 0), 100, oldest);
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (map, done) = (&map, &done);
        scope.spawn(move || {
            let mut cursor = Cursor::default();
            while !done.load(Relaxed) {
                map.sweep(&mut cursor, 8, |entry| match entry.last_seen {
                    100 => Sweep::Keep,
                    _ => Sweep::Remove,
                });
            }
        });
        scope.spawn(move || {
            for id in (STAYING..STAYING + 200_000).map(|id| STAYING + id % 2000) {
                map.insert(&key(id), map.hash(&key(id)), stamp(id, 0), 1, oldest);
            }
            done.store(true, Relaxed);
        });
        while !done.load(Relaxed) {
            for id in 0..STAYING {
                let found = map.lookup(&key(id), map.hash(&key(id))).expect("a staying flow is always there");
                assert_whole(&found.value, id);
            }
        }
    });
    map.sweep(&mut Cursor::default(), map.buckets(), |entry| match entry.last_seen {
        100 => Sweep::Keep,
        _ => Sweep::Remove,
    });
    assert_eq!(map.len() as u64, STAYING);
}
