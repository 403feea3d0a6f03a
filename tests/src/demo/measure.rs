//! Measurements in turns: Headrace and the kernel, then the kernel and Headrace.

use crate::counters::Protocols;
use crate::traffic::iperf::{Iperf, Protocol, Throughput};
use crate::traffic::ping::{Ping, Pong};
use crate::{LabError, Space};

use super::path::{Leg, Path};
use super::row::{Row, median};

/// Payload of a UDP datagram: the IP packet fits the MTU between pods.
const DATAGRAM: usize = 1400;
/// UDP rates to try, in Mbit/s of payload.
const RATES: [u32; 4] = [1000, 500, 250, 100];
/// More loss than this on the kernel's path, in percent, makes a rate too high to compare.
const NO_LOSS: f64 = 0.1;

/// A sender that reaches less than this part of the rate is itself the limit.
const FULL: f64 = 0.98;

/// What all measurements have in common.
pub(super) struct Session {
    pub(super) rounds: u32,
    pub(super) seconds: u32,
}

/// The highest rate that the kernel carries across nodes without loss.
pub(super) fn rate_without_loss(paths: &[Path]) -> Result<u32, LabError> {
    let Some(path) = paths.get(1) else { return Ok(RATES[0]) };
    for megabits in RATES {
        let protocol = Protocol::Udp { megabits, length: DATAGRAM };
        let result = Iperf { protocol, seconds: 1, ..tcp(&path.kernel) }.run()?;
        let sent_in_full = result.gbps * 1000.0 >= f64::from(megabits) * FULL;
        if sent_in_full && result.loss_percent <= NO_LOSS {
            return Ok(megabits);
        }
    }
    Ok(RATES[RATES.len() - 1])
}

impl Session {
    /// Round trips.
    pub(super) fn ping(&self, path: &Path) -> Option<Row> {
        let (headrace, kernel) = (path.headrace.ping?, path.kernel.ping?);
        let ping = |space: &Space, address| Ping { count: 25, ..Ping::new(address) }.run(space);
        let mut row = Row::new(path.name, "icmp");
        let rounds = self.in_turns(&mut row, path, |leg, ours| {
            let address = if ours { headrace } else { kernel };
            let pong = ping(&leg.client, address)?;
            if pong.received == 0 {
                return Err(LabError::Output {
                    tool: "ping",
                    problem: format!("no reply from {address}"),
                    output: pong.text,
                });
            }
            Ok(pong)
        });
        let rtt = |pongs: &[Pong]| median(pongs.iter().filter_map(|pong| pong.mean_rtt));
        row.rtt_us = rtt(&rounds.headrace);
        row.kernel_rtt_us = rtt(&rounds.kernel);
        row.loss = median(rounds.headrace.iter().map(Pong::loss_percent));
        Some(row)
    }

    /// One TCP stream.
    pub(super) fn tcp(&self, path: &Path) -> Row {
        let mut row = Row::new(path.name, "tcp");
        let rounds =
            self.in_turns(&mut row, path, |leg, _| Iperf { seconds: self.seconds, ..tcp(leg) }.run());
        row.set_rates(&rounds.headrace, &rounds.kernel);
        row.retransmits = Some(rounds.headrace.iter().map(|t| t.retransmits).sum());
        row.kernel_retransmits = Some(rounds.kernel.iter().map(|t| t.retransmits).sum());
        row
    }

    /// Datagrams at `megabits` per second.
    pub(super) fn udp(&self, path: &Path, megabits: u32) -> Row {
        let mut row = Row::new(path.name, "udp");
        let protocol = Protocol::Udp { megabits, length: DATAGRAM };
        let rounds = self.in_turns(&mut row, path, |leg, _| Iperf { protocol, seconds: 1, ..tcp(leg) }.run());
        row.set_rates(&rounds.headrace, &rounds.kernel);
        let loss = |side: &[Throughput]| median(side.iter().map(|t| t.loss_percent));
        row.loss = loss(&rounds.headrace);
        row.kernel_loss = loss(&rounds.kernel);
        row
    }

    /// Measures both sides in every round; counts wrong checksums on Headrace's and stops at the first failure.
    fn in_turns<T>(
        &self,
        row: &mut Row,
        path: &Path,
        measure: impl Fn(&Leg, bool) -> Result<T, LabError>,
    ) -> Rounds<T> {
        let mut rounds = Rounds { headrace: Vec::new(), kernel: Vec::new() };
        let before = checksum_errors(&path.headrace);
        'rounds: for round in 0..self.rounds {
            for ours in if round % 2 == 0 { [true, false] } else { [false, true] } {
                let (leg, results, who) = if ours {
                    (&path.headrace, &mut rounds.headrace, "Headrace")
                } else {
                    (&path.kernel, &mut rounds.kernel, "kernel")
                };
                match measure(leg, ours) {
                    Ok(result) => results.push(result),
                    Err(error) => {
                        row.failure = Some(first_line(&format!("{who}: {error}")));
                        break 'rounds;
                    }
                }
            }
        }
        row.checksum_errors = checksum_errors(&path.headrace) - before;
        rounds
    }
}

/// Results by round, one list per side.
struct Rounds<T> {
    headrace: Vec<T>,
    kernel: Vec<T>,
}

fn tcp(leg: &Leg) -> Iperf<'_> {
    Iperf { server_address: leg.ping, ..Iperf::tcp(&leg.client, &leg.server, leg.address) }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn checksum_errors(leg: &Leg) -> i64 {
    let errors = |space| Protocols::read(space).map_or(0, |counters| counters.checksum_errors());
    errors(&leg.client) + errors(&leg.server)
}
