//! Frames as they cross ports, for `Capture`.
//!
//! A worker copies a frame only into a buffer that it was given. Buffers go back to it no faster than the stream's rate, so
//! a capture at full speed costs what its rate costs, and what is beyond is lost and counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam::channel;
use headrace_api::filter::Filter;
use headrace_api::proto;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::describe::{self, unix_ns};
use super::pump::{self, Outlet};
use super::watch::Watch;
use super::{Replies, Sight};
use crate::observe::tap::{Crossing, Frames, Sighting, Sink};
use crate::port::PortIndex;

/// Bytes of a frame where the caller does not say: all of it.
const SNAP: usize = 262_144;
/// No frame is longer: 64 KiB behind an Ethernet header.
const LONGEST: usize = 65_535 + 14;
/// Memory for frames that wait, each stream.
const MEMORY: usize = 16 << 20;
/// Bytes a second where the caller does not say: what two busy cores hardly notice (docs/performance.md).
const RATE: u64 = 32 << 20;
/// What a frame costs besides its bytes, in bytes: being told takes about as long as copying so many.
const PER_FRAME: usize = 512;

/// The stream of `Capture`.
pub(super) async fn stream(
    sight: Sight,
    filter: Filter,
    request: &proto::CaptureRequest,
    permit: OwnedSemaphorePermit,
) -> Result<Replies<proto::CaptureRecord>, Status> {
    let ports = ports(&sight, &request.ports)?;
    let snap = if request.snap_length == 0 { SNAP } else { request.snap_length as usize }.min(LONGEST);
    let wanted = if request.count == 0 { u64::MAX } else { request.count };
    let buffers = (MEMORY / snap).clamp(64, 4096);
    let (give, free) = channel::bounded(buffers);
    let (full, seen) = channel::bounded(buffers);
    for _ in 0..buffers {
        let _ = give.send(Sighting { bytes: Vec::with_capacity(snap), ..Sighting::default() });
    }
    let mut allowance = Allowance::new(if request.rate == 0 { RATE } else { request.rate });
    let lost = Arc::new(AtomicU64::new(0));
    let sink = Sink::Frames(Frames { ports, snap, free, full, lost: Arc::clone(&lost) });
    let mut watch = Watch::begin(&sight, &filter, &sink);
    watch.placed().await;
    pump::start("capture", permit, move |outlet: &Outlet<proto::CaptureRecord>| {
        let _watch = watch;
        let mut sent = 0;
        let mut emptied = VecDeque::with_capacity(buffers);
        loop {
            for sighting in seen.try_iter() {
                outlet.put(record(&sight, &sighting, lost.load(Ordering::Relaxed)))?;
                emptied.push_back(sighting);
                sent += 1;
                if sent == wanted {
                    return Ok(());
                }
            }
            allowance.grow(Instant::now());
            while let Some(sighting) = emptied.pop_front_if(|s| allowance.take(s.bytes.len() + PER_FRAME)) {
                let _ = give.try_send(sighting);
            }
            outlet.rest(pump::PERIOD)?;
        }
    })
}

/// Bytes that may still be copied: they grow by the rate, and at most a quarter of a second's are saved up.
struct Allowance {
    rate: u64,
    left: u64,
    grown: Instant,
}

impl Allowance {
    fn new(rate: u64) -> Self {
        Self { rate, left: 0, grown: Instant::now() }
    }

    fn grow(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.grown);
        let more = u128::from(self.rate) * passed.as_micros() / 1_000_000;
        if more > 0 {
            let most = (self.rate / 4).max((LONGEST + PER_FRAME) as u64);
            self.left = most.min(self.left.saturating_add(u64::try_from(more).unwrap_or(u64::MAX)));
            self.grown = now;
        }
    }

    /// Takes so many when they are there.
    fn take(&mut self, bytes: usize) -> bool {
        let left = self.left.checked_sub(bytes as u64);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

/// Ports by device name or label.
fn ports(sight: &Sight, names: &[String]) -> Result<Vec<PortIndex>, Status> {
    let directory = sight.directory.load();
    let find = |name: &String| {
        let port = directory.ports.iter().find(|(_, open)| open.interface == *name || open.label == *name);
        port.map(|(index, _)| *index).ok_or_else(|| {
            let names: Vec<_> = directory.ports.values().map(|open| open.interface.as_str()).collect();
            Status::not_found(format!("no open port is called {name:?}; there are {}", names.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

fn record(sight: &Sight, sighting: &Sighting, lost: u64) -> proto::CaptureRecord {
    let (direction, reason) = match sighting.crossing {
        Crossing::In => (proto::Direction::In, None),
        Crossing::Out => (proto::Direction::Out, None),
        Crossing::Dropped(reason) => (proto::Direction::Dropped, Some(reason)),
    };
    proto::CaptureRecord {
        time_ns: unix_ns(sight, sighting.at),
        worker: sighting.worker.into(),
        port: sight.directory.load().interface(PortIndex(sighting.port)),
        direction: direction.into(),
        length: sighting.len,
        frame: sighting.bytes.clone(),
        reason: reason.map(|r| r.label().into()).unwrap_or_default(),
        meaning: reason.map(|r| r.meaning().into()).unwrap_or_default(),
        lost,
        summary: describe::frame(sight, &sighting.bytes, sighting.len as usize),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn in_the_long_run_no_more_is_taken_than_the_rate() {
        for (rate, frame) in [(1000, 600), (32 << 20, 66_000), (100_000, 64), (u64::MAX, 66_000)] {
            let mut allowance = Allowance::new(rate);
            let start = allowance.grown;
            let mut taken: u64 = 0;
            for tick in 1..=2000 {
                allowance.grow(start + Duration::from_millis(10) * tick);
                // As many buffers as there are.
                for _ in 0..64 {
                    taken += if allowance.take(frame) { frame as u64 } else { 0 };
                }
            }
            let buffers: u64 = 2000 * 64 * frame as u64;
            let due = rate.saturating_mul(20).min(buffers);
            assert!(taken <= due && taken >= due / 10 * 9, "{taken} of {due} at {rate}");
        }
    }
}
