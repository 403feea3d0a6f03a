//! One stream for everything the page shows: server-sent events, one a second.
//!
//! Each event carries what came since the one before, so the first carries ten minutes and a reader that was slow misses
//! nothing that is still kept. Events are made when they can be sent, never ahead, so a reader that takes nothing costs
//! nothing. With `node` the stream is another node's, handed through.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::unfold;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::sections::Sections;
use super::{Node, Shared};
use crate::http::cluster::{Cluster, Looking};

/// Streams at a time.
pub(super) const STREAMS: usize = 32;

/// What the page asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    /// Number of the last event that was seen; 0 = none.
    pub(super) since: u64,
    /// Another node's stream.
    pub(super) node: String,
    /// Connections that match this filter (empty = all); `None` = no connections.
    pub(super) flows: Option<String>,
    /// Services with this in their name (empty = all); `None` = no Services.
    pub(super) services: Option<String>,
}

pub(super) async fn stream(
    State(shared): State<Shared>,
    uri: Uri,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let wanted = match wanted {
        Ok(Query(wanted)) => wanted,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let Ok(permit) = Arc::clone(&shared.streams).try_acquire_owned() else {
        let text = format!("{STREAMS} pages are open already; close one and try again\n");
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let body = if wanted.node.is_empty() || wanted.node == shared.node.name {
        Body::from_stream(unfold(Reader::new(shared, wanted, permit), Reader::next))
    } else {
        match shared.cluster.relay(&wanted.node, uri.query().unwrap_or_default(), permit).await {
            Ok(body) => body,
            Err(problem) => return (StatusCode::BAD_GATEWAY, format!("{problem}\n")).into_response(),
        }
    };
    ([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")], body).into_response()
}

/// One page that looks.
struct Reader {
    node: Node,
    cluster: Arc<Cluster>,
    wanted: Wanted,
    sections: Sections,
    first: bool,
    _looking: Looking,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    fn new(shared: Shared, wanted: Wanted, permit: OwnedSemaphorePermit) -> Self {
        let Shared { node, cluster, .. } = shared;
        let sections = Sections::new(&node);
        let looking = cluster.look();
        Self { node, cluster, wanted, sections, first: true, _looking: looking, _permit: permit }
    }

    async fn next(mut self) -> Option<(Result<Bytes, std::convert::Infallible>, Self)> {
        if !std::mem::take(&mut self.first) && !self.node.observations.changed().await {
            return None;
        }
        let event = self.event().await;
        Some((Ok(event.into()), self))
    }

    async fn event(&mut self) -> String {
        let latest = self.node.observations.take();
        let since = self.node.observations.since(self.wanted.since);
        self.wanted.since = latest.sequence;
        let mut text = String::with_capacity(64 * 1024);
        let head = serde_json::json!({
            "sequence": latest.sequence,
            "node": self.node.name,
            "version": env!("CARGO_PKG_VERSION"),
            "cluster": self.cluster.is_joined(),
            "problem": latest.status.as_ref().err(),
        });
        let head = head.to_string();
        // A string never fails to be written to.
        let _ = write!(text, "event: look\nid: {}\ndata: {}", latest.sequence, head.trim_end_matches('}'));
        let _ =
            write!(text, ",\"points\":[{}],\"events\":[{}]", since.points.join(","), since.events.join(","));
        let _ = write!(text, ",\"status\":{},\"nodes\":{}", latest.json, self.cluster.nodes(&latest));
        for (name, section) in self.sections.ask(&self.wanted).await {
            let _ = write!(text, ",\"{name}\":{section}");
        }
        text.push_str("}\n\n");
        text
    }
}
