use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::{Cursor, Geometry, Origin, Sweep};

/// One thing done to the table and to the model.
#[derive(Clone, Debug)]
enum Op {
    Insert(u8, u64),
    Update(u8, u64),
    Touch(u8),
    Remove(u8),
    RemoveKey(u8),
    /// Removes what has been idle for longer.
    Sweep(u32),
    Clear,
    /// Ends the process, so to say, and begins another.
    Reopen,
}

fn operations() -> impl Strategy<Value = Vec<(Op, u32)>> {
    let id = 0_u8..40;
    let operation = prop_oneof![
        30 => (id.clone(), any::<u64>()).prop_map(|(id, value)| Op::Insert(id, value)),
        8 => (id.clone(), any::<u64>()).prop_map(|(id, value)| Op::Update(id, value)),
        8 => id.clone().prop_map(Op::Touch),
        3 => id.clone().prop_map(Op::Remove),
        3 => id.prop_map(Op::RemoveKey),
        1 => (0_u32..200).prop_map(Op::Sweep),
        1 => Just(Op::Reopen),
        1 => prop::sample::select(vec![Op::Clear, Op::Reopen, Op::Reopen]),
    ];
    prop::collection::vec((operation, 0_u32..3), 1..200)
}

fn key(id: u8) -> Key {
    // Keys that differ in one word or the other.
    Key::from_words([u64::from(id % 8) + 1, u64::from(id / 8)]).unwrap()
}

fn value(number: u64) -> Value {
    Value([number, !number, number ^ 1, number.rotate_left(7), 5])
}

/// Odd values are "closed" and go first; then the longest idle.
fn rank(_: &Key, value: &Value, idle: u32) -> EvictionRank {
    EvictionRank((value.0[0] & 1) << 32 | u64::from(idle))
}

type Model = HashMap<Key, (Value, u32)>;

/// Runs the operations on a table in a file and on a model, which must agree after each.
///
/// In a table of 16 both buckets are the whole table, so that the model can tell what an eviction must do.
fn run(capacity: usize, operations: Vec<(Op, u32)>) {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        FlowMap::open(&directory.path().join("flows"), &Geometry { capacity, content_version: 1 }).unwrap()
    };
    let mut map = open().0;
    let mut model = Model::new();
    let mut now = 1000;
    for (operation, seconds) in operations {
        now += seconds;
        match operation {
            Op::Reopen => {
                drop(map);
                let (reopened, origin) = open();
                assert_eq!(origin, Origin::TakenOver { live: model.len(), repaired: 0 });
                map = reopened;
            }
            other => apply(&map, &mut model, &other, now),
        }
        check(&map, &model);
    }
}

fn apply(map: &FlowMap, model: &mut Model, operation: &Op, now: u32) {
    let slot_of = |key: &Key| map.lookup(key, map.hash(key)).map(|found| found.slot);
    match *operation {
        Op::Insert(id, number) => insert(map, model, key(id), value(number), now),
        Op::Update(id, number) => {
            let Some(slot) = slot_of(&key(id)) else { return };
            assert!(map.update(slot, &key(id), |stored| *stored = value(number)));
            assert!(!map.update(slot, &key(id + 1), |_| panic!("the key is not there")));
            model.get_mut(&key(id)).unwrap().0 = value(number);
        }
        Op::Touch(id) => {
            let Some(slot) = slot_of(&key(id)) else { return };
            map.touch(slot, &key(id + 1), now + 9);
            map.touch(slot, &key(id), now);
            model.get_mut(&key(id)).unwrap().1 = now;
        }
        Op::Remove(id) => {
            let Some(slot) = slot_of(&key(id)) else { return };
            assert_eq!(map.remove(slot, &key(id + 1)), None);
            assert_eq!(map.remove(slot, &key(id)), model.remove(&key(id)).map(|(value, _)| value));
            assert_eq!(map.remove(slot, &key(id)), None);
        }
        Op::RemoveKey(id) => {
            assert_eq!(map.remove_key(&key(id)), model.remove(&key(id)).map(|(value, _)| value))
        }
        Op::Sweep(idle) => {
            let judge = |entry: &Entry| if entry.idle(now) > idle { Sweep::Remove } else { Sweep::Keep };
            let removed = map.sweep(&mut Cursor::default(), map.buckets(), judge);
            let before = model.len();
            model.retain(|_, (_, last_seen)| now - *last_seen <= idle);
            assert_eq!(removed, before - model.len());
        }
        Op::Clear => {
            map.clear();
            model.clear();
        }
        Op::Reopen => unreachable!("done by the caller"),
    }
}

fn insert(map: &FlowMap, model: &mut Model, key: Key, value: Value, now: u32) {
    match map.insert(&key, map.hash(&key), value, now, rank) {
        Insert::Exists { slot, value: stored } => {
            assert_eq!(stored, model[&key].0);
            assert_eq!(map.get(slot).unwrap().key, key);
        }
        Insert::New { slot, evicted } => {
            assert!(!model.contains_key(&key));
            assert_eq!(evicted.is_some(), model.len() == map.capacity());
            if let Some(old) = evicted {
                assert_eq!(old.slot, slot);
                assert_eq!(model.remove(&old.key), Some((old.value, old.last_seen)));
                let rank_of = |(key, &(value, seen)): (&Key, &(Value, u32))| rank(key, &value, now - seen);
                let highest_left = model.iter().map(rank_of).max().unwrap();
                assert!(rank(&old.key, &old.value, now - old.last_seen) >= highest_left);
            }
            model.insert(key, (value, now));
        }
    }
}

fn check(map: &FlowMap, model: &Model) {
    assert_eq!(map.len(), model.len());
    let listed: Vec<_> = map.iter().collect();
    assert_eq!(listed.len(), model.len());
    for entry in listed {
        assert_eq!(model.get(&entry.key), Some(&(entry.value, entry.last_seen)));
        assert_eq!(map.get(entry.slot), Some(entry));
        let found = Found { slot: entry.slot, last_seen: entry.last_seen, value: entry.value };
        assert_eq!(map.lookup(&entry.key, map.hash(&entry.key)), Some(found));
    }
    for absent in (0..40).map(key).filter(|key| !model.contains_key(key)) {
        assert_eq!(map.lookup(&absent, map.hash(&absent)), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_roomy_table_is_a_hash_map(operations in operations()) {
        run(4096, operations);
    }

    #[test]
    fn a_full_table_evicts_the_highest_rank_and_is_a_hash_map_otherwise(operations in operations()) {
        run(16, operations);
    }

    #[test]
    fn any_number_is_a_safe_slot(raw: u32) {
        let map = anonymous(64);
        let slot = Slot::from_raw(raw);
        map.touch(slot, &key(1), 1);
        prop_assert_eq!(map.get(slot), None);
        prop_assert_eq!(map.remove(slot, &key(1)), None);
        prop_assert!(!map.update(slot, &key(1), |_| ()));
    }
}

fn anonymous(capacity: usize) -> FlowMap {
    FlowMap::anonymous(&Geometry { capacity, content_version: 0 }).unwrap()
}

/// A table whose places do not depend on chance.
fn seeded(buckets: usize, seed: u64) -> FlowMap {
    FlowMap::new(Mapping::anonymous(buckets).unwrap(), Seed([seed, 0]), Occupied::new(buckets), 0, None)
}

fn numbered(number: u64) -> Key {
    Key::from_words([number + 1, 0]).unwrap()
}

#[test]
fn capacities_are_rounded_up_to_a_power_of_two_of_buckets() {
    for (asked, given) in [(0, 16), (16, 16), (17, 32), (1000, 1024), (1025, 2048)] {
        assert_eq!(anonymous(asked).capacity(), given);
    }
}

#[test]
fn evictions_begin_at_two_thirds_and_are_few_at_nine_tenths() {
    for seed in 0..8 {
        let map = seeded(16384, seed);
        let evicts = |number: &usize| {
            let key = numbered(*number as u64);
            let done = map.insert(&key, map.hash(&key), Value::default(), 0, |_, _, _| EvictionRank(0));
            matches!(done, Insert::New { evicted: Some(_), .. })
        };
        let capacity = map.capacity();
        let evictions: Vec<_> = (0..capacity * 9 / 10).filter(evicts).collect();
        println!("seed {seed}: {} evictions of {capacity}, the first at {}", evictions.len(), evictions[0]);
        assert!(evictions[0] > capacity * 6 / 10);
        assert!(evictions.len() < capacity * 15 / 1000);
    }
}

#[test]
fn equal_ranks_take_turns_in_going() {
    let map = seeded(2, 1);
    let mut evicted = std::collections::HashSet::new();
    for number in 0..200 {
        let key = numbered(number);
        let done = map.insert(&key, map.hash(&key), Value::default(), 0, |_, _, _| EvictionRank(7));
        if let Insert::New { slot, evicted: Some(_) } = done {
            evicted.insert(slot);
        }
    }
    assert_eq!(evicted.len(), 16);
}

#[test]
fn prefetching_changes_nothing() {
    let map = anonymous(64);
    for number in 0..64 {
        let key = numbered(number);
        let hash = map.hash(&key);
        map.prefetch(hash);
        map.prefetch_entry(hash);
        map.insert(&key, hash, Value([number; 5]), 0, |_, _, _| EvictionRank(0));
        map.prefetch(hash);
        map.prefetch_entry(hash);
        assert_eq!(map.lookup(&key, hash).unwrap().value, Value([number; 5]));
    }
}

#[test]
fn a_sweep_spares_what_was_changed_or_touched_since_it_was_judged() {
    let map = anonymous(64);
    for number in 0..3 {
        let key = numbered(number);
        map.insert(&key, map.hash(&key), Value([number; 5]), 10, |_, _, _| EvictionRank(0));
    }
    let removed = map.sweep(&mut Cursor::default(), map.buckets(), |entry| {
        match entry.value.0[0] {
            0 => map.touch(entry.slot, &entry.key, 11),
            1 => assert!(map.update(entry.slot, &entry.key, |value| value.0[4] = 99)),
            _ => {}
        }
        Sweep::Remove
    });
    assert_eq!(removed, 1);
    let mut left: Vec<_> = map.iter().map(|entry| entry.key).collect();
    left.sort();
    assert_eq!(left, [numbered(0), numbered(1)]);
}

#[test]
fn small_sweeps_come_by_every_flow_once_a_round() {
    let map = anonymous(4096);
    for number in 0..1000 {
        let key = numbered(number);
        map.insert(&key, map.hash(&key), Value::default(), 0, |_, _, _| EvictionRank(0));
    }
    let mut cursor = Cursor::default();
    for _ in 0..2 {
        let mut seen = Vec::new();
        loop {
            map.sweep(&mut cursor, 3, |entry| {
                seen.push(entry.key);
                Sweep::Keep
            });
            if cursor == Cursor::default() {
                break;
            }
        }
        seen.sort();
        assert_eq!(seen, (0..1000).map(numbered).collect::<Vec<_>>());
    }
}

#[test]
fn a_sweep_of_a_nearly_empty_table_takes_few_steps() {
    let map = anonymous(1 << 20);
    let key = numbered(1);
    map.insert(&key, map.hash(&key), Value::default(), 0, |_, _, _| EvictionRank(0));
    let mut cursor = Cursor::default();
    // A step for each word of marks, two more around the flow.
    let removed = map.sweep(&mut cursor, map.buckets() / 64 + 2, |_| Sweep::Remove);
    assert_eq!((removed, cursor, map.len()), (1, Cursor::default(), 0));
}
