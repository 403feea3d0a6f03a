//! Running a program and keeping what it printed.

use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::LabError;

/// Exit code of coreutils' `timeout` when it had to end the program.
const TIMED_OUT: i32 = 124;

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Both streams, for error messages.
    #[must_use]
    pub fn text(&self) -> String {
        [self.stdout.trim_end(), self.stderr.trim_end()].join("\n").trim().to_owned()
    }
}

/// Runs `argv` after `prefix` (which enters namespaces) for at most `limit`, with `input` on its standard input.
/// Any exit status is a result; `space` and `argv` name the command in errors.
///
/// # Errors
/// [`LabError::Timeout`], or [`LabError::Io`] when it could not be started.
pub fn run(
    space: &str,
    mut prefix: Command,
    argv: &[&str],
    input: Option<&str>,
    limit: Duration,
) -> Result<Output, LabError> {
    use std::io::Write as _;
    let line = argv.join(" ");
    let failed = || LabError::io(format!("{space}: `{line}`"));
    prefix.args(argv).stdout(Stdio::piped()).stderr(Stdio::piped());
    prefix.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = prefix.spawn().map_err(failed())?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        // A program that does not read its input closes the pipe, which is its own affair.
        let _ = pipe.write_all(input.as_bytes());
    }
    let done = child.wait_with_output().map_err(failed())?;
    let output = Output {
        status: done.status,
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    };
    if done.status.code() == Some(TIMED_OUT) {
        let output = output.text();
        return Err(LabError::Timeout {
            space: space.to_owned(),
            command: line,
            seconds: limit.as_secs(),
            output,
        });
    }
    Ok(output)
}

/// Where `program` is, if it is installed.
#[must_use]
pub fn find_program(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
