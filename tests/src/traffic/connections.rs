//! New connections: connect, one byte there, one byte back, the server closes. The client's port is free again at once, so
//! that a long measurement does not run out of them.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::LabError;
use crate::leg::Leg;
use crate::traffic::iperf::PORT;

/// Clients, and servers, at the same time.
const THREADS: usize = 4;
/// How long a server waits before it looks whether it shall end.
const PATIENCE: Duration = Duration::from_millis(50);
/// A connection that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(3);

/// How many connections per second came up, were used and ended.
///
/// # Errors
/// [`LabError::Io`] with the first that failed.
pub fn per_second(leg: &Leg, time: Duration) -> Result<f64, LabError> {
    let failed = || {
        LabError::io(format!(
            "connections from {} to {} by {}",
            leg.client.name,
            leg.server.name,
            leg.target()
        ))
    };
    let listener = leg.server.enter(listen)?.map_err(failed())?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| serve(&listener, &stop));
        }
        let rate = leg.client.enter(|| connect_for(leg.target(), time));
        stop.store(true, Ordering::Relaxed);
        rate?.map_err(failed())
    })
}

fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT))?;
    set_socket_timeout(&listener, Timeout::Recv, Some(PATIENCE))?;
    Ok(listener)
}

fn serve(listener: &TcpListener, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        // What goes wrong here the client sees.
        let Ok((mut stream, _)) = listener.accept() else { continue };
        let _ = stream.read_exact(&mut [0]).and_then(|()| stream.write_all(&[1]));
    }
}

/// In the client's namespace, which the threads inherit.
fn connect_for(server: SocketAddrV4, time: Duration) -> io::Result<f64> {
    let count = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let client = || {
            while start.elapsed() < time {
                connect(server)?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            io::Result::Ok(())
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(client)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })?;
    Ok(count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

fn connect(server: SocketAddrV4) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server.into(), LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(&[1])?;
    stream.read_exact(&mut [0])?;
    // The end of the stream: the server closes first and keeps the waiting time.
    stream.read(&mut [0]).map(drop)
}
