//! Objects from the Kubernetes API server.
//!
//! One watch per kind feeds one set of objects. What always holds: nothing is published before every kind was read
//! whole; a server that is away, slow or answers errors changes nothing; reading a kind anew replaces it in one step,
//! so that nothing flaps. [`node_status`] and [`events`] are the way back: what this node tells the cluster.

mod access;
mod collection;
pub mod events;
pub mod node_status;
mod resource;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::runtime::watcher::Event;
use tokio::sync::mpsc;

use self::collection::Collection;
use self::resource::Slim;
use super::ObjectsPublisher;
use crate::objects::{EndpointSlice, Namespace, Node, Objects, Pod, Service, ServiceCidr};
use crate::report::Reports;

pub use self::access::{Access, AccessError};

/// Between two publications: a rolling update changes hundreds of objects, and each set is derived as a whole.
const REST: Duration = Duration::from_millis(10);
/// Events that may wait; a watch that is ahead of the publisher waits too.
const BACKLOG: usize = 1024;

/// Publishes the cluster's objects, as far as they matter to `node`, now and after every change. Ends when nobody listens any
/// more.
pub async fn follow(client: Client, node: &str, objects: &ObjectsPublisher, reports: &Reports) {
    let (news, incoming) = mpsc::channel(BACKLOG);
    tokio::join!(
        watch::watch(client.clone(), node, news.clone(), News::Node, reports),
        watch::watch(client.clone(), node, news.clone(), News::Service, reports),
        watch::watch(client.clone(), node, news.clone(), News::Slice, reports),
        watch::watch(client.clone(), node, news.clone(), News::ServiceCidr, reports),
        watch::watch(client.clone(), node, news.clone(), News::Namespace, reports),
        watch::watch(client, node, news, News::Pod, reports),
        publish(incoming, objects),
    );
}

/// What a watch tells.
#[derive(Debug)]
enum News {
    Node(Event<Slim<Node>>),
    Service(Event<Slim<Service>>),
    Slice(Event<Slim<EndpointSlice>>),
    ServiceCidr(Event<Slim<ServiceCidr>>),
    Namespace(Event<Slim<Namespace>>),
    Pod(Event<Slim<Pod>>),
}

/// All kinds as far as they are known.
#[derive(Default)]
struct Cluster {
    nodes: Collection<Node>,
    services: Collection<Service>,
    slices: Collection<EndpointSlice>,
    service_cidrs: Collection<ServiceCidr>,
    namespaces: Collection<Namespace>,
    pods: Collection<Pod>,
}

impl Cluster {
    /// Whether anything is different now.
    fn take(&mut self, news: News) -> bool {
        match news {
            News::Node(event) => self.nodes.take(event),
            News::Service(event) => self.services.take(event),
            News::Slice(event) => self.slices.take(event),
            News::ServiceCidr(event) => self.service_cidrs.take(event),
            News::Namespace(event) => self.namespaces.take(event),
            News::Pod(event) => self.pods.take(event),
        }
    }

    /// The whole set; `None` until every kind is known.
    fn objects(&self) -> Option<Objects> {
        Some(Objects {
            nodes: self.nodes.complete()?.clone(),
            services: self.services.complete()?.clone(),
            slices: self.slices.complete()?.clone(),
            service_cidrs: self.service_cidrs.complete()?.clone(),
            namespaces: self.namespaces.complete()?.clone(),
            pods: self.pods.complete()?.clone(),
        })
    }
}

async fn publish(mut incoming: mpsc::Receiver<News>, objects: &ObjectsPublisher) {
    let mut cluster = Cluster::default();
    while let Some(first) = incoming.recv().await {
        let mut changed = cluster.take(first);
        while let Ok(next) = incoming.try_recv() {
            changed |= cluster.take(next);
        }
        if !changed {
            continue;
        }
        let Some(latest) = cluster.objects() else { continue };
        if objects.send(Some(Arc::new(latest))).is_err() {
            return;
        }
        tokio::time::sleep(REST).await;
    }
}

#[cfg(test)]
mod tests;
