//! UDP between spaces, with sockets held by this process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::{LabError, Space};

/// How long a receive waits before it looks whether it shall end.
const TICK: Duration = Duration::from_millis(50);

/// Sends every datagram back, in a thread of its own; ended when dropped.
pub struct UdpServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpServer {
    /// Serves `port` of `address` in `space`. The address is needed where a host has several: a reply of an unbound socket
    /// comes from the one that the route back prefers. Each reply is `name`, a colon, the peer's address as the server sees
    /// it, a newline, and the datagram itself.
    ///
    /// # Errors
    /// [`LabError::Io`] when the port is taken.
    pub fn start(space: &Space, address: Ipv4Addr, port: u16, name: &str) -> Result<Self, LabError> {
        let socket = bind(space, address, port)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, name) = (Arc::clone(&stop), name.to_owned());
        let thread = std::thread::spawn(move || serve(&socket, &name, &stopped));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the server has been printed already.
            let _ = thread.join();
        }
    }
}

/// A reply of a [`UdpServer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpReply {
    /// The server's name.
    pub server: String,
    /// The client as the server saw it.
    pub client_seen: String,
    /// Who the reply came from, as the client saw it.
    pub from: SocketAddr,
    /// The bytes that were sent.
    pub payload: Vec<u8>,
}

/// A UDP socket in `space`, bound to `address` and `port` (0 = any).
///
/// # Errors
/// [`LabError::Io`].
pub fn bind(space: &Space, address: Ipv4Addr, port: u16) -> Result<UdpSocket, LabError> {
    let local = SocketAddrV4::new(address, port);
    let socket = space.enter(|| {
        let socket = UdpSocket::bind(local)?;
        socket.set_read_timeout(Some(TICK))?;
        io::Result::Ok(socket)
    })?;
    socket.map_err(LabError::io(format!("bind UDP {local} in {}", space.name)))
}

/// Sends `payload` from `socket` to a [`UdpServer`] and waits at most two seconds for the reply.
///
/// # Errors
/// `TimedOut` without a reply; `ConnectionRefused` when ICMP says so (connected sockets only).
pub fn ask(socket: &UdpSocket, server: SocketAddrV4, payload: &[u8]) -> io::Result<UdpReply> {
    if socket.peer_addr().is_ok() {
        socket.send(payload)?
    } else {
        socket.send_to(payload, server)?
    };
    let mut buffer = vec![0; 65_536];
    for _ in 0..40 {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => continue,
            other => other?,
        };
        let reply = &buffer[..length];
        let end = reply.iter().position(|&byte| byte == b'\n').unwrap_or(0);
        let head = String::from_utf8_lossy(&reply[..end]).into_owned();
        let (name, seen) = head.split_once(':').unwrap_or_default();
        let payload = reply.get(end + 1..).unwrap_or_default().to_vec();
        return Ok(UdpReply { server: name.to_owned(), client_seen: seen.to_owned(), from, payload });
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn serve(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
        let mut reply = format!("{name}:{peer}\n").into_bytes();
        reply.extend_from_slice(&buffer[..length]);
        // A client that has gone is no error of the server.
        let _ = socket.send_to(&reply, peer);
    }
}
