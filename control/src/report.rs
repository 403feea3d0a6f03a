//! What the agent cannot use, where an operator looks: in the log by those who find it, and for `headracectl status` in
//! `agent.json` of the run directory.
//!
//! Every part of the agent that reads input keeps its own list here and replaces it whole. Lists are cut, so that a wrong
//! file of a hundred thousand lines does not become a report of the same length.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::error;

use crate::files::write_atomically;

/// The file's name in the run directory.
const FILE: &str = "agent.json";
/// Most lines of one part.
const MOST_LINES: usize = 100;

/// Where the parts of the agent report. Copies share what they hold.
#[derive(Clone, Debug)]
pub struct Reports {
    parts: Arc<Mutex<BTreeMap<&'static str, Vec<String>>>>,
    changed: watch::Sender<()>,
}

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    /// Sentences.
    problems: Vec<String>,
}

impl Default for Reports {
    fn default() -> Self {
        Self::new()
    }
}

impl Reports {
    /// Nothing is wrong yet.
    pub fn new() -> Self {
        Self { parts: Arc::default(), changed: watch::Sender::new(()) }
    }

    /// Replaces what `part` reports.
    pub fn set<T: Display>(&self, part: &'static str, problems: impl ExactSizeIterator<Item = T>) {
        let more = problems.len().saturating_sub(MOST_LINES);
        let mut lines: Vec<String> = problems.take(MOST_LINES).map(|p| format!("{part}: {p}")).collect();
        if more > 0 {
            lines.push(format!("{part}: {more} more like these"));
        }
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(part, lines);
        self.changed.send_replace(());
    }

    /// All lines.
    pub fn lines(&self) -> Vec<String> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).values().flatten().cloned().collect()
    }

    /// The lines of some parts.
    pub fn lines_of(&self, parts: &[&str]) -> Vec<String> {
        let held = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().filter_map(|part| held.get(part)).flatten().cloned().collect()
    }

    /// Wakes whoever wants to know of changes.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Keeps the file in the run directory up to date, for ever.
    pub async fn keep(self, run_dir: PathBuf) {
        let mut changes = self.changed.subscribe();
        loop {
            changes.borrow_and_update();
            let content = Content { problems: self.lines() };
            let written = serde_json::to_vec_pretty(&content).map_err(Into::into);
            if let Err(e) = written.and_then(|json| write_atomically(&run_dir.join(FILE), &json)) {
                error!("cannot write {}: {e}", run_dir.join(FILE).display());
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// What the agent of this run directory last reported; nothing when it never did.
pub fn read(run_dir: &Path) -> Vec<String> {
    let text = std::fs::read(run_dir.join(FILE)).unwrap_or_default();
    serde_json::from_slice::<Content>(&text).unwrap_or_default().problems
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_part_replaces_what_it_said_and_long_lists_are_cut() {
        let reports = Reports::new();
        reports.set("manifests", ["a", "b"].iter());
        reports.set("objects", [7; 1_000].iter());
        assert_eq!(reports.lines().len(), 2 + MOST_LINES + 1);
        assert!(reports.lines().last().unwrap().contains("900 more"));
        reports.set("objects", std::iter::empty::<u8>());
        assert_eq!(reports.lines(), ["manifests: a", "manifests: b"]);
    }

    #[tokio::test]
    async fn the_file_follows() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).is_empty());
        let reports = Reports::new();
        tokio::spawn(reports.clone().keep(dir.path().into()));
        for wanted in [vec!["x: one".to_owned()], vec![]] {
            reports.set("x", wanted.iter().map(|w| w.trim_start_matches("x: ")));
            let arrives = async {
                while read(dir.path()) != wanted {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), arrives).await.unwrap();
        }
    }
}
