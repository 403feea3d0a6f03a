//! The dataplane's histograms as OpenMetrics has them: classes with upper bounds, a sum, a count.

use std::fmt::Result;

use headrace_api::proto::WorkerStatus;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// A histogram that somebody else has counted.
#[derive(Debug)]
pub(super) struct Histogram {
    sum: f64,
    /// Upper bound of each class, and what is in it alone.
    classes: Vec<(f64, u64)>,
}

impl Histogram {
    /// Turns by duration in seconds: below 1 us, 2 us, 4 us and so on.
    pub(super) fn of_turns(worker: &WorkerStatus) -> Self {
        let bound = |i: usize| 1e-6 * 2_f64.powi(i as i32);
        Self::new(worker.busy_ns as f64 / 1e9, &worker.turn_durations, bound)
    }

    /// Bursts by frames: 1, 2, 4, 8 and so on.
    pub(super) fn of_bursts(worker: &WorkerStatus) -> Self {
        Self::new(worker.frames as f64, &worker.burst_sizes, |i| 2_f64.powi(i as i32))
    }

    /// The last class has no bound.
    fn new(sum: f64, counts: &[u64], bound: impl Fn(usize) -> f64) -> Self {
        let last = counts.len().saturating_sub(1);
        let upper = |i| if i < last { bound(i) } else { f64::INFINITY };
        Self { sum, classes: counts.iter().enumerate().map(|(i, count)| (upper(i), *count)).collect() }
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result {
        let count = self.classes.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(self.sum, count, &self.classes, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
