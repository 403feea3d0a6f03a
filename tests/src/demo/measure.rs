//! Measurements in turns: Headrace and what it is compared with, then the other way round.

use crate::counters::Protocols;
use crate::leg::Leg;
use crate::statistics::median;
use crate::traffic::iperf::{Iperf, Protocol, Throughput};
use crate::traffic::ping::{Ping, Pong};
use crate::{LabError, Space};

use super::path::Path;
use super::row::Row;

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
        path.headrace.ping.and(path.kernel.ping)?;
        let ping = |space: &Space, address| Ping { count: 25, ..Ping::new(address) }.run(space);
        let mut row = Row::new(path.name, "icmp");
        let rounds = self.in_turns(&mut row, path.both(), |leg| {
            let address = leg.ping.unwrap_or(leg.address);
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
        row.rtt_us = rtt(&rounds.ours);
        row.kernel_rtt_us = rtt(&rounds.theirs);
        row.loss = median(rounds.ours.iter().map(Pong::loss_percent));
        Some(row)
    }

    /// One TCP stream; through a Service also in turns with the same server directly.
    pub(super) fn tcp(&self, path: &Path) -> Row {
        let mut row = Row::new(path.name, "tcp");
        let run = |leg: &Leg| Iperf { seconds: self.seconds, ..tcp(leg) }.run();
        let rounds = self.in_turns(&mut row, path.both(), run);
        row.set_rates(&rounds.ours, &rounds.theirs);
        row.retransmits = Some(rounds.ours.iter().map(|t| t.retransmits).sum());
        row.kernel_retransmits = Some(rounds.theirs.iter().map(|t| t.retransmits).sum());
        if let (Some(direct), None) = (&path.direct, &row.failure) {
            let rounds = self.in_turns(&mut row, [(&path.headrace, "Service"), (direct, "direct")], run);
            row.set_direct(&rounds.ours, &rounds.theirs);
        }
        row
    }

    /// Datagrams at `megabits` per second.
    pub(super) fn udp(&self, path: &Path, megabits: u32) -> Row {
        let mut row = Row::new(path.name, "udp");
        let protocol = Protocol::Udp { megabits, length: DATAGRAM };
        let rounds =
            self.in_turns(&mut row, path.both(), |leg| Iperf { protocol, seconds: 1, ..tcp(leg) }.run());
        row.set_rates(&rounds.ours, &rounds.theirs);
        let loss = |side: &[Throughput]| median(side.iter().map(|t| t.loss_percent));
        row.loss = loss(&rounds.ours);
        row.kernel_loss = loss(&rounds.theirs);
        row
    }

    /// Measures both sides in every round; counts wrong checksums on ours and stops at the first failure.
    fn in_turns<T>(
        &self,
        row: &mut Row,
        sides: [(&Leg, &str); 2],
        measure: impl Fn(&Leg) -> Result<T, LabError>,
    ) -> Rounds<T> {
        let mut results = [Vec::new(), Vec::new()];
        let before = checksum_errors(sides[0].0);
        'rounds: for round in 0..self.rounds {
            for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let (leg, who) = sides[side];
                match measure(leg) {
                    Ok(result) => results[side].push(result),
                    Err(error) => {
                        row.failure = Some(first_line(&format!("{who}: {error}")));
                        break 'rounds;
                    }
                }
            }
        }
        row.checksum_errors += checksum_errors(sides[0].0) - before;
        let [ours, theirs] = results;
        Rounds { ours, theirs }
    }
}

/// Results by round, one list per side.
struct Rounds<T> {
    ours: Vec<T>,
    theirs: Vec<T>,
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
