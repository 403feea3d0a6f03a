//! Ports in memory: frames are byte vectors on two queues. For packet walks, fuzzing and benchmarks.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

use arrayvec::ArrayVec;

use super::{Capabilities, Port, Received};
use crate::frames::{AreaId, Checksum, Frame, MAX_CHUNKS, Piece, Pool};
use crate::stats::PortCounters;

/// A frame as it leaves: bytes, and the checksum left to the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// State of the transport checksum.
    pub checksum: Checksum,
}

/// A frame on its way in.
struct Arrival {
    bytes: Vec<u8>,
    /// Most bytes of its first chunk and of the others.
    chunks: (u32, u32),
}

/// The outside of a memory port: what the world puts in and takes out.
#[derive(Clone, Default)]
pub struct Outside {
    inward: Arc<Mutex<VecDeque<Arrival>>>,
    outward: Arc<Mutex<VecDeque<Sent>>>,
}

impl Outside {
    /// Puts a frame on the way in.
    pub fn put(&self, bytes: Vec<u8>) {
        self.put_in_chunks(bytes, u32::MAX, u32::MAX);
    }

    /// Puts a frame on the way in whose first chunk holds at most `first` bytes and its others at most `others`.
    pub fn put_in_chunks(&self, bytes: Vec<u8>, first: u32, others: u32) {
        let arrival = Arrival { bytes, chunks: (first.max(1), others.max(1)) };
        self.inward.lock().unwrap_or_else(PoisonError::into_inner).push_back(arrival);
    }

    /// Takes all frames that came out.
    pub fn take(&self) -> Vec<Sent> {
        self.outward.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

/// A port whose wire is two queues.
pub struct MemoryPort {
    area: AreaId,
    capabilities: Capabilities,
    /// Bytes of the first chunk, so that tests can split headers over chunks.
    first_chunk: u32,
    /// Frames it may queue before it is full.
    room: usize,
    outside: Outside,
    counters: Arc<PortCounters>,
}

impl MemoryPort {
    /// A port and its outside.
    pub fn new(area: AreaId, capabilities: Capabilities) -> (Self, Outside) {
        let outside = Outside::default();
        let port = Self {
            area,
            capabilities,
            first_chunk: u32::MAX,
            room: usize::MAX,
            outside: outside.clone(),
            counters: Arc::default(),
        };
        (port, outside)
    }

    /// Splits received frames after `bytes`.
    #[must_use]
    pub fn with_first_chunk(mut self, bytes: u32) -> Self {
        self.first_chunk = bytes;
        self
    }

    /// Refuses to queue more than `frames` frames between two calls of [`Outside::take`].
    #[must_use]
    pub fn with_room(mut self, frames: usize) -> Self {
        self.room = frames;
        self
    }

    fn store(&self, pool: &mut Pool, Arrival { bytes, chunks }: &Arrival) -> Option<Frame> {
        let mut pieces: ArrayVec<Piece, MAX_CHUNKS> = ArrayVec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() && !pieces.is_full() {
            let Some(chunk) = pool.take() else { break };
            let limit = if pieces.is_empty() { self.first_chunk.min(chunks.0).max(1) } else { chunks.1 };
            let len = chunk.len.min(limit).min(rest.len() as u32);
            let piece = Piece { addr: chunk.addr, len };
            pool.bytes_mut(piece).copy_from_slice(&rest[..len as usize]);
            pieces.push(piece);
            rest = &rest[len as usize..];
        }
        if rest.is_empty() {
            return pool.assemble(&pieces);
        }
        for piece in pieces {
            pool.give_back(piece);
        }
        None
    }
}

impl Port for MemoryPort {
    fn area(&self) -> AreaId {
        self.area
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn receive(&mut self, pool: &mut Pool, received: &mut Received) -> usize {
        let before = received.len();
        while !received.is_full() {
            let next = self.outside.inward.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(arrival) = next else { break };
            if let Some(frame) = self.store(pool, &arrival) {
                self.counters.rx_frames.add(1);
                self.counters.rx_bytes.add(arrival.bytes.len() as u64);
                received.push(frame);
            } else {
                self.counters.fill_ring_empty.add(1);
            }
        }
        received.len() - before
    }

    fn replenish(&mut self, _pool: &mut Pool) {}

    fn transmit(&mut self, pool: &mut Pool, frame: Frame) -> Result<(), Frame> {
        let mut outward = self.outside.outward.lock().unwrap_or_else(PoisonError::into_inner);
        if outward.len() >= self.room {
            return Err(frame);
        }
        let bytes: Vec<u8> = pool.pieces(&frame).flat_map(|p| pool.bytes(p).to_vec()).collect();
        self.counters.tx_frames.add(1);
        self.counters.tx_bytes.add(bytes.len() as u64);
        outward.push_back(Sent { bytes, checksum: frame.checksum });
        pool.free(frame);
        Ok(())
    }

    fn flush(&mut self, _pool: &mut Pool) -> bool {
        false
    }

    fn readiness(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    fn counters(&self) -> &Arc<PortCounters> {
        &self.counters
    }
}
