//! What was measured, for people.

use std::fmt::Write as _;
use std::time::Duration;

use super::traffic::Traffic;

/// One number of Services.
pub(super) struct Row {
    pub(super) size: usize,
    pub(super) from_manifests: Duration,
    pub(super) parsing: Duration,
    pub(super) deriving: Duration,
    pub(super) from_objects: Duration,
    pub(super) file_changes: Vec<Duration>,
    pub(super) object_changes: Vec<Duration>,
    /// Bytes, of the daemons in the order of their kinds.
    pub(super) memory: [u64; 2],
    pub(super) traffic: Traffic,
}

/// A table in Markdown.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| Services | manifests to dataplane, ms | parse, one thread, ms | derive, ms | objects to dataplane, ms \
         | change by manifest, ms (longest) | change by object, ms (p99) | under traffic, ms (p99) | traffic slower by, % (may be off by) | CPU time of a change, ms | memory of both, MB |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} ({:.1}) | {:.2} ({:.2}) | {:.2} ({:.2}) | {:.1} ({:.1}) | {:.2} | {} |",
            row.size,
            ms(row.from_manifests),
            ms(row.parsing),
            ms(row.deriving),
            ms(row.from_objects),
            ms(share(&row.file_changes, 0.5)),
            ms(share(&row.file_changes, 1.0)),
            ms(share(&row.object_changes, 0.5)),
            ms(share(&row.object_changes, 0.99)),
            ms(share(&row.traffic.changes, 0.5)),
            ms(share(&row.traffic.changes, 0.99)),
            row.traffic.loss().0,
            row.traffic.loss().1,
            ms(row.traffic.cost()),
            row.memory.iter().sum::<u64>() / 1_000_000,
        );
    }
    text
}

/// The value below which this share of them lies.
pub(super) fn share(values: &[Duration], share: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted.get(((last as f64) * share).ceil() as usize).copied().unwrap_or_default()
}

/// In milliseconds.
pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
