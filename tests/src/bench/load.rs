//! What is measured on one way from a client to a server.

use std::time::Duration;

use super::figure::Metric;
use super::turns::Readings;
use crate::leg::Leg;
use crate::process::busy_time;
use crate::traffic::iperf::{Direction, Iperf, PORT};
use crate::traffic::round_trips::RoundTrips;
use crate::traffic::{connections, rising};
use crate::{LabError, Space};

/// Where the load's own server listens.
const LOAD_PORT: u16 = PORT + 1;

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Bulk with so many connections.
    Tcp { streams: u32 },
    /// One connection each way at the same time; the sum counts.
    BothWays,
    /// Datagrams of so many bytes at a rising rate.
    Udp { length: usize },
    /// Request and response on an idle path.
    RoundTrips,
    /// Request and response beside one bulk connection between the same two machines.
    Loaded,
    /// Connections that come and go.
    Connections,
    /// Bulk, and what it takes of all cores.
    Cores,
}

/// How long measurements take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Rounds of every case.
    pub(super) rounds: u32,
    /// Seconds of bulk.
    pub(super) bulk: u32,
    /// Round trips and connections.
    pub(super) short: Duration,
    /// One rate of rising datagrams.
    pub(super) step: Duration,
}

impl Load {
    /// For people and for the result.
    pub(super) fn name(self) -> String {
        match self {
            Self::Tcp { streams: 1 } => "TCP, 1 stream".to_owned(),
            Self::Tcp { streams } => format!("TCP, {streams} streams"),
            Self::BothWays => "TCP, both directions at once".to_owned(),
            Self::Udp { length } => format!("UDP {length} B, loss < 0.1 %"),
            Self::RoundTrips => "request/response, idle".to_owned(),
            Self::Loaded => "request/response, under load".to_owned(),
            Self::Connections => "new connections".to_owned(),
            Self::Cores => "TCP, 1 stream".to_owned(),
        }
    }

    /// Measures once.
    pub(super) fn measure(self, leg: &Leg, effort: &Effort) -> Result<Readings, LabError> {
        Ok(match self {
            Self::Tcp { streams } => bulk(&Iperf { streams, ..iperf(leg, effort) })?,
            Self::BothWays => bulk(&Iperf { direction: Direction::Both, ..iperf(leg, effort) })?,
            Self::Udp { length } => {
                let rate = rising::highest_rate(leg, length, effort.step)?;
                vec![(Metric::higher("Mpps"), rate / 1e6)]
            }
            Self::RoundTrips => latency(&RoundTrips::measure(leg, effort.short)?),
            Self::Loaded => latency(&under_load(leg, effort)?),
            Self::Connections => {
                vec![(Metric::higher("connections/s"), connections::per_second(leg, effort.short)?)]
            }
            Self::Cores => cores(leg, effort)?,
        })
    }
}

fn iperf<'a>(leg: &'a Leg, effort: &Effort) -> Iperf<'a> {
    Iperf {
        port: leg.port,
        server_address: leg.ping,
        seconds: effort.bulk,
        ..Iperf::tcp(&leg.client, &leg.server, leg.address)
    }
}

fn bulk(iperf: &Iperf<'_>) -> Result<Readings, LabError> {
    Ok(vec![(Metric::higher("Gbit/s"), iperf.run()?.gbps)])
}

fn latency(trips: &RoundTrips) -> Readings {
    [("p50, us", 0.5), ("p99, us", 0.99), ("p99.9, us", 0.999)]
        .map(|(unit, share)| (Metric::lower(unit), trips.within(share)))
        .to_vec()
}

/// The bulk goes straight to the server, also where requests go by a Service.
fn under_load(leg: &Leg, effort: &Effort) -> Result<RoundTrips, LabError> {
    let own = |space: &Space| LabError::Output {
        tool: "bench",
        problem: format!("{} cannot be reached but by a Service, so there is no load for it", space.name),
        output: String::new(),
    };
    let direct = leg.service.as_ref().and_then(|service| service.endpoints.first().copied());
    let address = leg.ping.or(direct).ok_or_else(|| own(&leg.server))?;
    // It begins before the first request and ends behind the last one.
    let seconds = 2 + u32::try_from(effort.short.as_secs()).unwrap_or(0);
    std::thread::scope(|scope| {
        let load = Iperf {
            port: LOAD_PORT,
            server_port: LOAD_PORT,
            server_address: Some(address),
            seconds,
            ..Iperf::tcp(&leg.client, &leg.server, address)
        };
        let load = scope.spawn(move || load.run());
        std::thread::sleep(Duration::from_millis(700));
        let trips = RoundTrips::measure(leg, effort.short);
        match load.join() {
            Ok(Err(error)) => Err(error),
            _ => trips,
        }
    })
}

/// Busy time of all cores, that of client, server and the kernel's threads included, for every Gbit/s that arrived.
fn cores(leg: &Leg, effort: &Effort) -> Result<Readings, LabError> {
    let before = busy_time();
    let throughput = iperf(leg, effort).run()?;
    let busy = busy_time().saturating_sub(before).as_secs_f64();
    let gigabits = throughput.gbps * f64::from(effort.bulk);
    Ok(vec![(Metric::lower("core s/Gbit"), if gigabits > 0.0 { busy / gigabits } else { f64::NAN })])
}
