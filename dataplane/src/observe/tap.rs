//! Somebody who looks at packets: what they look for, and where copies go.
//!
//! Two kinds: frames as they cross ports ([`Sink::Frames`]), and packets stage by stage ([`Sink::Walks`]). Copies travel by
//! bounded channels; what does not fit is lost and counted, the worker never waits. Buffers for frames are made by whoever
//! looks and come back to be filled again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crossbeam::channel::{Receiver, Sender};
use headrace_api::filter::Filter;
use headrace_wire::parse::Ipv4Packet;

use super::{StageId, Ticks, view};
use crate::burst::{Burst, Packet, Verdict};
use crate::drop_reason::DropReason;
use crate::flows::{Flow, FlowKey};
use crate::frames::{Frame, Pool};
use crate::port::PortIndex;
use crate::worker::{Shared, WorkerId};

/// Bytes of a frame's beginning in which all headers lie that are looked at.
const HEADERS: usize = 256;

/// Somebody who looks.
pub struct Tap {
    /// By which it is taken away again.
    pub id: u64,
    /// The worker that it looks at.
    pub worker: WorkerId,
    /// What is looked for.
    pub filter: Filter,
    /// The flows, by which both sides of a translation are found.
    pub shared: Arc<Shared>,
    /// Where copies go.
    pub sink: Sink,
}

/// Where copies go.
#[derive(Clone)]
pub enum Sink {
    /// Frames as they cross ports.
    Frames(Frames),
    /// Packets, stage by stage.
    Walks {
        /// How many are still wanted, of all workers together.
        left: Arc<AtomicU32>,
        /// To whoever looks.
        to: Sender<Walk>,
    },
}

/// Frames as they cross ports.
#[derive(Clone)]
pub struct Frames {
    /// Ports that are looked at; empty = all.
    pub ports: Vec<PortIndex>,
    /// Most bytes of a frame.
    pub snap: usize,
    /// Empty buffers.
    pub free: Receiver<Sighting>,
    /// Full ones.
    pub full: Sender<Sighting>,
    /// Frames for which there was no buffer.
    pub lost: Arc<AtomicU64>,
}

/// How a frame crosses a port, or does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Crossing {
    /// It came in.
    #[default]
    In,
    /// It leaves.
    Out,
    /// It ends here.
    Dropped(DropReason),
}

/// A frame that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// By which worker.
    pub worker: u8,
    /// When.
    pub at: Ticks,
    /// Where.
    pub port: u16,
    /// How.
    pub crossing: Crossing,
    /// Its length.
    pub len: u32,
    /// Its beginning.
    pub bytes: Vec<u8>,
}

/// A packet's way through a worker.
#[derive(Clone, Debug)]
pub struct Walk {
    mark: u16,
    tap: u64,
    /// Which worker it went through.
    pub worker: WorkerId,
    /// When it was admitted.
    pub at: Ticks,
    /// Where it came in.
    pub port: PortIndex,
    /// Its headers as they came in.
    pub ip: Ipv4Packet,
    /// What each stage left it as.
    pub steps: Vec<RawStep>,
    /// Frames that left in its name: port and length.
    pub departures: Vec<(PortIndex, u32)>,
    /// Why it was dropped.
    pub dropped: Option<DropReason>,
}

/// A packet as a stage left it.
#[derive(Clone, Copy, Debug)]
pub struct RawStep {
    /// Which stage.
    pub stage: StageId,
    /// What becomes of the packet.
    pub verdict: Verdict,
    /// Its flow.
    pub flow: Option<(FlowKey, Flow)>,
    /// How long the stage took for the burst.
    pub took: Ticks,
    /// Packets in the burst.
    pub burst: usize,
}

/// Everybody who looks at one worker's packets.
#[derive(Default)]
pub(super) struct Taps {
    list: Vec<Tap>,
    walks: Vec<Walk>,
    last_mark: u16,
    /// The mark of the packet that is carried out; `None` before any is.
    carrying: Option<u16>,
    last_step: Ticks,
}

impl Taps {
    pub(super) fn add(&mut self, tap: Tap) {
        self.list.push(tap);
    }

    /// Returns whether somebody is left.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        self.list.retain(|tap| tap.id != id);
        !self.list.is_empty()
    }

    pub(super) fn burst_begins(&mut self, now: Ticks) {
        self.carrying = None;
        self.last_step = now;
    }

    /// Shows a frame to those who look at frames, and notes what becomes of packets that are followed.
    pub(super) fn crosses(&mut self, how: Crossing, port: PortIndex, pool: &Pool, frame: &Frame, at: Ticks) {
        let seen = Seen { how, port, pool, frame, at };
        for tap in &self.list {
            match &tap.sink {
                Sink::Frames(frames) => frames.show(tap, &seen),
                Sink::Walks { left, to } => {
                    // Dropped before it became a packet that could be marked.
                    if let (Crossing::Dropped(reason), None) = (how, self.carrying)
                        && let Some(ip) = tap.admits(&seen)
                        && take_one(left)
                    {
                        let walk = Walk { dropped: Some(reason), ..Walk::new(0, tap, at, port, ip) };
                        let _ = to.try_send(walk);
                    }
                }
            }
        }
        let Some(mark @ 1..) = self.carrying else { return };
        for walk in self.walks.iter_mut().filter(|walk| walk.mark == mark) {
            match how {
                Crossing::Out => walk.departures.push((port, frame.len() as u32)),
                Crossing::Dropped(reason) => walk.dropped = Some(reason),
                Crossing::In => {}
            }
        }
    }

    /// Begins to follow a packet that somebody wants; its mark, or 0.
    pub(super) fn admitted(&mut self, packet: &Packet, now: Ticks) -> u16 {
        let mark = self.last_mark.wrapping_add(1).max(1);
        let before = self.walks.len();
        for tap in &self.list {
            if let Sink::Walks { left, .. } = &tap.sink
                && tap.filter.matches(&view::subject(&packet.ip, &tap.shared.flows, false, false))
                && take_one(left)
            {
                self.walks.push(Walk::new(mark, tap, now, packet.port, packet.ip));
            }
        }
        if self.walks.len() == before {
            return 0;
        }
        self.last_mark = mark;
        mark
    }

    pub(super) fn walked(&mut self, stage: StageId, burst: &Burst, now: Ticks) {
        let took = now.since(self.last_step);
        for packet in burst.iter().filter(|packet| packet.mark != 0) {
            let step =
                RawStep { stage, verdict: packet.verdict, flow: packet.flow, took, burst: burst.len() };
            self.walks.iter_mut().filter(|w| w.mark == packet.mark).for_each(|w| w.steps.push(step));
        }
        self.last_step = now;
    }

    pub(super) fn carries(&mut self, mark: u16) {
        self.carrying = Some(mark);
    }

    pub(super) fn burst_ends(&mut self, now: Ticks) {
        self.carrying = None;
        self.last_step = now;
        for walk in self.walks.drain(..) {
            let sink = self.list.iter().find(|tap| tap.id == walk.tap).map(|tap| &tap.sink);
            if let Some(Sink::Walks { to, .. }) = sink {
                let _ = to.try_send(walk);
            }
        }
    }
}

impl Walk {
    fn new(mark: u16, tap: &Tap, at: Ticks, port: PortIndex, ip: Ipv4Packet) -> Self {
        let (tap, worker) = (tap.id, tap.worker);
        Self { mark, tap, worker, at, port, ip, steps: Vec::new(), departures: Vec::new(), dropped: None }
    }
}

/// A frame at a port.
struct Seen<'a> {
    how: Crossing,
    port: PortIndex,
    pool: &'a Pool,
    frame: &'a Frame,
    at: Ticks,
}

impl Tap {
    /// The packet in a frame, when the filter holds for it.
    fn admits(&self, seen: &Seen<'_>) -> Option<Ipv4Packet> {
        let port = self.shared.tables.load().node.as_ref().map_or(0, |node| node.vxlan_port);
        let head = seen.pool.head(seen.frame);
        let ip = view::packet(&head[..head.len().min(HEADERS)], seen.frame.len(), port)?;
        let (leaves, dropped) = (seen.how == Crossing::Out, matches!(seen.how, Crossing::Dropped(_)));
        self.filter.matches(&view::subject(&ip, &self.shared.flows, leaves, dropped)).then_some(ip)
    }
}

impl Frames {
    fn show(&self, tap: &Tap, seen: &Seen<'_>) {
        let looked_at = self.ports.is_empty() || self.ports.contains(&seen.port);
        // What is no IPv4 has nothing that a filter could ask for.
        if !looked_at || (tap.filter != Filter::All && tap.admits(seen).is_none()) {
            return;
        }
        let Ok(mut sighting) = self.free.try_recv() else {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        sighting.bytes.clear();
        view::copy(seen.pool, seen.frame, self.snap, &mut sighting.bytes);
        sighting.worker = tap.worker.0;
        sighting.at = seen.at;
        sighting.port = seen.port.0;
        sighting.crossing = seen.how;
        sighting.len = seen.frame.len() as u32;
        let _ = self.full.try_send(sighting);
    }
}

/// One of what is left, when something is.
fn take_one(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
}
