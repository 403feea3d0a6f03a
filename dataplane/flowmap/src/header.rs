//! The first page of the file: what a process must agree with before it may use the rest.
//!
//! It is read and written with ordinary file calls and never mapped. A new table's header is written last, so
//! a file whose making was cut short has none.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use crate::bucket::{BUCKET_SIZE, WAYS};
use crate::hash::Seed;
use crate::record::RECORD_SIZE;

/// Where the buckets begin.
pub(crate) const HEADER_SIZE: u64 = 4096;

const MAGIC: u64 = u64::from_ne_bytes(*b"hdrcflow");

/// Raised whenever the meaning of a byte outside keys and values changes.
const LAYOUT_VERSION: u64 = 1;

const WORDS: usize = 10;

/// The header of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) content_version: u32,
    pub(crate) buckets: usize,
    pub(crate) seed: Seed,
    pub(crate) boot: BootId,
}

/// Why the table in a file cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It does not begin as a flow table does.
    #[error("the file is not a finished flow table")]
    NotATable,
    /// Another version of this crate wrote it, or one on a machine with other sizes.
    #[error("the file's layout is version {found} of another program, not version {LAYOUT_VERSION}")]
    Layout {
        /// The layout version in the file.
        found: u64,
    },
    /// Its keys and values mean something else.
    #[error("the content is of version {found}, not {wanted}")]
    Content {
        /// The [content version](crate::Geometry::content_version) in the file.
        found: u64,
        /// The one asked for.
        wanted: u32,
    },
    /// It was made for another number of flows.
    #[error("the table has {found} buckets of {WAYS} flows, not {wanted}")]
    Capacity {
        /// The number of buckets in the file.
        found: u64,
        /// The number that the capacity asked for needs.
        wanted: u64,
    },
    /// It is cut short, or something was added.
    #[error("the file is {found} bytes long, not {wanted}")]
    Length {
        /// The length of the file in bytes.
        found: u64,
        /// The length that its table has.
        wanted: u64,
    },
    /// The machine has been restarted since: no pod, connection or clock of that time exists.
    #[error("the table is from before the last reboot")]
    Rebooted,
}

impl Header {
    /// Reads the header of `file`, `length` bytes long, and compares all but its seed with `wanted`.
    /// Returns the seed when the table can be used.
    pub(crate) fn check(file: &File, length: u64, wanted: &Header) -> io::Result<Result<Seed, Mismatch>> {
        let mut bytes = [[0_u8; 8]; WORDS];
        if length < HEADER_SIZE {
            return Ok(Err(Mismatch::NotATable));
        }
        file.read_exact_at(bytes.as_flattened_mut(), 0)?;
        let found = bytes.map(u64::from_ne_bytes);
        let seed = Seed([found[6], found[7]]);
        Ok(match wanted.mismatch(&found, length) {
            Some(why) => Err(why),
            None => Ok(seed),
        })
    }

    /// Writes the header to `file`.
    pub(crate) fn write(&self, file: &File) -> io::Result<()> {
        file.write_all_at(self.words().map(u64::to_ne_bytes).as_flattened(), 0)
    }

    /// The length of the file that this header describes, in bytes.
    pub(crate) fn file_length(&self) -> u64 {
        HEADER_SIZE + (self.buckets * BUCKET_SIZE) as u64
    }

    fn words(&self) -> [u64; WORDS] {
        let BootId([boot0, boot1]) = self.boot;
        let Seed([seed0, seed1]) = self.seed;
        [
            MAGIC,
            LAYOUT_VERSION,
            RECORD_SIZE as u64,
            BUCKET_SIZE as u64,
            u64::from(self.content_version),
            self.buckets as u64,
            seed0,
            seed1,
            boot0,
            boot1,
        ]
    }

    fn mismatch(&self, found: &[u64; WORDS], length: u64) -> Option<Mismatch> {
        let wanted = self.words();
        if found[0] != wanted[0] {
            Some(Mismatch::NotATable)
        } else if found[1..4] != wanted[1..4] {
            Some(Mismatch::Layout { found: found[1] })
        } else if found[4] != wanted[4] {
            Some(Mismatch::Content { found: found[4], wanted: self.content_version })
        } else if found[5] != wanted[5] {
            Some(Mismatch::Capacity { found: found[5], wanted: wanted[5] })
        } else if length != self.file_length() {
            Some(Mismatch::Length { found: length, wanted: self.file_length() })
        } else if found[8..] != wanted[8..] {
            Some(Mismatch::Rebooted)
        } else {
            None
        }
    }
}

/// The kernel's random number of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BootId(pub(crate) [u64; 2]);

impl BootId {
    /// Reads it; zeros where there is no `/proc`, which then takes every boot for the same.
    pub(crate) fn read() -> BootId {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let number = u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or(0);
        BootId([(number >> 64) as u64, number as u64])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_of_this_kernel_is_read_and_stays() {
        assert_ne!(BootId::read(), BootId([0, 0]));
        assert_eq!(BootId::read(), BootId::read());
    }
}
