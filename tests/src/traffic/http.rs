//! HTTP from a space: one request at a time, or a stream of them of which none may fail.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::stream;
use crate::Space;

/// Time between two requests of a [`Load`].
const PERIOD: Duration = Duration::from_millis(20);

/// Asks `server` for its root on a connection of its own; the body of the answer.
///
/// # Errors
/// That of the connection, or an answer other than 200.
pub fn get(space: &Space, server: SocketAddrV4) -> io::Result<String> {
    let mut stream = stream::connect(space, server)?;
    stream.write_all(format!("GET / HTTP/1.0\r\nHost: {server}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.") && head.contains(" 200 ") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("the server answers {answer:?}"))),
    }
}

/// Requests one after another until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<LoadReport>,
}

/// How a [`Load`] fared.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// Requests that were answered.
    pub answered: u64,
    /// What became of the others.
    pub failed: Vec<String>,
}

impl Load {
    /// Begins to ask `server` from `space`.
    #[must_use]
    pub fn start(space: &Space, server: SocketAddrV4) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, space) = (Arc::clone(&stop), space.clone());
        let thread = std::thread::spawn(move || ask(&space, server, &stopped));
        Self { stop, thread }
    }

    /// Ends it.
    #[must_use]
    pub fn stop(self) -> LoadReport {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn ask(space: &Space, server: SocketAddrV4, stop: &AtomicBool) -> LoadReport {
    let mut report = LoadReport::default();
    while !stop.load(Ordering::Relaxed) {
        match get(space, server) {
            Ok(_) => report.answered += 1,
            Err(error) => report.failed.push(format!("request {}: {error}", report.answered)),
        }
        std::thread::sleep(PERIOD);
    }
    report
}
