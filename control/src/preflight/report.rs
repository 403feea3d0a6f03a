//! Findings, as tables for people and as JSON for scripts.

use std::fmt::Write as _;

use serde::Serialize;

/// How bad a finding is. Ordered: a later one is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// It works, but slower, or not for everything.
    Warning,
    /// It will not work.
    Error,
}

/// What is known of one feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: "AF_XDP multi-buffer".
    pub feature: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was seen.
    pub seen: String,
    /// What to do about it; empty when there is nothing to do.
    pub remedy: String,
}

/// All findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

impl Finding {
    pub(super) fn ok(feature: &'static str, seen: impl Into<String>) -> Self {
        Self { feature, severity: Severity::Ok, seen: seen.into(), remedy: String::new() }
    }

    pub(super) fn note(feature: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Note, remedy: remedy.into(), ..Self::ok(feature, seen) }
    }

    pub(super) fn warning(feature: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, remedy: remedy.into(), ..Self::ok(feature, seen) }
    }

    pub(super) fn error(feature: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Error, remedy: remedy.into(), ..Self::ok(feature, seen) }
    }

    /// One sentence, as the agent logs it.
    pub fn sentence(&self) -> String {
        let remedy = if self.remedy.is_empty() { String::new() } else { format!("; {}", self.remedy) };
        format!("{}: {}{remedy}", self.feature, self.seen)
    }
}

impl Report {
    /// What makes it impossible.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error)
    }

    /// The worst of all.
    pub fn worst(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
    }

    /// Exit code of a program that has printed it: 0 = nothing to do, 4 = warnings, 5 = errors.
    pub fn exit_code(&self) -> u8 {
        match self.worst() {
            Severity::Ok | Severity::Note => 0,
            Severity::Warning => 4,
            Severity::Error => 5,
        }
    }

    /// One line for each finding, with the remedy below it.
    pub fn text(&self) -> String {
        let width = self.findings.iter().map(|finding| finding.feature.len()).max().unwrap_or(0);
        let mut text = String::new();
        for finding in &self.findings {
            let mark = match finding.severity {
                Severity::Ok => "ok  ",
                Severity::Note => "note",
                Severity::Warning => "WARN",
                Severity::Error => "FAIL",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{mark}  {:width$}  {}", finding.feature, finding.seen);
            if !finding.remedy.is_empty() {
                let _ = writeln!(text, "{:6}{:width$}  -> {}", "", "", finding.remedy);
            }
        }
        let verdict = match self.worst() {
            Severity::Ok | Severity::Note => "Headrace can run here.",
            Severity::Warning => "Headrace can run here, with the limits above.",
            Severity::Error => "Headrace cannot run here before what FAILs is mended.",
        };
        text + verdict
    }
}
