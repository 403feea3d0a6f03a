//! The result of a benchmark: figures with their spread, and where they were taken. The field names are those of the JSON file.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::BenchError;
use super::host::Host;
use super::noise::Noise;
use crate::statistics::Spread;

/// Changes whenever an older file cannot be read any more.
pub(super) const FORMAT: u32 = 1;

/// A part of the benchmark, which can also run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// ns per packet, with ports in memory.
    Pipeline,
    /// Throughput and latency in a lab, beside the kernel's path.
    Wire,
    /// CPU and memory.
    Cost,
    /// Time and memory against the number of Services.
    Services,
}

impl Part {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 4] = [Self::Pipeline, Self::Wire, Self::Cost, Self::Services];

    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Pipeline => "Pipeline: one core, ports in memory",
            Self::Wire => "Wire: in a lab, in turns with the kernel's path",
            Self::Cost => "Cost: CPU and memory",
            Self::Services => "Services: what their number costs",
        }
    }
}

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Such as throughput.
    Higher,
    /// Such as latency.
    Lower,
}

/// What was counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// `Gbit/s`, `p99, us`: what it is and in which unit.
    pub unit: String,
    /// Which way is good.
    pub better: Better,
}

impl Metric {
    /// More is better.
    #[must_use]
    pub fn higher(unit: &str) -> Self {
        Self { unit: unit.to_owned(), better: Better::Higher }
    }

    /// Less is better.
    #[must_use]
    pub fn lower(unit: &str) -> Self {
        Self { unit: unit.to_owned(), better: Better::Lower }
    }
}

/// What a figure of a series belongs to: `ns/packet` against 10 000 `flows`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Against {
    /// What is varied: `pods`, `flows`.
    pub what: String,
    /// How many there were.
    pub count: u64,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Where it belongs.
    pub part: Part,
    /// What was done: `same node, TCP, 1 stream`.
    pub case: String,
    /// Who did it: `auto`, `af_xdp`, `kernel`, `testpmd`.
    pub subject: String,
    /// What was counted.
    #[serde(flatten)]
    pub metric: Metric,
    /// Its place in a series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
    /// The value over all rounds.
    pub value: Spread,
    /// The ratios, each taken within a round, to the yardstick's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Spread>,
}

impl Figure {
    /// What tells it from all others of a result.
    #[must_use]
    pub fn key(&self) -> (Part, &str, Option<(&str, u64)>, &str, &str) {
        let against = self.against.as_ref().map(|against| (against.what.as_str(), against.count));
        (self.part, &self.case, against, &self.subject, &self.metric.unit)
    }
}

/// All of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The version of the file's form.
    pub format: u32,
    /// Whether this was a short run, whose figures scatter more.
    pub quick: bool,
    /// Where it ran.
    pub host: Host,
    /// How much the machine itself wavered.
    pub noise: Noise,
    /// What was left out, and why; what a reader must know.
    pub remarks: Vec<String>,
    /// What went wrong.
    pub faults: Vec<String>,
    /// All figures.
    pub figures: Vec<Figure>,
}

impl Report {
    /// Reads a result.
    ///
    /// # Errors
    /// [`BenchError::NoResult`] with the reason.
    pub fn load(file: &Path) -> Result<Self, BenchError> {
        let failed = |problem: String| BenchError::NoResult { file: file.to_owned(), problem };
        let text = fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| failed(format!("it is not JSON: {error}")))?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => {
                return Err(failed(format!("it has format {format}, this program knows {FORMAT}")));
            }
            None => return Err(failed("it has no `format`, so `make bench` has not written it".to_owned())),
        }
        serde_json::from_value(value).map_err(|error| failed(error.to_string()))
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// [`BenchError::Write`].
    pub fn save(&self, file: &Path) -> Result<(), BenchError> {
        let failed = |cause| BenchError::Write { file: file.to_owned(), cause };
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        fs::write(file, text + "\n").map_err(failed)
    }

    /// The parts that it has figures of.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        Part::ALL.into_iter().filter(|part| self.figures.iter().any(|f| f.part == *part)).collect()
    }

    /// A figure by part, case, subject and unit.
    #[must_use]
    pub fn find(&self, case: &str, subject: &str, unit: &str) -> Option<&Figure> {
        self.figures
            .iter()
            .find(|f| f.against.is_none() && f.case == case && f.subject == subject && f.metric.unit == unit)
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A figure with `median` and a spread of a tenth around it.
    pub(in crate::bench) fn figure(case: &str, subject: &str, median: f64, ratio: Option<f64>) -> Figure {
        let spread = |median: f64| Spread { median, low: median * 0.95, high: median * 1.05, rounds: 5 };
        Figure {
            part: Part::Wire,
            case: case.to_owned(),
            subject: subject.to_owned(),
            metric: Metric::higher("Gbit/s"),
            against: None,
            value: spread(median),
            ratio: ratio.map(spread),
        }
    }

    pub(in crate::bench) fn report(figures: Vec<Figure>) -> Report {
        Report {
            format: FORMAT,
            quick: false,
            host: Host::default(),
            noise: Noise::default(),
            remarks: Vec::new(),
            faults: Vec::new(),
            figures,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{figure, report};
    use super::*;

    #[test]
    fn a_result_is_read_as_it_was_written_and_others_are_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("result.json");
        let written = report(vec![figure("same node", "auto", 4.0, Some(0.5))]);
        written.save(&file).unwrap();
        assert_eq!(Report::load(&file).unwrap().figures, written.figures);
        for (text, words) in
            [("{", "not JSON"), ("[]", "has not written it"), (r#"{"format": 99}"#, "format 99")]
        {
            fs::write(&file, text).unwrap();
            let error = Report::load(&file).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
