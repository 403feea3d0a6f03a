//! `explain`: what would become of a packet.

use std::path::Path;

use clap::{Args, ValueEnum};
use headrace_api::{client, proto};
use serde_json::{Value, json};

use super::{CtlError, Printer, output, text};

/// Which packet.
#[derive(Args)]
pub(super) struct ExplainArgs {
    /// Who sends: an address, or a pod of this node as namespace/name
    #[arg(value_name = "SRC")]
    source: String,
    /// To whom: an address, a pod or a Service, with :PORT behind an address or a pod
    #[arg(value_name = "DST[:PORT]")]
    destination: String,
    /// Transport [default: tcp where there is a port, else icmp]
    #[arg(short, long, value_enum)]
    protocol: Option<Protocol>,
    /// Source port [default: one that makes a new connection]
    #[arg(long, value_name = "PORT", default_value = "0")]
    source_port: u16,
    /// Bytes of the IP packet [default: as few as possible]
    #[arg(long, value_name = "BYTES", default_value = "0")]
    size: u16,
    /// It must not be fragmented
    #[arg(long)]
    dont_fragment: bool,
    /// TCP in the middle of a connection instead of a SYN
    #[arg(long)]
    established: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Protocol {
    Icmp = 1,
    Tcp = 6,
    Udp = 17,
}

/// Asks and tells.
pub(super) async fn run(run_dir: &Path, args: ExplainArgs, printer: &Printer) -> Result<(), CtlError> {
    let (destination, port) = split(&args.destination);
    let request = proto::ExplainRequest {
        source: args.source,
        destination,
        destination_port: port.into(),
        source_port: args.source_port.into(),
        protocol: args.protocol.map_or(0, |p| p as u32),
        size: args.size.into(),
        dont_fragment: args.dont_fragment,
        established: args.established,
    };
    let reply = client::observe(run_dir).await?.explain(request).await?.into_inner();
    printer.show(&json(&reply), |width| told(&reply, width))
}

/// "10.0.0.1:80" and "default/web:80" have ports; "default/web:http" is a Service's name.
fn split(text: &str) -> (String, u16) {
    match text.rsplit_once(':') {
        Some((before, port)) if !before.contains(':') => match port.parse() {
            Ok(port) => (before.into(), port),
            Err(_) => (text.into(), 0),
        },
        _ => (text.into(), 0),
    }
}

fn told(reply: &proto::ExplainReply, width: Option<u16>) -> String {
    let mut text = String::new();
    for note in &reply.notes {
        text += &format!("{note}\n");
    }
    let steps = reply.steps.iter().map(|s| vec![s.stage.clone(), s.decision.clone(), s.why.clone()]);
    text += &format!("\n{}\n\n", output::table(width, ["stage", "decision", "why"], steps));
    text += &verdict(&reply.verdict, &reply.reason, &reply.meaning);
    for departure in &reply.departures {
        text += &format!("\n  by {}: {}", departure.port, departure.summary);
    }
    text
}

/// "drop no_service: An address of the Service range that no Service holds."
pub(super) fn verdict(verdict: &str, reason: &str, meaning: &str) -> String {
    match reason {
        "" => verdict.to_owned(),
        reason => format!("{verdict} {reason}: {meaning}"),
    }
}

fn json(reply: &proto::ExplainReply) -> Value {
    let departure =
        |d: &proto::Departure| json!({ "port": d.port, "summary": d.summary, "frame": text::hex(&d.frame) });
    json!({
        "verdict": reply.verdict, "reason": reply.reason, "meaning": reply.meaning,
        "steps": steps(&reply.steps),
        "departures": reply.departures.iter().map(departure).collect::<Vec<_>>(),
        "notes": reply.notes,
    })
}

/// Stages for scripts.
pub(super) fn steps(steps: &[proto::Step]) -> Vec<Value> {
    let step = |s: &proto::Step| {
        json!({
            "stage": s.stage, "decision": s.decision, "why": s.why,
            "nanoseconds": s.nanoseconds, "burst": s.burst,
        })
    };
    steps.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn ports_are_told_from_names() {
        assert_eq!(split("10.0.0.1:80"), ("10.0.0.1".into(), 80));
        assert_eq!(split("10.0.0.1"), ("10.0.0.1".into(), 0));
        assert_eq!(split("default/web:http"), ("default/web:http".into(), 0));
        assert_eq!(split("default/web-1:8080"), ("default/web-1".into(), 8080));
        assert_eq!(split("fd00::1"), ("fd00::1".into(), 0));
    }
}
