//! Services by their number: runs the benchmark of `tests/scale` and takes its table.

use std::process::Command;

use super::figure::{Against, Figure, Metric, Part};
use super::pipeline::output;
use super::{BenchError, Run, Scope};
use crate::space::MARK;
use crate::statistics::Spread;

/// What its table varies, as the first column's head says.
const WHAT: &str = "Services";

/// Runs it.
pub(super) fn run(run: &mut Run<'_>) -> Result<(), BenchError> {
    let sizes: &[&str] = match run.scope {
        Scope::Full => &["10", "100", "1000", "10000"],
        Scope::Quick => &["10", "100"],
        Scope::Smoke => &["10"],
    };
    let mut command = Command::new("cargo");
    command.args(["bench", "--locked", "--quiet", "-p", "headrace-lab", "--bench", "scale", "--"]);
    // With the lab's mark it ends with this run when that is interrupted.
    command.args(sizes).env(MARK, &run.lab_name);
    let text = output(command)?;
    let figures = figures(&text);
    if figures.is_empty() {
        return Err(BenchError::Program {
            program: "the benchmark `scale`".to_owned(),
            status: "it printed no table".to_owned(),
            output: text,
        });
    }
    run.figures.extend(figures);
    Ok(())
}

/// A row for each number; a column `what, unit (more)`, whose cell begins with a number, for each metric.
fn figures(text: &str) -> Vec<Figure> {
    let cells = |line: &str| {
        line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&format!("| {WHAT} |")));
    let Some(head) = lines.next().map(cells) else { return Vec::new() };
    let rows = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells);
    rows.flat_map(|row| {
        let count = row.first().and_then(|cell| cell.parse().ok());
        let columns = head.iter().zip(row).skip(1).map(|(head, cell)| figure(head, count?, &cell));
        columns.flatten().collect::<Vec<_>>()
    })
    .collect()
}

fn figure(head: &str, count: u64, cell: &str) -> Option<Figure> {
    let head = head.split_once(" (").map_or(head, |(head, _)| head);
    let (case, unit) = head.rsplit_once(", ")?;
    let value = cell.split_whitespace().next()?.parse().ok()?;
    Some(Figure {
        part: Part::Services,
        case: case.to_owned(),
        subject: "headrace".to_owned(),
        metric: if unit.ends_with("bit/s") { Metric::higher(unit) } else { Metric::lower(unit) },
        against: Some(Against { what: WHAT.to_owned(), count }),
        value: Spread::of(&[value])?,
        ratio: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_becomes_a_series_for_each_column() {
        let text = "up\n| Services | derive, ms | change by object, ms (p99) |\n| ---: | ---: | ---: |\n\
                    | 10 | 0.5 | 1.20 (3.00) |\n| 100 | 5.0 | 1.30 (3.10) |\n\nplot\n";
        let figures = figures(text);
        assert_eq!(figures.len(), 4);
        assert_eq!((figures[1].case.as_str(), figures[1].value.median), ("change by object", 1.2));
        assert_eq!(figures[3].against.as_ref().unwrap().count, 100);
        assert!(super::figures("nothing").is_empty());
    }
}
