//! `drops`: why frames are dropped, with an example of each reason.

use std::collections::HashMap;
use std::path::Path;

use clap::Args;
use headrace_api::{client, proto};
use serde_json::{Value, json};

use super::{CtlError, Printer, output, text};

/// Ports that are named with each reason; JSON has all.
const PLACES: usize = 3;

/// How long.
#[derive(Args)]
pub(super) struct DropsArgs {
    /// Tell once what was dropped so far, and end
    #[arg(long, conflicts_with = "count")]
    once: bool,
    /// Look so many times, once a second, and end; 0 = until interrupted
    #[arg(short = 'n', long, default_value = "0", value_name = "N")]
    count: u64,
}

/// Tells what was dropped, and then, each second, what is.
pub(super) async fn run(run_dir: &Path, args: DropsArgs, printer: &Printer) -> Result<(), CtlError> {
    let looks = if args.once { 1 } else { args.count };
    let request = proto::DropsRequest { once: looks == 1 };
    let mut stream = client::observe(run_dir).await?.drops(request).await?.into_inner();
    let mut before: HashMap<String, u64> = HashMap::new();
    let (mut first, mut left) = (true, if looks == 0 { u64::MAX } else { looks });
    while left > 0
        && let Some(reply) = stream.message().await?
    {
        left -= 1;
        let news: Vec<_> = reply
            .drops
            .iter()
            .map(|drop| (drop, drop.count - before.get(&drop.reason).copied().unwrap_or(0).min(drop.count)))
            .filter(|(_, new)| first || *new > 0)
            .collect();
        if first || !news.is_empty() {
            show(&news, first, printer)?;
        }
        before = reply.drops.into_iter().map(|drop| (drop.reason, drop.count)).collect();
        first = false;
    }
    Ok(())
}

fn show(news: &[(&proto::DropRecord, u64)], first: bool, printer: &Printer) -> Result<(), CtlError> {
    let values: Vec<Value> = news.iter().map(|(drop, new)| json(drop, *new)).collect();
    printer.next(&values, || {
        if news.is_empty() {
            return "nothing has been dropped".into();
        }
        let rows = news.iter().map(|(drop, new)| {
            let example = drop.example.clone().unwrap_or_default();
            let count = if first { drop.count.to_string() } else { format!("{} (+{new})", drop.count) };
            let example = match example.summary.as_str() {
                "" => String::new(),
                summary => format!("{} {}: {summary}", text::time_of_day(example.time_ns), example.port),
            };
            vec![drop.reason.clone(), count, places(drop), drop.meaning.clone(), example]
        });
        output::table(None, ["reason", "frames", "at", "meaning", "example"], rows)
    })
}

/// The ports with most of them.
fn places(drop: &proto::DropRecord) -> String {
    let told = drop.places.iter().take(PLACES).map(|place| format!("{} {}", place.port, place.count));
    let more = drop.places.len().saturating_sub(PLACES);
    let more = (more > 0).then(|| format!("{more} more"));
    told.chain(more).collect::<Vec<_>>().join(", ")
}

fn json(drop: &proto::DropRecord, new: u64) -> Value {
    let example = drop.example.as_ref().map(|e| {
        json!({
            "time_ns": e.time_ns, "worker": e.worker, "port": e.port, "length": e.length,
            "summary": e.summary, "frame": text::hex(&e.frame),
        })
    });
    json!({
        "reason": drop.reason, "meaning": drop.meaning, "count": drop.count, "new": new, "example": example,
        "places": drop.places.iter().map(|p| json!({ "port": p.port, "count": p.count })).collect::<Vec<_>>(),
    })
}
