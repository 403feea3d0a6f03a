//! README's figures: made from a result, between two markers, so that nobody copies one by hand.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::figure::{Figure, Part, Report};
use super::table::{Table, distinct, number, ratio, tables};
use super::turns::KERNEL;
use super::{BenchError, html, plot};

const BEGIN: &str = "<!-- figures: made by `make bench-readme` from docs/bench/result.json -->";
const END: &str = "<!-- end of figures -->";

/// Files of a committed result, beside README.md.
pub const FOLDER: &str = "docs/bench";

/// Endings of cases whose throughput README shows: on the usual wire, in one direction.
const THROUGHPUT: [&str; 2] = ["1 stream", "4 streams"];

/// What README shows of the wire beside throughput: endings of cases and units. The report has all.
const OTHERS: [(&str, &str); 4] = [
    ("request/response, idle", "p50, us"),
    ("request/response, under load", "p99, us"),
    ("new connections", "connections/s"),
    ("UDP 1400 B, loss < 0.1 %", "Mpps"),
];

/// What README shows of the pipeline.
const PIPELINE: [&str; 4] = [
    "forward, 64 B, 10000 flows",
    "Service and VXLAN out, 64 B, 10000 flows",
    "Service and VXLAN out, 64 B, 1000000 flows",
    "Service and VXLAN out, 64 B, new flows",
];

/// What to do with README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the figures into it.
    Write,
    /// Say whether they are in it.
    Check,
}

/// Puts the committed result of the repository at `root` into its README.md, and makes its page and plots anew; or checks that
/// README.md has it. `false` when it has not.
///
/// # Errors
/// [`BenchError::NoResult`] for the result, [`BenchError::NoMarkers`], or [`BenchError::Write`].
pub fn readme(root: &Path, action: Action) -> Result<bool, BenchError> {
    let report = Report::load(&root.join(FOLDER).join("result.json"))?;
    let file = root.join("README.md");
    let io = |cause| BenchError::Write { file: file.clone(), cause };
    let text = std::fs::read_to_string(&file).map_err(io)?;
    let new = replaced(&text, &block(&report)).ok_or_else(|| BenchError::NoMarkers { file: file.clone() })?;
    if action == Action::Write {
        std::fs::write(&file, &new).map_err(io)?;
        write_pages(&report, &root.join(FOLDER))?;
    }
    Ok(text == new || action == Action::Write)
}

/// Writes the page and the plots of a result into `folder`.
pub(super) fn write_pages(report: &Report, folder: &Path) -> Result<(), BenchError> {
    let page = (PathBuf::from("report.html"), html::page(report));
    for (name, text) in std::iter::once(page).chain(plots(report)) {
        let file = folder.join(name);
        std::fs::write(&file, text).map_err(|cause| BenchError::Write { file, cause })?;
    }
    Ok(())
}

/// Plots of a result as files of their own: name and text.
fn plots(report: &Report) -> Vec<(PathBuf, String)> {
    let of = |units: &[&str]| {
        let figures: Vec<&Figure> = report
            .figures
            .iter()
            .filter(|f| f.part == Part::Wire && f.ratio.is_some() && units.contains(&f.metric.unit.as_str()))
            .collect();
        (!figures.is_empty()).then(|| plot::file(&plot::ratios(&figures)))
    };
    [("throughput.svg", of(&["Gbit/s"])), ("latency.svg", of(&["p50, us"]))]
        .into_iter()
        .filter_map(|(name, plot)| Some((name.into(), plot?)))
        .collect()
}

fn replaced(text: &str, block: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{block}{END}{after}"))
}

fn block(report: &Report) -> String {
    let mut text = format!(
        "Measured on {} UTC with commit {}: {}, {} cores, Linux {}, TCP with {}; all nodes, pods and their programs on these \
         cores. The kernel's path differs from itself by up to {:.0} % there. {}\n\n",
        report.host.date,
        report.host.commit,
        report.host.cpu,
        report.host.cores,
        report.host.kernel,
        report.host.congestion_control,
        report.noise.path * 100.0,
        if report.quick { "A short run, whose figures scatter more than those of a full one." } else { "" }
    );
    if plots(report).iter().any(|(name, _)| name.ends_with("throughput.svg")) {
        let _ = writeln!(text, "![Throughput by path, ratio to the kernel]({FOLDER}/throughput.svg)\n");
    }
    for mut table in tables(report, Part::Wire).into_iter().filter(|table| table.title == "Gbit/s") {
        table.columns[0] = "Gbit/s".to_owned();
        table.rows.retain(|row| THROUGHPUT.iter().any(|ending| row[0].ends_with(ending)));
        text.push_str(&markdown(&table));
        text.push('\n');
    }
    text.push_str(&markdown(&others(report)));
    text.push('\n');
    let pipeline = pipeline(report);
    if !pipeline.rows.is_empty() {
        text.push_str(&markdown(&pipeline));
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "More of it, with plots: [report.html]({FOLDER}/report.html); the same for programs: [result.json]({FOLDER}/result.json)."
    );
    text
}

/// What else is shown of the wire, and all of the cost, in one table.
fn others(report: &Report) -> Table {
    let shown = |f: &&Figure| match f.part {
        Part::Wire => OTHERS.iter().any(|(case, unit)| f.case.ends_with(case) && f.metric.unit == *unit),
        Part::Cost => f.against.is_none(),
        Part::Pipeline | Part::Services => false,
    };
    let figures: Vec<&Figure> = report.figures.iter().filter(shown).collect();
    let ours: Vec<&Figure> = figures.iter().copied().filter(|f| f.subject != KERNEL).collect();
    let subjects = distinct(&ours, |figure| &figure.subject);
    let mut lines: Vec<(&str, &str)> =
        figures.iter().map(|f| (f.case.as_str(), f.metric.unit.as_str())).collect();
    let mut seen = std::collections::HashSet::new();
    lines.retain(|line| seen.insert(*line));
    let row = |(case, unit): (&str, &str)| {
        let find = |subject: &str| report.find(case, subject, unit);
        let kernel = find(KERNEL).map(|f| number(f.value.median)).unwrap_or_default();
        let cells = subjects.iter().map(|subject| match find(subject) {
            Some(Figure { value, ratio: Some(spread), .. }) => {
                format!("{}, {}", number(value.median), ratio(spread))
            }
            Some(figure) => number(figure.value.median),
            None => String::new(),
        });
        [case.to_owned(), unit.to_owned(), kernel].into_iter().chain(cells).collect()
    };
    let columns = ["case", "unit", KERNEL].map(str::to_owned).into_iter();
    let columns = columns.chain(subjects.iter().map(|subject| format!("{subject}, of kernel"))).collect();
    Table { title: String::new(), columns, rows: lines.into_iter().map(row).collect() }
}

fn pipeline(report: &Report) -> Table {
    let cell = |case: &str, unit: &str| report.find(case, "headrace", unit).map(|f| number(f.value.median));
    let row = |case: &&str| Some(vec![(*case).to_owned(), cell(case, "ns/packet")?, cell(case, "Mpps")?]);
    let columns = ["pipeline, one core, no I/O", "ns/packet", "Mpps"].map(str::to_owned).to_vec();
    Table { title: String::new(), columns, rows: PIPELINE.iter().filter_map(row).collect() }
}

fn markdown(table: &Table) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule: Vec<String> = (0..table.columns.len()).map(|_| "---".to_owned()).collect();
    line(&table.columns) + &line(&rule) + &table.rows.iter().map(|row| line(row)).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::super::figure::testing::{figure, report};
    use super::*;

    #[test]
    fn figures_stand_between_the_markers_and_nothing_else_changes() {
        let report = report(vec![
            figure("same node, 1 stream", "auto", 9.0, Some(0.8)),
            figure("same node, 1 stream", KERNEL, 10.0, None),
        ]);
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replaced(&text, &block(&report)).unwrap();
        assert!(new.starts_with("before\n") && new.ends_with("\nafter\n") && !new.contains("old"));
        assert!(new.contains("| same node, 1 stream | 10.0 (9.50-10.5) | 9.00  0.80 (0.76-0.84) |"), "{new}");
        assert_eq!(replaced(&new, &block(&report)).unwrap(), new);
        assert_eq!(replaced("no markers", ""), None);
    }

    #[test]
    fn readme_shows_the_committed_result() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert!(
            readme(&root, Action::Check).unwrap(),
            "README.md has other figures: `make bench-readme` puts them right"
        );
    }
}
