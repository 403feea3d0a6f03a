//! `take-turn`: what the DaemonSets' preStop hooks wait for, so that no rollout takes both daemons of a node down at once.
//!
//! Who is about to end leaves its name in a file of the run directory. As long as that is young, the other one waits: then the
//! first has come back, and that is looked at too. A hook may delay an end, never prevent it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use headrace_cni::protocol::socket_path;
use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use tokio::net::UnixStream;

use super::{CtlError, Printer};
use crate::status;

/// File of the run directory with the name of who ended last.
const FILE: &str = "turn";
/// What a daemon has for coming back.
const TURN: Duration = Duration::from_secs(15);
/// Longest wait; pods have twice as much to end.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// Who is about to end.
#[derive(Args)]
pub(super) struct TurnArgs {
    /// The daemon that is about to end
    daemon: Daemon,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Daemon {
    Agent,
    Dataplane,
}

/// Returns when the daemon may end, or has waited long enough.
pub(super) async fn run(run_dir: &Path, args: TurnArgs, printer: &Printer) -> Result<(), CtlError> {
    let start = Instant::now();
    let path = run_dir.join(FILE);
    let mut turn = false;
    let mut other = false;
    while !other && start.elapsed() < PATIENCE {
        turn = turn || take(&path, args.daemon).unwrap_or(true);
        other = turn && is_up(run_dir, args.daemon.other()).await;
        if !other {
            tokio::time::sleep(PAUSE).await;
        }
    }
    let waited = start.elapsed();
    printer.show(
        &json!({ "turn": turn, "other_is_up": other, "waited_seconds": waited.as_secs_f64() }),
        |_| match other {
            true => format!("{:?} may end", args.daemon),
            false => format!("{:?} is away; not waiting any longer for it", args.daemon.other()),
        },
    )
}

/// Whether it is this daemon's turn from now on. Where files cannot be written there are no turns.
fn take(path: &Path, daemon: Daemon) -> io::Result<bool> {
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    let mut last = String::new();
    file.read_to_string(&mut last)?;
    let old = file.metadata()?.modified()?.elapsed().is_ok_and(|age| age > TURN);
    if !(last.is_empty() || last == daemon.name() || old) {
        return Ok(false);
    }
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(daemon.name().as_bytes())?;
    Ok(true)
}

async fn is_up(run_dir: &Path, daemon: Daemon) -> bool {
    match daemon {
        Daemon::Agent => UnixStream::connect(socket_path(run_dir)).await.is_ok(),
        Daemon::Dataplane => status::fetch(run_dir).await.is_ok(),
    }
}

impl Daemon {
    fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Dataplane => "dataplane",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Agent => Self::Dataplane,
            Self::Dataplane => Self::Agent,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_second_waits_until_the_first_has_had_time_to_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        assert!(take(&path, Daemon::Agent).unwrap());
        assert!(take(&path, Daemon::Agent).unwrap(), "nobody waits for itself");
        assert!(!take(&path, Daemon::Dataplane).unwrap());
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - 2 * TURN).unwrap();
        assert!(take(&path, Daemon::Dataplane).unwrap());
        assert!(!take(&path, Daemon::Agent).unwrap());
    }
}
