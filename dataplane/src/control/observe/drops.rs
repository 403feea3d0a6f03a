//! Drops by reason, each with an example.

use std::cmp::Reverse;
use std::time::Duration;

use headrace_api::proto;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::describe::{self, unix_ns};
use super::directory::OpenPort;
use super::pump::{self, Outlet};
use super::{Replies, Sight};
use crate::drop_reason::DropReason;
use crate::port::PortIndex;

/// Time between two replies.
const PERIOD: Duration = Duration::from_secs(1);

/// The stream of `Drops`.
pub(super) fn stream(
    sight: Sight,
    once: bool,
    permit: OwnedSemaphorePermit,
) -> Result<Replies<proto::DropsReply>, Status> {
    pump::start("drops", permit, move |outlet: &Outlet<proto::DropsReply>| {
        loop {
            let drops = DropReason::ALL.iter().filter_map(|reason| record(&sight, *reason)).collect();
            outlet.put(proto::DropsReply { drops })?;
            if once {
                return Ok(());
            }
            outlet.rest(PERIOD)?;
        }
    })
}

/// `None` when nothing was dropped for the reason.
fn record(sight: &Sight, reason: DropReason) -> Option<proto::DropRecord> {
    let count: u64 = sight.windows.iter().map(|window| window.stats.drops(reason)).sum();
    if count == 0 {
        return None;
    }
    let examples = sight.windows.iter().filter_map(|w| Some((w.id, w.stats.example(reason)?)));
    let newest = examples.max_by_key(|(_, example)| example.at);
    let example = newest.map(|(worker, example)| proto::DropExample {
        time_ns: unix_ns(sight, example.at),
        worker: worker.0.into(),
        port: sight.directory.load().interface(example.port),
        length: example.len,
        frame: example.bytes.to_vec(),
        summary: describe::frame(sight, &example.bytes, example.len as usize),
    });
    Some(proto::DropRecord {
        reason: reason.label().into(),
        meaning: reason.meaning().into(),
        count,
        example,
        places: places(sight, reason),
    })
}

/// The open ports of which some were dropped, most first.
fn places(sight: &Sight, reason: DropReason) -> Vec<proto::DropPlace> {
    let directory = sight.directory.load();
    let dropped = |open: &OpenPort| open.counters.iter().map(|half| half.drops.of(reason)).sum();
    let place = |(index, open): (&PortIndex, &OpenPort)| proto::DropPlace {
        port: directory.port(*index),
        count: dropped(open),
    };
    let mut places: Vec<_> = directory.ports.iter().map(place).filter(|place| place.count > 0).collect();
    places.sort_by_key(|place| Reverse(place.count));
    places
}
