//! What moved between two results, beyond what the machine's noise explains.

use std::fmt::Write as _;

use super::figure::{Better, Figure, Report};
use super::table::number;
use crate::statistics::Spread;

/// Less than this is never a finding.
const SMALLEST: f64 = 0.03;

/// Compares `new` with `old`, in words.
pub(super) fn text(old: &Report, new: &Report) -> String {
    let mut text =
        format!("\n== Compared with the result of {} UTC, commit {} ==\n\n", old.host.date, old.host.commit);
    let other = new.host.differences(&old.host);
    if !other.is_empty() {
        let _ = writeln!(
            text,
            "That result is of another machine ({}): only ratios to the kernel of the same run are compared, and these\n\
             with care.",
            other.join("; ")
        );
    }
    if old.quick || new.quick {
        let _ = writeln!(text, "Short runs scatter: differences of few rounds are hints, not findings.");
    }
    let moves: Vec<Move<'_>> =
        new.figures.iter().filter_map(|figure| Move::of(old, new, figure, other.is_empty())).collect();
    let common = new.figures.iter().filter(|figure| find(old, figure).is_some()).count();
    if common == 0 {
        text.push_str("The two have no figure in common.\n");
    } else if moves.is_empty() {
        let _ = writeln!(text, "Of {common} figures that both have, none moved beyond the noise.");
    } else {
        let _ = writeln!(text, "Of {common} figures that both have, {} moved beyond the noise:", moves.len());
        moves.iter().for_each(|moved| text.push_str(&moved.line()));
    }
    text
}

/// A figure that moved.
struct Move<'a> {
    figure: &'a Figure,
    what: String,
    before: Spread,
    after: Spread,
}

impl<'a> Move<'a> {
    /// By its ratio where it has one: a machine's mood has no part in that. Values only count on the same machine.
    fn of(old: &Report, new: &Report, figure: &'a Figure, same_machine: bool) -> Option<Self> {
        let former = find(old, figure)?;
        let unit = &figure.metric.unit;
        let (what, before, after) = match former.ratio.zip(figure.ratio) {
            Some((before, after)) => (format!("{unit}, of kernel"), before, after),
            None if same_machine => (unit.clone(), former.value, figure.value),
            None => return None,
        };
        let noise = [old, new].map(|report| report.noise.path.max(report.noise.wavering));
        let noise = noise[0].max(noise[1]).max(SMALLEST);
        moved(&before, &after, noise).then_some(Self { figure, what, before, after })
    }

    fn line(&self) -> String {
        let change = self.after.median / self.before.median - 1.0;
        let good = (change > 0.0) == (self.figure.metric.better == Better::Higher);
        let against =
            self.figure.against.as_ref().map(|a| format!(" at {} {}", a.count, a.what)).unwrap_or_default();
        format!(
            "  {:<6} {:+6.1} %  {}{against}, {}: {} {} -> {}\n",
            if good { "better" } else { "WORSE" },
            change * 100.0,
            self.figure.case,
            self.figure.subject,
            self.what,
            number(self.before.median),
            number(self.after.median),
        )
    }
}

/// Whether the rounds of one lie all on one side of the other's, and the middle ones by more than `noise` apart.
fn moved(before: &Spread, after: &Spread, noise: f64) -> bool {
    let apart = after.low > before.high || after.high < before.low;
    before.median > 0.0 && apart && (after.median / before.median - 1.0).abs() > noise
}

fn find<'a>(report: &'a Report, figure: &Figure) -> Option<&'a Figure> {
    report.figures.iter().find(|other| other.key() == figure.key())
}

#[cfg(test)]
mod tests {
    use super::super::figure::testing::{figure, report};
    use super::*;

    fn compared(old: Figure, new: Figure) -> String {
        text(&report(vec![old]), &report(vec![new]))
    }

    #[test]
    fn a_result_has_not_moved_from_itself() {
        let one = figure("same node", "auto", 9.0, Some(0.9));
        assert!(compared(one.clone(), one).contains("none moved"));
    }

    #[test]
    fn a_ratio_counts_more_than_a_value_and_the_good_way_is_told() {
        // The machine became twice as fast, for both.
        let text = compared(figure("a", "auto", 9.0, Some(0.9)), figure("a", "auto", 18.0, Some(0.91)));
        assert!(text.contains("none moved"), "{text}");
        let text = compared(figure("a", "auto", 9.0, Some(0.9)), figure("a", "auto", 9.0, Some(0.5)));
        assert!(text.contains("WORSE") && text.contains("-44.4 %"), "{text}");
        let text = compared(figure("a", "auto", 5.0, None), figure("a", "auto", 9.0, None));
        assert!(text.contains("better"), "{text}");
    }

    #[test]
    fn values_of_another_machine_are_not_compared() {
        let old = report(vec![figure("a", "auto", 5.0, None)]);
        let mut new = report(vec![figure("a", "auto", 9.0, None)]);
        new.host.kernel = "another".to_owned();
        let text = text(&old, &new);
        assert!(text.contains("another machine") && text.contains("none moved"), "{text}");
    }

    #[test]
    fn nothing_in_common_is_said() {
        assert!(
            compared(figure("a", "auto", 5.0, None), figure("b", "auto", 5.0, None))
                .contains("no figure in common")
        );
    }
}
