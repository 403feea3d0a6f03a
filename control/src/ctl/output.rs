//! Standard output: tables as wide as the terminal, or JSON.

use std::io::{ErrorKind, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::CtlError;

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For scripts.
    Json,
}

/// Prints in one form.
pub struct Printer {
    json: bool,
}

impl Printer {
    /// JSON, or for people.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a script reads.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// An answer as a whole.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn show(
        &self,
        answer: &impl Serialize,
        table: impl FnOnce(Option<u16>) -> String,
    ) -> Result<(), CtlError> {
        if self.json {
            let text = serde_json::to_string_pretty(answer).map_err(|e| io(e.into()))?;
            return line(&text);
        }
        line(table(terminal_width()).trim_end())
    }

    /// One of many answers: a line of JSON, or whatever people read.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn next(&self, answer: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), CtlError> {
        if self.json {
            return line(&serde_json::to_string(answer).map_err(|e| io(e.into()))?);
        }
        line(&text())
    }
}

/// Writes a line; a reader that has seen enough, like head(1), ends the process without an error.
pub(super) fn line(text: &str) -> Result<(), CtlError> {
    write(format!("{text}\n").as_bytes())
}

/// The same with bytes.
pub(super) fn write(bytes: &[u8]) -> Result<(), CtlError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(io(error)),
        Ok(()) => Ok(()),
    }
}

fn io(source: std::io::Error) -> CtlError {
    CtlError::Io { what: "standard output".into(), source }
}

/// Rows under a header, in the terminal's width where there is one.
pub(super) fn table<const N: usize>(
    width: Option<u16>,
    header: [&str; N],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.map(str::to_uppercase));
    match width {
        Some(width) => {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        None => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    table.add_rows(rows);
    table.trim_fmt()
}

/// `None` when the output goes to a file or a pipe: then lines are as long as they are.
fn terminal_width() -> Option<u16> {
    rustix::termios::tcgetwinsize(std::io::stdout())
        .ok()
        .map(|size| size.ws_col)
        .filter(|columns| *columns > 0)
}
