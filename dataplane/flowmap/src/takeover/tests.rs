use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use proptest::prelude::*;

use crate::{Entry, EvictionRank, FlowMap, Geometry, Key, Origin, Slot, Value};

const GEOMETRY: Geometry = Geometry { capacity: 256, content_version: 0 };

/// A table of some flows in a file that nobody has open.
struct Dead {
    _directory: tempfile::TempDir,
    path: PathBuf,
    flows: Vec<Entry>,
}

impl Dead {
    fn new(flows: u64) -> Dead {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flows");
        let (map, _) = FlowMap::open(&path, &GEOMETRY).unwrap();
        for number in 0..flows {
            insert(&map, number);
        }
        let flows = map.iter().collect();
        Dead { _directory: directory, path, flows }
    }

    fn file(&self) -> std::fs::File {
        OpenOptions::new().read(true).write(true).open(&self.path).unwrap()
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.file().write_all_at(bytes, at).unwrap();
    }

    fn read<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.file().read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    fn open(&self) -> (FlowMap, Origin) {
        FlowMap::open(&self.path, &GEOMETRY).unwrap()
    }

    /// Opens the table and expects it to hold these flows, findable, with so many repairs; and to work.
    #[track_caller]
    fn expect(&self, flows: &[Entry], repaired: usize) {
        let (map, origin) = self.open();
        assert_eq!(origin, Origin::TakenOver { live: flows.len(), repaired });
        assert_eq!(map.iter().collect::<Vec<_>>(), flows);
        assert_sound(&map);
    }
}

fn insert(map: &FlowMap, number: u64) {
    let key = Key::from_words([number + 1, number]).unwrap();
    map.insert(&key, map.hash(&key), Value([number; 5]), 1, |_, _, idle| EvictionRank(idle.into()));
}

/// Every listed flow is found, and every bucket can be locked, filled and emptied.
#[track_caller]
fn assert_sound(map: &FlowMap) {
    assert_eq!(map.iter().count(), map.len());
    for entry in map {
        // Damage, unlike a crash, can have made two keys the same; then one of them is found.
        let found = map.lookup(&entry.key, map.hash(&entry.key)).unwrap();
        assert_eq!(map.get(found.slot).unwrap().key, entry.key);
    }
    for number in 1000..3000 {
        insert(map, number);
    }
    assert_eq!(map.len(), map.capacity());
    map.clear();
    assert_eq!((map.len(), map.iter().count()), (0, 0));
}

/// Where the layout in the crate's documentation has a bucket, its lock, the tag and the entry of a slot.
fn bucket_at(slot: Slot) -> u64 {
    4096 + u64::from(slot.raw() / 8) * 576
}

fn lock_at(slot: Slot) -> u64 {
    bucket_at(slot) + 16
}

fn tag_at(slot: Slot) -> u64 {
    bucket_at(slot) + u64::from(slot.raw() % 8) * 2
}

fn entry_at(slot: Slot) -> u64 {
    bucket_at(slot) + 64 + u64::from(slot.raw() % 8) * 64
}

#[test]
fn the_file_is_laid_out_as_documented() {
    let dead = Dead::new(40);
    for flow in &dead.flows {
        let words = dead.read::<64>(entry_at(flow.slot));
        let word = |i: usize| u64::from_ne_bytes(words[8 * i..][..8].try_into().unwrap());
        assert_eq!([word(1), word(2)], flow.key.words());
        assert_eq!(std::array::from_fn::<u64, 5, _>(|i| word(3 + i)), flow.value.0);
        assert_ne!(dead.read::<2>(tag_at(flow.slot)), [0; 2]);
    }
    dead.expect(&dead.flows, 0);
}

#[test]
fn a_half_written_entry_reads_as_empty_and_its_neighbours_stay() {
    let mut dead = Dead::new(40);
    let torn = dead.flows.remove(17);
    let version = u32::from_ne_bytes(dead.read::<4>(entry_at(torn.slot)));
    dead.write(entry_at(torn.slot), &(version + 1).to_ne_bytes());
    dead.write(entry_at(torn.slot) + 8, &[0xaa; 8]);
    dead.expect(&dead.flows, 1);
}

#[test]
fn a_half_written_entry_without_a_tag_is_emptied_too() {
    // A new flow's entry is written before its tag.
    let mut dead = Dead::new(40);
    let torn = dead.flows.remove(17);
    dead.write(tag_at(torn.slot), &[0; 2]);
    dead.write(entry_at(torn.slot), &3_u32.to_ne_bytes());
    dead.expect(&dead.flows, 1);
}

#[test]
fn locks_of_the_dead_are_released() {
    let dead = Dead::new(40);
    for flow in &dead.flows {
        dead.write(lock_at(flow.slot), &1_u32.to_ne_bytes());
    }
    dead.expect(&dead.flows, 0);
}

#[test]
fn an_entry_that_had_no_tag_yet_gets_it() {
    let dead = Dead::new(40);
    dead.write(tag_at(dead.flows[5].slot), &[0; 2]);
    dead.expect(&dead.flows, 1);
}

#[test]
fn an_entry_that_still_had_its_victims_tag_gets_its_own() {
    let dead = Dead::new(40);
    let slot = dead.flows[5].slot;
    let tag = u16::from_ne_bytes(dead.read(tag_at(slot)));
    dead.write(tag_at(slot), &(tag ^ 0x5a5a).to_ne_bytes());
    dead.expect(&dead.flows, 1);
}

#[test]
fn the_tag_of_an_entry_that_was_being_removed_goes() {
    let mut dead = Dead::new(40);
    let removed = dead.flows.remove(5);
    dead.write(entry_at(removed.slot) + 8, &[0; 16]);
    dead.expect(&dead.flows, 1);
}

#[test]
fn an_entry_in_a_bucket_that_is_not_its_own_is_emptied() {
    let mut dead = Dead::new(40);
    let damaged = dead.flows.remove(5);
    let is_candidate = |number: u64| {
        let (map, _) = dead.open();
        let hash = map.hash(&Key::from_words([number, 0]).unwrap());
        hash.buckets(map.buckets() - 1).contains(&(damaged.slot.raw() as usize / 8))
    };
    let foreign = (1000..).find(|&number| !is_candidate(number)).unwrap();
    dead.write(entry_at(damaged.slot) + 8, [foreign.to_ne_bytes(), [0; 8]].as_flattened());
    dead.expect(&dead.flows, 1);
}

proptest! {
    #[test]
    fn any_damage_leaves_a_sound_table(
        damage in prop::collection::vec((4096_u64..4096 + 32 * 576, any::<u64>()), 0..200),
    ) {
        let dead = Dead::new(100);
        for (at, bytes) in damage {
            dead.write(at.min(4096 + 32 * 576 - 8), &bytes.to_ne_bytes());
        }
        let (map, origin) = dead.open();
        let Origin::TakenOver { live, .. } = origin else { panic!("{origin:?}") };
        prop_assert_eq!(live, map.len());
        assert_sound(&map);
        drop(map);
        prop_assert_eq!(dead.open().1, Origin::TakenOver { live: 0, repaired: 0 });
    }

    #[test]
    fn a_repaired_table_needs_no_second_repair(
        damage in prop::collection::vec((4096_u64..4096 + 32 * 576, any::<u64>()), 0..200),
    ) {
        let dead = Dead::new(100);
        for (at, bytes) in damage {
            dead.write(at.min(4096 + 32 * 576 - 8), &bytes.to_ne_bytes());
        }
        let first: Vec<_> = dead.open().0.iter().collect();
        dead.expect(&first, 0);
    }
}
