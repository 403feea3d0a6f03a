//! TCP between spaces, with sockets held by this process: an echo server, a connection that must not break, and a
//! transfer with a hash over it.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::{LabError, Space};

/// How long a connection may take to come up.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long a connection may stand still before it counts as broken.
const STILL_LIMIT: Duration = Duration::from_secs(30);
/// Time between two messages of a [`Hold`].
const PERIOD: Duration = Duration::from_millis(5);

/// Greets every client with a line, `name`, a colon and the client's address as the server sees it, then sends back what
/// comes. Ended when dropped; connections that are up then go on until their clients close them.
pub struct TcpServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TcpServer {
    /// Serves `port` on all addresses of `space`.
    ///
    /// # Errors
    /// [`LabError::Io`] when the port is taken.
    pub fn start(space: &Space, port: u16, name: &str) -> Result<Self, LabError> {
        let listener = listen(space, port)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, name) = (Arc::clone(&stop), name.to_owned());
        let thread = std::thread::spawn(move || accept(&listener, &name, &stopped));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the server has been printed already.
            let _ = thread.join();
        }
    }
}

/// What a [`TcpServer`] says to a new client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The server's name.
    pub server: String,
    /// The client as the server saw it.
    pub client_seen: SocketAddr,
}

/// Connects from `space`.
///
/// # Errors
/// The error of connect(2): `TimedOut`, `ConnectionRefused`, ...
pub fn connect(space: &Space, server: SocketAddrV4) -> io::Result<TcpStream> {
    let stream = space
        .enter(|| TcpStream::connect_timeout(&server.into(), CONNECT_LIMIT))
        .map_err(io::Error::other)??;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STILL_LIMIT))?;
    Ok(stream)
}

/// Connects from `space` to a [`TcpServer`] and reads its greeting.
///
/// # Errors
/// As [`connect`], or the connection breaks.
pub fn greet(space: &Space, server: SocketAddrV4) -> io::Result<(TcpStream, Greeting)> {
    let mut stream = connect(space, server)?;
    let mut line = Vec::new();
    let mut byte = [0];
    while byte[0] != b'\n' {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
    let odd = || io::Error::other(format!("the server greets with {line:?}"));
    let (name, seen) = line.split_once(':').ok_or_else(odd)?;
    let client_seen = seen.parse().map_err(|_| odd())?;
    Ok((stream, Greeting { server: name.to_owned(), client_seen }))
}

/// A connection to a [`TcpServer`] that sends a number every five milliseconds and wants it back.
pub struct Hold {
    stop: Arc<AtomicBool>,
    echoed: Arc<AtomicU64>,
    thread: JoinHandle<HoldReport>,
}

/// How a [`Hold`] fared.
#[derive(Debug)]
pub struct HoldReport {
    /// Numbers that came back, in order.
    pub echoed: u64,
    /// Longest time without one, in all.
    pub longest_gap: Duration,
    /// Why the connection ended before it should; none when it held.
    pub broken: Option<io::Error>,
    /// What the server said first.
    pub greeting: Greeting,
}

impl Hold {
    /// Connects from `space`.
    ///
    /// # Errors
    /// As [`greet`].
    pub fn start(space: &Space, server: SocketAddrV4) -> io::Result<Self> {
        let (stream, greeting) = greet(space, server)?;
        let stop = Arc::new(AtomicBool::new(false));
        let echoed = Arc::new(AtomicU64::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&echoed));
        let thread = std::thread::spawn(move || hold(stream, greeting, &stopped, &count));
        Ok(Self { stop, echoed, thread })
    }

    /// Numbers that have come back by now.
    #[must_use]
    pub fn echoed(&self) -> u64 {
        self.echoed.load(Ordering::Relaxed)
    }

    /// Closes the connection.
    #[must_use]
    pub fn stop(self) -> HoldReport {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Sends `length` pseudo-random bytes from `client` to `port` of `server` by way of `address`; gives the SHA-256 of what
/// was sent and of what was received.
///
/// # Errors
/// When the connection does not come up or breaks.
pub fn transfer(
    client: &Space,
    server: &Space,
    address: Ipv4Addr,
    port: u16,
    length: u64,
) -> Result<[String; 2], LabError> {
    let failed = || LabError::io(format!("transfer from {} to {} by {address}", client.name, server.name));
    let listener = listen(server, port)?;
    let receiver = std::thread::spawn(move || receive(&listener));
    let stream = connect(client, SocketAddrV4::new(address, port)).map_err(failed())?;
    let sent = send(stream, length).map_err(failed())?;
    let received = receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    Ok([sent, received.map_err(failed())?])
}

/// A listener in `space` on all its addresses, non-blocking.
fn listen(space: &Space, port: u16) -> Result<TcpListener, LabError> {
    let listener = space.enter(|| {
        let listener = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
        listener.set_nonblocking(true)?;
        io::Result::Ok(listener)
    })?;
    listener.map_err(LabError::io(format!("listen on TCP port {port} in {}", space.name)))
}

fn accept(listener: &TcpListener, name: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, peer)) => {
                let greeting = format!("{name}:{peer}\n");
                std::thread::spawn(move || echo(stream, &greeting));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn echo(mut stream: TcpStream, greeting: &str) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.write_all(greeting.as_bytes())?;
    let mut buffer = vec![0; 65_536];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length])?;
    }
}

fn hold(mut stream: TcpStream, greeting: Greeting, stop: &AtomicBool, echoed: &AtomicU64) -> HoldReport {
    let mut report = HoldReport { echoed: 0, longest_gap: Duration::ZERO, broken: None, greeting };
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = exchange(&mut stream, report.echoed) {
            report.broken = Some(error);
            break;
        }
        report.longest_gap = report.longest_gap.max(last.elapsed());
        last = Instant::now();
        report.echoed += 1;
        echoed.store(report.echoed, Ordering::Relaxed);
        std::thread::sleep(PERIOD);
    }
    report
}

fn exchange(stream: &mut TcpStream, number: u64) -> io::Result<()> {
    stream.write_all(&number.to_be_bytes())?;
    let mut reply = [0; 8];
    stream.read_exact(&mut reply)?;
    let reply = u64::from_be_bytes(reply);
    if reply == number {
        Ok(())
    } else {
        Err(io::Error::other(format!("{reply} came back instead of {number}")))
    }
}

fn send(mut stream: TcpStream, length: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut bytes = Bytes(length | 1);
    let mut buffer = vec![0; 256 * 1024];
    let mut left = length;
    while left > 0 {
        let chunk = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        bytes.fill(&mut buffer[..chunk]);
        hash.update(&buffer[..chunk]);
        stream.write_all(&buffer[..chunk])?;
        left -= chunk as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    // The other side closes when it has everything, and sends nothing before.
    stream.read_to_end(&mut Vec::new())?;
    Ok(hex(hash))
}

fn receive(listener: &TcpListener) -> io::Result<String> {
    let end = Instant::now() + CONNECT_LIMIT + Duration::from_secs(1);
    let mut stream = loop {
        match listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => break other?.0,
        }
    };
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(STILL_LIMIT))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(hex(hash));
        }
        hash.update(&buffer[..length]);
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that no protocol or offload could guess: Marsaglia's xorshift64.
struct Bytes(u64);

impl Bytes {
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}
