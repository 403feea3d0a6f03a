//! Which descriptors the kernel takes for transmitting.
//!
//! It skips an invalid one without ever completing it, and the chunk would be lost; so they are refused before.

use crate::area::{AreaHandle, TxMetadata};
use crate::socket::{Desc, MAX_CHAIN};

/// The rules of xp_aligned_validate_desc in net/xdp/xsk_queue.h for one socket, and the limit on chains.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    area_len: u64,
    chunk_size: u64,
    room: u64,
    options: u32,
}

impl Bounds {
    pub(crate) fn new(area: &AreaHandle, tx_metadata: bool) -> Self {
        Self {
            area_len: area.memory().len() as u64,
            chunk_size: u64::from(area.config().chunk_size),
            room: if tx_metadata { u64::from(TxMetadata::LEN) } else { 0 },
            options: libc::XDP_PKT_CONTD | if tx_metadata { libc::XDP_TX_METADATA } else { 0 },
        }
    }

    /// Whether the kernel would take every one of `frames`.
    #[inline]
    pub(crate) fn hold(&self, frames: &[Desc]) -> bool {
        let mut chain = 0;
        for desc in frames {
            chain += 1;
            if !self.hold_one(desc) || chain > MAX_CHAIN {
                return false;
            }
            if !desc.more() {
                chain = 0;
            }
        }
        chain == 0
    }

    #[inline]
    fn hold_one(&self, desc: &Desc) -> bool {
        let offset = desc.addr & (self.chunk_size - 1);
        desc.len > 0
            && desc.addr < self.area_len
            && offset >= self.room
            && offset + u64::from(desc.len) <= self.chunk_size
            && desc.options & !self.options == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::area::{Area, AreaConfig};

    fn chains(lengths: &[u32]) -> Vec<Desc> {
        let pieces = lengths.iter().flat_map(|&n| (0..n).map(move |k| k + 1 < n));
        pieces.enumerate().map(|(n, more)| Desc::new(n as u64 * 4096, 60, more)).collect()
    }

    #[test]
    fn descriptors_the_kernel_would_skip_are_refused() {
        let area = Area::new(AreaConfig { chunks: 4, populate: false, ..AreaConfig::default() }).unwrap();
        let with = Bounds::new(&area.handle(), true);
        let without = Bounds::new(&area.handle(), false);
        let good = Desc::new(256, 3840, false);
        assert!(with.hold(&[good]) && without.hold(&[good]) && with.hold(&[]));
        for bad in [
            Desc::new(256, 0, false),
            Desc::new(256, 3841, false),
            Desc::new(16384 + 256, 60, false),
            Desc::new(u64::MAX, 60, false),
            Desc::new(256, u32::MAX, false),
            Desc { options: 4, ..good },
        ] {
            assert!(!with.hold(&[good, bad]), "{bad:?}");
        }
        assert!(!with.hold(&[Desc::new(23, 60, false)]) && without.hold(&[Desc::new(23, 60, false)]));
        let metadata = Desc { options: libc::XDP_TX_METADATA, ..good };
        assert!(with.hold(&[metadata]) && !without.hold(&[metadata]));
    }

    #[test]
    fn chains_must_end_and_stay_short() {
        let area = Area::new(AreaConfig { chunks: 32, populate: false, ..AreaConfig::default() }).unwrap();
        let bounds = Bounds::new(&area.handle(), false);
        assert!(bounds.hold(&chains(&[18, 1, 3])));
        assert!(!bounds.hold(&chains(&[19])));
        assert!(!bounds.hold(&[Desc::new(0, 60, true)]));
    }
}
