//! How many queues a pod's port needs: one for each worker of the dataplane, which is asked.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use headrace_api::proto::StatusRequest;
use headrace_cni::{CniError, ErrorCode};
use tokio::time::timeout;

/// A dataplane that is there answers at once.
const PATIENCE: Duration = Duration::from_secs(3);

/// The number of workers of the dataplane that serves `run_dir`.
///
/// # Errors
/// `TRY_AGAIN_LATER` when it is away: a pod cannot be attached then anyway.
pub(crate) async fn workers(run_dir: &Path) -> Result<NonZeroU32, CniError> {
    match timeout(PATIENCE, ask(run_dir)).await {
        Ok(Ok(workers)) => Ok(workers),
        Ok(Err(cause)) => Err(away(&cause)),
        Err(_) => Err(away(&format!("the dataplane has not answered within {} s", PATIENCE.as_secs()))),
    }
}

async fn ask(run_dir: &Path) -> Result<NonZeroU32, String> {
    let mut client = headrace_api::client::connect(run_dir).await.map_err(|e| e.to_string())?;
    let status = client.status(StatusRequest {}).await.map_err(|e| e.message().to_owned())?;
    let workers = u32::try_from(status.into_inner().workers.len()).ok();
    workers.and_then(NonZeroU32::new).ok_or_else(|| "the dataplane has no workers yet".to_owned())
}

fn away(cause: &str) -> CniError {
    CniError::new(ErrorCode::TRY_AGAIN_LATER, cause)
        .details("start headrace-dataplane; the runtime tries again by itself")
}
