//! Splitting an IPv4 packet for a smaller MTU (RFC 791, 3.2).
//!
//! A [`FragmentPlan`] knows the headers; it iterates over the pieces of the payload, and the caller copies those.
//! Fragments can be fragmented again. A packet whose L4 checksum is partial must be completed first.

use thiserror::Error;

use crate::ipv4::{DONT_FRAGMENT, Ipv4Header, MAX_HEADER_LEN, MORE_FRAGMENTS, header_checksum};
use crate::{Header, NoRoom};

/// Option type: end of list.
const OPTION_END: u8 = 0;
/// Option type: no operation.
const OPTION_NOP: u8 = 1;
/// Set in the type of options that go into every fragment.
const OPTION_COPIED: u8 = 0x80;

/// One fragment to be made: which part of the packet's payload it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where its payload begins in the payload of the packet that is split, in bytes.
    pub offset: usize,
    /// Length of its payload, in bytes.
    pub len: usize,
    /// Whether its "more fragments" flag is set.
    pub more: bool,
    /// Length of its IPv4 header, in bytes.
    pub header_len: usize,
}

/// How one packet is split. Iterating gives the pieces in order.
#[derive(Debug, Clone)]
pub struct FragmentPlan {
    /// Header of the first piece: that of the packet.
    first: HeaderBytes,
    /// Header of the others: only options with the copied flag.
    later: HeaderBytes,
    payload_len: usize,
    mtu: usize,
    next: usize,
}

/// Why a packet cannot be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FragmentError {
    /// The packet does not fit and says "don't fragment".
    #[error("packet is longer than the MTU and may not be fragmented: answer with ICMP fragmentation needed")]
    DontFragment,
    /// The MTU leaves no room for 8 bytes of payload.
    #[error("MTU {mtu} leaves no room for a fragment: 68 is the least for IPv4")]
    MtuTooSmall {
        /// The MTU given.
        mtu: usize,
    },
    /// The bytes given are not one complete IPv4 header.
    #[error("not a complete IPv4 header: pass exactly the header with its options")]
    BadHeader,
    /// The fragments would go beyond the 65535 bytes of the largest datagram.
    #[error("fragments would end beyond 65535 bytes: drop the packet")]
    TooLong,
}

impl FragmentPlan {
    /// Plans how a packet with this `header` (all of it, with options) and `payload_len` bytes behind it goes
    /// through `mtu`, which counts from the IPv4 header on. A packet that fits gives one piece.
    ///
    /// # Errors
    /// See [`FragmentError`].
    pub fn new(header: &[u8], payload_len: usize, mtu: usize) -> Result<Self, FragmentError> {
        let view = Ipv4Header::of(header).ok_or(FragmentError::BadHeader)?;
        let first = HeaderBytes::copy(header).ok_or(FragmentError::BadHeader)?;
        if view.header_len() != header.len() || header.len() < Ipv4Header::LEN {
            return Err(FragmentError::BadHeader);
        }
        let end = usize::from(view.fragment_offset()) + payload_len + header.len();
        if end > usize::from(u16::MAX) {
            return Err(FragmentError::TooLong);
        }
        if header.len() + payload_len > mtu {
            if view.dont_fragment() {
                return Err(FragmentError::DontFragment);
            }
            if mtu < header.len() + 8 {
                return Err(FragmentError::MtuTooSmall { mtu });
            }
        }
        Ok(Self { later: first.for_later_fragments(), first, payload_len, mtu, next: 0 })
    }

    /// Writes the IPv4 header of a piece, and gives its length. The payload belongs behind it.
    ///
    /// # Errors
    /// [`NoRoom`] when `out` is shorter than `piece.header_len`.
    pub fn write_header(&self, piece: &Piece, out: &mut [u8]) -> Result<usize, NoRoom> {
        let template = self.header_at(piece.offset).bytes();
        let (need, have) = (template.len(), out.len());
        let out = out.get_mut(..need).ok_or(NoRoom { need, have })?;
        out.copy_from_slice(template);
        let header = Ipv4Header::of_mut(out).ok_or(NoRoom { need, have })?;
        let offset = usize::from(header.fragment_offset()) + piece.offset;
        let kept_flags = header.flags_offset.get() & DONT_FRAGMENT;
        let more = if piece.more { MORE_FRAGMENTS } else { 0 };
        header.version_ihl = 0x40 | (need / 4) as u8;
        header.total_len.set((need + piece.len) as u16);
        header.flags_offset.set(kept_flags | more | (offset / 8) as u16);
        let checksum = header_checksum(out);
        if let Some(header) = Ipv4Header::of_mut(out) {
            header.checksum.set(checksum);
        }
        Ok(need)
    }

    fn header_at(&self, offset: usize) -> &HeaderBytes {
        if offset == 0 { &self.first } else { &self.later }
    }

    /// Whether the packet that is split is itself followed by fragments.
    fn packet_has_more(&self) -> bool {
        Ipv4Header::of(self.first.bytes()).is_some_and(Ipv4Header::more_fragments)
    }
}

impl Iterator for FragmentPlan {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let offset = self.next;
        let rest = self.payload_len.checked_sub(offset)?;
        if rest == 0 && offset > 0 {
            return None;
        }
        let header_len = self.header_at(offset).len;
        let last = header_len + rest <= self.mtu;
        let len = if last { rest } else { (self.mtu - header_len) & !7 };
        // A packet without payload is one piece too; then the end is marked by an offset beyond it.
        self.next = (offset + len).max(1);
        Some(Piece { offset, len, more: !last || self.packet_has_more(), header_len })
    }
}

/// An IPv4 header with options.
#[derive(Debug, Clone)]
struct HeaderBytes {
    bytes: [u8; MAX_HEADER_LEN],
    len: usize,
}

impl HeaderBytes {
    fn copy(header: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_HEADER_LEN];
        bytes.get_mut(..header.len())?.copy_from_slice(header);
        Some(Self { bytes, len: header.len() })
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The header with only those options that are copied on fragmentation, padded to a multiple of 4 bytes with
    /// end-of-list, which is 0. A malformed option ends the list.
    fn for_later_fragments(&self) -> Self {
        let mut later = Self { bytes: [0; MAX_HEADER_LEN], len: Ipv4Header::LEN };
        later.bytes[..Ipv4Header::LEN].copy_from_slice(&self.bytes[..Ipv4Header::LEN]);
        let mut rest = &self.bytes()[Ipv4Header::LEN..];
        while let [kind, tail @ ..] = rest {
            if *kind == OPTION_END {
                break;
            }
            let len = if *kind == OPTION_NOP { 1 } else { usize::from(*tail.first().unwrap_or(&0)) };
            if len == 0 || len > rest.len() {
                break;
            }
            if kind & OPTION_COPIED != 0 {
                later.bytes[later.len..later.len + len].copy_from_slice(&rest[..len]);
                later.len += len;
            }
            rest = &rest[len..];
        }
        later.len = later.len.next_multiple_of(4);
        later
    }
}

#[cfg(test)]
mod tests;
