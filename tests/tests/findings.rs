//! Many checks in one lab: all are made, and all that fail are told at once.

use std::fmt::{Debug, Display};

use anyhow::{Result, bail, ensure};
use headrace_lab::Lab;
use headrace_lab::plan::POD_MTU;
use headrace_lab::traffic::{Ping, TcpServer, TooLong, UdpServer, datagram, stream};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

/// The port of every server that a check starts.
pub(crate) const PORT: u16 = 8080;
/// Bytes of an IPv4 and an ICMP or UDP header.
const HEADERS: usize = 28;

/// The checks that have failed so far.
#[derive(Default)]
pub(crate) struct Findings(Vec<String>);

impl Findings {
    /// Notes `result` under the name `what` when it is an error.
    pub(crate) fn check<T, E: Display>(&mut self, what: impl Display, result: Result<T, E>) -> Option<T> {
        result.inspect_err(|error| self.0.push(format!("{what}: {error:#}"))).ok()
    }

    /// Notes a difference.
    pub(crate) fn equal<T: PartialEq + Debug>(&mut self, what: impl Display, found: &T, wanted: &T) {
        if found != wanted {
            self.0.push(format!("{what}: {found:?} instead of {wanted:?}"));
        }
    }

    /// Takes the lab down after the checks that every lab ends with: daemons alive, every frame accounted for.
    pub(crate) fn finish(mut self, lab: Lab) -> Result<()> {
        let checked = lab.check();
        self.check("at the end", checked);
        lab.down()?;
        self.end()
    }

    /// Tells what has failed.
    pub(crate) fn end(self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        bail!("{} checks failed:\n  {}", self.0.len(), self.0.join("\n  "))
    }

    /// Whether `from` reaches `to` by ping, TCP and UDP, with packets of all lengths, and is seen there as one of `seen`.
    pub(crate) fn reach(&mut self, lab: &Lab, from: &str, to: &str, seen: &[Ipv4Addr]) {
        let what = |kind: &str| format!("{from} to {to}, {kind}");
        let address = lab.address(to).unwrap_or(Ipv4Addr::UNSPECIFIED);
        // One packet waits while the next hop's MAC address is not known; it must not get lost.
        self.check(what("first ping"), ping(lab, from, &Ping { count: 1, ..Ping::new(address) }));
        self.check(what("ping"), ping(lab, from, &Ping::new(address)));
        let full = Ping { size: POD_MTU - HEADERS, too_long: TooLong::Refuse, ..Ping::new(address) };
        self.check(what("ping of full size"), ping(lab, from, &full));
        self.check(what("ping in fragments"), ping(lab, from, &Ping { size: 4000, ..Ping::new(address) }));
        self.check(what("TCP"), tcp(lab, from, to, address, seen));
        self.check(what("UDP"), udp(lab, from, to, address, seen));
    }

    /// Whether `length` bytes get from `from` to `to` unchanged.
    pub(crate) fn transfer(&mut self, lab: &Lab, from: &str, to: &str, length: u64) {
        let what = format!("{from} to {to}, {length} bytes");
        self.check(what, transfer(lab, from, to, length));
    }
}

fn ping(lab: &Lab, from: &str, ping: &Ping) -> Result<()> {
    let pong = ping.run(lab.space(from)?)?;
    ensure!(pong.received == ping.count, "{}", pong.text);
    Ok(())
}

fn tcp(lab: &Lab, from: &str, to: &str, address: Ipv4Addr, seen: &[Ipv4Addr]) -> Result<()> {
    let _server = TcpServer::start(lab.space(to)?, PORT, to)?;
    let (_, greeting) = stream::greet(lab.space(from)?, SocketAddrV4::new(address, PORT))?;
    ensure!(greeting.server == to, "{} answers", greeting.server);
    ensure_seen(greeting.client_seen.ip(), seen)
}

fn udp(lab: &Lab, from: &str, to: &str, address: Ipv4Addr, seen: &[Ipv4Addr]) -> Result<()> {
    let _server = UdpServer::start(lab.space(to)?, address, PORT, to)?;
    let server = SocketAddrV4::new(address, PORT);
    let client = datagram::bind(lab.space(from)?, Ipv4Addr::UNSPECIFIED, 0)?;
    // The reply has a line more than the request: at 1350 bytes both are whole, at 9000 both are fragments.
    for length in [1, 1350, 9000] {
        let payload: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
        let reply = datagram::ask(&client, server, &payload)
            .map_err(|error| anyhow::anyhow!("{length} bytes: {error}"))?;
        ensure!(reply.payload == payload, "{length} bytes came back changed");
        ensure!(reply.from == server.into(), "the reply comes from {}", reply.from);
        let (client_seen, _) = reply.client_seen.rsplit_once(':').unwrap_or_default();
        ensure_seen(client_seen.parse()?, seen)?;
    }
    Ok(())
}

fn transfer(lab: &Lab, from: &str, to: &str, length: u64) -> Result<()> {
    let [sent, received] =
        stream::transfer(lab.space(from)?, lab.space(to)?, lab.address(to)?, PORT + 1, length)?;
    ensure!(sent == received, "SHA-256 {sent} was sent, {received} came");
    Ok(())
}

fn ensure_seen(client: IpAddr, seen: &[Ipv4Addr]) -> Result<()> {
    let known = seen.iter().any(|address| client == IpAddr::V4(*address));
    ensure!(known, "the server sees {client} instead of one of {seen:?}");
    Ok(())
}
