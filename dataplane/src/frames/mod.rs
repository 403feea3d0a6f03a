//! Frames: who owns which chunk of memory, and what a frame carries from port to port.
//!
//! A [`Frame`] is a chain of chunks in one area, with the state of its transport checksum and its segment size. It has
//! exactly one owner: it moves, it is never cloned, and the only ways to end it are a port's transmit and
//! [`Pool::free`]. A [`Pool`] is one area with its free list and a table that names every chunk's owner, from which a
//! closed port's chunks are taken back and the ledger is drawn up.

mod copy;
mod pool;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use copy::{Cursor, Mark, Pools, Writer};
pub use pool::{Ledger, Pool, PoolError};

/// Most chunks in a frame: what the kernel takes for one socket buffer (MAX_SKB_FRAGS + 1).
pub const MAX_CHUNKS: usize = 18;

/// Room kept in front of the data of every chunk, in bytes: the kernel's own (XDP_PACKET_HEADROOM), which also takes the
/// TX metadata and pushed headers.
pub const HEADROOM: u32 = 256;

/// Which of a worker's areas holds a frame. Ports of one area hand frames on without a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaId {
    /// Pods and the host link.
    Pods,
    /// The uplink.
    Uplink,
}

/// State of a frame's TCP or UDP checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The field holds what the sender put there. It may still hold just the pseudo-header sum of a sender that left the
    /// rest to its device; the pipeline finds out.
    AsSent,
    /// The field holds the pseudo-header sum: the rest is left to whoever delivers the frame.
    Partial {
        /// Where the transport header begins, in bytes from the frame's first one.
        start: u16,
        /// Where the field is, in bytes from the transport header.
        offset: u16,
    },
}

/// A piece of memory in an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Byte offset in the area.
    pub addr: u32,
    /// Bytes.
    pub len: u32,
}

/// One frame, from its Ethernet header on. Made and ended by [`Pool`] and the ports.
#[derive(Debug)]
#[must_use = "a frame that is dropped without Pool::free leaks its chunks"]
pub struct Frame {
    area: AreaId,
    head: Piece,
    /// Chunk index of the first continuation, or `pool::NONE`.
    next: u32,
    chunks: u8,
    len: u32,
    /// Checksum state, kept up to date by every stage.
    pub checksum: Checksum,
    /// Payload bytes of a segment when the frame is larger than its way allows; 0 = none is known.
    pub segment: u16,
    /// Whether it leaves by the tunnel: its outer headers are this node's own.
    pub tunnelled: bool,
}

impl Frame {
    /// The area that holds it.
    pub fn area(&self) -> AreaId {
        self.area
    }

    /// Bytes, all chunks together.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it holds no byte; no port makes such a frame.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes in the first chunk: headers must lie here whole.
    pub fn head_len(&self) -> usize {
        self.head.len as usize
    }

    /// Chunks of the chain, 1 to [`MAX_CHUNKS`].
    pub fn chunks(&self) -> usize {
        self.chunks.into()
    }

    /// `len` bytes from byte `start` on, which lie in the first chunk.
    #[inline]
    fn piece_of_head(&self, start: usize, len: usize) -> Option<Piece> {
        let inside = start + len <= self.head_len();
        inside.then(|| Piece { addr: self.head.addr + start as u32, len: len as u32 })
    }

    /// Takes `bytes` off the front of the first chunk: decapsulation.
    ///
    /// Returns false, and takes nothing, when the first chunk would not keep a byte.
    #[must_use]
    pub fn pull(&mut self, bytes: usize) -> bool {
        let Ok(bytes) = u32::try_from(bytes) else { return false };
        if bytes >= self.head.len {
            return false;
        }
        self.head.addr += bytes;
        self.head.len -= bytes;
        self.len -= bytes;
        true
    }
}
