//! The words that go in and out of the table: keys, values, slots and the results of its operations.

use std::num::NonZeroU64;

/// What a flow is found by: two words, of which the first is never zero (a zero there marks an empty entry).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    first: NonZeroU64,
    second: u64,
}

impl Key {
    /// Makes a key. A caller whose first word can be zero sets a bit of its own in it, such as an address
    /// family.
    pub const fn new(first: NonZeroU64, second: u64) -> Key {
        Key { first, second }
    }

    /// Makes a key of two words; `None` when the first is zero.
    pub fn from_words(words: [u64; 2]) -> Option<Key> {
        Some(Key { first: NonZeroU64::new(words[0])?, second: words[1] })
    }

    /// The two words.
    pub const fn words(&self) -> [u64; 2] {
        [self.first.get(), self.second]
    }
}

/// What is stored with a flow: 40 bytes that only the caller understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Value(pub [u64; 5]);

/// The place of an entry. It stays the same, across restarts too, until the entry is removed; afterwards
/// another key may live there, which is why every operation on a slot takes the key as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u32);

impl Slot {
    /// The slot as a number, to be stored in a value (a connection's other direction, for example).
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// A slot from such a number. Any number is safe: one outside the table holds nothing.
    pub const fn from_raw(raw: u32) -> Slot {
        Slot(raw)
    }
}

/// A copy of one entry, whole: never a mix of two writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it was.
    pub slot: Slot,
    /// Its key.
    pub key: Key,
    /// Its value.
    pub value: Value,
    /// When it was last touched, in seconds of the caller's clock.
    pub last_seen: u32,
}

impl Entry {
    /// Seconds since it was last touched; 0 when that lies after `now` (workers read the clock at different
    /// times).
    pub fn idle(&self, now: u32) -> u32 {
        now.saturating_sub(self.last_seen)
    }
}

/// What [`lookup`](crate::FlowMap::lookup) finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where the entry is.
    pub slot: Slot,
    /// When it was last touched, in seconds of the caller's clock.
    pub last_seen: u32,
    /// Its value.
    pub value: Value,
}

/// How readily an entry is given up for a new one: of the candidates, the highest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EvictionRank(pub u64);

/// What [`insert`](crate::FlowMap::insert) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insert {
    /// The flow is in the table now.
    New {
        /// Where it is.
        slot: Slot,
        /// The entry that had to go for it, if any. Its slot is the new flow's.
        evicted: Option<Entry>,
    },
    /// The key was in the table already, and was left as it is.
    Exists {
        /// Where it is.
        slot: Slot,
        /// Its value.
        value: Value,
    },
}

impl Insert {
    /// Where the flow is, new or not.
    pub fn slot(&self) -> Slot {
        match *self {
            Insert::New { slot, .. } | Insert::Exists { slot, .. } => slot,
        }
    }
}
