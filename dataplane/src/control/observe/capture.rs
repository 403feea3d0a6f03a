//! Frames as they cross ports, for `Capture`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    let lost = Arc::new(AtomicU64::new(0));
    let sink = Sink::Frames(Frames { ports, snap, free, full, lost: Arc::clone(&lost) });
    let mut watch = Watch::begin(&sight, &filter, &sink);
    watch.placed().await;
    pump::start("capture", permit, move |outlet: &Outlet<proto::CaptureRecord>| {
        let _watch = watch;
        let mut sent = 0;
        loop {
            for sighting in seen.try_iter() {
                outlet.put(record(&sight, &sighting, lost.load(Ordering::Relaxed)))?;
                let _ = give.try_send(sighting);
                sent += 1;
                if sent == wanted {
                    return Ok(());
                }
            }
            outlet.rest(pump::PERIOD)?;
        }
    })
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
