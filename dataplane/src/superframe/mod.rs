//! Between superframes and what a wire takes: segmentation (TSO), coalescing (GRO), fragments.
//!
//! All of them copy payload from one frame into others and sum it in the same pass, so that checksums cost no second look.

pub mod coalesce;
pub mod envelope;
pub mod fragment;
pub mod segment;
#[cfg(test)]
mod tests;
pub mod whole;

pub use coalesce::Coalescer;
pub use envelope::Envelope;

use headrace_wire::checksum::{PieceSum, Sum, udp_checksum};

use crate::frames::{Checksum, Frame, Pools};

/// Completes a partial checksum in place: one pass over the transport header and payload. `end` is where the IP packet
/// ends in the frame; padding may follow.
pub fn complete_checksum(pools: &mut Pools, frame: &mut Frame, end: usize) {
    if let Checksum::Partial { start, offset } = frame.checksum {
        write_complete(pools, frame, (start, offset), end);
        frame.checksum = Checksum::AsSent;
    }
}

/// Writes the complete checksum of the transport header at `start` into its field `offset` bytes behind; the field holds
/// the pseudo-header sum.
pub fn write_complete(pools: &mut Pools, frame: &Frame, (start, offset): (u16, u16), end: usize) {
    let (start, field) = (usize::from(start), usize::from(start + offset));
    let sum = sum_range(pools, frame, start, end, Sum::ZERO);
    // UDP sends 0xFFFF for 0, since 0 says that there is no checksum (RFC 768); for TCP both mean the same.
    let checksum = udp_checksum(sum.finish());
    if let Some(bytes) = pools.head_mut(frame).get_mut(field..field + 2) {
        bytes.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Sum of a frame's bytes from `start` to `end`, added to `initial`.
fn sum_range(pools: &Pools, frame: &Frame, start: usize, end: usize, initial: Sum) -> Sum {
    let pool = pools.get(frame.area());
    let mut sum = PieceSum::starting_with(initial);
    let mut at = 0;
    for piece in pool.pieces(frame) {
        let bytes = pool.bytes(piece);
        let from = start.saturating_sub(at).min(bytes.len());
        let to = end.saturating_sub(at).clamp(from, bytes.len().max(from));
        sum.push(&bytes[from..to]);
        at += bytes.len();
    }
    sum.sum()
}
