//! Looking into the dataplane: the gRPC end of `observe.proto`.
//!
//! Nothing here changes what becomes of traffic. Flows are read without a lock; [`explain`] walks a copy; packets are copied
//! by the workers into buffers that this side provides, and lost, with a count, when it is slow. How many may look at
//! once is bounded ([`watch::Permits`]).

mod capture;
pub mod describe;
pub mod directory;
mod drops;
pub mod explain;
mod filters;
pub mod flow_log;
mod flows;
mod pump;
#[cfg(test)]
pub(in crate::control) mod test_node;
#[cfg(test)]
mod tests;
mod trace;
mod watch;

use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use headrace_api::proto;
use headrace_api::proto::observe_server::Observe;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::server::Call;
use super::shortcut::Shortcut;
use crate::worker::{Shared, Window};
pub use directory::Directory;
use watch::Permits;

/// What can be looked at.
#[derive(Clone)]
pub struct Sight {
    /// Tables and flows.
    pub shared: Arc<Shared>,
    /// The workers.
    pub windows: Vec<Window>,
    /// What people call things.
    pub directory: Arc<ArcSwap<Directory>>,
    /// What would keep packets from being seen.
    pub shortcut: Option<Arc<Shortcut>>,
}

/// Answers the calls of `observe.proto`.
pub struct Observatory {
    sight: Sight,
    calls: mpsc::Sender<Call>,
    permits: Permits,
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Observatory {
    /// Asks the control thread's loop by `calls` for what only it knows.
    pub fn new(sight: Sight, calls: mpsc::Sender<Call>) -> Self {
        Self { sight, calls, permits: Permits::default() }
    }

    async fn services(&self, name: &str) -> Result<Vec<proto::Service>, Status> {
        let (reply, answer) = oneshot::channel();
        let call = Call::Services { name: name.into(), reply };
        self.calls.send(call).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

#[tonic::async_trait]
impl Observe for Observatory {
    type FlowsStream = Replies<proto::FlowRecord>;
    type TraceStream = Replies<proto::TraceRecord>;
    type CaptureStream = Replies<proto::CaptureRecord>;
    type DropsStream = Replies<proto::DropsReply>;

    async fn flows(
        &self,
        request: Request<proto::FlowsRequest>,
    ) -> Result<Response<Self::FlowsStream>, Status> {
        let request = request.into_inner();
        let filter = self.filter(&request.filter).await?;
        let permit = self.permits.take()?;
        Ok(Response::new(flows::stream(self.sight.clone(), filter, &request, permit)?))
    }

    async fn services(
        &self,
        request: Request<proto::ServicesRequest>,
    ) -> Result<Response<proto::ServicesReply>, Status> {
        let services = self.services(&request.into_inner().name).await?;
        Ok(Response::new(flows::services(&self.sight, services)))
    }

    async fn explain(
        &self,
        request: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::ExplainReply>, Status> {
        let request = request.into_inner();
        let probe = self.probe(&request).await?;
        let sight = self.sight.clone();
        let explained = tokio::task::spawn_blocking(move || explain::reply(&sight, &probe)).await;
        explained.map_err(|error| Status::internal(error.to_string()))?.map(Response::new)
    }

    async fn trace(
        &self,
        request: Request<proto::TraceRequest>,
    ) -> Result<Response<Self::TraceStream>, Status> {
        let request = request.into_inner();
        let filter = self.filter(&request.filter).await?;
        let permit = self.permits.take()?;
        Ok(Response::new(trace::stream(self.sight.clone(), filter, request.count, permit).await?))
    }

    async fn capture(
        &self,
        request: Request<proto::CaptureRequest>,
    ) -> Result<Response<Self::CaptureStream>, Status> {
        let request = request.into_inner();
        let filter = self.filter(&request.filter).await?;
        let permit = self.permits.take()?;
        Ok(Response::new(capture::stream(self.sight.clone(), filter, &request, permit).await?))
    }

    async fn drops(
        &self,
        request: Request<proto::DropsRequest>,
    ) -> Result<Response<Self::DropsStream>, Status> {
        let permit = self.permits.take()?;
        Ok(Response::new(drops::stream(self.sight.clone(), request.into_inner().once, permit)?))
    }
}

fn stopping() -> Status {
    Status::unavailable("the dataplane is stopping")
}
