//! One area's chunks: free list, owners, chains.

use headrace_wire::checksum::{Sum, copy_and_sum};
use headrace_xsk::{Area, AreaConfig, AreaError};

use super::{AreaId, Checksum, Frame, HEADROOM, MAX_CHUNKS, Piece};
use crate::port::PortIndex;

/// Bytes of a chunk.
const CHUNK: u32 = 4096;

/// Bytes of a cache line.
const LINE: u32 = 64;
/// Where data begins differs from chunk to chunk: all at the same place of a page would share the few lines that a first-level
/// cache has for that place (eight of 512). So many lines of the headroom can be spared.
const COLOURS: u32 = 4;
/// The same for frames that leave room in their chunk.
const FULL_COLOURS: u32 = 32;

/// End of a chain.
pub(super) const NONE: u32 = u32::MAX;

/// An area could not be made.
#[derive(Debug, thiserror::Error)]
#[error("frame area {id:?}: {source}")]
pub struct PoolError {
    id: AreaId,
    source: AreaError,
}

/// Who owns a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Free,
    InHand,
    /// In a port's fill or receive ring.
    Fill(PortIndex),
    /// In a port's transmit ring, in flight, or in its completion ring.
    Tx(PortIndex),
    Quarantined,
}

/// A continuation chunk's piece and its successor.
#[derive(Clone, Copy)]
struct Link {
    piece: Piece,
    next: u32,
}

/// Where the chunks of an area are; the counts always add up to `total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// All chunks.
    pub total: u32,
    /// On the free list.
    pub free: u32,
    /// In fill and receive rings.
    pub fill: u32,
    /// In transmit and completion rings, and in flight.
    pub tx: u32,
    /// Held by the worker.
    pub in_hand: u32,
    /// Zero-copy chunks of a closed queue.
    pub quarantined: u32,
}

/// One area of a worker with the owner of every chunk in it.
pub struct Pool {
    id: AreaId,
    area: Area,
    free: Vec<u32>,
    owners: Vec<Owner>,
    links: Vec<Link>,
}

impl Pool {
    /// Maps `chunks` chunks of 4 KiB.
    ///
    /// # Errors
    /// [`PoolError`] when the memory cannot be had.
    pub fn new(id: AreaId, chunks: u32) -> Result<Self, PoolError> {
        Self::with_pages(id, chunks, false)
    }

    /// The same, in huge pages if `huge`.
    ///
    /// # Errors
    /// As for [`Pool::new`].
    pub fn with_pages(id: AreaId, chunks: u32, huge: bool) -> Result<Self, PoolError> {
        let tx_metadata = id == AreaId::Pods;
        let config = AreaConfig { chunks, chunk_size: CHUNK, tx_metadata, populate: false, huge };
        let area = Area::new(config).map_err(|source| PoolError { id, source })?;
        let count = chunks as usize;
        Ok(Self {
            id,
            area,
            free: (0..chunks).rev().collect(),
            owners: vec![Owner::Free; count],
            links: vec![Link { piece: Piece { addr: 0, len: 0 }, next: NONE }; count],
        })
    }

    /// The area's name.
    pub fn id(&self) -> AreaId {
        self.id
    }

    /// The memory itself, for opening sockets on it.
    pub fn area(&self) -> &Area {
        &self.area
    }

    /// The memory itself, for writing TX metadata in front of a chunk's data.
    pub fn area_mut(&mut self) -> &mut Area {
        &mut self.area
    }

    /// All chunks.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether there are no chunks; never.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Chunks on the free list.
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// Bytes that a chunk holds behind its headroom.
    #[inline]
    pub fn chunk_capacity(&self) -> u32 {
        CHUNK - HEADROOM
    }

    /// The first chunk's bytes.
    #[inline]
    pub fn head(&self, frame: &Frame) -> &[u8] {
        self.bytes(frame.head)
    }

    /// The first chunk's bytes, to rewrite.
    #[inline]
    pub fn head_mut(&mut self, frame: &Frame) -> &mut [u8] {
        self.area.bytes_mut(frame.head.addr.into(), frame.head.len)
    }

    /// The bytes of a piece.
    #[inline]
    pub fn bytes(&self, piece: Piece) -> &[u8] {
        self.area.bytes(piece.addr.into(), piece.len)
    }

    /// The bytes of a piece, to write.
    #[inline]
    pub fn bytes_mut(&mut self, piece: Piece) -> &mut [u8] {
        self.area.bytes_mut(piece.addr.into(), piece.len)
    }

    /// Copies one piece to another of another chunk and returns its sum; the pieces are of one length.
    pub fn copy_and_sum(&mut self, source: Piece, target: Piece) -> Sum {
        let (from, to) = self.two(source, target);
        copy_and_sum(to, from)
    }

    /// The bytes of a piece, and those of another one of another chunk, to write.
    pub(super) fn two(&mut self, source: Piece, target: Piece) -> (&[u8], &mut [u8]) {
        match self.area.split(source.addr.into(), source.len, target.addr.into(), target.len) {
            Some(two) => two,
            None => unreachable!("source and target lie in two chunks of this area"),
        }
    }

    /// The frame's pieces from first to last.
    pub fn pieces<'a>(&'a self, frame: &Frame) -> impl Iterator<Item = Piece> + use<'a> {
        let mut next = frame.next;
        std::iter::once(frame.head).chain(std::iter::from_fn(move || {
            let link = *self.links.get(next as usize)?;
            next = link.next;
            Some(link.piece)
        }))
    }

    /// Cuts a frame after `len` bytes: padding and chunks behind it are free again. At least one byte stays.
    pub fn trim(&mut self, frame: &mut Frame, len: usize) {
        let Ok(mut rest) = u32::try_from(len.max(1)) else { return };
        if rest >= frame.len {
            return;
        }
        frame.len = rest;
        frame.head.len = frame.head.len.min(rest);
        rest -= frame.head.len;
        let (mut next, mut last) = (frame.next, None);
        while rest > 0 {
            let link = &mut self.links[next as usize];
            link.piece.len = link.piece.len.min(rest);
            rest -= link.piece.len;
            last = Some(next);
            next = link.next;
        }
        match last {
            Some(last) => self.links[last as usize].next = NONE,
            None => frame.next = NONE,
        }
        while let Some(link) = self.links.get(next as usize).copied() {
            self.free_chunk_of(link.piece.addr);
            frame.chunks -= 1;
            next = link.next;
        }
    }

    /// Ends a frame: its chunks are free again.
    #[allow(clippy::needless_pass_by_value, reason = "the frame ends here: nobody may use it again")]
    #[inline]
    pub fn free(&mut self, frame: Frame) {
        let Frame { head, mut next, .. } = frame;
        self.free_chunk_of(head.addr);
        while let Some(link) = self.links.get(next as usize).copied() {
            self.free_chunk_of(link.piece.addr);
            next = link.next;
        }
    }

    /// Takes a free chunk into the worker's hand and returns the whole room behind its headroom.
    #[inline]
    pub fn take(&mut self) -> Option<Piece> {
        let chunk = self.free.pop()?;
        self.owners[chunk as usize] = Owner::InHand;
        let colour = chunk % COLOURS * LINE;
        Some(Piece { addr: chunk * CHUNK + HEADROOM - colour, len: self.chunk_capacity() })
    }

    /// Takes a free chunk and returns `len` bytes of it; `None` also when it holds fewer.
    #[inline]
    pub(super) fn take_for(&mut self, len: usize) -> Option<Piece> {
        if len > self.chunk_capacity() as usize {
            return None;
        }
        let mut piece = self.take()?;
        let lines = (piece.len - len as u32) / LINE;
        piece.addr += (piece.addr / CHUNK % FULL_COLOURS).min(lines) * LINE;
        piece.len = len as u32;
        Some(piece)
    }

    /// Makes a frame of one piece in hand.
    #[inline]
    pub(super) fn single(&self, head: Piece) -> Frame {
        Frame {
            area: self.id,
            head,
            next: NONE,
            chunks: 1,
            len: head.len,
            checksum: Checksum::AsSent,
            segment: 0,
            tunnelled: false,
        }
    }

    /// Gives a chunk taken by [`Pool::take`] back.
    pub fn give_back(&mut self, piece: Piece) {
        self.free_chunk_of(piece.addr);
    }

    /// Takes a free chunk for a port's fill ring and returns its address.
    pub fn take_for_fill(&mut self, port: PortIndex) -> Option<u64> {
        let chunk = self.free.pop()?;
        self.owners[chunk as usize] = Owner::Fill(port);
        Some(u64::from(chunk * CHUNK))
    }

    /// A chunk that a port could not place after all.
    pub fn untake(&mut self, addr: u64) {
        self.free_chunk_of(self.clamp(addr));
    }

    /// Takes a received descriptor's chunk into the worker's hand.
    pub fn received(&mut self, addr: u64, len: u32) -> Piece {
        let addr = self.clamp(addr);
        let chunk = (addr / CHUNK) as usize;
        self.owners[chunk] = Owner::InHand;
        let end = (addr / CHUNK + 1) * CHUNK;
        Piece { addr, len: len.min(end - addr) }
    }

    /// Makes a frame of pieces in hand. More than [`MAX_CHUNKS`] or none are freed and `None` comes back.
    #[inline]
    pub fn assemble(&mut self, pieces: &[Piece]) -> Option<Frame> {
        let (head, rest) = match pieces {
            [head, rest @ ..] if pieces.len() <= MAX_CHUNKS => (*head, rest),
            _ => {
                for piece in pieces {
                    self.free_chunk_of(piece.addr);
                }
                return None;
            }
        };
        let mut next = NONE;
        let mut len = head.len;
        for piece in rest.iter().rev() {
            let chunk = piece.addr / CHUNK;
            self.links[chunk as usize] = Link { piece: *piece, next };
            next = chunk;
            len += piece.len;
        }
        Some(Frame { next, chunks: pieces.len() as u8, len, ..self.single(head) })
    }

    /// Records that a port's transmit ring took the frame.
    #[allow(clippy::needless_pass_by_value, reason = "the frame ends here: nobody may use it again")]
    pub fn sent(&mut self, frame: Frame, port: PortIndex) {
        let Frame { head, mut next, .. } = frame;
        let mut addr = head.addr;
        loop {
            self.owners[(addr / CHUNK) as usize] = Owner::Tx(port);
            let Some(link) = self.links.get(next as usize) else { break };
            addr = link.piece.addr;
            next = link.next;
        }
    }

    /// A chunk came back by a completion ring. Only a chunk that is in that port's transmission is freed: an address the
    /// kernel should not have given is ignored.
    pub fn completed(&mut self, addr: u64, port: PortIndex) {
        let addr = self.clamp(addr);
        if self.owners[(addr / CHUNK) as usize] == Owner::Tx(port) {
            self.free_chunk_of(addr);
        }
    }

    /// Takes back every chunk of a closed port. Those of a zero-copy port stay in quarantine, since the device may still
    /// write to them until another socket has its queue.
    pub fn reclaim(&mut self, port: PortIndex, zero_copy: bool) {
        for chunk in 0..self.owners.len() {
            if matches!(self.owners[chunk], Owner::Fill(p) | Owner::Tx(p) if p == port) {
                if zero_copy {
                    self.owners[chunk] = Owner::Quarantined;
                } else {
                    self.owners[chunk] = Owner::Free;
                    self.free.push(chunk as u32);
                }
            }
        }
    }

    /// Ends the quarantine: the queue has been bound again.
    pub fn release_quarantine(&mut self) {
        for chunk in 0..self.owners.len() {
            if self.owners[chunk] == Owner::Quarantined {
                self.owners[chunk] = Owner::Free;
                self.free.push(chunk as u32);
            }
        }
    }

    /// Chunks in a port's fill and receive rings, as the owner table has it.
    pub fn filled(&self, port: PortIndex) -> u32 {
        self.owners.iter().filter(|o| **o == Owner::Fill(port)).count() as u32
    }

    /// Draws up the ledger: a walk over all chunks.
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger { total: self.owners.len() as u32, ..Ledger::default() };
        for owner in &self.owners {
            match owner {
                Owner::Free => ledger.free += 1,
                Owner::InHand => ledger.in_hand += 1,
                Owner::Fill(_) => ledger.fill += 1,
                Owner::Tx(_) => ledger.tx += 1,
                Owner::Quarantined => ledger.quarantined += 1,
            }
        }
        debug_assert_eq!(ledger.free as usize, self.free.len(), "free list and owner table disagree");
        ledger
    }

    #[inline]
    fn free_chunk_of(&mut self, addr: u32) {
        let chunk = addr / CHUNK;
        debug_assert_ne!(self.owners[chunk as usize], Owner::Free, "chunk {chunk} freed twice");
        self.owners[chunk as usize] = Owner::Free;
        self.free.push(chunk);
    }

    /// An address of the kernel's, kept inside the area whatever it says.
    fn clamp(&self, addr: u64) -> u32 {
        let size = self.owners.len() as u64 * u64::from(CHUNK);
        addr.min(size - 1) as u32
    }
}
