//! Drops by reason, each with an example.

use std::time::Duration;

use headrace_api::proto;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::describe::{self, unix_ns};
use super::pump::{self, Outlet};
use super::{Replies, Sight};
use crate::drop_reason::DropReason;

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
    })
}
