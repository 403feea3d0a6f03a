//! One line of the result, and the table of all.

use std::fmt::Write as _;

use serde::Serialize;

use crate::statistics::median;
use crate::traffic::iperf::Throughput;

/// One path with one protocol. The field names are those of the JSON file.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// The path.
    pub(super) path: String,
    /// `icmp`, `tcp`, `udp`.
    pub(super) protocol: String,
    /// Gbit/s of payload received through Headrace, median of the rounds.
    pub(super) gbps: Option<f64>,
    /// The same through the kernel.
    pub(super) kernel_gbps: Option<f64>,
    /// Median of the rounds' ratios of Headrace to the kernel.
    pub(super) ratio: Option<f64>,
    /// Lowest and highest ratio of a round.
    pub(super) ratio_spread: Option<[f64; 2]>,
    /// Through a Service: median of the rounds' ratios to the same server without the Service, in rounds of their own.
    pub(super) of_direct: Option<f64>,
    /// Lowest and highest of these ratios.
    pub(super) of_direct_spread: Option<[f64; 2]>,
    /// TCP segments sent again in all rounds.
    pub(super) retransmits: Option<u64>,
    /// The same on the kernel's side.
    pub(super) kernel_retransmits: Option<u64>,
    /// Packets thrown away in Headrace's pods because of a wrong checksum.
    pub(super) checksum_errors: i64,
    /// Percent of datagrams or pings lost.
    pub(super) loss: Option<f64>,
    /// The same on the kernel's side.
    pub(super) kernel_loss: Option<f64>,
    /// Mean round trip in microseconds.
    pub(super) rtt_us: Option<f64>,
    /// The same on the kernel's side.
    pub(super) kernel_rtt_us: Option<f64>,
    /// What went wrong.
    pub(super) failure: Option<String>,
}

impl Row {
    /// An empty row.
    pub(super) fn new(path: &str, protocol: &str) -> Self {
        Self {
            path: path.to_owned(),
            protocol: protocol.to_owned(),
            gbps: None,
            kernel_gbps: None,
            ratio: None,
            ratio_spread: None,
            of_direct: None,
            of_direct_spread: None,
            retransmits: None,
            kernel_retransmits: None,
            checksum_errors: 0,
            loss: None,
            kernel_loss: None,
            rtt_us: None,
            kernel_rtt_us: None,
            failure: None,
        }
    }

    /// One line of progress.
    pub(super) fn summary(&self) -> String {
        let result =
            match (&self.failure, self.gbps.zip(self.kernel_gbps), self.rtt_us.zip(self.kernel_rtt_us)) {
                (Some(failure), ..) => failure.clone(),
                (_, Some((ours, kernel)), _) => format!("{ours:.2} Gbit/s, kernel {kernel:.2}"),
                (.., Some((ours, kernel))) => format!("{ours:.0} us, kernel {kernel:.0}"),
                _ => "no result".to_owned(),
            };
        format!("    {} {}: {result}", self.path, self.protocol)
    }

    /// Rates of both sides and the ratios of the rounds.
    pub(super) fn set_rates(&mut self, headrace: &[Throughput], kernel: &[Throughput]) {
        self.gbps = median(headrace.iter().map(|t| t.gbps));
        self.kernel_gbps = median(kernel.iter().map(|t| t.gbps));
        (self.ratio, self.ratio_spread) = ratios(headrace, kernel);
    }

    /// Ratios of the rounds through a Service to those without it.
    pub(super) fn set_direct(&mut self, service: &[Throughput], direct: &[Throughput]) {
        (self.of_direct, self.of_direct_spread) = ratios(service, direct);
    }
}

/// Median and spread of the ratios within the rounds.
fn ratios(ours: &[Throughput], theirs: &[Throughput]) -> (Option<f64>, Option<[f64; 2]>) {
    let rounds = ours.iter().zip(theirs).filter(|(_, theirs)| theirs.gbps > 0.0);
    let ratios: Vec<f64> = rounds.map(|(ours, theirs)| ours.gbps / theirs.gbps).collect();
    let lowest = ratios.iter().copied().reduce(f64::min);
    let spread = lowest.zip(ratios.iter().copied().reduce(f64::max)).map(|(low, high)| [low, high]);
    (median(ratios.into_iter()), spread)
}

/// All rows for people.
pub(super) fn table(rows: &[Row]) -> String {
    let mut table = format!(
        "{:<24} {:<5} {:>9} {:>9} {:>6} {:>12} {:>9} {:>8} {:>8} {:>7} {:>8} {:>8}\n",
        "path",
        "proto",
        "Gbit/s",
        "kernel",
        "ratio",
        "(spread)",
        "of direct",
        "retrans",
        "csumerr",
        "loss %",
        "rtt us",
        "kernel"
    );
    for row in rows {
        let spread = row.ratio_spread.map_or_else(dash, |[low, high]| format!("{low:.2}-{high:.2}"));
        let number =
            |value: Option<f64>, digits: usize| value.map_or_else(dash, |value| format!("{value:.digits$}"));
        let retransmits = row.retransmits.map_or_else(dash, |count| count.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "{:<24} {:<5} {:>9} {:>9} {:>6} {:>12} {:>9} {:>8} {:>8} {:>7} {:>8} {:>8}{}",
            row.path,
            row.protocol,
            number(row.gbps, 2),
            number(row.kernel_gbps, 2),
            number(row.ratio, 2),
            spread,
            number(row.of_direct, 2),
            retransmits,
            row.checksum_errors,
            number(row.loss, 2),
            number(row.rtt_us, 0),
            number(row.kernel_rtt_us, 0),
            if row.failure.is_some() { "  FAILED" } else { "" },
        );
    }
    table
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_rounds() {
        let gbps = |gbps: f64| Throughput { gbps, ..Throughput::default() };
        let mut row = Row::new("same node", "tcp");
        row.set_rates(&[gbps(1.0), gbps(8.0), gbps(6.0)], &[gbps(2.0), gbps(10.0), gbps(10.0)]);
        assert_eq!(row.ratio, Some(0.6));
        assert_eq!(row.ratio_spread, Some([0.5, 0.8]));
        assert_eq!(row.gbps, Some(6.0));
    }

    #[test]
    fn the_json_file_has_the_agreed_keys() {
        let value = serde_json::to_value(Row::new("same node", "tcp")).unwrap();
        for key in
            ["path", "protocol", "gbps", "kernel_gbps", "ratio", "retransmits", "checksum_errors", "loss"]
        {
            assert!(value.get(key).is_some(), "{key}");
        }
    }
}
