//! Plots as SVG that a page takes in whole: bars with whiskers for ratios, lines for series. Colours are the page's.

use std::fmt::Write as _;

use super::figure::Figure;
use super::table::{distinct, number};

/// Room for names at the left, for the plot, and for the figure at the right.
const NAMES: f64 = 330.0;
const WIDTH: f64 = 460.0;
const FIGURES: f64 = 110.0;
/// Height of a bar, and of the space between groups.
const BAR: f64 = 14.0;
const GAP: f64 = 10.0;
/// Height of a plot of lines.
const HEIGHT: f64 = 220.0;

/// Height of the names of colours.
const LEGEND: f64 = 24.0;

/// Colours and lines, in both themes.
pub(super) const STYLE: &str = "
:root { --ink: #1b1f24; --dim: #667; --ground: #fff; --line: #dde; --c0: #2563c9; --c1: #d97706; --c2: #138a5b; --c3: #a83279; --c4: #777; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --dim: #99a; --ground: #16181c; --line: #33363d; --c0: #6ea0f5; --c1: #f0a94b; --c2: #4cc38f; --c3: #e07ab8; --c4: #aaa; } }
svg { max-width: 100%; height: auto; background: var(--ground); } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.whisker { stroke: var(--ink); stroke-width: 1.5; opacity: .7; } .one { stroke: var(--ink); stroke-dasharray: 3 3; }
.grid { stroke: var(--line); } .line { fill: none; stroke-width: 2; }
.c0 { fill: var(--c0); } .c1 { fill: var(--c1); } .c2 { fill: var(--c2); } .c3 { fill: var(--c3); } .c4 { fill: var(--c4); }
.l0 { stroke: var(--c0); } .l1 { stroke: var(--c1); } .l2 { stroke: var(--c2); } .l3 { stroke: var(--c3); } .l4 { stroke: var(--c4); }
";

/// Ratios to the kernel, a bar each, with its spread as a whisker and a line where both would be equal.
pub(super) fn ratios(figures: &[&Figure]) -> String {
    let with_ratio: Vec<&Figure> = figures.iter().copied().filter(|figure| figure.ratio.is_some()).collect();
    let subjects = distinct(&with_ratio, |figure| &figure.subject);
    let highest = with_ratio.iter().filter_map(|f| f.ratio).map(|r| r.high).fold(1.1, f64::max).min(4.0);
    let x = |ratio: f64| NAMES + ratio.min(highest) / highest * WIDTH;
    let (mut body, mut y) = (String::new(), GAP);
    for case in distinct(&with_ratio, |figure| &figure.case) {
        let of_case: Vec<&&Figure> = with_ratio.iter().filter(|figure| figure.case == case).collect();
        let middle = y + BAR * of_case.len() as f64 / 2.0 + 4.0;
        let _ = writeln!(
            body,
            "<text x='{}' y='{middle:.0}' text-anchor='end'>{}</text>",
            NAMES - 8.0,
            escape(case)
        );
        for figure in of_case {
            let Some(ratio) = figure.ratio else { continue };
            let colour = subjects.iter().position(|subject| *subject == figure.subject).unwrap_or(0);
            let (end, line) = (x(ratio.median), y + BAR / 2.0);
            let _ = writeln!(
                body,
                "<rect class='c{colour}' x='{NAMES}' y='{y:.1}' width='{:.1}' height='{}'><title>{}: {}</title></rect>\
                 <path class='whisker' d='M{:.1} {line:.1}H{:.1}'/>\
                 <text x='{:.1}' y='{:.1}'>{:.2}</text>",
                end - NAMES,
                BAR - 2.0,
                escape(&figure.subject),
                super::table::ratio(&ratio),
                x(ratio.low),
                x(ratio.high),
                x(ratio.high) + 6.0,
                y + BAR - 3.0,
                ratio.median,
            );
            y += BAR;
        }
        y += GAP;
    }
    let one = x(1.0);
    let _ = writeln!(body, "<path class='one' d='M{one:.1} 0V{y:.0}'/>");
    svg(y, &legend(&subjects), &body)
}

/// A series for each case: values against counts, the counts on a logarithmic axis.
pub(super) fn lines(figures: &[&Figure]) -> String {
    let points = |case: &str| -> Vec<(u64, f64)> {
        let of_case = figures.iter().filter(|figure| figure.case == case);
        of_case.filter_map(|f| Some((f.against.as_ref()?.count, f.value.median))).collect()
    };
    let counts = || figures.iter().filter_map(|f| Some(f.against.as_ref()?.count.max(1)));
    let (least, most) = (counts().min().unwrap_or(1) as f64, counts().max().unwrap_or(1) as f64);
    let highest = figures.iter().map(|figure| figure.value.median).fold(f64::MIN_POSITIVE, f64::max) * 1.1;
    let decades = (most / least).ln().max(f64::MIN_POSITIVE);
    let x = |count: u64| 70.0 + (count.max(1) as f64 / least).ln() / decades * (WIDTH + 200.0);
    let y = |value: f64| 10.0 + (1.0 - value / highest) * (HEIGHT - 40.0);
    let mut body = String::new();
    for tick in 0..=4 {
        let value = highest * f64::from(tick) / 4.0;
        let _ = writeln!(
            body,
            "<path class='grid' d='M70 {0:.1}H{1}'/><text x='62' y='{2:.1}' text-anchor='end'>{3}</text>",
            y(value),
            70.0 + WIDTH + 200.0,
            y(value) + 4.0,
            number(value)
        );
    }
    let cases = distinct(figures, |figure| &figure.case);
    for (colour, case) in cases.iter().enumerate() {
        let points = points(case);
        let path: Vec<String> =
            points.iter().map(|(count, value)| format!("{:.1} {:.1}", x(*count), y(*value))).collect();
        let _ = writeln!(body, "<path class='line l{colour}' d='M{}'/>", path.join("L"));
        for (count, value) in points {
            let _ = writeln!(
                body,
                "<circle class='c{colour}' cx='{0:.1}' cy='{1:.1}' r='3'><title>{2}: {3}</title></circle>\
                 <text x='{0:.1}' y='{4:.0}' text-anchor='middle'>{count}</text>",
                x(count),
                y(value),
                escape(case),
                number(value),
                HEIGHT - 10.0
            );
        }
    }
    svg(HEIGHT, &legend(&cases), &body)
}

/// Text that may stand in HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The same plot as a file of its own, which follows the reader's theme.
pub(super) fn file(plot: &str) -> String {
    plot.replacen('>', &format!("><style>{STYLE}</style>"), 1)
}

/// Names and their colours in a line above the plot.
fn legend(names: &[&str]) -> String {
    let mut x = NAMES;
    let mut text = String::new();
    for (colour, name) in names.iter().enumerate() {
        let _ = writeln!(
            text,
            "<rect class='c{colour}' x='{x}' y='4' width='10' height='10'/><text x='{}' y='13'>{}</text>",
            x + 15.0,
            escape(name)
        );
        x += 40.0 + 7.0 * name.len() as f64;
    }
    text
}

fn svg(height: f64, legend: &str, body: &str) -> String {
    let (width, height) = (NAMES + WIDTH + FIGURES, height + LEGEND);
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height:.0}' width='{width}' role='img'>\n\
         {legend}<g transform='translate(0 {LEGEND})'>\n{body}</g></svg>\n"
    )
}
