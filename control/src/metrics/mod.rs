//! `/metrics` in OpenMetrics text: what the observer saw last, under names by Prometheus' conventions.
//!
//! The sets of labels are bounded by the node: its workers, its ports, the reasons for drops, the frame areas, its peers.
//! Of Services only the most used have a name here, 32 at most, so ten thousand of them cost nothing.

mod families;
mod histogram;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use self::families::Families;
use crate::observe::{Observations, Snapshot};

/// The format's name (OpenMetrics 1.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes the metrics of one node.
#[derive(Debug)]
pub struct Exporter {
    registry: Registry,
}

impl Exporter {
    /// The metrics of `node`, which is a label of all of them.
    pub fn new(node: &str, observations: Observations) -> Self {
        let labels = [("node".into(), node.to_owned().into())];
        let mut registry = Registry::with_prefix_and_labels("headrace", labels.into_iter());
        registry.register_collector(Box::new(Node(observations)));
        Self { registry }
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// Only those of formatting, which do not happen.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(64 * 1024);
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[derive(Debug)]
struct Node(Observations);

impl Collector for Node {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        write(&self.0.latest(), encoder)
    }
}

fn write(snapshot: &Arc<Snapshot>, encoder: DescriptorEncoder<'_>) -> fmt::Result {
    let mut families = Families(encoder);
    families.agent(snapshot)?;
    let Ok(status) = &snapshot.status else { return Ok(()) };
    families.dataplane(status)?;
    families.ports(status)?;
    families.workers(status)?;
    families.peers(status)?;
    families.tables(&status.tables.unwrap_or_default())?;
    families.services(status)?;
    families.flows(&status.flows.clone().unwrap_or_default())?;
    families.shortcut(&status.shortcut.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests;
