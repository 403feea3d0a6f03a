//! `services` and `endpoints`: what there is, where it is, and how much it is used: connections that are open, and all
//! that were begun since the dataplane runs.

use std::path::Path;

use clap::Args;
use headrace_api::{client, proto};
use serde_json::{Value, json};

use super::{CtlError, Printer, output, text};

/// Which Services.
#[derive(Args)]
pub(super) struct ServicesArgs {
    /// A part of the name [default: all]
    #[arg(default_value = "")]
    name: String,
}

/// One row for each Service.
pub(super) async fn services(run_dir: &Path, args: ServicesArgs, printer: &Printer) -> Result<(), CtlError> {
    let services = fetch(run_dir, args.name).await?;
    let values: Vec<Value> = services.iter().map(json).collect();
    printer.show(&values, |width| {
        let header = ["service", "at", "endpoints", "open", "begun"];
        let rows = services.iter().map(|s| {
            vec![
                s.name.clone(),
                s.frontends.iter().map(frontend).collect::<Vec<_>>().join(", "),
                s.endpoints.len().to_string(),
                s.endpoints.iter().map(|e| e.active).sum::<u64>().to_string(),
                s.begun.to_string(),
            ]
        });
        output::table(width, header, rows)
    })
}

/// One row for each endpoint.
pub(super) async fn endpoints(run_dir: &Path, args: ServicesArgs, printer: &Printer) -> Result<(), CtlError> {
    let services = fetch(run_dir, args.name).await?;
    let values: Vec<Value> = services
        .iter()
        .flat_map(|s| s.endpoints.iter().map(|e| with_service(endpoint(e), &s.name)))
        .collect();
    printer.show(&values, |width| {
        let header = ["service", "endpoint", "place", "open", "begun"];
        let rows = services.iter().flat_map(|s| {
            s.endpoints.iter().map(|e| {
                let end = text::end(&e.address, e.port);
                vec![s.name.clone(), end, e.place.clone(), e.active.to_string(), e.begun.to_string()]
            })
        });
        output::table(width, header, rows)
    })
}

async fn fetch(run_dir: &Path, name: String) -> Result<Vec<proto::ServiceRecord>, CtlError> {
    let request = proto::ServicesRequest { name };
    Ok(client::observe(run_dir).await?.services(request).await?.into_inner().services)
}

/// "10.96.0.10:80 tcp", or "node port 30080 tcp".
fn frontend(f: &proto::Frontend) -> String {
    let protocol = text::protocol(f.protocol as u32);
    match text::end(&f.address, f.port) {
        end if end.is_empty() => format!("node port {} {protocol}", f.port),
        end => format!("{end} {protocol}"),
    }
}

fn json(s: &proto::ServiceRecord) -> Value {
    json!({
        "name": s.name, "begun": s.begun,
        "frontends": s.frontends.iter().map(frontend).collect::<Vec<_>>(),
        "endpoints": s.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

fn endpoint(e: &proto::EndpointRecord) -> Value {
    json!({
        "address": text::address(&e.address), "port": e.port, "place": e.place,
        "active": e.active, "begun": e.begun,
    })
}

fn with_service(mut endpoint: Value, service: &str) -> Value {
    endpoint["service"] = service.into();
    endpoint
}
