//! The buckets, mapped into memory. With the prefetch, this is all of the crate's unsafe code.
//!
//! A mapping always covers its whole number of buckets, aligned to 4096 bytes. Buckets consist of atomics
//! alone, so any content of the file is a valid one, and every access through `&Bucket` is defined.

use std::fs::File;
use std::io;

use memmap2::{MmapMut, MmapOptions, MmapRaw};

use crate::bucket::{BUCKET_SIZE, Bucket};

/// Memory that holds a table's buckets.
pub(crate) struct Mapping {
    memory: MmapRaw,
    buckets: usize,
}

impl Mapping {
    /// Maps `buckets` buckets of `file`, from byte `offset` (a multiple of 4096), shared with the file.
    ///
    /// The file is that long, and nobody makes it shorter while it is mapped: reading beyond its end would
    /// raise SIGBUS. The lock on the file is what keeps another dataplane from doing so.
    pub(crate) fn of_file(file: &File, offset: u64, buckets: usize) -> io::Result<Mapping> {
        let memory = MmapOptions::new().offset(offset).len(buckets * BUCKET_SIZE).map_raw(file)?;
        Ok(Mapping { memory, buckets })
    }

    /// Maps `buckets` empty buckets that vanish with the process.
    pub(crate) fn anonymous(buckets: usize) -> io::Result<Mapping> {
        let memory = MmapMut::map_anon(buckets * BUCKET_SIZE)?.into();
        Ok(Mapping { memory, buckets })
    }

    /// All of the buckets.
    #[inline]
    pub(crate) fn buckets(&self) -> &[Bucket] {
        let start = self.memory.as_mut_ptr().cast::<Bucket>();
        // SAFETY: the mapping is `buckets * BUCKET_SIZE` bytes long (both constructors), readable and
        // writable, and lives as long as `self`. It starts at a page plus a multiple of 4096, which fits
        // Bucket's alignment. Any bytes are a valid Bucket, and other threads change them only through the
        // same atomics.
        unsafe { std::slice::from_raw_parts(start, self.buckets) }
    }
}
