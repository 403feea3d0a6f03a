//! Cost against size as a picture: both axes are logarithmic, so what is in proportion to size rises like the grid.

use std::fmt::Write as _;
use std::time::Duration;

use super::table::{Row, ms, share};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const MARGIN: f64 = 60.0;
/// Powers of ten at the ends of the axes: Services, and milliseconds.
const SIZES: (f64, f64) = (1.0, 4.0);
const TIMES: (f64, f64) = (-1.0, 4.0);

/// A line of the plot: name, color, value.
type Line = (&'static str, &'static str, fn(&Row) -> Duration);

const LINES: [Line; 4] = [
    ("manifests to dataplane", "#1f77b4", |r| r.from_manifests),
    ("objects to dataplane", "#ff7f0e", |r| r.from_objects),
    ("change of one endpoint, p99", "#2ca02c", |r| share(&r.object_changes, 0.99)),
    ("the same under traffic, p99", "#d62728", |r| share(&r.traffic.changes, 0.99)),
];

/// An SVG image.
pub(super) fn svg(rows: &[Row]) -> String {
    let mut image = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    grid(&mut image);
    for (i, (name, color, value)) in LINES.into_iter().enumerate() {
        let point = |row: &Row| format!("{:.1},{:.1}", x(row.size as f64), y(ms(value(row))));
        let points = rows.iter().map(point).collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            image,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>"
        );
        let top = MARGIN / 2.0 + 16.0 * i as f64;
        let _ =
            writeln!(image, "<text x=\"{:.0}\" y=\"{top:.0}\" fill=\"{color}\">{name}</text>", MARGIN + 10.0);
    }
    image + "</svg>\n"
}

fn grid(image: &mut String) {
    let mut line = |from: (f64, f64), to: (f64, f64), text: String, at: (f64, f64)| {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            image,
            "<line x1=\"{x1:.0}\" y1=\"{y1:.0}\" x2=\"{x2:.0}\" y2=\"{y2:.0}\" stroke=\"#ddd\"/>"
        );
        let _ =
            writeln!(image, "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{text}</text>", at.0, at.1);
    };
    for power in SIZES.0 as i32..=SIZES.1 as i32 {
        let at = x(10f64.powi(power));
        let text = format!("{} Services", 10f64.powi(power));
        line((at, MARGIN / 2.0), (at, HEIGHT - MARGIN), text, (at, HEIGHT - MARGIN / 2.0));
    }
    for power in TIMES.0 as i32..=TIMES.1 as i32 {
        let at = y(10f64.powi(power));
        let text = format!("{} ms", 10f64.powi(power));
        line((MARGIN, at), (WIDTH - MARGIN / 2.0, at), text, (MARGIN / 2.0, at + 4.0));
    }
}

fn x(size: f64) -> f64 {
    MARGIN + (WIDTH - MARGIN * 2.0) * share_of(size, SIZES)
}

fn y(milliseconds: f64) -> f64 {
    HEIGHT - MARGIN - (HEIGHT - MARGIN * 1.5) * share_of(milliseconds, TIMES)
}

/// Where a value lies between two powers of ten.
fn share_of(value: f64, (low, high): (f64, f64)) -> f64 {
    (value.max(1e-9).log10() - low) / (high - low)
}
