//! Measurements in turns: A B C, C B A, A B C, so that a machine that gets slower or faster on the way favours nobody. Ratios
//! are taken within a round.

use crate::LabError;
use crate::leg::Leg;
use crate::statistics::Spread;

use super::figure::{Figure, Metric, Part};

/// One who is measured.
#[derive(Clone, Debug)]
pub(super) struct Contender {
    /// Its name in the result.
    pub(super) subject: &'static str,
    /// Its way.
    pub(super) leg: Leg,
}

/// What one measurement gave.
pub(super) type Readings = Vec<(Metric, f64)>;

/// The name of the yardstick.
pub(super) const KERNEL: &str = "kernel";

/// All rounds of one case.
pub(super) struct Rounds {
    /// By contender, then by round.
    readings: Vec<Vec<Readings>>,
    subjects: Vec<&'static str>,
    /// Why somebody could not be measured; his rounds end there.
    pub(super) faults: Vec<String>,
}

/// Measures every contender `rounds` times.
pub(super) fn in_turns(
    contenders: &[Contender],
    rounds: u32,
    measure: impl Fn(&Leg) -> Result<Readings, LabError>,
) -> Rounds {
    let mut done = Rounds {
        readings: vec![Vec::new(); contenders.len()],
        subjects: contenders.iter().map(|contender| contender.subject).collect(),
        faults: Vec::new(),
    };
    let mut failed = vec![false; contenders.len()];
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for turn in order {
            if failed[turn] {
                continue;
            }
            match measure(&contenders[turn].leg) {
                Ok(readings) => done.readings[turn].push(readings),
                Err(error) => {
                    failed[turn] = true;
                    done.faults.push(format!("{}: {}", contenders[turn].subject, first_line(&error)));
                }
            }
        }
    }
    done
}

impl Rounds {
    /// A figure for every contender and metric, with ratios to the kernel's where it was measured too.
    pub(super) fn figures(&self, part: Part, case: &str) -> Vec<Figure> {
        let yardstick = self.subjects.iter().position(|subject| *subject == KERNEL);
        let mut figures = Vec::new();
        for (subject, rounds) in self.subjects.iter().zip(&self.readings) {
            for (place, (metric, _)) in rounds.first().into_iter().flatten().enumerate() {
                let values = values(rounds, place);
                let kernel =
                    yardstick.filter(|_| *subject != KERNEL).map(|y| self::values(&self.readings[y], place));
                let ratios = kernel.map(|kernel| ratios(&values, &kernel));
                let Some(value) = Spread::of(&values) else { continue };
                figures.push(Figure {
                    part,
                    case: case.to_owned(),
                    subject: (*subject).to_owned(),
                    metric: metric.clone(),
                    against: None,
                    value,
                    ratio: ratios.and_then(|ratios| Spread::of(&ratios)),
                });
            }
        }
        figures
    }
}

fn values(rounds: &[Readings], place: usize) -> Vec<f64> {
    rounds.iter().filter_map(|readings| readings.get(place).map(|(_, value)| *value)).collect()
}

fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0).map(|(ours, theirs)| ours / theirs).collect()
}

fn first_line(error: &LabError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_rounds_and_the_yardstick_has_none() {
        let reading = |value: f64| vec![(Metric::higher("Gbit/s"), value)];
        let rounds = Rounds {
            readings: vec![
                vec![reading(1.0), reading(8.0), reading(6.0)],
                vec![reading(2.0), reading(10.0), reading(10.0)],
            ],
            subjects: vec!["auto", KERNEL],
            faults: Vec::new(),
        };
        let figures = rounds.figures(Part::Wire, "same node, TCP");
        assert_eq!(figures.len(), 2);
        let ratio = figures[0].ratio.unwrap();
        assert_eq!((ratio.median, ratio.low, ratio.high), (0.6, 0.5, 0.8));
        assert_eq!(figures[0].value.median, 6.0);
        assert_eq!(figures[1].ratio, None);
    }
}
