//! The flow table: one fixed-size, shared hash table of connections, in a file that outlives the process.
//!
//! Every worker thread shares one [`FlowMap`] and may look up, insert, change or remove any flow. Reads take
//! no lock; a write holds one bucket's lock (an insert two) for some tens of nanoseconds. The table never
//! grows and an insert never fails: when its two buckets are full, the entry that the caller ranks highest
//! makes room.
//!
//! What the words of a key and a value mean is the dataplane's business; this crate stores, finds and ages
//! them.
//!
//! # The file
//!
//! ```text
//! 0      header page: magic, layout, content version, buckets, hash seed, boot id (header.rs)
//! 4096   bucket 0                                                                (bucket.rs)
//!        +0    | tag 0..3 | tag 4..7 | lock | unused ....................... |   one cache line
//!        +64   | version, last_seen | key 0 | key 1 | value 0 .. value 4 ... |   entry 0, one cache line
//!        +128  entry 1                                                           (record.rs)
//!        ...
//!        +512  entry 7
//! 4672   bucket 1
//!        ...
//! ```
//!
//! All numbers are in the machine's byte order and nothing in the file is a pointer, so a new process maps it
//! anywhere and goes on. A key has two candidate buckets, chosen by a hash that is seeded from the header. A
//! tag is 16 bits of that hash, 0 for an empty place, so a lookup reads one or two tag lines and, nearly
//! always, only the entry that it wants. Entries never move: a [`Slot`] stays good for as long as its key
//! stays in the table.
//!
//! # A crash at any instruction
//!
//! A process that dies leaves locks held and at most one entry per thread half-written, and says so in the
//! file: the entry's version is odd. [`FlowMap::open`] releases the locks, empties such entries and makes
//! every tag agree with its key before anyone else sees the table (takeover.rs). A lock on the file keeps a
//! second process out.
//!
//! A table of 1 048 576 flows is a sparse file of 72 MiB, of which only touched pages cost memory. It belongs
//! on a tmpfs such as `/run`: on a disk, write-back stalls workers. A table from before a reboot is not taken
//! over.

mod bucket;
mod hash;
mod header;
mod map;
mod mapping;
mod occupied;
mod open;
mod prefetch;
mod record;
mod sweep;
mod takeover;
mod types;

pub use hash::Hash;
pub use header::Mismatch;
pub use map::FlowMap;
pub use open::{Geometry, MAX_CAPACITY, OpenError, Origin};
pub use prefetch::prefetch_read;
pub use sweep::{Cursor, Iter, Sweep};
pub use types::{Entry, EvictionRank, Found, Insert, Key, Slot, Value};
