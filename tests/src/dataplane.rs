//! What a dataplane says about itself: its Status, and the checks that every lab makes on it.

use std::path::Path;
use std::time::Duration;

use headrace_api::client::connect;
use headrace_api::proto::{FrameLedger, StatusReply, StatusRequest};

/// Time for a dataplane to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks the dataplane that serves `run_dir`.
///
/// # Errors
/// In words, why there is no answer.
pub fn status(run_dir: &Path) -> Result<StatusReply, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime for the request: {error}"))?;
    let request = async {
        let mut client = connect(run_dir).await.map_err(|error| error.to_string())?;
        let reply = client.status(StatusRequest {}).await.map_err(|error| error.to_string())?;
        Ok(reply.into_inner())
    };
    runtime.block_on(async {
        tokio::time::timeout(LIMIT, request).await.unwrap_or_else(|_| Err(format!("no answer in {LIMIT:?}")))
    })
}

/// The chunks that are nowhere, or somewhere twice: empty when every ledger adds up.
#[must_use]
pub fn ledger_faults(status: &StatusReply) -> Vec<String> {
    let ledgers =
        status.workers.iter().flat_map(|worker| worker.frames_ledger.iter().map(move |l| (worker.id, l)));
    ledgers
        .filter(|(_, ledger)| accounted(ledger) != ledger.total)
        .map(|(worker, ledger)| {
            format!(
                "worker {worker}, area {}: {} of {} chunks: {ledger:?}",
                ledger.area,
                accounted(ledger),
                ledger.total
            )
        })
        .collect()
}

/// How often packets were dropped for the reason `name`, over all workers.
#[must_use]
pub fn drops(status: &StatusReply, name: &str) -> u64 {
    let counts = status.workers.iter().flat_map(|worker| &worker.drops);
    counts.filter(|count| count.name == name).map(|count| count.count).sum()
}

fn accounted(ledger: &FrameLedger) -> u64 {
    ledger.free + ledger.fill + ledger.tx + ledger.in_hand + ledger.quarantined
}

#[cfg(test)]
mod tests {
    use headrace_api::proto::WorkerStatus;

    use super::*;

    #[test]
    fn a_missing_chunk_is_a_fault() {
        let ledger =
            FrameLedger { area: "pods".into(), total: 10, free: 5, fill: 3, tx: 2, ..Default::default() };
        let status = |ledger: FrameLedger| StatusReply {
            workers: vec![WorkerStatus { frames_ledger: vec![ledger], ..Default::default() }],
            ..Default::default()
        };
        assert!(ledger_faults(&status(ledger.clone())).is_empty());
        let faults = ledger_faults(&status(FrameLedger { free: 4, ..ledger }));
        assert!(faults[0].contains("9 of 10"), "{faults:?}");
    }
}
