//! A process killed in the middle of its writes, and the next one that takes over its table.
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use headrace_flowmap::{EvictionRank, FlowMap, Geometry, Key, Origin, Value};

/// Small, so that threads meet and the table is full.
const GEOMETRY: Geometry = Geometry { capacity: 64, content_version: 3 };
const KEYS: u64 = 100;
const FILE: &str = "HEADRACE_FLOWMAP_CRASH_FILE";

fn key(id: u64) -> Key {
    Key::from_words([id + 1, id.wrapping_mul(0x9e37_79b9_7f4a_7c15)]).unwrap()
}

/// A value whose words all follow from its key and a number.
fn stamp(key: &Key, number: u64) -> Value {
    let [first, second] = key.words();
    let mixed = (first ^ second ^ number).wrapping_mul(0xff51_afd7_ed55_8ccd);
    Value([number, mixed, !mixed, mixed.rotate_left(9), mixed ^ number])
}

fn oldest(_: &Key, _: &Value, idle: u32) -> EvictionRank {
    EvictionRank(u64::from(idle))
}

/// Inserts, updates and removes for ever.
fn write_until_killed(map: &FlowMap, thread: u64) -> ! {
    let mut number = thread;
    loop {
        number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let key = key((number >> 33) % KEYS);
        let slot = map.insert(&key, map.hash(&key), stamp(&key, number), number as u32 >> 20, oldest).slot();
        map.update(slot, &key, |value| *value = stamp(&key, !number));
        if number >> 62 == 0 {
            map.remove(slot, &key);
        }
    }
}

/// Not a test by itself: the process that the test below starts and kills.
#[test]
#[ignore = "run as a child process by another test"]
fn child() {
    let path = PathBuf::from(std::env::var_os(FILE).expect("the parent names the file"));
    let (map, _) = FlowMap::open(&path, &GEOMETRY).unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let map = &map;
            scope.spawn(move || write_until_killed(map, thread));
        }
        println!("\nwriting");
        // Ends with the parent, should that be gone before it kills us.
        io::stdin().lines().for_each(drop);
        process::exit(1);
    });
}

/// A child that is killed when dropped, so that a failing test leaves none behind.
struct Writer(Child);

impl Writer {
    fn start(path: &Path) -> Writer {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(FILE, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let writer = Writer(child);
        assert!(
            output.lines().map_while(Result::ok).any(|line| line == "writing"),
            "the child did not start"
        );
        writer
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_table_whose_process_was_killed_holds_whole_entries_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows");
    let mut repairs = 0;
    for round in 0..40 {
        let writer = Writer::start(&path);
        thread::sleep(Duration::from_millis(3 + round % 7));
        drop(writer);

        let (map, origin) = FlowMap::open(&path, &GEOMETRY).unwrap();
        let Origin::TakenOver { live, repaired } = origin else { panic!("{origin:?}") };
        repairs += repaired;
        let entries: Vec<_> = map.iter().collect();
        assert!(live > 0 && live == entries.len() && live == map.len());
        assert!(repaired <= 8, "four threads cannot leave {repaired} places half-written");
        for entry in entries {
            assert_eq!(entry.value, stamp(&entry.key, entry.value.0[0]), "half-written");
            let found = map.lookup(&entry.key, map.hash(&entry.key)).unwrap();
            assert_eq!(found.slot, entry.slot, "the key is there twice");
        }
        // A lock that were still held would stop this for ever.
        for id in 0..KEYS {
            let slot = map.insert(&key(id), map.hash(&key(id)), stamp(&key(id), 0), 0, oldest).slot();
            assert!(map.update(slot, &key(id), |value| *value = stamp(&key(id), 1)));
        }
    }
    println!("40 crashes left {repairs} places to repair");
}
