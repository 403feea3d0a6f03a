//! Throughput with iperf3.

use std::net::Ipv4Addr;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::process::wait_until;
use crate::{LabError, Space, counters};

/// Where iperf3 listens.
pub const PORT: u16 = 5201;

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Protocol {
    /// As fast as it goes.
    Tcp,
    /// Datagrams of `length` bytes at `megabits` per second.
    Udp {
        /// Rate of payload in Mbit/s.
        megabits: u32,
        /// Bytes of payload.
        length: usize,
    },
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Iperf<'a> {
    /// Where the client runs.
    pub client: &'a Space,
    /// Where the server runs.
    pub server: &'a Space,
    /// The address that the client connects to: the server's or a Service's.
    pub address: Ipv4Addr,
    /// The port that the client connects to.
    pub port: u16,
    /// The port that the server listens on; another one than `port` behind a Service.
    pub server_port: u16,
    /// The only address that the server answers from; it matters for UDP where the server has several.
    pub server_address: Option<Ipv4Addr>,
    /// What to send.
    pub protocol: Protocol,
    /// How long, in seconds.
    pub seconds: u32,
    /// Connections at the same time.
    pub streams: u32,
    /// Who sends.
    pub direction: Direction,
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The client.
    Forward,
    /// The server.
    Reverse,
    /// Both at once.
    Both,
}

/// What was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Throughput {
    /// Received payload in Gbit/s.
    pub gbps: f64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// UDP datagrams lost, in percent of those sent.
    pub loss_percent: f64,
}

impl<'a> Iperf<'a> {
    /// One TCP stream for two seconds.
    #[must_use]
    pub fn tcp(client: &'a Space, server: &'a Space, address: Ipv4Addr) -> Self {
        let protocol = Protocol::Tcp;
        Self {
            client,
            server,
            address,
            port: PORT,
            server_port: PORT,
            server_address: None,
            protocol,
            seconds: 2,
            streams: 1,
            direction: Direction::Forward,
        }
    }

    /// Measures.
    ///
    /// # Errors
    /// [`LabError::Timeout`], or [`LabError::Output`] with what iperf3 says when there is no connection.
    pub fn run(&self) -> Result<Throughput, LabError> {
        let _server = Server::start(self.server, self.server_address, self.server_port)?;
        let argv = self.arguments();
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let output = self.client.try_run(&argv, Duration::from_secs(u64::from(self.seconds) + 10))?;
        parse(&output.stdout).map_err(|problem| LabError::Output {
            tool: "iperf3",
            problem: format!("{problem} ({} to {} by {})", self.client.name, self.server.name, self.address),
            output: output.stderr,
        })
    }

    fn arguments(&self) -> Vec<String> {
        let mut line = format!(
            "iperf3 --json --connect-timeout 3000 -c {} -p {} -t {} -P {}",
            self.address, self.port, self.seconds, self.streams
        );
        if let Protocol::Udp { megabits, length } = self.protocol {
            line += &format!(" -u -b {megabits}M -l {length} -w 1M");
        }
        match self.direction {
            Direction::Forward => {}
            Direction::Reverse => line += " -R",
            Direction::Both => line += " --bidir",
        }
        line.split(' ').map(str::to_owned).collect()
    }
}

/// A server for one client, ended when dropped.
struct Server(Child);

impl Server {
    fn start(space: &Space, address: Option<Ipv4Addr>, port: u16) -> Result<Self, LabError> {
        let what = format!("start iperf3 in {}", space.name);
        let mut command = space.command();
        command.args(["iperf3", "-s", "-1", "-p", &port.to_string()]);
        command.args(address.map(|address| format!("-B{address}")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self(command.spawn().map_err(LabError::io(what.clone()))?);
        if wait_until(Duration::from_secs(5), || counters::listens(space, port).unwrap_or(false)) {
            return Ok(server);
        }
        Err(LabError::Io { what, cause: std::io::Error::other(format!("it does not listen on port {port}")) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nobody to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn parse(json: &str) -> Result<Throughput, String> {
    let report: Value = serde_json::from_str(json).map_err(|error| format!("no report: {error}"))?;
    if let Some(error) = report.get("error").and_then(Value::as_str) {
        return Err(error.to_owned());
    }
    let end = &report["end"];
    // TCP has sum_sent and sum_received; UDP has sum, whose rate is the sender's, and lost_percent.
    if let Some(received) = end.get("sum_received").filter(|_| end.get("sum").is_none()) {
        let bits = received["bits_per_second"].as_f64().ok_or("no rate in the report")?;
        // The other direction of --bidir.
        let bits = bits + end["sum_received_bidir_reverse"]["bits_per_second"].as_f64().unwrap_or(0.0);
        let retransmits = end["sum_sent"]["retransmits"].as_u64().unwrap_or(0);
        return Ok(Throughput { gbps: bits / 1e9, retransmits, loss_percent: 0.0 });
    }
    let sum = end.get("sum").ok_or("no sum in the report")?;
    let bits = sum["bits_per_second"].as_f64().ok_or("no rate in the report")?;
    let loss_percent = sum["lost_percent"].as_f64().unwrap_or(0.0);
    Ok(Throughput { gbps: bits / 1e9 * (1.0 - loss_percent / 100.0), retransmits: 0, loss_percent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_counts_what_was_received_and_tcp_its_retransmits() {
        let tcp = r#"{"end":{"sum_sent":{"bits_per_second":2e9,"retransmits":3},"sum_received":{"bits_per_second":1.5e9}}}"#;
        assert_eq!(parse(tcp).unwrap(), Throughput { gbps: 1.5, retransmits: 3, loss_percent: 0.0 });
        let both = r#"{"end":{"sum_sent":{},"sum_received":{"bits_per_second":1e9},"sum_received_bidir_reverse":{"bits_per_second":5e8}}}"#;
        assert_eq!(parse(both).unwrap().gbps, 1.5);
        let udp = r#"{"end":{"sum":{"bits_per_second":1e9,"lost_percent":25.0},"sum_received":{"bits_per_second":1e9}}}"#;
        assert_eq!(parse(udp).unwrap(), Throughput { gbps: 0.75, retransmits: 0, loss_percent: 25.0 });
        assert_eq!(parse(r#"{"error":"unable to connect"}"#).unwrap_err(), "unable to connect");
    }
}
