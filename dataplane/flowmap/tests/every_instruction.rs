//! A crash at every single instruction of a write.
//!
//! A child process writes to its table while this one steps it instruction by instruction (ptrace(2)). After
//! each that changed the file, a copy of the file is what a crash there would have left, and is taken over.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, reason = "a test ends there")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::ptr::null_mut;

use headrace_flowmap::{EvictionRank, FlowMap, Geometry, Insert, Key, Origin, Value};

/// The smallest: every flow may be in every place.
const GEOMETRY: Geometry = Geometry { capacity: 16, content_version: 0 };
const FILE: &str = "HEADRACE_FLOWMAP_STEPPED_FILE";

fn key(id: u64) -> Key {
    Key::from_words([id + 1, !id]).unwrap()
}

fn value(number: u64) -> Value {
    Value([number; 5])
}

fn insert(map: &FlowMap, id: u64, now: u32) -> Insert {
    map.insert(&key(id), map.hash(&key(id)), value(id), now, |_, _, idle| EvictionRank(idle.into()))
}

/// The writes that are stepped through; `after` is called after each.
fn write(map: &FlowMap, mut after: impl FnMut(&FlowMap)) {
    assert!(map.remove_key(&key(3)).is_some());
    after(map);
    assert!(matches!(insert(map, 100, 200), Insert::New { evicted: None, .. }));
    after(map);
    assert!(matches!(insert(map, 101, 200), Insert::New { evicted: Some(_), .. }));
    after(map);
    let slot = map.lookup(&key(7), map.hash(&key(7))).unwrap().slot;
    assert!(map.update(slot, &key(7), |stored| *stored = value(77)));
    after(map);
    map.touch(slot, &key(7), 201);
    after(map);
}

type Content = BTreeMap<Key, ([u64; 5], u32)>;

fn content(map: &FlowMap) -> Content {
    map.iter().map(|entry| (entry.key, (entry.value.0, entry.last_seen))).collect()
}

/// What the table may hold after a crash: what it held before or after a write, or in an entry's place
/// nothing.
fn allowed(path: &Path) -> BTreeSet<Content> {
    let (map, _) = FlowMap::open(path, &GEOMETRY).unwrap();
    let mut states = vec![content(&map)];
    write(&map, |map| states.push(content(map)));
    let mut allowed = BTreeSet::from_iter(states.clone());
    for pair in states.windows(2) {
        let mut common = pair[0].clone();
        common.retain(|key, _| pair[1].get(key) == pair[0].get(key));
        // A touch never empties its entry.
        if pair != &states[4..6] {
            allowed.insert(common);
        }
    }
    allowed
}

/// Not a test by itself: the process that the test below steps through.
#[test]
#[ignore = "run as a child process by another test"]
fn child() {
    let path = PathBuf::from(std::env::var_os(FILE).expect("the parent names the file"));
    let (map, _) = FlowMap::open(&path, &GEOMETRY).unwrap();
    // SAFETY: PTRACE_TRACEME uses none of its other arguments.
    assert_eq!(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, null_mut::<u8>(), null_mut::<u8>()) }, 0);
    // SAFETY: gettid takes no arguments and touches no memory.
    println!("\nthread {}", unsafe { libc::gettid() });
    // SAFETY: raise takes nothing but the number of a signal.
    unsafe { libc::raise(libc::SIGSTOP) };
    write(&map, |_| ());
    // SAFETY: as above.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// A stopped child; killed when dropped.
struct Stepped {
    child: Child,
    thread: libc::pid_t,
}

impl Stepped {
    fn start(path: &Path) -> Stepped {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FILE, path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let thread = output
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("thread ")?.parse().ok());
        let stepped = Stepped { child, thread: thread.expect("the child did not start") };
        assert_eq!(stepped.wait(), libc::SIGSTOP);
        // The kernel kills it, should this process be gone before.
        // SAFETY: PTRACE_SETOPTIONS takes a thread, here one that is stopped and ours, and a number in place
        // of data.
        let done = unsafe {
            libc::ptrace(
                libc::PTRACE_SETOPTIONS,
                stepped.thread,
                null_mut::<u8>(),
                libc::PTRACE_O_EXITKILL as usize,
            )
        };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        stepped
    }

    /// Runs one instruction; `false` when the child has come to its second stop.
    fn step(&self) -> bool {
        // SAFETY: PTRACE_SINGLESTEP takes a thread, here one that is stopped and ours, and a signal, here
        // none.
        let done =
            unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, self.thread, null_mut::<u8>(), null_mut::<u8>()) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        match self.wait() {
            libc::SIGTRAP => true,
            libc::SIGSTOP => false,
            other => panic!("the child got signal {other}"),
        }
    }

    /// Waits until the child stops, and returns the signal that stopped it.
    fn wait(&self) -> libc::c_int {
        let mut status = 0;
        // SAFETY: `status` is a place for one int, which is all that waitpid writes.
        let thread = unsafe { libc::waitpid(self.thread, &raw mut status, libc::__WALL) };
        assert_eq!(thread, self.thread, "{}", std::io::Error::last_os_error());
        assert!(libc::WIFSTOPPED(status), "the child ended: {status:#x}");
        libc::WSTOPSIG(status)
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        let mut status = 0;
        // The thread that is stepped must be waited for first: the process does not end before.
        // SAFETY: `status` is a place for one int, which is all that waitpid writes.
        while unsafe { libc::waitpid(self.thread, &raw mut status, libc::__WALL) } > 0
            && libc::WIFSTOPPED(status)
        {}
        self.child.wait().unwrap();
    }
}

#[test]
fn a_crash_at_any_instruction_leaves_whole_flows_only() {
    let directory = tempfile::tempdir().unwrap();
    let [path, copy] = ["flows", "copy"].map(|name| directory.path().join(name));
    let (map, _) = FlowMap::open(&path, &GEOMETRY).unwrap();
    for id in 0..16 {
        insert(&map, id, 100 + id as u32);
    }
    drop(map);
    fs::copy(&path, &copy).unwrap();
    let allowed = allowed(&copy);

    let child = Stepped::start(&path);
    let mut before = Vec::new();
    let (mut steps, mut repaired_states, mut seen) = (0, 0, BTreeSet::new());
    while child.step() {
        steps += 1;
        let file = fs::read(&path).unwrap();
        if file == before {
            continue;
        }
        fs::write(&copy, &file).unwrap();
        before = file;
        let (map, origin) = FlowMap::open(&copy, &GEOMETRY).unwrap();
        let Origin::TakenOver { live, repaired } = origin else { panic!("{origin:?}") };
        let found = content(&map);
        assert!(repaired <= 1 && live == found.len(), "{origin:?}");
        assert!(allowed.contains(&found), "after {steps} instructions the table holds {found:?}");
        repaired_states += repaired;
        seen.insert(found);
        // No lock is left: this takes them all.
        for id in 0..16 {
            insert(&map, 1000 + id, 300);
        }
        assert_eq!(map.len(), 16);
    }
    println!("{steps} instructions, {} contents, {repaired_states} states that needed repair", seen.len());
    assert_eq!(seen, allowed, "some crash was not tried");
    assert!(repaired_states > 20);
}
