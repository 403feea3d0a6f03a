//! A port that receives copies of its templates and swallows what is sent.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headrace_dataplane::frames::{AreaId, Frame, Pool};
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

/// The port.
pub struct LoopPort {
    area: AreaId,
    source: Source,
    next: usize,
    sent: Arc<AtomicU64>,
    counters: Arc<PortCounters>,
}

impl LoopPort {
    /// A port that receives what `source` says.
    pub fn new(area: AreaId, source: Source) -> Self {
        Self { area, source, next: 0, sent: Arc::default(), counters: Arc::default() }
    }

    /// Counts what is sent by it.
    pub fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }

    /// The next packet, made of `template` in a chunk of its own.
    fn vary(&self, head: &mut [u8]) {
        let start = self.source.start;
        match &self.source.vary {
            Vary::Nothing => {}
            Vary::Flow(order) => set_flow(head, start, order[self.next % order.len()]),
            Vary::NewFlow => set_flow(head, start, (self.next % 1_000_000) as u32),
            Vary::Sequence(bytes) => set_sequence(head, start, (self.next as u32).wrapping_mul(*bytes)),
        }
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
            let template = &self.source.templates[self.next % self.source.templates.len()];
            let mut pieces = Vec::with_capacity(1 + template.len() / 3840);
            for part in template.chunks(pool.chunk_capacity() as usize) {
                let Some(mut piece) = pool.take() else { break };
                piece.len = part.len() as u32;
                let bytes = pool.bytes_mut(piece);
                bytes.copy_from_slice(part);
                if pieces.is_empty() {
                    self.vary(bytes);
                }
                pieces.push(piece);
            }
            self.next = self.next.wrapping_add(1);
            if let Some(frame) = pool.assemble(&pieces) {
                received.push(frame);
            }
        }
        self.source.burst
    }

    fn replenish(&mut self, _pool: &mut Pool) {}

    fn transmit(&mut self, pool: &mut Pool, frame: Frame) -> Result<(), Frame> {
        self.sent.fetch_add(1, Ordering::Relaxed);
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
