//! The figures as tables, for the terminal and for the page.

use std::fmt::Write as _;

use super::figure::{Figure, Part, Report};
use super::turns::KERNEL;
use crate::statistics::Spread;

/// Rows of cells under a heading; the first column names the case.
pub(super) struct Table {
    pub(super) title: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

/// All tables of a part.
pub(super) fn tables(report: &Report, part: Part) -> Vec<Table> {
    let figures: Vec<&Figure> = report.figures.iter().filter(|figure| figure.part == part).collect();
    let (series, single): (Vec<&Figure>, Vec<&Figure>) =
        figures.into_iter().partition(|figure| figure.against.is_some());
    let compared = single.iter().any(|figure| figure.subject == KERNEL);
    let mut tables = if compared { by_unit(&single) } else { by_case(&single) };
    tables.extend(against(&series));
    tables
}

/// The whole report for the terminal.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    for part in report.parts() {
        let _ = writeln!(text, "== {} ==\n", part.title());
        for table in tables(report, part) {
            text.push_str(&aligned(&table));
            text.push('\n');
        }
    }
    let _ = writeln!(text, "noise: {}", report.noise.summary());
    report.remarks.iter().for_each(|remark| text.push_str(&format!("note: {remark}\n")));
    report.faults.iter().for_each(|fault| text.push_str(&format!("NOT SOUND: {fault}\n")));
    text
}

/// Figures of one case in one line, for progress.
pub(super) fn line(figures: &[Figure]) -> String {
    let one = |figure: &Figure| {
        let ratio = figure.ratio.map(|ratio| format!(" ({:.2})", ratio.median)).unwrap_or_default();
        format!("{} {} {}{ratio}", figure.subject, number(figure.value.median), figure.metric.unit)
    };
    figures.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// About three digits.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 || v == 0.0 => format!("{value:.2}"),
        v if v >= 0.1 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

/// A ratio with its spread.
pub(super) fn ratio(ratio: &Spread) -> String {
    format!("{:.2} ({:.2}-{:.2})", ratio.median, ratio.low, ratio.high)
}

/// Where several are compared: a table for each unit, a column for each of them.
fn by_unit(figures: &[&Figure]) -> Vec<Table> {
    distinct(figures, |figure| &figure.metric.unit)
        .into_iter()
        .map(|unit| {
            let of_unit: Vec<&Figure> = figures.iter().copied().filter(|f| f.metric.unit == unit).collect();
            let mut subjects = distinct(&of_unit, |figure| &figure.subject);
            // The yardstick stands first.
            subjects.sort_by_key(|subject| *subject != KERNEL);
            let rows = distinct(&of_unit, |figure| &figure.case).into_iter().map(|case| {
                let cell = |subject: &&str| {
                    of_unit
                        .iter()
                        .find(|f| f.case == case && f.subject == *subject)
                        .map_or_else(dash, |f| cell(f))
                };
                std::iter::once(case.to_owned()).chain(subjects.iter().map(cell)).collect()
            });
            let rows = rows.collect();
            let head = |subject: &&str| match *subject {
                KERNEL => KERNEL.to_owned(),
                other => format!("{other}, of kernel"),
            };
            let columns = std::iter::once("case".to_owned()).chain(subjects.iter().map(head)).collect();
            Table { title: unit.to_owned(), columns, rows }
        })
        .collect()
}

/// Where nobody is compared: one table, a column for each unit.
fn by_case(figures: &[&Figure]) -> Vec<Table> {
    if figures.is_empty() {
        return Vec::new();
    }
    let units = distinct(figures, |figure| &figure.metric.unit);
    let rows = distinct(figures, |figure| &figure.case).into_iter().map(|case| {
        let cell = |unit: &&str| {
            figures
                .iter()
                .find(|f| f.case == case && f.metric.unit == *unit)
                .map_or_else(dash, |f| with_spread(f))
        };
        std::iter::once(case.to_owned()).chain(units.iter().map(cell)).collect()
    });
    let rows = rows.collect();
    let columns = std::iter::once("case".to_owned()).chain(units.iter().map(ToString::to_string)).collect();
    vec![Table { title: String::new(), columns, rows }]
}

/// A table for each series.
fn against(figures: &[&Figure]) -> Vec<Table> {
    let what =
        |figure: &Figure| figure.against.as_ref().map(|against| against.what.clone()).unwrap_or_default();
    let mut kinds: Vec<String> = Vec::new();
    figures.iter().map(|figure| what(figure)).for_each(|kind| {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    });
    let table = |kind: String| {
        let of_kind: Vec<&Figure> = figures.iter().copied().filter(|figure| what(figure) == kind).collect();
        let mut counts: Vec<u64> = of_kind.iter().filter_map(|f| Some(f.against.as_ref()?.count)).collect();
        counts.sort_unstable();
        counts.dedup();
        let mut lines: Vec<(&str, &str)> = Vec::new();
        for line in of_kind.iter().map(|f| (f.case.as_str(), f.metric.unit.as_str())) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        let rows = lines.into_iter().map(|(case, unit)| {
            let cell = |count: &u64| {
                let found = of_kind.iter().find(|f| {
                    f.case == case
                        && f.metric.unit == unit
                        && f.against.as_ref().is_some_and(|a| a.count == *count)
                });
                found.map_or_else(dash, |figure| number(figure.value.median))
            };
            std::iter::once(format!("{case}, {unit}")).chain(counts.iter().map(cell)).collect()
        });
        let rows = rows.collect();
        let columns =
            std::iter::once(format!("against {kind}")).chain(counts.iter().map(ToString::to_string));
        Table { title: format!("against {kind}"), columns: columns.collect(), rows }
    };
    kinds.into_iter().map(table).collect()
}

fn cell(figure: &Figure) -> String {
    match &figure.ratio {
        Some(spread) => format!("{}  {}", number(figure.value.median), ratio(spread)),
        None => with_spread(figure),
    }
}

fn with_spread(figure: &Figure) -> String {
    let Spread { median, low, high, .. } = figure.value;
    if low == high {
        number(median)
    } else {
        format!("{} ({}-{})", number(median), number(low), number(high))
    }
}

/// Values of a key in the order in which they first come.
pub(super) fn distinct<'a>(figures: &[&'a Figure], key: fn(&'a Figure) -> &'a String) -> Vec<&'a str> {
    let mut values: Vec<&str> = Vec::new();
    for value in figures.iter().map(|figure| key(figure).as_str()) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

fn aligned(table: &Table) -> String {
    let mut text = String::new();
    if !table.title.is_empty() {
        let _ = writeln!(text, "{}", table.title);
    }
    let lines = || std::iter::once(&table.columns).chain(&table.rows);
    let width = |column: usize| {
        lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
    for line in lines() {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let _ = writeln!(text, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::figure::testing::{figure, report};
    use super::*;

    #[test]
    fn the_kernel_stands_first_and_what_was_not_measured_is_a_dash() {
        let report = report(vec![
            figure("same node", "auto", 9.0, Some(0.8)),
            figure("same node", "kernel", 10.0, None),
            figure("across nodes", "kernel", 5.0, None),
        ]);
        let tables = tables(&report, Part::Wire);
        assert_eq!(tables[0].columns, ["case", "kernel", "auto, of kernel"]);
        assert_eq!(tables[0].rows[0], ["same node", "10.0 (9.50-10.5)", "9.00  0.80 (0.76-0.84)"]);
        assert_eq!(tables[0].rows[1][2], "-");
        assert!(text(&report).contains("same node"));
    }
}
