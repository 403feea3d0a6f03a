//! One watch, kept up for ever: pauses after errors, and tells them once, with what would help.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::News;
use super::resource::{Kind, Slim};
use crate::report::Reports;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a watch is asked to last, in seconds. A server that is gone without a word is noticed 5 seconds later.
const WATCH: u32 = 120;

/// Tells all that happens to objects of one kind, as far as they matter to `node`. Ends when nobody listens any more.
pub(super) async fn watch<T: Kind>(
    client: Client,
    node: &str,
    news: mpsc::Sender<News>,
    wrap: fn(Event<Slim<T>>) -> News,
    reports: &Reports,
) {
    let api = Api::all(client);
    let mut events = stream(&api, configuration::<T>(node).streaming_lists());
    let mut trouble = Trouble::new(T::PLURAL, reports);
    while let Some(next) = events.next().await {
        match next {
            Ok(event) => {
                // A list that has begun may fail yet.
                if !matches!(event, Event::Init) {
                    trouble.over();
                }
                if news.send(wrap(event)).await.is_err() {
                    return;
                }
            }
            Err(e) if lacks_streaming_lists(&e) => {
                info!("the API server has no streaming lists (WatchList); {} are listed in pages", T::PLURAL);
                events = stream(&api, configuration::<T>(node));
            }
            Err(e) if T::OPTIONAL && is_unknown(&e) => {
                info!("the API server knows no {}; this matters to nothing else", T::PLURAL);
                for event in [Event::Init, Event::InitDone] {
                    if news.send(wrap(event)).await.is_err() {
                        return;
                    }
                }
                return;
            }
            Err(e) => tokio::time::sleep(trouble.met(&describe(&e))).await,
        }
    }
}

fn stream<T: Kind>(
    api: &Api<Slim<T>>,
    config: watcher::Config,
) -> BoxStream<'static, watcher::Result<Event<Slim<T>>>> {
    watcher(api.clone(), config).boxed()
}

fn configuration<T: Kind>(node: &str) -> watcher::Config {
    let mut config = watcher::Config::default().timeout(WATCH);
    if let Some(selector) = T::SELECTOR {
        config = config.labels(selector);
    }
    if T::OF_THIS_NODE {
        config = config.fields(&format!("spec.nodeName={node}"));
    }
    config
}

/// 422 Unprocessable: "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled".
fn lacks_streaming_lists(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 422)
}

/// 404: there is no such kind.
fn is_unknown(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 404)
}

/// The error in the server's words, with what would help.
fn describe(error: &watcher::Error) -> String {
    let (watcher::Error::InitialListFailed(cause)
    | watcher::Error::WatchStartFailed(cause)
    | watcher::Error::WatchFailed(cause)) = error
    else {
        return error.to_string();
    };
    describe_call(cause)
}

/// As [`describe`], for any call of the API server.
pub(super) fn describe_call(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            format!("the API server does not know the agent ({}); renew its credentials", status.message)
        }
        kube::Error::Api(status) if status.code == 403 => {
            format!("{}; apply deploy/kustomize/base/rbac.yaml", status.message)
        }
        kube::Error::Api(status) => status.message.clone(),
        other => chain(other),
    }
}

/// An error with its causes, each said once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let words = deeper.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = deeper.source();
    }
    text
}

/// What is wrong with a watch now.
pub(super) struct Trouble<'a> {
    what: &'static str,
    reports: &'a Reports,
    told: Option<String>,
    pause: Duration,
}

impl<'a> Trouble<'a> {
    pub(super) fn new(what: &'static str, reports: &'a Reports) -> Self {
        Self { what, reports, told: None, pause: FIRST_PAUSE }
    }

    /// Tells a new error and says how long to wait before the next attempt.
    pub(super) fn met(&mut self, error: &str) -> Duration {
        if self.told.as_deref() != Some(error) {
            let text = format!("{error}; the last state stays in force; trying again");
            warn!("API server, {}: {text}", self.what);
            self.reports.set(self.what, [text].iter());
            self.told = Some(error.to_owned());
        }
        let pause = self.pause;
        self.pause = LONGEST_PAUSE.min(pause * 2);
        // All nodes lose the server at once and should not come back at once.
        pause.mul_f64(0.5 + f64::from(RandomState::new().hash_one(()) as u16) / f64::from(u16::MAX))
    }

    /// Tells that it is solved.
    pub(super) fn over(&mut self) {
        self.pause = FIRST_PAUSE;
        if self.told.take().is_some() {
            info!("API server, {}: works again", self.what);
            self.reports.set(self.what, std::iter::empty::<String>());
        }
    }
}
