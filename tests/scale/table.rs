//! What was measured, for people.

use std::fmt::Write as _;
use std::time::Duration;

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
}

/// A table in Markdown.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| Services | manifests to dataplane, ms | parse, one thread, ms | derive, ms | objects to dataplane, ms \
         | change by manifest, ms (longest) | change by object, ms (p99) | memory of both, MB |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} ({:.1}) | {:.2} ({:.2}) | {} |",
            row.size,
            ms(row.from_manifests),
            ms(row.parsing),
            ms(row.deriving),
            ms(row.from_objects),
            ms(share(&row.file_changes, 0.5)),
            ms(share(&row.file_changes, 1.0)),
            ms(share(&row.object_changes, 0.5)),
            ms(share(&row.object_changes, 0.99)),
            row.memory.iter().sum::<u64>() / 1_000_000,
        );
    }
    text
}

/// A bar for every size, as long as the logarithm of the time, from a microsecond on.
pub(super) fn plot(rows: &[Row]) -> String {
    let mut text = String::from("Time against number of Services; every ten columns are a tenfold\n");
    bars(&mut text, "manifests to dataplane", rows, |r| r.from_manifests);
    bars(&mut text, "objects to dataplane", rows, |r| r.from_objects);
    bars(&mut text, "change by object, p99", rows, |r| share(&r.object_changes, 0.99));
    text
}

fn bars(text: &mut String, title: &str, rows: &[Row], value: fn(&Row) -> Duration) {
    let _ = writeln!(text, "\n{title}");
    for row in rows {
        let columns = (ms(value(row)) * 1_000.0).max(1.0).log10() * 10.0;
        let _ = writeln!(text, "{:>7} {} {:.2} ms", row.size, "#".repeat(columns as usize), ms(value(row)));
    }
}

/// The value below which this share of them lies.
fn share(values: &[Duration], share: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted.get(((last as f64) * share).ceil() as usize).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
