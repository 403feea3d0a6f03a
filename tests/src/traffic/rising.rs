//! Datagrams at a rising rate until some are lost: what a path carries, and not what a sender can push into it.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use crate::LabError;
use crate::leg::Leg;
use crate::traffic::iperf::PORT;

/// More loss than this and the rate is too high.
const LOSS: f64 = 0.001;
/// The first rate, in datagrams per second.
const FIRST: f64 = 10_000.0;
/// From one rate to the next while nothing is lost.
const FACTOR: f64 = 1.5;
/// Rates tried between the last good one and the first bad one.
const REFINEMENTS: usize = 2;
/// A sender that reaches less than this part of a rate is itself the limit.
const FULL: f64 = 0.9;
/// Datagrams go out in groups, so far apart.
const GROUP: Duration = Duration::from_millis(1);
/// What is on its way at the end of a rate may still arrive.
const TAIL: Duration = Duration::from_millis(20);
/// Room for what arrives while the receiver does not run.
const BUFFER: usize = 8 << 20;

/// Highest rate in datagrams of `length` bytes per second with less than a thousandth lost; each rate is sent for `step`.
///
/// # Errors
/// [`LabError::Io`] when there are no sockets.
pub fn highest_rate(leg: &Leg, length: usize, step: Duration) -> Result<f64, LabError> {
    let failed = || LabError::io(format!("datagrams from {} to {}", leg.client.name, leg.target()));
    let receiver = leg.server.enter(|| receiver(leg.ping))?.map_err(failed())?;
    let sender = leg.client.enter(|| sender(leg.target()))?.map_err(failed())?;
    let (received, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    Ok(std::thread::scope(|scope| {
        scope.spawn(|| count(&receiver, &received, &stop));
        let path = Path { sender: &sender, received: &received, datagram: &vec![0x55; length], step };
        // The first datagrams wait for neighbours and make the flow.
        path.send(FIRST / 10.0);
        let highest = search(|rate| path.carries(rate));
        stop.store(true, Ordering::Relaxed);
        highest
    }))
}

/// What became of one rate.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tried {
    /// It arrived; the rate is what was really sent.
    Carried(f64),
    /// It arrived, but the sender cannot send more.
    SenderIsFull(f64),
    /// Too much was lost.
    Lost,
}

/// Rises until something is lost, then looks between the last two rates.
fn search(mut try_rate: impl FnMut(f64) -> Tried) -> f64 {
    let (mut good, mut rate) = (0.0, FIRST);
    let mut bad = loop {
        match try_rate(rate) {
            Tried::Carried(sent) => good = sent,
            Tried::SenderIsFull(sent) => return sent,
            Tried::Lost => break rate,
        }
        rate *= FACTOR;
    };
    for _ in 0..REFINEMENTS {
        let middle = f64::midpoint(good, bad);
        match try_rate(middle) {
            Tried::Carried(sent) | Tried::SenderIsFull(sent) => good = sent,
            Tried::Lost => bad = middle,
        }
    }
    good
}

struct Path<'a> {
    sender: &'a UdpSocket,
    received: &'a AtomicU64,
    datagram: &'a [u8],
    step: Duration,
}

impl Path<'_> {
    /// A rate counts as lost when it is twice: once may be a scheduler's mood.
    fn carries(&self, rate: f64) -> Tried {
        match self.once(rate) {
            Tried::Lost => self.once(rate),
            tried => tried,
        }
    }

    fn once(&self, rate: f64) -> Tried {
        let before = self.received.load(Ordering::Relaxed);
        let (sent, time) = self.send(rate);
        std::thread::sleep(TAIL);
        let received = self.received.load(Ordering::Relaxed) - before;
        let sent_rate = sent as f64 / time.as_secs_f64();
        if (received as f64) < sent as f64 * (1.0 - LOSS) {
            Tried::Lost
        } else if sent_rate < rate * FULL {
            Tried::SenderIsFull(sent_rate)
        } else {
            Tried::Carried(sent_rate)
        }
    }

    /// How many were sent and how long it took: as many as the rate says, unless that takes far longer than it should.
    fn send(&self, rate: f64) -> (u64, Duration) {
        let total = (rate * self.step.as_secs_f64()) as u64;
        let start = Instant::now();
        let mut sent = 0;
        while sent < total && start.elapsed() < self.step * 2 {
            let due = ((rate * start.elapsed().as_secs_f64()) as u64).min(total);
            while sent < due && start.elapsed() < self.step * 2 {
                // A full queue at the sender is no loss on the path; it only makes the rate lower.
                sent += u64::from(self.sender.send(self.datagram).is_ok());
            }
            std::thread::sleep(GROUP);
        }
        (sent, start.elapsed())
    }
}

/// On the server's own address where it has several, so that the Service's translation is not in doubt.
fn receiver(address: Option<Ipv4Addr>) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddrV4::new(address.unwrap_or(Ipv4Addr::UNSPECIFIED), PORT))?;
    set_socket_recv_buffer_size_force(&socket, BUFFER)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket)
}

fn sender(server: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(server)?;
    Ok(socket)
}

fn count(socket: &UdpSocket, received: &AtomicU64, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        if socket.recv(&mut buffer).is_ok() {
            received.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that carries so much, behind a sender that reaches so much.
    fn path(limit: f64, sender: f64) -> impl FnMut(f64) -> Tried {
        move |rate| {
            let sent = rate.min(sender);
            match (sent > limit, sent < rate) {
                (true, _) => Tried::Lost,
                (false, true) => Tried::SenderIsFull(sent),
                (false, false) => Tried::Carried(sent),
            }
        }
    }

    #[test]
    fn the_highest_rate_lies_just_below_the_limit() {
        let found = search(path(100_000.0, 1e9));
        assert!((85_000.0..=100_000.0).contains(&found), "{found}");
        assert_eq!(search(path(1e9, 77_000.0)), 77_000.0);
        assert_eq!(search(path(1_000.0, 1e9)), 0.0);
    }
}
