//! Flows that workers see and that others could carry for them: a queue without locks, which whoever takes them over
//! (`control/shortcut`) empties now and then. What finds no room is offered again by the packets that follow.

use crossbeam::channel::{Receiver, Sender, bounded};

use super::{Flow, FlowKey, Flows, Kind, Seconds, Seen};

/// Offers that wait.
const WAITING: usize = 4096;

/// The queue.
pub(super) struct Offers(Sender<FlowKey>, Receiver<FlowKey>);

impl Flows {
    /// With a queue for offers; without one nothing is offered.
    #[must_use]
    pub fn with_offers(self) -> Self {
        let (to, from) = bounded(WAITING);
        Self { offers: Some(Offers(to, from)), ..self }
    }

    /// Whether flows may be offered.
    #[inline]
    pub fn takes_offers(&self) -> bool {
        self.offers.is_some()
    }

    /// Offers the flow of a packet that has just been seen.
    pub fn offer(&self, key: &FlowKey) {
        if let Some(Offers(queue, _)) = &self.offers {
            let _ = queue.try_send(*key);
        }
    }

    /// What was offered and not taken yet.
    pub fn offered(&self) -> impl Iterator<Item = FlowKey> + '_ {
        self.offers.iter().flat_map(|Offers(_, queue)| queue.try_iter())
    }

    /// Somebody else begins to carry a direction: workers do not see all of its packets from here on.
    pub fn begin_elsewhere(&self, key: &FlowKey) {
        if let Some(flow) = self.peek(key) {
            self.change(key, &flow, |f| f.elsewhere = true);
        }
    }

    /// Somebody else has carried packets of a direction: they count, and keep the flow from expiring.
    pub fn carried_elsewhere(&self, key: &FlowKey, frames: u64, bytes: u64, now: Seconds) {
        if let Some(flow) = self.find(key, now)
            && cfg!(feature = "counters")
        {
            self.counts.add(flow.slot, frames, bytes);
        }
    }

    /// The flow of a key, when its connection is established in both directions and nothing about its packets is translated
    /// or to be watched: no Service, no end in sight.
    pub fn plain_and_established(&self, key: &FlowKey) -> Option<Flow> {
        let flow = self.peek(key)?;
        if flow.translates(key) || flow.service || flow.punted || key.kind != Kind::Ports {
            return None;
        }
        let partner = self.peek(&flow.partner_key(key))?;
        let ends = [Seen::FIN, Seen::RST, Seen::WAS_RESET];
        let either = flow.seen.and(partner.seen);
        let established = flow.seen.has(Seen::DATA) && partner.seen.has(Seen::DATA);
        (established && !ends.iter().any(|end| either.has(*end))).then_some(flow)
    }
}
