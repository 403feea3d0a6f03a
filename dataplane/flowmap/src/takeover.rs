//! Making a table whole that a dead process left behind.
//!
//! It runs before any other thread sees the table, under the lock on the file, so it may take every bucket's
//! lock. Holes in the file are empty buckets and stay holes. Afterwards each entry has an even version, lies
//! in one of its key's buckets and carries its key's tag, and no lock is held.
//! Damage that no crash does may leave a key in two places; a lookup then finds one and the other ages.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::bucket::{BUCKET_SIZE, Locked, WAYS};
use crate::hash::Seed;
use crate::header::HEADER_SIZE;
use crate::mapping::Mapping;
use crate::occupied::Occupied;
use crate::record::RECORD_SIZE;
use crate::types::Key;

/// What was found.
pub(crate) struct Takeover {
    pub(crate) live: usize,
    pub(crate) repaired: usize,
    pub(crate) occupied: Occupied,
}

/// Repairs every bucket of `mapping`, which maps `file`.
pub(crate) fn repair(file: &File, mapping: &Mapping, seed: Seed) -> io::Result<Takeover> {
    let buckets = mapping.buckets();
    let mut result = Takeover { live: 0, repaired: 0, occupied: Occupied::new(buckets.len()) };
    let mut offset = HEADER_SIZE;
    while let Some(data) = next_data(file, offset)? {
        offset = data.end;
        for index in buckets_in(&data, buckets.len()) {
            let bucket = &buckets[index];
            // The entries of an unused bucket may lie in the hole behind this data: reading them would fill
            // it, and the data grow with each restart.
            let lanes = if bucket.is_unused() { lanes_in(&data, index) } else { WAYS };
            let tag_here = |key: &Key| {
                let hash = seed.hash(key);
                hash.buckets(buckets.len() - 1).contains(&index).then(|| hash.tag())
            };
            let (live, repaired) = repair_bucket(&bucket.seize(), lanes, tag_here);
            result.live += live;
            result.repaired += repaired;
            if live > 0 {
                result.occupied.mark(index);
            }
        }
    }
    Ok(result)
}

/// The first bytes of the file from `offset` on that are not a hole; a file system that knows no holes has
/// none.
fn next_data(file: &File, offset: u64) -> io::Result<Option<Range<u64>>> {
    let start = match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let end = seek(file, SeekFrom::Hole(start))?;
    Ok(Some(start..end))
}

/// The buckets, of `count`, whose tag line is in `data`. Without that line a bucket was never locked, thus
/// never used.
fn buckets_in(data: &Range<u64>, count: usize) -> Range<usize> {
    let first_from = |offset: u64| ((offset - HEADER_SIZE).div_ceil(BUCKET_SIZE as u64) as usize).min(count);
    first_from(data.start)..first_from(data.end)
}

/// The number of lanes of bucket `index` whose entries are in `data`, as its tag line is.
fn lanes_in(data: &Range<u64>, index: usize) -> usize {
    let first_entry = HEADER_SIZE + (index * BUCKET_SIZE + RECORD_SIZE) as u64;
    ((data.end.saturating_sub(first_entry) / RECORD_SIZE as u64) as usize).min(WAYS)
}

/// Repairs the first `lanes` places of a bucket, where `tag_here` is the tag of a key that may be in it;
/// returns how many entries are there, and how many places were wrong.
fn repair_bucket(
    bucket: &Locked<'_>,
    lanes: usize,
    tag_here: impl Fn(&Key) -> Option<u16>,
) -> (usize, usize) {
    let (mut live, mut repaired) = (0, 0);
    for lane in 0..lanes {
        let record = bucket.record(lane);
        if record.is_half_written() {
            bucket.clear(lane);
            repaired += 1;
            continue;
        }
        let entry = record.read();
        let right_tag = entry.and_then(|entry| tag_here(&entry.key)).unwrap_or(0);
        let misplaced = entry.is_some() && right_tag == 0;
        if misplaced || bucket.tag(lane) != right_tag {
            repaired += 1;
        }
        if misplaced {
            bucket.clear(lane);
        } else {
            bucket.set_tag(lane, right_tag);
            live += usize::from(right_tag != 0);
        }
    }
    (live, repaired)
}

#[cfg(test)]
mod tests;
