//! A port that receives copies of its templates and swallows what is sent, as cheaply as that can be done: what it costs is in
//! every figure, and in the case "port alone" nothing else.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use headrace_dataplane::frames::{AreaId, Frame, MAX_CHUNKS, Piece, Pool};
use headrace_dataplane::port::{self, BURST, Capabilities, Received};
use headrace_dataplane::stats::PortCounters;

use crate::packets::{set_flow, set_sequence};

/// In what the packets of a port differ.
#[derive(Clone, Debug, Default)]
pub enum Vary {
    /// In nothing but the template.
    #[default]
    Nothing,
    /// In their flow: the next of these numbers, over and over.
    Flow(Arc<[u32]>),
    /// In their flow, which never came before.
    NewFlow,
    /// In the sequence number, as segments of one connection with so many bytes each.
    Sequence(u32),
}

/// What a port receives.
#[derive(Clone, Debug)]
pub struct Source {
    /// Frames, taken in turns; none = nothing ever comes.
    pub templates: Vec<Vec<u8>>,
    /// Where the first of the headers that vary begins: behind the tunnel's.
    pub start: usize,
    /// In what packets differ.
    pub vary: Vary,
    /// Frames of a burst.
    pub burst: usize,
}

impl Default for Source {
    fn default() -> Self {
        Self { templates: Vec::new(), start: 0, vary: Vary::Nothing, burst: BURST }
    }
}

/// Flows that a template can be told apart into.
const NEW_FLOWS: usize = 1_000_000;

/// The port.
pub struct LoopPort {
    area: AreaId,
    source: Source,
    /// The next template.
    template: usize,
    /// Where the next packet stands in the order of flows.
    place: usize,
    sent: Arc<AtomicU64>,
    counters: Arc<PortCounters>,
}

impl LoopPort {
    /// A port that receives what `source` says.
    pub fn new(area: AreaId, source: Source) -> Self {
        Self { area, source, template: 0, place: 0, sent: Arc::default(), counters: Arc::default() }
    }

    /// Counts what is sent by it.
    pub fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }

    /// Makes `head`, a copy of a template, the next packet.
    fn vary(&mut self, head: &mut [u8]) {
        let start = self.source.start;
        match &self.source.vary {
            Vary::Nothing => {}
            Vary::Flow(order) => {
                set_flow(head, start, order[self.place]);
                self.place = if self.place + 1 == order.len() { 0 } else { self.place + 1 };
            }
            Vary::NewFlow => {
                set_flow(head, start, self.place as u32);
                self.place = if self.place + 1 == NEW_FLOWS { 0 } else { self.place + 1 };
            }
            Vary::Sequence(bytes) => {
                set_sequence(head, start, (self.place as u32).wrapping_mul(*bytes));
                self.place = self.place.wrapping_add(1);
            }
        }
    }

    /// A frame like the next template, all of it.
    fn next(&mut self, pool: &mut Pool) -> Option<Frame> {
        let number = if self.template + 1 < self.source.templates.len() { self.template + 1 } else { 0 };
        let template = std::mem::replace(&mut self.template, number);
        let mut pieces: ArrayVec<Piece, MAX_CHUNKS> = ArrayVec::new();
        let mut at = 0;
        while let Some(rest) = self.source.templates[template].get(at..).filter(|rest| !rest.is_empty()) {
            let mut piece = pool.take()?;
            piece.len = piece.len.min(rest.len() as u32);
            let bytes = pool.bytes_mut(piece);
            bytes.copy_from_slice(&rest[..piece.len as usize]);
            if at == 0 {
                self.vary(bytes);
            }
            pieces.push(piece);
            at += piece.len as usize;
        }
        pool.assemble(&pieces)
    }
}

impl port::Port for LoopPort {
    fn area(&self) -> AreaId {
        self.area
    }

    fn capabilities(&self) -> Capabilities {
        let pods = self.area == AreaId::Pods;
        Capabilities { superframes: pods, partial_checksums: pods, ..Capabilities::default() }
    }

    fn receive(&mut self, pool: &mut Pool, received: &mut Received) -> usize {
        if self.source.templates.is_empty() {
            return 0;
        }
        for _ in 0..self.source.burst {
            let Some(frame) = self.next(pool) else { break };
            received.push(frame);
        }
        received.len()
    }

    fn replenish(&mut self, _pool: &mut Pool) {}

    fn transmit(&mut self, pool: &mut Pool, frame: Frame) -> Result<(), Frame> {
        // One worker alone adds: no locked instruction.
        self.sent.store(self.sent.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
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
