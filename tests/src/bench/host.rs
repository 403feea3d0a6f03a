//! Where a benchmark ran: without this no figure means anything.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::BenchError;

/// Fewer cores than this, and client, server and forwarder take each other's time so that no figure is worth anything.
const FEWEST_CORES: usize = 2;

/// Machine, kernel and state of the repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Name of the processor.
    pub cpu: String,
    /// Cores that this program may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Kernel release.
    pub kernel: String,
    /// TCP congestion control of the lab's namespaces.
    pub congestion_control: String,
    /// Commit of the repository, with `-dirty` when files differed; empty when it is not known.
    pub commit: String,
    /// When it began, UTC.
    pub date: String,
}

impl Host {
    /// Looks.
    #[must_use]
    pub fn look() -> Self {
        Self {
            cpu: line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: line_of("/proc/meminfo", "MemTotal")
                .and_then(|line| line.trim_end_matches(" kB").parse::<u64>().ok())
                .map_or(0, |kib| kib / 1024),
            kernel: word("/proc/sys/kernel/osrelease"),
            congestion_control: word("/proc/sys/net/ipv4/tcp_congestion_control"),
            commit: output("git", &["describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]),
            date: output("date", &["-u", "+%Y-%m-%d %H:%M"]),
        }
    }

    /// Whether anything can be measured here.
    ///
    /// # Errors
    /// [`BenchError::TooFewCores`].
    pub fn check(&self) -> Result<(), BenchError> {
        if self.cores < FEWEST_CORES {
            return Err(BenchError::TooFewCores { cores: self.cores, needed: FEWEST_CORES });
        }
        Ok(())
    }

    /// One line.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "{}, {} cores, {} MiB, Linux {}, TCP congestion control {}, commit {}, {} UTC",
            self.cpu,
            self.cores,
            self.memory_mib,
            self.kernel,
            self.congestion_control,
            if self.commit.is_empty() { "unknown" } else { &self.commit },
            self.date
        )
    }

    /// What makes figures of `other` worth nothing beside these; empty when they may be compared.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let fact = |host: &Self| {
            [
                ("processor", host.cpu.clone()),
                ("cores", host.cores.to_string()),
                ("kernel", host.kernel.clone()),
                ("congestion control", host.congestion_control.clone()),
            ]
        };
        fact(self)
            .into_iter()
            .zip(fact(other))
            .filter(|(ours, theirs)| ours.1 != theirs.1)
            .map(|((what, ours), (_, theirs))| format!("{what}: {theirs} then, {ours} now"))
            .collect()
    }
}

fn word(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}

/// The value of the first line `key : value`.
fn line_of(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

/// What a program prints; nothing when it fails.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    String::from_utf8_lossy(&text.unwrap_or_default()).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_is_told_by_what_differs() {
        let here = Host::look();
        assert!(here.cores > 0 && here.memory_mib > 0 && !here.kernel.is_empty());
        assert!(here.differences(&here.clone()).is_empty());
        let other = Host { kernel: "5.4".to_owned(), commit: "x".to_owned(), ..here.clone() };
        assert_eq!(here.differences(&other).len(), 1);
        assert!(Host { cores: 1, ..here }.check().is_err());
    }
}
