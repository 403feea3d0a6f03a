//! A place where commands run: a network namespace, seen from a machine's mount namespace.
//!
//! Nodes, pods and the outside host are all spaces. Programs enter by `nsenter` (not `ip netns exec`, which would mount
//! another /sys); code of this process enters with a thread of its own, so that tests hold sockets inside a pod directly.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::LabError;
use crate::command::{self, Output};

/// Environment variable with the lab's name in every process of a lab: how `down` finds them.
pub const MARK: &str = "HEADRACE_LAB";

/// Time for a command that has no reason to take long.
const USUAL_LIMIT: Duration = Duration::from_secs(20);

/// A network namespace and the mount namespace to see it from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Space {
    /// `node1`, `node1-pod1`, `outside`.
    pub name: String,
    /// The lab it belongs to.
    pub lab: String,
    /// File that stands for the mount namespace.
    pub mount: PathBuf,
    /// File that stands for the network namespace.
    pub net: PathBuf,
}

impl Space {
    /// `nsenter` into the space; arguments appended to it are the program to run there.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        self.describe(&mut command);
        command
    }

    /// Runs a command line (words separated by blanks, no quoting) and wants it to succeed; gives its standard output.
    ///
    /// # Errors
    /// [`LabError::Command`] when it fails, [`LabError::Timeout`] after 20 seconds.
    pub fn run(&self, line: &str) -> Result<String, LabError> {
        self.succeed(&line.split_whitespace().collect::<Vec<_>>(), USUAL_LIMIT)
    }

    /// Runs a shell script that stops at the first failing command; gives its standard output.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn script(&self, script: &str) -> Result<String, LabError> {
        self.succeed(&["sh", "-euc", script], USUAL_LIMIT)
    }

    /// Runs a program for at most `limit` and wants it to succeed; gives its standard output.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn succeed(&self, argv: &[&str], limit: Duration) -> Result<String, LabError> {
        let output = self.try_run(argv, limit)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(LabError::Command {
            space: self.name.clone(),
            command: argv.join(" "),
            status: output.status.to_string(),
            output: output.text(),
        })
    }

    /// Runs a program for at most `limit`, whatever its exit status.
    ///
    /// # Errors
    /// [`LabError::Timeout`], or [`LabError::Io`] when it cannot be started.
    pub fn try_run(&self, argv: &[&str], limit: Duration) -> Result<Output, LabError> {
        self.with_input(argv, None, limit)
    }

    /// As [`try_run`](Self::try_run), with `input` on the program's standard input.
    ///
    /// # Errors
    /// As [`try_run`](Self::try_run).
    pub fn with_input(
        &self,
        argv: &[&str],
        input: Option<&str>,
        limit: Duration,
    ) -> Result<Output, LabError> {
        let mut prefix = Command::new("timeout");
        prefix.args(["--kill-after=2", &limit.as_secs_f32().to_string(), "nsenter"]);
        self.describe(&mut prefix);
        command::run(&self.name, prefix, argv, input, limit)
    }

    /// Runs `action` on a thread that lives in the network namespace. Sockets made there stay there, also when they
    /// leave the thread; /proc/thread-self/net shows the space's counters.
    ///
    /// # Errors
    /// [`LabError::Io`] when the namespace is gone.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let what = format!("enter {} by {}", self.name, self.net.display());
        let file = File::open(&self.net).map_err(LabError::io(what.clone()))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(|errno| LabError::io(what)(errno.into()))?;
                Ok(action())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn describe(&self, command: &mut Command) {
        command.arg(format!("--mount={}", self.mount.display()));
        command.arg(format!("--net={}", self.net.display()));
        command.arg("--").env(MARK, &self.lab).current_dir("/");
    }
}
