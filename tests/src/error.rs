//! What can go wrong with a lab. Every message names the thing and the remedy.

use std::path::PathBuf;

/// A lab could not be made, used or removed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces need privileges.
    #[error("a lab makes network namespaces and needs root: run it as root")]
    NotRoot,
    /// A binary of this project is not built.
    #[error("{binary} is missing in {folder}: build it with `make build`")]
    MissingBinary {
        /// Name of the file.
        binary: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A program of the system is not installed.
    #[error("the program `{0}` is missing: install it with `make deps`")]
    MissingProgram(String),
    /// Names become directories, sockets and environment variables.
    #[error(
        "lab name {0:?} must be 1 to 30 lower-case letters, digits and hyphens, and start with a letter or digit"
    )]
    BadName(String),
    /// A number is out of its range.
    #[error("{key} = {value} is not possible: {remedy}")]
    BadNumber {
        /// Configuration key.
        key: &'static str,
        /// The value given.
        value: usize,
        /// What would be right.
        remedy: &'static str,
    },
    /// The name is in use, or an earlier lab was left behind.
    #[error(
        "a lab named {0} is there already: remove it with `headrace-lab down --name {0}`, or choose another --name"
    )]
    Taken(String),
    /// No such lab.
    #[error("no lab named {name}: {known}")]
    NoSuchLab {
        /// The name asked for.
        name: String,
        /// The labs that are up.
        known: String,
    },
    /// No such pod, node or host in this lab.
    #[error("the lab has no {name:?}: it has {known}")]
    NoSuchSpace {
        /// The name asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A node of a Kubernetes cluster gets its pods and Services from there.
    #[error("{0} belongs to a Kubernetes cluster, which brings its pods and Services: use kubectl")]
    Scheduled(String),
    /// A command ended with an error.
    #[error("{space}: `{command}` failed ({status})\n{output}")]
    Command {
        /// Where it ran.
        space: String,
        /// The command line.
        command: String,
        /// Exit status in words.
        status: String,
        /// What it printed.
        output: String,
    },
    /// A command took too long and was ended.
    #[error("{space}: `{command}` was not done after {seconds} s and was ended\n{output}")]
    Timeout {
        /// Where it ran.
        space: String,
        /// The command line.
        command: String,
        /// The limit.
        seconds: u64,
        /// What it had printed.
        output: String,
    },
    /// The CNI plugin refused.
    #[error("CNI {verb} for pod {pod} failed: {reason}")]
    Cni {
        /// ADD, DEL, CHECK.
        verb: &'static str,
        /// Name of the pod.
        pod: String,
        /// The CNI error code; 0 when the plugin printed none.
        code: u32,
        /// The plugin's message or, without one, its output.
        reason: String,
    },
    /// A daemon does not do what it should.
    #[error("{daemon} on {node} {problem}; the end of {log}:\n{tail}")]
    Daemon {
        /// Name of the binary.
        daemon: &'static str,
        /// Name of the node.
        node: String,
        /// What is wrong.
        problem: String,
        /// The log file.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// The dataplane's status could not be had, or says something that must not be.
    #[error("dataplane status of {node}: {problem}")]
    Status {
        /// Name of the node.
        node: String,
        /// What is wrong.
        problem: String,
    },
    /// Output of a tool that this code does not understand.
    #[error("cannot read the output of {tool}: {problem}\n{output}")]
    Output {
        /// The tool.
        tool: &'static str,
        /// What is missing.
        problem: String,
        /// What it printed.
        output: String,
    },
    /// The state file of a lab is damaged.
    #[error(
        "the lab's state file {path} is not readable: {problem}; `headrace-lab down` removes the lab all the same"
    )]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Input or output failed.
    #[error("{what}: {cause}")]
    Io {
        /// What was being done.
        what: String,
        /// The cause.
        cause: std::io::Error,
    },
}

impl LabError {
    /// Wraps an I/O error with what was being done; for `map_err`.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Io { what, cause }
    }
}
