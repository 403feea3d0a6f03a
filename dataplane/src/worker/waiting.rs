//! Packets that wait for a next hop's MAC address: one per address, for a few seconds (RFC 1122 2.3.2.2).
//!
//! A packet that waits is as it came in: no stage rewrites bytes before it knows that the packet can leave.

use std::net::Ipv4Addr;

use arrayvec::ArrayVec;

use super::fragments::FragmentRoom;
use crate::burst::{Burst, Packet, Verdict};
use crate::drop_reason::DropReason;
use crate::flows::Seconds;
use crate::frames::Pools;
use crate::observe::Observer;
use crate::pipeline::Context;

/// Most addresses that packets wait for.
const ROOM: usize = 32;
/// How long a packet waits, in seconds.
const PATIENCE: Seconds = 3;

/// One worker's waiting packets.
#[derive(Default)]
pub struct WaitingRoom {
    list: ArrayVec<Waiter, ROOM>,
    /// Fragments that wait for something else.
    pub fragments: FragmentRoom,
    /// The snapshot looked at last, by its address: nothing changes without a new one.
    looked_at: usize,
}

struct Waiter {
    hop: Ipv4Addr,
    packet: Packet,
    since: Seconds,
}

impl WaitingRoom {
    /// Takes a packet in and asks for its next hop. A second one for the same address is dropped, as is one too many.
    pub fn enter(&mut self, hop: Ipv4Addr, mut packet: Packet, cx: &mut Context<'_>) {
        // A full channel loses the question; the next packet asks again.
        let _ = cx.asked.try_send(hop);
        if self.list.is_full() || self.list.iter().any(|w| w.hop == hop) {
            return cx.stats.end(packet.port, cx.pools, packet.frame, DropReason::NeighborUnresolved);
        }
        packet.flow = None;
        packet.verdict = Verdict::Undecided;
        packet.mark = 0;
        self.list.push(Waiter { hop, packet, since: cx.now });
    }

    /// Moves packets whose next hop has become known, and fragments that need not wait longer, into the burst. Returns
    /// whether there are any.
    pub fn admit(&mut self, burst: &mut Burst, cx: &mut Context<'_>) -> bool {
        self.admit_resolved(burst, cx);
        self.fragments.admit(burst, cx);
        !burst.is_empty()
    }

    fn admit_resolved(&mut self, burst: &mut Burst, cx: &mut Context<'_>) {
        // Remembered in every turn: the worker holds the last snapshot until it has the next, so no two of them that
        // follow each other lie at one address.
        let snapshot = std::ptr::from_ref(cx.tables).addr();
        let looked_at = std::mem::replace(&mut self.looked_at, snapshot);
        if self.list.is_empty() || looked_at == snapshot {
            return;
        }
        let mut at = 0;
        while at < self.list.len() {
            let known = cx.tables.hops.find(self.list[at].hop).and_then(|hop| cx.tables.hops.get(hop)?.1);
            if known.is_none() {
                at += 1;
                continue;
            }
            burst.push(self.list.remove(at).packet);
        }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.fragments.is_empty()
    }

    /// Drops packets that have waited for too long.
    pub fn expire(&mut self, now: Seconds, pools: &mut Pools, stats: &Observer) {
        self.fragments.expire(now, pools, stats);
        let mut at = 0;
        while at < self.list.len() {
            if now.saturating_sub(self.list[at].since) > PATIENCE {
                let Packet { port, frame, .. } = self.list.remove(at).packet;
                stats.end(port, pools, frame, DropReason::NeighborUnresolved);
            } else {
                at += 1;
            }
        }
    }
}
