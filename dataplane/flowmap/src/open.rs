//! Opening a table: the file, its lock, and whether what is in it can be taken over.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::bucket::WAYS;
use crate::hash::{MAX_BUCKETS, Seed};
use crate::header::{BootId, HEADER_SIZE, Header, Mismatch};
use crate::map::FlowMap;
use crate::mapping::Mapping;
use crate::occupied::Occupied;
use crate::takeover::{self, Takeover};

/// The most flows that a table can be made for.
pub const MAX_CAPACITY: usize = MAX_BUCKETS * WAYS;

/// How long a process that was killed may hold on to its table: until its last thread has left the kernel.
const LAST_MOMENTS: Duration = Duration::from_secs(3);

/// The size and sort of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Flows to hold, rounded up to 8 times a power of two (and 16 at least). Evictions begin when the table
    /// is some two thirds full; filling it to nine tenths evicts one flow in a hundred.
    pub capacity: usize,
    /// The caller's number for what the words of its keys and values mean. A table of another number is not
    /// taken over, so it must change with that meaning.
    pub content_version: u32,
}

/// Where the content of an opened table comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// There was no file.
    Created,
    /// A former process left it.
    TakenOver {
        /// Flows in it.
        live: usize,
        /// Entries that the former process had not finished writing, or that were damaged. They were emptied,
        /// or given the right tag.
        repaired: usize,
    },
    /// There was a file, but not of this table; it was emptied.
    Recreated {
        /// What was wrong with it.
        why: Mismatch,
    },
}

/// Why a table could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The capacity is beyond [`MAX_CAPACITY`].
    #[error("a flow table of {capacity} flows is too large: configure {MAX_CAPACITY} at most")]
    TooLarge {
        /// The capacity asked for.
        capacity: usize,
    },
    /// Another process uses it.
    #[error(
        "flow table {path} is in use by a live process: stop that one, or configure another run directory"
    )]
    InUse {
        /// The table's file.
        path: PathBuf,
    },
    /// The path is taken by something else.
    #[error("{path} is not a regular file: remove it, the flow table goes there")]
    NotAFile {
        /// The table's file.
        path: PathBuf,
    },
    /// The file system could not hold the table once it is full (the process would get SIGBUS then).
    #[error(
        "flow table {path} may grow to {needed} bytes, but its file system has {free} left: configure fewer flows or enlarge it"
    )]
    NoSpace {
        /// The table's file.
        path: PathBuf,
        /// The size of the whole table in bytes.
        needed: u64,
        /// The bytes that are free.
        free: u64,
    },
    /// A system call failed.
    #[error("cannot {action} flow table {path}, whose directory must exist and be writable: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The table's file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// There was no memory for a table without a file, or no random numbers for any.
    #[error("cannot make a flow table: {0}")]
    System(io::Error),
}

impl FlowMap {
    /// Opens the table in the file at `path`: takes over what a former process left, or makes a new one.
    ///
    /// # Errors
    /// When another live process has it open, or the file cannot be had; see [`OpenError`].
    pub fn open(path: &Path, geometry: &Geometry) -> Result<(FlowMap, Origin), OpenError> {
        let header = new_header(geometry)?;
        let fail = |action| move |source| OpenError::Io { action, path: path.to_owned(), source };
        let file = open_locked(path)?;
        let length = file.metadata().map_err(fail("examine"))?.len();
        let map_file = || Mapping::of_file(&file, HEADER_SIZE, header.buckets).map_err(fail("map"));

        let why = match Header::check(&file, length, &header).map_err(fail("read"))? {
            Ok(seed) => {
                let mapping = map_file()?;
                let Takeover { live, repaired, occupied } =
                    takeover::repair(&file, &mapping, seed).map_err(fail("take over"))?;
                let map = FlowMap::new(mapping, seed, occupied, live, Some(file));
                return Ok((map, Origin::TakenOver { live, repaired }));
            }
            Err(why) => why,
        };
        create(&file, &header, path)?;
        let map = FlowMap::new(map_file()?, header.seed, Occupied::new(header.buckets), 0, Some(file));
        Ok((map, if length == 0 { Origin::Created } else { Origin::Recreated { why } }))
    }

    /// Makes a table in memory that vanishes with the process: for tests and measurements.
    ///
    /// # Errors
    /// When it is too large, or there is no memory for it.
    pub fn anonymous(geometry: &Geometry) -> Result<FlowMap, OpenError> {
        let header = new_header(geometry)?;
        let mapping = Mapping::anonymous(header.buckets).map_err(OpenError::System)?;
        Ok(FlowMap::new(mapping, header.seed, Occupied::new(header.buckets), 0, None))
    }
}

/// The header that a new table of this geometry gets.
fn new_header(geometry: &Geometry) -> Result<Header, OpenError> {
    let &Geometry { capacity, content_version } = geometry;
    if capacity > MAX_CAPACITY {
        return Err(OpenError::TooLarge { capacity });
    }
    let buckets = capacity.div_ceil(WAYS).next_power_of_two().max(2);
    let seed = Seed::random().map_err(OpenError::System)?;
    Ok(Header { content_version, buckets, seed, boot: BootId::read() })
}

/// Opens the file, making it if need be, and locks it for as long as it stays open.
fn open_locked(path: &Path) -> Result<File, OpenError> {
    let fail = |action| move |source| OpenError::Io { action, path: path.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(fail("open"))?;
    if !file.metadata().map_err(fail("examine"))?.is_file() {
        return Err(OpenError::NotAFile { path: path.to_owned() });
    }
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() < LAST_MOMENTS => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(fail("lock")(source)),
        }
    }
}

/// Makes `file` an empty table: a header, and a hole where the buckets are.
fn create(file: &File, header: &Header, path: &Path) -> Result<(), OpenError> {
    let fail = |action| move |source| OpenError::Io { action, path: path.to_owned(), source };
    file.set_len(0).map_err(fail("empty"))?;
    let space = rustix::fs::fstatvfs(file).map_err(|error| fail("examine")(error.into()))?;
    let (needed, free) = (header.file_length(), space.f_bavail.saturating_mul(space.f_frsize));
    if needed > free {
        return Err(OpenError::NoSpace { path: path.to_owned(), needed, free });
    }
    file.set_len(needed).map_err(fail("size"))?;
    header.write(file).map_err(fail("write"))
}

#[cfg(test)]
mod tests;
