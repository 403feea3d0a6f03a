//! `flows`: connections with their translation, state, counters and age.

use std::path::Path;

use clap::Args;
use headrace_api::client;
use headrace_api::proto::{self, FlowEvent};
use serde_json::{Value, json};

use super::{CtlError, Printer, filter, output, text};

/// What to list.
#[derive(Args)]
pub(super) struct FlowsArgs {
    /// Which connections [default: all]
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Go on with connections that begin and end
    #[arg(short, long)]
    follow: bool,
    /// With --follow: end after so many lines; 0 = when interrupted
    #[arg(short = 'n', long, default_value = "0", value_name = "N", requires = "follow")]
    count: u64,
    /// List no more than so many; 0 = all
    #[arg(short, long, default_value = "0", value_name = "N")]
    limit: u64,
}

/// Lists connections.
pub(super) async fn run(run_dir: &Path, args: FlowsArgs, printer: &Printer) -> Result<(), CtlError> {
    let request =
        proto::FlowsRequest { filter: filter(&args.filter)?, limit: args.limit, follow: args.follow };
    let mut stream = client::observe(run_dir).await?.flows(request).await?.into_inner();
    if args.follow {
        return follow(&mut stream, args.count, printer).await;
    }
    let mut flows = Vec::new();
    while let Some(record) = stream.message().await? {
        flows.push(record);
    }
    flows.sort_by_key(|f| std::cmp::Reverse(carried(f)));
    let values: Vec<Value> = flows.iter().map(json).collect();
    printer.show(&values, |width| {
        let header = ["proto", "client", "server", "state", "way", "to server", "to client", "age", "idle"];
        let list = output::table(width, header, flows.iter().map(row));
        let plural = if flows.len() == 1 { "" } else { "s" };
        format!("{list}\n{} connection{plural}", flows.len())
    })
}

async fn follow(
    stream: &mut tonic::Streaming<proto::FlowRecord>,
    count: u64,
    printer: &Printer,
) -> Result<(), CtlError> {
    let (mut lost, mut left) = (0, if count == 0 { u64::MAX } else { count });
    while left > 0
        && let Some(record) = stream.message().await?
    {
        left -= 1;
        printer.next(&json(&record), || format!("{:6} {}", event(&record), row(&record).join("  ")))?;
        if record.lost > lost {
            eprintln!("{} events were lost: this reader is too slow", record.lost - lost);
            lost = record.lost;
        }
    }
    Ok(())
}

fn carried(flow: &proto::FlowRecord) -> u64 {
    [&flow.to_server, &flow.to_client].into_iter().flatten().map(|c| c.bytes).sum()
}

fn event(flow: &proto::FlowRecord) -> &'static str {
    match flow.event() {
        FlowEvent::Began => "began",
        FlowEvent::Ended => "ended",
        FlowEvent::Listed | FlowEvent::Unspecified => "there",
    }
}

fn row(flow: &proto::FlowRecord) -> Vec<String> {
    let named = |end: String, name: &str| if name.is_empty() { end } else { format!("{end} ({name})") };
    let (client, server) = (flow.client.clone().unwrap_or_default(), flow.server.clone().unwrap_or_default());
    let asked = text::end(&client.destination, client.destination_port);
    let got = text::end(&server.destination, server.destination_port);
    let got = if got == asked { got } else { format!("{} > {got}", named(asked, &flow.service)) };
    let source = text::end(&client.source, client.source_port);
    let seen_as = text::end(&server.source, server.source_port);
    let source = named(source, &flow.client_pod);
    let source = if server.source == client.source && server.source_port == client.source_port {
        source
    } else {
        format!("{source} as {seen_as}")
    };
    let count = |c: &Option<proto::FlowCounters>| text::bytes(c.as_ref().map_or(0, |c| c.bytes));
    vec![
        text::protocol(flow.protocol),
        source,
        named(got, &flow.server_pod),
        flow.state.clone(),
        flow.way.clone(),
        count(&flow.to_server),
        count(&flow.to_client),
        text::seconds(flow.age_seconds),
        text::seconds(flow.idle_seconds),
    ]
}

/// A connection for scripts.
fn json(flow: &proto::FlowRecord) -> Value {
    let tuple = |t: &Option<proto::Tuple>| {
        let t = t.clone().unwrap_or_default();
        json!({
            "source": text::address(&t.source), "source_port": t.source_port,
            "destination": text::address(&t.destination), "destination_port": t.destination_port,
        })
    };
    let counters = |c: &Option<proto::FlowCounters>| {
        let c = c.unwrap_or_default();
        json!({ "frames": c.frames, "bytes": c.bytes })
    };
    json!({
        "event": event(flow), "protocol": text::protocol(flow.protocol), "state": flow.state,
        "client": tuple(&flow.client), "server": tuple(&flow.server), "way": flow.way,
        "client_pod": flow.client_pod, "server_pod": flow.server_pod, "service": flow.service,
        "to_server": counters(&flow.to_server), "to_client": counters(&flow.to_client),
        "age_seconds": flow.age_seconds, "idle_seconds": flow.idle_seconds,
        "began": flow.began, "last_seen": flow.last_seen, "lost": flow.lost,
    })
}
