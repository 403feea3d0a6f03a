//! Slots of pod ports: small numbers, used again.

use std::collections::BTreeSet;

use crate::port::PortIndex;

/// Slots from [`PortIndex::FIRST_POD`] on.
#[derive(Debug, Default)]
pub(super) struct Slots {
    free: BTreeSet<PortIndex>,
    used: u16,
}

impl Slots {
    /// Most pod ports of a node; well above the 110 pods that Kubernetes puts on one.
    pub(super) const CAPACITY: usize = 4096 - PortIndex::FIRST_POD.0 as usize;

    /// The lowest free slot; `None` when there is none.
    pub(super) fn take(&mut self) -> Option<PortIndex> {
        if let Some(index) = self.free.pop_first() {
            return Some(index);
        }
        if usize::from(self.used) >= Self::CAPACITY {
            return None;
        }
        self.used += 1;
        Some(PortIndex(PortIndex::FIRST_POD.0 + self.used - 1))
    }

    /// The slot may be used again.
    pub(super) fn give_back(&mut self, index: PortIndex) {
        self.free.insert(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again_and_run_out() {
        let mut slots = Slots::default();
        let first: Vec<_> = (0..3).map(|_| slots.take().unwrap().0).collect();
        assert_eq!(first, [2, 3, 4]);
        slots.give_back(PortIndex(3));
        assert_eq!(slots.take(), Some(PortIndex(3)));
        assert_eq!(std::iter::from_fn(|| slots.take()).count(), Slots::CAPACITY - 3);
        slots.give_back(PortIndex(9));
        assert_eq!((slots.take(), slots.take()), (Some(PortIndex(9)), None));
    }
}
