//! Copies between frames: payload out of one chain into new ones, summed on the way.

use arrayvec::ArrayVec;
use headrace_wire::checksum::{PieceSum, Sum, copy_and_sum};

use super::{AreaId, Frame, MAX_CHUNKS, Piece, Pool};

/// A reading position in a frame's bytes.
pub struct Cursor {
    pieces: ArrayVec<Piece, MAX_CHUNKS>,
    piece: usize,
    offset: u32,
}

impl Cursor {
    /// Stands at byte `start` of the frame.
    pub fn new(pool: &Pool, frame: &Frame, start: usize) -> Self {
        let mut cursor = Self { pieces: pool.pieces(frame).collect(), piece: 0, offset: 0 };
        cursor.skip(start);
        cursor
    }

    fn skip(&mut self, mut bytes: usize) {
        while let Some(piece) = self.pieces.get(self.piece) {
            let left = (piece.len - self.offset) as usize;
            if bytes < left {
                self.offset += bytes as u32;
                return;
            }
            bytes -= left;
            self.piece += 1;
            self.offset = 0;
        }
    }

    /// The next bytes that lie together, at most `most`; `None` at the frame's end.
    fn next(&mut self, most: usize) -> Option<Piece> {
        let piece = self.pieces.get(self.piece)?;
        let len = ((piece.len - self.offset) as usize).min(most) as u32;
        let taken = Piece { addr: piece.addr + self.offset, len };
        self.offset += len;
        if self.offset == piece.len {
            self.piece += 1;
            self.offset = 0;
        }
        Some(taken)
    }
}

/// Builds a frame from headers and payload, chunk by chunk.
///
/// It must end by [`Writer::finish`] or [`Writer::abandon`]; otherwise its chunks leak.
#[must_use]
pub struct Writer {
    area: AreaId,
    pieces: ArrayVec<Piece, MAX_CHUNKS>,
    /// Room left in the last piece's chunk.
    room: u32,
}

/// A length to which a writer can be cut back.
#[derive(Clone, Copy)]
pub struct Mark {
    pieces: usize,
    last_len: u32,
    room: u32,
}

impl Writer {
    /// Begins with the headers, which must fit in one chunk.
    pub fn new(pool: &mut Pool, headers: &[u8]) -> Option<Self> {
        let chunk = pool.take()?;
        let len = headers.len() as u32;
        if len > chunk.len {
            pool.give_back(chunk);
            return None;
        }
        let head = Piece { addr: chunk.addr, len };
        pool.bytes_mut(head).copy_from_slice(headers);
        let mut pieces = ArrayVec::new();
        pieces.push(head);
        Some(Self { area: pool.id(), pieces, room: chunk.len - len })
    }

    /// Appends the cursor's next `len` bytes and returns their sum, as of an even offset.
    ///
    /// `None` when chunks or room ran out or the source ended early; the writer must then be cut back or abandoned.
    pub fn append(
        &mut self,
        pools: &mut Pools,
        from: AreaId,
        cursor: &mut Cursor,
        mut len: usize,
    ) -> Option<Sum> {
        let mut sum = PieceSum::default();
        while len > 0 {
            if self.room == 0 && !self.grow(pools.get_mut(self.area)) {
                return None;
            }
            let source = cursor.next(len.min(self.room as usize))?;
            let last = self.pieces.last_mut()?;
            let target = Piece { addr: last.addr + last.len, len: source.len };
            last.len += source.len;
            self.room -= source.len;
            len -= source.len as usize;
            sum.push_sum(pools.copy(from, source, self.area, target), source.len as usize);
        }
        Some(sum.sum())
    }

    /// Where the writer stands.
    pub fn mark(&self) -> Mark {
        Mark { pieces: self.pieces.len(), last_len: self.pieces.last().map_or(0, |p| p.len), room: self.room }
    }

    /// Cuts the frame back to where it stood.
    pub fn cut_back(&mut self, pool: &mut Pool, mark: Mark) {
        while self.pieces.len() > mark.pieces {
            if let Some(piece) = self.pieces.pop() {
                pool.give_back(piece);
            }
        }
        if let Some(last) = self.pieces.last_mut() {
            last.len = mark.last_len;
        }
        self.room = mark.room;
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(|p| p.len as usize).sum()
    }

    /// Whether nothing was written; never, since headers come first.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The headers, to complete them.
    pub fn headers<'a>(&self, pool: &'a mut Pool, len: usize) -> &'a mut [u8] {
        pool.bytes_mut(Piece { addr: self.pieces[0].addr, len: self.pieces[0].len.min(len as u32) })
    }

    /// The frame.
    pub fn finish(self, pool: &mut Pool) -> Frame {
        match pool.assemble(&self.pieces) {
            Some(frame) => frame,
            None => unreachable!("a writer holds 1 to MAX_CHUNKS pieces"),
        }
    }

    /// Gives the chunks back.
    pub fn abandon(self, pool: &mut Pool) {
        for piece in self.pieces {
            pool.give_back(piece);
        }
    }

    fn grow(&mut self, pool: &mut Pool) -> bool {
        if self.pieces.is_full() {
            return false;
        }
        let Some(chunk) = pool.take() else { return false };
        self.room = chunk.len;
        self.pieces.push(Piece { addr: chunk.addr, len: 0 });
        true
    }
}

/// A worker's two pools.
pub struct Pools {
    /// Pods and the host link.
    pub pods: Pool,
    /// The uplink.
    pub uplink: Pool,
}

impl Pools {
    /// The pool of an area.
    #[inline]
    pub fn get(&self, area: AreaId) -> &Pool {
        match area {
            AreaId::Pods => &self.pods,
            AreaId::Uplink => &self.uplink,
        }
    }

    /// The pool of an area, to change.
    #[inline]
    pub fn get_mut(&mut self, area: AreaId) -> &mut Pool {
        match area {
            AreaId::Pods => &mut self.pods,
            AreaId::Uplink => &mut self.uplink,
        }
    }

    /// Ends a frame.
    #[inline]
    pub fn free(&mut self, frame: Frame) {
        self.get_mut(frame.area()).free(frame);
    }

    /// Cuts a frame after `len` bytes; see [`Pool::trim`].
    #[inline]
    pub fn trim(&mut self, frame: &mut Frame, len: usize) {
        if len < frame.len() {
            self.get_mut(frame.area()).trim(frame, len);
        }
    }

    /// The first chunk's bytes.
    #[inline]
    pub fn head(&self, frame: &Frame) -> &[u8] {
        self.get(frame.area()).head(frame)
    }

    /// The first chunk's bytes, to rewrite.
    #[inline]
    pub fn head_mut(&mut self, frame: &Frame) -> &mut [u8] {
        self.get_mut(frame.area()).head_mut(frame)
    }

    /// A new frame of one chunk in `area`, with its bytes: room for `before` ones, and for a copy of the `len` ones of `frame`
    /// from byte `start` on, which come as well. `None` when they do not lie in the first chunk of `frame`, do not fit, or no
    /// chunk is free.
    #[inline]
    pub fn copy_of(
        &mut self,
        frame: &Frame,
        start: usize,
        len: usize,
        area: AreaId,
        before: usize,
    ) -> Option<(Frame, &[u8], &mut [u8])> {
        let source = frame.piece_of_head(start, len)?;
        let target = self.get_mut(area).take_for(before + len)?;
        let new = self.get_mut(area).single(target);
        let (from, to) = match (frame.area(), area) {
            (AreaId::Pods, AreaId::Uplink) => (self.pods.bytes(source), self.uplink.bytes_mut(target)),
            (AreaId::Uplink, AreaId::Pods) => (self.uplink.bytes(source), self.pods.bytes_mut(target)),
            (AreaId::Pods, AreaId::Pods) | (AreaId::Uplink, AreaId::Uplink) => {
                self.get_mut(area).two(source, target)
            }
        };
        Some((new, from, to))
    }

    /// Copies a piece and returns its sum.
    fn copy(&mut self, from: AreaId, source: Piece, to: AreaId, target: Piece) -> Sum {
        match (from, to) {
            (AreaId::Pods, AreaId::Uplink) => {
                copy_and_sum(self.uplink.bytes_mut(target), self.pods.bytes(source))
            }
            (AreaId::Uplink, AreaId::Pods) => {
                copy_and_sum(self.pods.bytes_mut(target), self.uplink.bytes(source))
            }
            (AreaId::Pods, AreaId::Pods) | (AreaId::Uplink, AreaId::Uplink) => {
                self.get_mut(from).copy_and_sum(source, target)
            }
        }
    }
}
