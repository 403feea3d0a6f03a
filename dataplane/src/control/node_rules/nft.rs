//! The `nft` program: rulesets go to its standard input and are taken whole or not at all (nft(8), "atomic rule
//! replacement").

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Longest that nft may take.
const LIMIT: Duration = Duration::from_secs(20);

/// nft did not do it.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program is not there.
    #[error(
        "cannot run nft: {0}; install nftables, or processes of this node do not reach NodePorts and external addresses \
         of Services"
    )]
    Missing(io::Error),
    /// The kernel or nft itself refused.
    #[error(
        "nft refuses the rules for processes of this node: {0}; the kernel must have nf_tables with egress hooks (5.16)"
    )]
    Refused(String),
    /// It hangs.
    #[error("nft did not end in {LIMIT:?}; is another program holding the node's ruleset?")]
    Hangs,
}

/// Puts a script in force.
///
/// # Errors
/// [`NftError`]; nothing has changed then.
pub(super) async fn run(script: &str) -> Result<(), NftError> {
    if script.is_empty() {
        return Ok(());
    }
    tracing::debug!("nft:\n{script}");
    let mut command = nft();
    command.args(["-f", "-"]);
    let mut child = command.spawn().map_err(NftError::Missing)?;
    if let Some(mut input) = child.stdin.take() {
        // A program that ends early says why itself.
        let _ = input.write_all(script.as_bytes()).await;
    }
    let ended = tokio::time::timeout(LIMIT, child.wait_with_output()).await.map_err(|_| NftError::Hangs)?;
    let output = ended.map_err(NftError::Missing)?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(NftError::Refused(words.lines().next().unwrap_or("it does not say why").to_owned()))
}

/// Runs scripts that remove tables. Without nft there is nothing to remove.
///
/// # Errors
/// [`NftError`].
pub(super) async fn remove(scripts: &[&str]) -> Result<(), NftError> {
    for script in scripts {
        match run(script).await {
            Err(NftError::Missing(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => done?,
        }
    }
    Ok(())
}

/// Whether all of these tables are there.
pub(super) async fn lists(tables: &[&str]) -> bool {
    let output = nft().args(["list", "tables"]).output().await;
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    tables.iter().all(|table| text.lines().any(|line| line.trim() == *table))
}

fn nft() -> Command {
    let mut command = Command::new("nft");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}
