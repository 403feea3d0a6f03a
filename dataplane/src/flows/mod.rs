//! Flows: what was decided for a connection's first packet, found again for all later ones.
//!
//! One table for all workers ([`headrace_flowmap`]), two entries per connection: one under the tuple of the packets from
//! the client, one under that of the replies. An entry says what becomes of a packet of its direction ([`Flow`]); the key
//! of the other direction is its rewrite reversed, so either finds the other. The table outlives the process; routes that
//! an entry caches count only under the route generation they were found in, which is never one of an earlier process.

mod affinity;
mod connect;
mod counts;
mod entry;
mod expiry;
mod journal;
mod offers;
mod progress;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use headrace_flowmap::{EvictionRank, FlowMap, Geometry, Hash, Insert, Key, OpenError, Slot};
use headrace_wire::checksum::Delta;
use headrace_wire::nat::Deltas;

pub use affinity::{AFFINITY_VERSION, Affinity, Choice};
pub use connect::{Connection, SourcePorts};
pub use counts::{Carried, Tally};
pub use entry::{Flow, FlowKey, Kind, Seen};
pub use expiry::Expiry;
pub use journal::{Event, Listener, Record};
pub use progress::{Reset, Segment};

use counts::Counts;
use journal::Journal;
use offers::Offers;

use crate::tables::routes::Out;

/// Version of what keys and values mean ([`FlowKey::pack`], [`Flow::pack`]); it must change with them.
pub const CONTENT_VERSION: u32 = 2;

/// Seconds of the clock by which flows age. It must not jump back while the machine runs (CLOCK_BOOTTIME).
pub type Seconds = u32;

/// A key on its way to its entry: hashed once, whatever is done with it.
#[derive(Clone, Copy, Debug)]
pub struct Sought {
    /// The key itself.
    pub key: FlowKey,
    packed: Key,
    hash: Hash,
    /// Where its entry probably is.
    likely: Slot,
}

/// The flow table.
pub struct Flows {
    map: FlowMap,
    affinity: Affinity,
    first_fragments: AtomicU32,
    counts: Counts,
    journal: Journal,
    offers: Option<Offers>,
    /// Whether it is only there to try things on.
    on_trial: bool,
}

impl Flows {
    /// Over tables that were opened or made.
    pub fn new(map: FlowMap, affinity: Affinity) -> Self {
        Self {
            affinity,
            counts: Counts::new(map.capacity()),
            map,
            first_fragments: AtomicU32::new(0),
            journal: Journal::default(),
            offers: None,
            on_trial: false,
        }
    }

    /// Counts a burst's packets.
    pub fn tally(&self) -> Tally<'_> {
        Tally::new(&self.counts)
    }

    /// The table beneath, for status and prefetching.
    pub fn map(&self) -> &FlowMap {
        &self.map
    }

    /// Which endpoints clients of Services keep.
    pub fn affinity(&self) -> &Affinity {
        &self.affinity
    }

    /// Changes whenever later fragments may follow a first one that was not known before.
    pub fn first_fragments(&self) -> u32 {
        self.first_fragments.load(Relaxed)
    }

    /// A table of the same size with the same connections, to try things on: nothing of it is counted elsewhere.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn copy(&self) -> Result<Self, OpenError> {
        let geometry = Geometry { capacity: self.map.capacity(), content_version: CONTENT_VERSION };
        let copy = Self::new(FlowMap::anonymous(&geometry)?, self.affinity.copy()?);
        for entry in &self.map {
            let (key, hash) = (&entry.key, copy.map.hash(&entry.key));
            let inserted =
                copy.map.insert(key, hash, entry.value, entry.last_seen, |_, _, _| EvictionRank(0));
            if let Insert::New { slot, .. } = inserted {
                copy.counts.advance(slot, |_| self.counts.progress(entry.slot));
            }
        }
        Ok(Self { on_trial: true, ..copy })
    }

    /// The flow of a packet. Marks it as used.
    pub fn find(&self, key: &FlowKey, now: Seconds) -> Option<Flow> {
        self.find_sought(&self.seek(key), now)
    }

    /// What looks for the flow of `key`, and begins to load where that will be. Inlined, so that it is put together where it stays.
    #[inline(always)]
    pub fn seek(&self, key: &FlowKey) -> Sought {
        let packed = key.pack();
        let hash = self.map.hash(&packed);
        self.map.prefetch(hash);
        Sought { key: *key, packed, hash, likely: Slot::from_raw(0) }
    }

    /// Begins to load the entry itself and its counts; what [`Flows::seek`] asked for has come since.
    #[inline]
    pub fn prefetch(&self, sought: &mut Sought) {
        sought.likely = self.map.prefetch_entry(sought.hash);
        self.counts.prefetch(sought.likely);
    }

    /// The flow looked for. Marks it as used.
    #[inline(always)]
    pub fn find_sought(&self, sought: &Sought, now: Seconds) -> Option<Flow> {
        let packed = &sought.packed;
        let found = self.map.lookup_at(sought.likely, packed, sought.hash)?;
        if found.last_seen != now {
            self.map.touch(found.slot, packed, now);
        }
        Some(Flow::unpack(found.slot, found.value))
    }

    /// Records what a TCP packet's flags say of its direction.
    pub fn saw(&self, key: &FlowKey, flow: &mut Flow, seen: Seen) {
        flow.seen = flow.seen.and(seen);
        self.change(key, flow, |f| f.seen = f.seen.and(seen));
    }

    /// Remembers how far a segment brings its direction.
    #[inline]
    pub fn advance(&self, flow: &Flow, segment: &Segment) {
        let has_data = flow.seen.has(Seen::DATA);
        self.counts.advance(flow.slot, |progress| progress.after(segment, has_data));
    }

    /// What a reset does to its connection. One that closes it is remembered in both directions.
    pub fn reset(&self, key: &FlowKey, flow: &mut Flow, segment: &Segment) -> Reset {
        let partner_key = flow.partner_key(key);
        let packed = partner_key.pack();
        let partner = self.map.lookup(&packed, self.map.hash(&packed));
        let other = partner.map(|found| self.counts.progress(found.slot)).unwrap_or_default();
        // Who carries a flow elsewhere has made sure of its senders.
        let reset = if flow.elsewhere {
            Reset::Closes
        } else {
            self.counts.progress(flow.slot).reset(segment.sequence, other)
        };
        if reset == Reset::Closes {
            self.saw(key, flow, Seen::RST);
            if let Some(found) = partner {
                self.saw(&partner_key, &mut Flow::unpack(found.slot, found.value), Seen::WAS_RESET);
            }
        }
        reset
    }

    /// Whether a segment to the one who has reset the connection belongs to what was under way then.
    pub fn fits_what_was_reset(&self, key: &FlowKey, flow: &Flow, segment: &Segment) -> bool {
        let partner = flow.partner_key(key).pack();
        let found = self.map.lookup(&partner, self.map.hash(&partner));
        let other = found.map(|found| self.counts.progress(found.slot)).unwrap_or_default();
        flow.elsewhere || self.counts.progress(flow.slot).fits(segment, other)
    }

    /// Remembers the way a flow's packets leave.
    pub fn set_route(&self, key: &FlowKey, flow: &mut Flow, out: Out, generation: u32) {
        flow.out = Some(out);
        flow.route_generation = generation;
        self.change(key, flow, |f| {
            f.out = Some(out);
            f.route_generation = generation;
        });
    }

    /// Remembers that a UDP flow's destination was still right under this generation of Services.
    pub fn set_service_generation(&self, key: &FlowKey, flow: &mut Flow, generation: u32) {
        flow.service_generation = generation;
        self.change(key, flow, |f| f.service_generation = generation);
    }

    /// Limits the segments that a flow's other direction may send: by the MSS that this direction's SYN announces, or by
    /// an ICMP error that says how much fits.
    pub fn limit_partner(&self, key: &FlowKey, flow: &Flow, mss: u16, lower_only: bool) {
        let partner = flow.partner_key(key).pack();
        let Some(found) = self.map.lookup(&partner, self.map.hash(&partner)) else { return };
        self.map.update(found.slot, &partner, |value| {
            let mut f = Flow::unpack(found.slot, *value);
            if !lower_only || f.mss == 0 || mss < f.mss {
                f.mss = mss;
                *value = f.pack();
            }
        });
    }

    /// Ends a connection: both entries go.
    pub fn end(&self, key: &FlowKey, flow: &Flow) {
        if let Some(found) = self.map.get(flow.slot) {
            self.note(Event::Ended, key, flow, found.last_seen);
        }
        self.map.remove_key(&flow.partner_key(key).pack());
        self.map.remove(flow.slot, &key.pack());
    }

    fn change(&self, key: &FlowKey, flow: &Flow, change: impl FnOnce(&mut Flow)) {
        self.map.update(flow.slot, &key.pack(), |value| {
            let mut fresh = Flow::unpack(flow.slot, *value);
            change(&mut fresh);
            *value = fresh.pack();
        });
    }
}

/// The deltas of a flow, from the bits kept in its entry.
fn deltas(addresses: u16, ports: u16) -> Deltas {
    Deltas { addresses: Delta::from_bits(addresses), ports: Delta::from_bits(ports) }
}
