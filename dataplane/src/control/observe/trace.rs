//! Packets stage by stage, for `Trace`.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crossbeam::channel;
use headrace_api::filter::Filter;
use headrace_api::proto;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::describe::{self, unix_ns};
use super::pump::{self, Outlet};
use super::watch::Watch;
use super::{Replies, Sight};
use crate::observe::tap::{Sink, Walk};

/// Packets where the caller does not say how many.
const COUNT: u32 = 10;
/// Most packets of one stream.
const MOST: u32 = 10_000;

/// The stream of `Trace`.
pub(super) async fn stream(
    sight: Sight,
    filter: Filter,
    count: u32,
    permit: OwnedSemaphorePermit,
) -> Result<Replies<proto::TraceRecord>, Status> {
    let count = if count == 0 { COUNT } else { count.min(MOST) };
    let (to, walks) = channel::bounded(count as usize);
    let sink = Sink::Walks { left: Arc::new(AtomicU32::new(count)), to };
    let mut watch = Watch::begin(&sight, &filter, &sink);
    watch.placed().await;
    pump::start("trace", permit, move |outlet: &Outlet<proto::TraceRecord>| {
        let _watch = watch;
        let mut number = 0;
        while number < count {
            for walk in walks.try_iter() {
                number += 1;
                outlet.put(record(&sight, &walk, number))?;
            }
            outlet.rest(pump::PERIOD)?;
        }
        Ok(())
    })
}

fn record(sight: &Sight, walk: &Walk, number: u32) -> proto::TraceRecord {
    let (tables, directory) = (sight.shared.tables.load(), sight.directory.load());
    let told = describe::walk(walk, &tables, &directory, sight.windows.first().map(|w| w.stats.clock()));
    proto::TraceRecord {
        number,
        worker: walk.worker.0.into(),
        time_ns: unix_ns(sight, walk.at),
        port: directory.port(walk.port),
        summary: describe::packet(&walk.ip),
        steps: told.steps,
        verdict: told.verdict.into(),
        reason: told.reason.map(|r| r.label().into()).unwrap_or_default(),
        meaning: told.reason.map(|r| r.meaning().into()).unwrap_or_default(),
    }
}
