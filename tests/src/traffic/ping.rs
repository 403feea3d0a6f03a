//! ICMP echo.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::{LabError, Space};

/// Up to so many requests, each of them counts: ping waits no longer than its interval for a late last reply.
const FEW: u32 = 10;

/// What may happen to a request that is too long for the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLong {
    /// Fragments may be made of it, at the sender or on the way.
    Fragment,
    /// It is sent with DF, unless the sender knows that the path's MTU is smaller.
    Refuse,
}

/// What to send.
#[derive(Clone, Debug)]
pub struct Ping {
    /// Destination.
    pub address: Ipv4Addr,
    /// Number of requests.
    pub count: u32,
    /// Bytes of payload; the IP packet is 28 bytes longer.
    pub size: usize,
    /// What may happen to requests that are too long.
    pub too_long: TooLong,
    /// TTL of the requests.
    pub ttl: u8,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pong {
    /// Requests sent.
    pub sent: u32,
    /// Replies received.
    pub received: u32,
    /// Mean round trip in microseconds; none without replies.
    pub mean_rtt: Option<f64>,
    /// All that ping printed, with the ICMP errors that came instead of replies.
    pub text: String,
}

impl Pong {
    /// Requests without a reply, in percent.
    #[must_use]
    pub fn loss_percent(&self) -> f64 {
        if self.sent == 0 {
            100.0
        } else {
            100.0 * f64::from(self.sent - self.received.min(self.sent)) / f64::from(self.sent)
        }
    }
}

impl Ping {
    /// Three small requests to `address`.
    #[must_use]
    pub fn new(address: Ipv4Addr) -> Self {
        Self { address, count: 3, size: 56, too_long: TooLong::Fragment, ttl: 64 }
    }

    /// Sends from `space`; no reply at all is a result too.
    ///
    /// # Errors
    /// [`LabError::Output`] when ping itself fails.
    pub fn run(&self, space: &Space) -> Result<Pong, LabError> {
        let (count, size, ttl) = (self.count.to_string(), self.size.to_string(), self.ttl.to_string());
        let discovery = match self.too_long {
            TooLong::Fragment => "dont",
            TooLong::Refuse => "do",
        };
        let address = self.address.to_string();
        let interval = if self.count > FEW { "0.02" } else { "0.1" };
        let argv = [
            "ping", "-n", "-c", &count, "-i", interval, "-W", "1", "-s", &size, "-t", &ttl, "-M", discovery,
            &address,
        ];
        let output = space.try_run(&argv, Duration::from_secs(10 + u64::from(self.count) / 10))?;
        parse(&output.text())
    }
}

/// The summary: `3 packets transmitted, 3 received, ...` and `rtt min/avg/max/mdev = 0.031/0.042/0.058/0.011 ms`.
fn parse(text: &str) -> Result<Pong, LabError> {
    let failed =
        || LabError::Output { tool: "ping", problem: "no summary".to_owned(), output: text.to_owned() };
    let summary = text.lines().find(|line| line.contains("packets transmitted")).ok_or_else(failed)?;
    let number = |word: &str| {
        let part = summary.split(", ").find(|part| part.contains(word))?;
        part.split_whitespace().next()?.parse().ok()
    };
    let rtt = text.lines().find_map(|line| line.strip_prefix("rtt min/avg/max/mdev = "));
    let mean = rtt.and_then(|rtt| rtt.split('/').nth(1)?.parse::<f64>().ok());
    Ok(Pong {
        sent: number("transmitted").ok_or_else(failed)?,
        received: number("received").ok_or_else(failed)?,
        mean_rtt: mean.map(|milliseconds| milliseconds * 1000.0),
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_read_with_and_without_replies() {
        let pong = parse("3 packets transmitted, 2 received, 33% packet loss, time 43ms\nrtt min/avg/max/mdev = 0.031/0.042/0.058/0.011 ms").unwrap();
        assert_eq!((pong.sent, pong.received), (3, 2));
        assert!((pong.mean_rtt.unwrap() - 42.0).abs() < 1e-9);
        assert!((pong.loss_percent() - 100.0 / 3.0).abs() < 1e-9);
        let none =
            parse("3 packets transmitted, 0 received, +3 errors, 100% packet loss, time 40ms").unwrap();
        assert_eq!((none.received, none.mean_rtt), (0, None));
        assert!(parse("ping: connect: Network is unreachable").is_err());
    }
}
