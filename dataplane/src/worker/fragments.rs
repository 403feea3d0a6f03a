//! Later fragments that came before the first one of their datagram: they wait a moment, and a few of them only.
//!
//! The first one may come to another worker. It is seen in the flow table, which is looked at again only when some first
//! fragment has gone through there, or a second has passed. A fragment that has waited in vain goes to the node's stack
//! when it came by the wire, since it may be the node's own; all others may have been to be translated, and end.

use arrayvec::ArrayVec;

use crate::burst::{Burst, Packet, Verdict};
use crate::drop_reason::DropReason;
use crate::flows::{FlowKey, Seconds};
use crate::frames::Pools;
use crate::observe::Observer;
use crate::pipeline::{Context, route};

/// Most fragments that wait.
const ROOM: usize = 64;
/// Most bytes of them.
const ROOM_BYTES: usize = 256 * 1024;
/// How long a fragment waits, in seconds. Fragments of a datagram are sent together: what is not there then was lost.
const PATIENCE: Seconds = 2;

/// One worker's waiting fragments.
#[derive(Default)]
pub struct FragmentRoom {
    list: ArrayVec<Waiter, ROOM>,
    bytes: usize,
    /// First fragments that had been seen, and the time, when it was looked last.
    looked_at: Option<(u32, Seconds)>,
}

struct Waiter {
    packet: Packet,
    since: Seconds,
}

impl FragmentRoom {
    /// Takes a fragment in. Gives it back, with a verdict, when there is no room.
    pub fn enter(&mut self, mut packet: Packet, cx: &Context<'_>) -> Option<Packet> {
        let len = usize::from(packet.ip.total_len);
        if self.list.is_full() || self.bytes + len > ROOM_BYTES {
            packet.verdict = in_vain(&packet);
            return Some(packet);
        }
        packet.verdict = Verdict::Undecided;
        packet.flow = None;
        packet.mark = 0;
        self.bytes += len;
        self.list.push(Waiter { packet, since: cx.now });
        // Its first one may have come to another worker meanwhile.
        self.looked_at = None;
        None
    }

    /// Moves fragments whose first one has come into the burst, to begin again, and those that have waited for too long, with
    /// a verdict. Returns whether there is any.
    pub fn admit(&mut self, burst: &mut Burst, cx: &mut Context<'_>) -> bool {
        let now = (cx.flows.first_fragments(), cx.now);
        if self.list.is_empty() || self.looked_at == Some(now) {
            return false;
        }
        self.looked_at = Some(now);
        let before = burst.len();
        let mut at = 0;
        while at < self.list.len() {
            let Waiter { packet, since } = &self.list[at];
            let has_first = cx.flows.find(&FlowKey::of_fragments(&packet.ip), cx.now).is_some();
            let overdue = cx.now.saturating_sub(*since) >= PATIENCE;
            if !has_first && !overdue {
                at += 1;
                continue;
            }
            if burst.is_full() {
                self.looked_at = None;
                break;
            }
            let mut packet = self.list.remove(at).packet;
            self.bytes -= usize::from(packet.ip.total_len);
            if !has_first {
                packet.verdict = in_vain(&packet);
            }
            burst.push(packet);
        }
        burst.len() > before
    }

    /// Drops fragments that nobody has admitted for long, since the node has lost its settings meanwhile.
    pub fn expire(&mut self, now: Seconds, pools: &mut Pools, stats: &Observer) {
        let mut at = 0;
        while at < self.list.len() {
            if now.saturating_sub(self.list[at].since) > 2 * PATIENCE {
                let packet = self.list.remove(at).packet;
                self.bytes -= usize::from(packet.ip.total_len);
                stats.end(packet.port, pools, packet.frame, DropReason::FragmentUnknown);
            } else {
                at += 1;
            }
        }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

fn in_vain(packet: &Packet) -> Verdict {
    if route::came_plain(packet) { Verdict::Punt } else { Verdict::Drop(DropReason::FragmentUnknown) }
}
