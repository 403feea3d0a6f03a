//! Installs as long as the agent runs: once the dataplane has this node's state, for from then on the runtime calls; and again
//! when somebody took away what was installed.

use std::convert::Infallible;
use std::time::Duration;

use tracing::{info, warn};

use super::{InstallArgs, InstallError, install};
use crate::report::Reports;
use crate::seam::PortGate;

/// How often it is looked whether all is in place still.
const RECHECK: Duration = Duration::from_secs(10);

/// Keeps plugin and configuration in place; nothing, where nothing is wanted.
pub(crate) async fn keep(wanted: Option<InstallArgs>, gate: PortGate, reports: Reports) -> Infallible {
    let Some(args) = wanted else { return std::future::pending().await };
    gate.confirmed().await;
    let mut told = Outcome::default();
    loop {
        let args = args.clone();
        let done = tokio::task::spawn_blocking(move || install(&args)).await;
        let outcome = Outcome::of(done.unwrap_or_else(|e| Err(InstallError::interrupted(&e))));
        if outcome != told {
            outcome.tell(&reports);
            told = outcome;
        }
        tokio::time::sleep(RECHECK).await;
    }
}

/// What an attempt brought, in sentences.
#[derive(Default, PartialEq, Eq)]
struct Outcome {
    done: Vec<String>,
    failed: Option<String>,
}

impl Outcome {
    fn of(result: Result<Vec<String>, InstallError>) -> Self {
        match result {
            Ok(done) => Self { done, failed: None },
            Err(e) => Self { done: Vec::new(), failed: Some(format!("{e}; no pod can start here")) },
        }
    }

    fn tell(&self, reports: &Reports) {
        for line in &self.done {
            info!("CNI: {line}");
        }
        if let Some(line) = &self.failed {
            warn!("CNI: {line}");
        }
        reports.set("CNI installation", self.failed.iter());
    }
}
