//! HTTP/1.1 for small answers to whoever can reach the node: everything a peer may use is bounded.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// Connections at a time on one port; more wait.
const CONNECTIONS: usize = 64;
/// For the whole of a connection: one question and its answer.
const LONGEST: Duration = Duration::from_secs(5);
/// Bytes of a request's head.
const LARGEST_HEAD: usize = 8 * 1024;

/// A question.
pub(super) type Asked = Request<Incoming>;
/// An answer, whole.
pub(super) type Answer = Response<Full<Bytes>>;

/// Answers for as long as the task lives.
pub(super) async fn serve(listener: TcpListener, answer: Arc<dyn Fn(&Asked) -> Answer + Send + Sync>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // Connections that have ended; those that have not end with this task.
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = Arc::clone(&answer);
                connections.spawn(async move {
                    let _ = timeout(LONGEST, connection(stream, &*answer)).await;
                    drop(permit);
                });
            }
            Err(e) => {
                debug!("health: accept: {e}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, answer: &(dyn Fn(&Asked) -> Answer + Send + Sync)) {
    let service = service_fn(|request: Asked| {
        let answer = answer(&request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST)
        .max_buf_size(LARGEST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(e) = served {
        debug!("health: {e}");
    }
}
