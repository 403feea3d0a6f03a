//! How far the two directions of a TCP connection have come, so that only a reset that fits it closes it.
//!
//! nf_conntrack follows windows and drops what lies outside. Here only what a reset is judged by is kept, beside the counts of
//! the flow, whose cache line is written anyway: up to where a direction has sent, and what it has acknowledged. A packet
//! costs one store. It is not in the table's file: after a restart it is unknown until the next packet, and any reset fits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use headrace_wire::tcp::TcpFlags;

/// What a TCP header says of its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its control bits.
    pub flags: TcpFlags,
    /// Sequence number of its first byte.
    pub sequence: u32,
    /// Its acknowledgment number; counts with the ACK bit alone.
    pub acknowledgment: u32,
    /// Bytes of payload.
    pub payload: u32,
}

impl Segment {
    /// Sequence number behind its last byte; SYN and FIN count as one byte each (RFC 9293, 3.4).
    pub fn end(&self) -> u32 {
        let byte = |flag| u32::from(self.flags.contains(flag));
        self.sequence
            .wrapping_add(self.payload)
            .wrapping_add(byte(TcpFlags::SYN))
            .wrapping_add(byte(TcpFlags::FIN))
    }
}

/// How far one direction has come. 0 = not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Behind the last byte sent.
    pub(super) end: u32,
    /// What of the other direction was acknowledged last.
    pub(super) acknowledged: u32,
}

/// No window is larger than what is farther away than this; the protocol's limit of 1 GiB would let every second forged
/// segment pass (RFC 7323, 2.3).
const FAR: u32 = 1 << 26;

/// What a reset does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// It lies exactly where its sender has come to, or what its receiver expects next.
    Closes,
    /// It lies near: its receiver may ask back, and the sender then answers with one that fits (RFC 5961, 3.2).
    Passes,
    /// It cannot be its sender's.
    Foreign,
}

impl Progress {
    /// With one more segment of the direction. A SYN counts only before data: anyone could send one.
    pub(super) fn after(self, segment: &Segment, has_data: bool) -> Self {
        if segment.flags.contains(TcpFlags::SYN) && has_data {
            return self;
        }
        let end = segment.end();
        let is_later = self.end == 0 || end.wrapping_sub(self.end) < 1 << 31;
        let acks = segment.flags.contains(TcpFlags::ACK);
        Self {
            end: if is_later { end } else { self.end },
            acknowledged: if acks { segment.acknowledgment } else { self.acknowledged },
        }
    }

    /// What a reset at `sequence` in this direction does; `other` is the direction of who gets it.
    pub(super) fn reset(self, sequence: u32, other: Self) -> Reset {
        let known = [self.end, other.acknowledged].map(|at| (at != 0).then_some(at));
        let mut known = known.into_iter().flatten().peekable();
        if known.peek().is_none() {
            return Reset::Closes;
        }
        let distance = known.map(|at| distance(sequence, at)).min();
        match distance {
            Some(0) => Reset::Closes,
            Some(far) if far >= FAR => Reset::Foreign,
            _ => Reset::Passes,
        }
    }

    /// Whether a segment of this direction lies where the connection was when `other`'s side reset it.
    pub(super) fn fits(self, segment: &Segment, other: Self) -> bool {
        let known = [self.end, other.acknowledged];
        known.iter().all(|at| *at == 0) || known.iter().any(|at| distance(segment.sequence, *at) < FAR)
    }

    pub(super) fn load(from: &AtomicU64) -> Self {
        let both = from.load(Relaxed);
        Self { end: (both >> 32) as u32, acknowledged: both as u32 }
    }

    pub(super) fn store(self, to: &AtomicU64) {
        to.store(u64::from(self.end) << 32 | u64::from(self.acknowledged), Relaxed);
    }
}

/// How far two sequence numbers are apart, whichever is the later one.
fn distance(a: u32, b: u32) -> u32 {
    a.wrapping_sub(b).min(b.wrapping_sub(a))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(sequence: u32, payload: u32) -> Segment {
        Segment { flags: TcpFlags::ACK, sequence, acknowledgment: 77, payload }
    }

    #[test]
    fn syn_and_fin_count_as_a_byte() {
        let fin = Segment { flags: TcpFlags::FIN | TcpFlags::ACK, ..data(u32::MAX, 10) };
        assert_eq!(data(5, 10).end(), 15);
        assert_eq!(fin.end(), 10);
    }

    #[test]
    fn a_syn_amid_a_connection_moves_nothing() {
        let before = Progress::default().after(&data(1000, 10), true);
        let syn = Segment { flags: TcpFlags::SYN, ..data(900_000, 0) };
        assert_eq!(before.after(&syn, true), before);
        assert_eq!(Progress::default().after(&syn, false), Progress { end: 900_001, acknowledged: 0 });
    }

    #[test]
    fn without_knowledge_any_reset_closes_and_any_segment_fits() {
        let nothing = Progress::default();
        assert_eq!(nothing.reset(12, nothing), Reset::Closes);
        assert!(nothing.fits(&data(12, 0), nothing));
    }

    proptest! {
        #[test]
        fn only_exact_resets_close_and_far_ones_are_foreign(
            end in 1u32.., acknowledged in 1u32.., sequence: u32
        ) {
            let sender = Progress { end, acknowledged: 5 };
            let receiver = Progress { end: 5, acknowledged };
            // The naive way: signed distances in 64 bits, over the wrap.
            let near = [end, acknowledged].map(|at| {
                let d = (i64::from(sequence) - i64::from(at)).rem_euclid(1 << 32);
                d.min((1 << 32) - d)
            });
            let expected = match near[0].min(near[1]) {
                0 => Reset::Closes,
                d if d >= i64::from(FAR) => Reset::Foreign,
                _ => Reset::Passes,
            };
            prop_assert_eq!(sender.reset(sequence, receiver), expected);
            prop_assert_eq!(sender.reset(end, receiver), Reset::Closes);
            prop_assert_eq!(sender.reset(acknowledged, receiver), Reset::Closes);
        }

        #[test]
        fn the_end_moves_forward_alone(first: u32, step in 0u32..1 << 30, size in 0u32..65_000) {
            let before = Progress::default().after(&data(first, 0), true);
            prop_assume!(before.end != 0);
            let ahead = before.after(&data(first.wrapping_add(step), size), true);
            prop_assert_eq!(ahead.end, first.wrapping_add(step).wrapping_add(size));
            prop_assume!(ahead.end != 0);
            prop_assert_eq!(ahead.after(&data(first, 0), true).end, ahead.end);
        }
    }
}
