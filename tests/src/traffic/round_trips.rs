//! Request and response: one byte there, one byte back, on one TCP connection, every trip timed by itself.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use super::stream::{TcpServer, greet};
use crate::leg::Leg;
use crate::statistics::percentile;
use crate::traffic::iperf::PORT;
use crate::{LabError, Space};

/// Trips before the first one that counts.
const WARM_UP: usize = 50;

/// How long round trips took.
#[derive(Clone, Debug)]
pub struct RoundTrips {
    /// Microseconds, sorted.
    sorted: Vec<f64>,
}

impl RoundTrips {
    /// Makes as many as there is `time` for.
    ///
    /// # Errors
    /// [`LabError::Io`] when there is no connection, or it breaks.
    pub fn measure(leg: &Leg, time: Duration) -> Result<Self, LabError> {
        let _server = TcpServer::start(&leg.server, PORT, "round trips")?;
        let mut sorted = trips(&leg.client, leg, time).map_err(LabError::io(format!(
            "request and response from {} to {} by {}",
            leg.client.name,
            leg.server.name,
            leg.target()
        )))?;
        sorted.sort_by(f64::total_cmp);
        Ok(Self { sorted })
    }

    /// The time in microseconds within which `share` (0 to 1) of the trips were done; 0 when there was none.
    #[must_use]
    pub fn within(&self, share: f64) -> f64 {
        percentile(&self.sorted, share).unwrap_or(0.0)
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sorted.len()
    }
}

fn trips(client: &Space, leg: &Leg, time: Duration) -> std::io::Result<Vec<f64>> {
    let (mut stream, _) = greet(client, leg.target())?;
    let mut trip = || {
        let start = Instant::now();
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
        std::io::Result::Ok(start.elapsed().as_secs_f64() * 1e6)
    };
    for _ in 0..WARM_UP {
        trip()?;
    }
    let end = Instant::now() + time;
    let mut times = Vec::new();
    while Instant::now() < end {
        times.push(trip()?);
    }
    Ok(times)
}
