//! Accepting connections so that nobody can use up the agent: a limit on connections, a limit on the time of every step.
//!
//! * A request's head must come within [`HEAD_TIME`], also on a connection that is kept open; TLS within the same time.
//! * When [`CONNECTIONS`] are open, the oldest one that has never sent a whole request makes room for the next, so that
//!   half-open connections cannot keep others out.
//! * What is sent must be taken: the kernel ends a connection whose peer takes nothing for [`STALL_TIME`].

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::debug;

/// Connections at a time, on one port.
const CONNECTIONS: usize = 128;
/// Time for a request's head, and for the TLS handshake.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Time for the peer to take what is sent.
const STALL_TIME: Duration = Duration::from_secs(20);
/// Bytes of a request's head, and of what is kept to be sent.
const BUFFER: usize = 16 * 1024;

/// Serves `router` to all that connect, for ever.
pub(super) async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router) {
    let mut open = Open::default();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: nothing to do but to wait for some to come free.
                debug!("cannot accept a connection: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        open.make_room();
        let (router, tls, asked) = (router.clone(), tls.clone(), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            if let Err(error) = connection(stream, tls, router, &told).await {
                debug!("connection of {peer}: {error}");
            }
        });
        open.list.push_back((task, asked));
    }
}

/// The connections of one port, oldest first, and whether each has sent a request.
#[derive(Default)]
struct Open {
    list: VecDeque<(JoinHandle<()>, Arc<AtomicBool>)>,
}

impl Open {
    fn make_room(&mut self) {
        if self.list.len() < CONNECTIONS {
            return;
        }
        self.list.retain(|(task, _)| !task.is_finished());
        if self.list.len() < CONNECTIONS {
            return;
        }
        let silent = self.list.iter().position(|(_, asked)| !asked.load(Ordering::Relaxed));
        if let Some((task, _)) = self.list.remove(silent.unwrap_or(0)) {
            task.abort();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.list.iter().for_each(|(task, _)| task.abort());
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    asked: &AtomicBool,
) -> io::Result<()> {
    // tcp(7): also ends connections whose peer keeps its window closed.
    rustix::net::sockopt::set_tcp_user_timeout(&stream, STALL_TIME.as_millis() as u32)?;
    stream.set_nodelay(true)?;
    match tls {
        None => http(stream, router, asked).await,
        Some(tls) => {
            let stream = timeout(HEAD_TIME, tls.accept(stream)).await;
            http(stream.map_err(|_| io::ErrorKind::TimedOut)??, router, asked).await
        }
    }
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    asked: &AtomicBool,
) -> io::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        router.clone().oneshot(request)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}
