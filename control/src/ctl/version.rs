//! `version`: this tool's and the dataplane's.

use std::path::Path;

use serde_json::json;

use super::{CtlError, Printer};
use crate::status::{self, StatusError};

/// Tells both; a dataplane that is away is no error here.
pub(super) async fn run(run_dir: &Path, printer: &Printer) -> Result<(), CtlError> {
    let own = env!("CARGO_PKG_VERSION");
    let dataplane = match status::fetch(run_dir).await {
        Ok(status) => Some(status),
        Err(StatusError::Away(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let answer = json!({
        "headracectl": own,
        "contract": headrace_api::API_VERSION,
        "dataplane": dataplane.as_ref().map(|d| &d.version),
        "dataplane_contract": dataplane.as_ref().map(|d| d.api_version),
    });
    printer.show(&answer, |_| {
        let theirs = dataplane
            .map_or_else(|| "away".to_owned(), |d| format!("{} (contract {})", d.version, d.api_version));
        format!("headracectl {own} (contract {})\nheadrace-dataplane {theirs}", headrace_api::API_VERSION)
    })
}
