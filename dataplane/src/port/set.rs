//! A worker's ports by slot.

use super::{Capabilities, Port, PortIndex};
use crate::drop_reason::DropReason;
use crate::frames::{AreaId, Frame, Pools};
use crate::observe::Observer;

/// A worker's halves of all ports.
#[derive(Default)]
pub struct PortSet {
    slots: Vec<Option<Slot>>,
    /// Ports with frames that are queued or were left over.
    pending: Vec<PortIndex>,
}

struct Slot {
    port: Box<dyn Port>,
    /// Frames are queued or were left over.
    pending: bool,
}

impl PortSet {
    /// Puts a port into its slot.
    pub fn attach(&mut self, index: PortIndex, port: Box<dyn Port>) {
        let slot = usize::from(index.0);
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        self.slots[slot] = Some(Slot { port, pending: false });
        // No allocation later.
        self.pending.reserve(self.slots.len());
    }

    /// Takes a port out of its slot.
    pub fn detach(&mut self, index: PortIndex) -> Option<Box<dyn Port>> {
        self.pending.retain(|pending| *pending != index);
        Some(self.slots.get_mut(usize::from(index.0))?.take()?.port)
    }

    /// The port in a slot.
    pub fn get_mut(&mut self, index: PortIndex) -> Option<&mut Box<dyn Port>> {
        self.slots.get_mut(usize::from(index.0))?.as_mut().map(|s| &mut s.port)
    }

    /// Slots in use, ascending.
    pub fn indexes(&self) -> impl Iterator<Item = PortIndex> + use<> {
        let used: Vec<_> = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, s)| s.is_some())
            .map(|(i, _)| PortIndex(i as u16))
            .collect();
        used.into_iter()
    }

    /// What a port can do; `None` when there is no port in that slot.
    #[inline]
    pub fn capabilities(&self, index: PortIndex) -> Option<Capabilities> {
        self.slots.get(usize::from(index.0))?.as_ref().map(|s| s.port.capabilities())
    }

    /// Queues a frame; counts and ends it where it cannot go.
    #[inline]
    pub fn transmit(&mut self, index: PortIndex, pools: &mut Pools, frame: Frame, stats: &Observer) {
        let Some(slot) = self.slots.get_mut(usize::from(index.0)).and_then(Option::as_mut) else {
            return stats.end(index, pools, frame, DropReason::PortGone);
        };
        let area: AreaId = frame.area();
        debug_assert_eq!(area, slot.port.area(), "a frame of another area needs a copy");
        if !std::mem::replace(&mut slot.pending, true) {
            self.pending.push(index);
        }
        stats.sends(index, pools.get(area), &frame);
        if let Err(frame) = slot.port.transmit(pools.get_mut(area), frame) {
            slot.port.counters().tx_ring_full.add(1);
            stats.end(index, pools, frame, DropReason::TxRingFull);
        }
    }

    /// Starts transmission on every port that has something queued. Returns whether anything is left.
    pub fn flush(&mut self, pools: &mut Pools) -> bool {
        self.pending.retain(|index| {
            let Some(slot) = self.slots.get_mut(usize::from(index.0)).and_then(Option::as_mut) else {
                return false;
            };
            slot.pending = slot.port.flush(pools.get_mut(slot.port.area()));
            slot.pending
        });
        !self.pending.is_empty()
    }
}
