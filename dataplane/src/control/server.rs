//! The gRPC end of the contract: hands every request to the control thread's loop and the answer back.
//!
//! Nothing is decided here but what belongs to a stream: it begins with a snapshot, generations grow within it, and there
//! is one at a time, so that two controllers cannot take turns at undoing each other's work; the newest counts.

use std::pin::Pin;
use std::sync::Arc;

use headrace_api::proto::dataplane_server::{Dataplane, DataplaneServer};
use headrace_api::proto::observe_server::ObserveServer;
use headrace_api::{API_VERSION, proto};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::observe::{Observatory, Sight};
use super::socket::Socket;

/// Requests and replies under way in a stream before the sender has to wait.
const UNDER_WAY: usize = 16;

/// What the control thread's loop is asked.
#[derive(Debug)]
pub enum Call {
    /// A controller connected; the stream before it, if any, is at its end.
    Connected,
    /// The last controller is gone.
    Disconnected,
    /// A change of the desired state.
    Change {
        /// As it came.
        request: proto::SyncRequest,
        /// Where the answer goes.
        reply: oneshot::Sender<proto::SyncReply>,
    },
    /// What the dataplane does now.
    Status {
        /// Where the answer goes.
        reply: oneshot::Sender<proto::StatusReply>,
    },
    /// Services as they are desired.
    Services {
        /// A part of their names.
        name: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Vec<proto::Service>>,
    },
}

/// Serves the socket until the returned task is aborted.
pub fn serve(socket: Socket, calls: mpsc::Sender<Call>, sight: Sight) -> tokio::task::JoinHandle<()> {
    let observe = ObserveServer::new(Observatory::new(sight, calls.clone()));
    let service = DataplaneServer::new(Server { calls, newest: Arc::new(watch::Sender::new(0)) })
        .max_decoding_message_size(usize::MAX);
    tokio::spawn(async move {
        let (listener, _guard) = socket.into_parts();
        let incoming = UnixListenerStream::new(listener);
        if let Err(error) = tonic::transport::Server::builder()
            .add_service(service)
            .add_service(observe)
            .serve_with_incoming(incoming)
            .await
        {
            tracing::error!("the gRPC server ended: {error}");
        }
    })
}

struct Server {
    calls: mpsc::Sender<Call>,
    /// Number of the newest stream.
    newest: Arc<watch::Sender<u64>>,
}

#[tonic::async_trait]
impl Dataplane for Server {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<proto::SyncReply, Status>> + Send>>;

    async fn sync(
        &self,
        request: Request<Streaming<proto::SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let (replies, receiver) = mpsc::channel(UNDER_WAY);
        let mut number = 0;
        self.newest.send_modify(|newest| {
            *newest += 1;
            number = *newest;
        });
        let stream = SyncStream {
            number,
            newest: Arc::clone(&self.newest),
            calls: self.calls.clone(),
            replies,
            last: None,
        };
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn status(&self, _: Request<proto::StatusRequest>) -> Result<Response<proto::StatusReply>, Status> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call::Status { reply }).await.map_err(|_| stopping())?;
        answer.await.map(Response::new).map_err(|_| stopping())
    }
}

/// One controller's stream.
struct SyncStream {
    number: u64,
    newest: Arc<watch::Sender<u64>>,
    calls: mpsc::Sender<Call>,
    replies: mpsc::Sender<Result<proto::SyncReply, Status>>,
    /// Generation of the last request.
    last: Option<u64>,
}

impl SyncStream {
    async fn run(mut self, mut requests: Streaming<proto::SyncRequest>) {
        if self.calls.send(Call::Connected).await.is_err() {
            return;
        }
        let mut newest = self.newest.subscribe();
        let number = self.number;
        let end = loop {
            let replaced = newest.wait_for(|newest| *newest != number);
            let request = tokio::select! {
                biased;
                _ = replaced => break Some(Status::aborted("another controller has connected")),
                request = requests.next() => request,
            };
            let outcome = match request {
                Some(Ok(request)) => self.answer(request).await,
                // The controller closed its half, or is gone.
                Some(Err(_)) | None => break None,
            };
            match outcome {
                Ok(reply) => {
                    if self.replies.send(Ok(reply)).await.is_err() {
                        break None;
                    }
                }
                Err(status) => break Some(status),
            }
        };
        if let Some(status) = end {
            let _ = self.replies.send(Err(status)).await;
        }
        if *self.newest.borrow() == self.number {
            let _ = self.calls.send(Call::Disconnected).await;
        }
    }

    async fn answer(&mut self, request: proto::SyncRequest) -> Result<proto::SyncReply, Status> {
        use proto::sync_request::Change;
        // A request of another contract is not understood well enough to say more about it.
        if request.api_version == API_VERSION {
            if self.last.is_none() && !matches!(request.change, Some(Change::Snapshot(_))) {
                return Err(Status::failed_precondition("a stream begins with a snapshot"));
            }
            if self.last.is_some_and(|last| request.generation <= last) {
                return Err(Status::invalid_argument("generations must grow with every request of a stream"));
            }
        }
        self.last = Some(request.generation);
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call::Change { request, reply }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

fn stopping() -> Status {
    Status::unavailable("the dataplane is stopping")
}

#[cfg(test)]
mod tests;
