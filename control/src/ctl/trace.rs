//! `trace`: the next packets that match, stage by stage.

use std::path::Path;

use clap::Args;
use headrace_api::{client, proto};
use serde_json::{Value, json};

use super::explain::{steps, verdict};
use super::{CtlError, Printer, filter, text};

/// Which packets.
#[derive(Args)]
pub(super) struct TraceArgs {
    /// Which packets [default: all]
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// How many
    #[arg(short = 'n', long, default_value = "10", value_name = "N")]
    count: u32,
}

/// Waits for packets and tells of each.
pub(super) async fn run(run_dir: &Path, args: TraceArgs, printer: &Printer) -> Result<(), CtlError> {
    let request = proto::TraceRequest { filter: filter(&args.filter)?, count: args.count };
    let mut stream = client::observe(run_dir).await?.trace(request).await?.into_inner();
    while let Some(record) = stream.message().await? {
        printer.next(&json(&record), || told(&record))?;
    }
    Ok(())
}

fn told(r: &proto::TraceRecord) -> String {
    let time = text::time_of_day(r.time_ns);
    let mut told = format!("#{} {time} worker {}, {}: {}\n", r.number, r.worker, r.port, r.summary);
    for step in &r.steps {
        let cost = match step.nanoseconds {
            0 => String::new(),
            ns => format!("{ns} ns/{}", step.burst.max(1)),
        };
        told += &format!("   {:10} {cost:>12}  {:32} {}\n", step.stage, step.decision, step.why);
    }
    told + "   " + &verdict(&r.verdict, &r.reason, &r.meaning)
}

fn json(r: &proto::TraceRecord) -> Value {
    json!({
        "number": r.number, "worker": r.worker, "time_ns": r.time_ns, "port": r.port, "summary": r.summary,
        "steps": steps(&r.steps), "verdict": r.verdict, "reason": r.reason, "meaning": r.meaning,
    })
}
