//! One page with everything: no script, no font and no picture from elsewhere.

use std::fmt::Write as _;

use super::figure::{Figure, Part, Report};
use super::plot::{self, escape};
use super::table::{Table, tables};

/// The page's own; colours are those of the plots.
const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 1040px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { margin-top: 2em; border-bottom: 1px solid var(--line); } h3 { margin-bottom: .3em; }
figure { margin: 0; } .dim, figcaption { color: var(--dim); } .bad { color: #c33; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
td, th { padding: .25em .8em .25em 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
td:first-child, th:first-child { text-align: left; }
";

/// The report as a page.
pub(super) fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>\
         <title>Headrace: benchmarks</title>\n<style>{}{STYLE}</style>\n<h1>Headrace: benchmarks</h1>\n<p>{}</p>\n\
         <p class='dim'>Noise: {}. Figures are medians; in parentheses the lowest and the highest round. Ratios are taken within \
         a round, where all are measured in turns.{}</p>\n",
        plot::STYLE,
        escape(&report.host.summary()),
        escape(&report.noise.summary()),
        if report.quick { " This was a short run: its figures scatter more." } else { "" }
    );
    for (class, lines) in [("dim", &report.remarks), ("bad", &report.faults)] {
        for line in lines {
            let _ = writeln!(page, "<p class='{class}'>{}</p>", escape(line));
        }
    }
    for part in report.parts() {
        let _ = writeln!(page, "<h2>{}</h2>", escape(part.title()));
        for table in tables(report, part) {
            page.push_str(&section(report, part, &table));
        }
    }
    page + "</html>\n"
}

/// A table and the plot of what is in it.
fn section(report: &Report, part: Part, table: &Table) -> String {
    let of_part = report.figures.iter().filter(|figure| figure.part == part);
    let series =
        |f: &&Figure| f.against.as_ref().is_some_and(|a| table.title == format!("against {}", a.what));
    let in_lines: Vec<&Figure> = of_part.clone().filter(series).collect();
    let compared: Vec<&Figure> = of_part
        .filter(|f| f.against.is_none() && f.ratio.is_some() && f.metric.unit == table.title)
        .collect();
    let plot = match (in_lines.is_empty(), compared.is_empty()) {
        (false, _) => by_unit(&in_lines),
        (true, false) => {
            let better = match compared[0].metric.better {
                super::Better::Higher => "longer is better",
                super::Better::Lower => "shorter is better",
            };
            format!(
                "<figure>{}<figcaption>Ratio to the kernel, {better}.</figcaption></figure>",
                plot::ratios(&compared)
            )
        }
        (true, true) => String::new(),
    };
    format!("<h3>{}</h3>\n{plot}\n<div class='scroll'>{}</div>\n", escape(&table.title), html_table(table))
}

/// Lines of different units have different axes.
fn by_unit(figures: &[&Figure]) -> String {
    let units = super::table::distinct(figures, |figure| &figure.metric.unit);
    let plot = |unit: &str| {
        let of_unit: Vec<&Figure> = figures.iter().copied().filter(|f| f.metric.unit == unit).collect();
        format!("<figure>{}<figcaption>{}</figcaption></figure>", plot::lines(&of_unit), escape(unit))
    };
    units.into_iter().map(plot).collect()
}

fn html_table(table: &Table) -> String {
    let row = |cells: &[String], tag: &str| {
        let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let body: String = table.rows.iter().map(|cells| row(cells, "td")).collect();
    format!("<table>\n{}{body}</table>", row(&table.columns, "th"))
}

#[cfg(test)]
mod tests {
    use super::super::figure::testing::{figure, report};
    use super::super::{Against, Figure};
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_shows_every_case() {
        let series = |count| Figure {
            against: Some(Against { what: "pods".to_owned(), count }),
            ..figure("memory <both>", "auto", count as f64, None)
        };
        let page = page(&report(vec![
            figure("same node", "auto", 9.0, Some(0.9)),
            figure("same node", "kernel", 10.0, None),
            series(2),
            series(110),
        ]));
        assert!(
            page.contains("same node") && page.contains("memory &lt;both&gt;") && page.contains("<circle")
        );
        for elsewhere in ["<script", "src=", "@import", "url("] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
    }
}
