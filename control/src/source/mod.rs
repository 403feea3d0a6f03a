//! Where objects come from.
//!
//! A source is a thread or task that keeps a watch channel at the latest whole set of objects: `None` until it has read all of
//! them once, so that half a cluster is never taken for the whole. There are two: [`manifests`] and [`kubernetes`].

pub mod kubernetes;
pub mod manifests;

use std::sync::Arc;

use tokio::sync::watch;

use crate::objects::Objects;

/// Where a source publishes.
pub type ObjectsPublisher = watch::Sender<Option<Arc<Objects>>>;

/// Latest objects; `None` until everything has been read once.
pub type ObjectsWatch = watch::Receiver<Option<Arc<Objects>>>;
