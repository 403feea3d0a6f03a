use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use super::*;
use crate::{EvictionRank, Key, Value};

const GEOMETRY: Geometry = Geometry { capacity: 1000, content_version: 7 };

struct Table {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

/// A file with one flow in it.
fn with_one_flow() -> Table {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows");
    let (map, origin) = FlowMap::open(&path, &GEOMETRY).unwrap();
    assert_eq!(origin, Origin::Created);
    let key = Key::from_words([1, 2]).unwrap();
    map.insert(&key, map.hash(&key), Value([3; 5]), 4, |_, _, _| EvictionRank(0));
    Table { _directory: directory, path }
}

fn overwrite(table: &Table, at: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(&table.path).unwrap().write_all_at(bytes, at).unwrap();
}

/// Opens the table, which must be made anew, and returns why; a second time it is good.
fn recreated(table: &Table, geometry: &Geometry) -> Mismatch {
    let (map, origin) = FlowMap::open(&table.path, geometry).unwrap();
    assert_eq!((map.len(), map.iter().count()), (0, 0));
    drop(map);
    let (_, again) = FlowMap::open(&table.path, geometry).unwrap();
    assert_eq!(again, Origin::TakenOver { live: 0, repaired: 0 });
    match origin {
        Origin::Recreated { why } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_table_is_taken_over_with_its_flows_in_their_slots() {
    let table = with_one_flow();
    let (map, origin) = FlowMap::open(&table.path, &GEOMETRY).unwrap();
    assert_eq!(origin, Origin::TakenOver { live: 1, repaired: 0 });
    let key = Key::from_words([1, 2]).unwrap();
    let found = map.lookup(&key, map.hash(&key)).unwrap();
    assert_eq!((found.value, found.last_seen), (Value([3; 5]), 4));
    drop(map);
    let (map, _) = FlowMap::open(&table.path, &GEOMETRY).unwrap();
    assert_eq!(map.lookup(&key, map.hash(&key)), Some(found));
}

#[test]
fn a_file_is_for_its_owner_alone() {
    let table = with_one_flow();
    assert_eq!(fs::metadata(&table.path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_second_user_is_refused_and_told_which_file() {
    let table = with_one_flow();
    let first = FlowMap::open(&table.path, &GEOMETRY).unwrap().0;
    let error = FlowMap::open(&table.path, &GEOMETRY).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(table.path.to_str().unwrap()), "{error}");
    assert_eq!(first.len(), 1);
    drop(first);
    FlowMap::open(&table.path, &GEOMETRY).unwrap();
}

#[test]
fn another_capacity_makes_a_new_table() {
    let why = recreated(&with_one_flow(), &Geometry { capacity: 1025, ..GEOMETRY });
    assert_eq!(why, Mismatch::Capacity { found: 128, wanted: 256 });
}

#[test]
fn another_content_version_makes_a_new_table() {
    let why = recreated(&with_one_flow(), &Geometry { content_version: 8, ..GEOMETRY });
    assert_eq!(why, Mismatch::Content { found: 7, wanted: 8 });
}

#[test]
fn another_layout_makes_a_new_table() {
    let table = with_one_flow();
    overwrite(&table, 8, &99_u64.to_ne_bytes());
    assert_eq!(recreated(&table, &GEOMETRY), Mismatch::Layout { found: 99 });
}

#[test]
fn another_length_makes_a_new_table() {
    let wanted = 4096 + 128 * 576;
    for found in [4096, wanted - 1, wanted + 1, 2 * wanted] {
        let table = with_one_flow();
        OpenOptions::new().write(true).open(&table.path).unwrap().set_len(found).unwrap();
        assert_eq!(recreated(&table, &GEOMETRY), Mismatch::Length { found, wanted });
    }
}

#[test]
fn a_table_from_before_a_reboot_is_made_anew() {
    let table = with_one_flow();
    overwrite(&table, 64, &[1; 16]);
    assert_eq!(recreated(&table, &GEOMETRY), Mismatch::Rebooted);
}

#[test]
fn a_file_without_a_header_is_made_a_table() {
    for content in [&b"x"[..], &[0; 4096], &[0; 4096 + 128 * 576]] {
        let table = with_one_flow();
        fs::write(&table.path, content).unwrap();
        assert_eq!(recreated(&table, &GEOMETRY), Mismatch::NotATable);
    }
}

#[test]
fn a_failure_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing/flows");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(directory.path().join("elsewhere"), &link).unwrap();
    for path in [missing.as_path(), directory.path(), link.as_path()] {
        let error = FlowMap::open(path, &GEOMETRY).unwrap_err();
        assert!(matches!(error, OpenError::Io { action: "open", .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    let error = FlowMap::open(Path::new("/dev/null"), &GEOMETRY).unwrap_err();
    assert!(matches!(error, OpenError::NotAFile { .. }), "{error}");
}

#[test]
fn a_table_that_cannot_fit_is_refused() {
    let capacity = MAX_CAPACITY + 1;
    let error = FlowMap::anonymous(&Geometry { capacity, ..GEOMETRY }).unwrap_err();
    assert!(matches!(error, OpenError::TooLarge { .. }), "{error}");
}

/// A mounted tmpfs of 64 KiB.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, with a word about it, where mounting is not allowed.
    fn mount() -> Option<SmallDisk> {
        let directory = tempfile::tempdir().unwrap();
        let flags = rustix::mount::MountFlags::empty();
        match rustix::mount::mount("tmpfs", directory.path(), "tmpfs", flags, Some(c"size=64k")) {
            Ok(()) => Some(SmallDisk(directory)),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "cannot mount a tmpfs: {error}");
                println!("SKIPPED: cannot mount a tmpfs: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_file_system_that_cannot_hold_the_full_table_is_refused() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.0.path().join("flows");
    let error = FlowMap::open(&path, &GEOMETRY).unwrap_err();
    assert!(matches!(error, OpenError::NoSpace { needed: 77_824, free: ..=65_536, .. }), "{error}");
    FlowMap::open(&path, &Geometry { capacity: 500, ..GEOMETRY }).unwrap();
}

#[test]
fn an_untouched_table_of_a_million_flows_costs_no_memory() {
    // Where a hole that is read becomes memory, so that an idle glance would show.
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else {
        assert!(std::env::var_os("CI").is_none(), "no /dev/shm");
        println!("SKIPPED: no /dev/shm");
        return;
    };
    let path = directory.path().join("flows");
    let geometry = Geometry { capacity: 1 << 20, content_version: 0 };
    for _ in 0..10 {
        let (map, _) = FlowMap::open(&path, &geometry).unwrap();
        let key = Key::from_words([1, 2]).unwrap();
        map.insert(&key, map.hash(&key), Value::default(), 0, |_, _, _| EvictionRank(0));
        assert_eq!((map.len(), map.iter().count()), (1, 1));
        map.sweep(&mut crate::Cursor::default(), map.buckets(), |_| crate::Sweep::Keep);
        // The header, two tag lines, an entry, and pages that a bucket reaches over into.
        let used = fs::metadata(&path).unwrap().blocks() * 512;
        assert!(used <= 6 * 4096, "{used} bytes");
    }
}
