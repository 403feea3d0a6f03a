//! What an operator should know: standing warnings by topic, shown in status and logged once each.

use std::collections::BTreeMap;

/// The topics, in the order in which status shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Workers that have stopped.
    Standing,
    /// State of an earlier run.
    Saved,
    /// The file by which it runs.
    StateFile,
    /// Conversation with the kernel.
    Kernel,
    /// The host link.
    HostLink,
    /// The port on the host link.
    HostPort,
    /// The uplink.
    Uplink,
    /// What the uplink takes for Services.
    Frontends,
    /// Rules for the node's own processes.
    NodeRules,
    /// Next hops.
    Neighbors,
    /// The reservation of source ports for translated traffic.
    Reservation,
    /// Ports of that range that are in use.
    Listeners,
    /// Cores of workers.
    Cores,
    /// The shortcut.
    Shortcut,
}

/// The warnings that hold now.
#[derive(Debug, Default)]
pub struct Warnings(BTreeMap<Topic, Vec<String>>);

impl Warnings {
    /// Replaces the warnings of a topic; new ones are logged.
    pub fn set(&mut self, topic: Topic, warnings: Vec<String>) {
        let before = self.0.insert(topic, Vec::new()).unwrap_or_default();
        for warning in warnings.iter().filter(|warning| !before.contains(warning)) {
            tracing::warn!("{warning}");
        }
        self.0.insert(topic, warnings);
    }

    /// All of them.
    pub fn all(&self) -> Vec<String> {
        self.0.values().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_replaced_as_a_whole() {
        let mut warnings = Warnings::default();
        warnings.set(Topic::Uplink, vec!["slow".into(), "odd".into()]);
        warnings.set(Topic::Saved, vec!["ignored".into()]);
        assert_eq!(warnings.all(), ["ignored", "slow", "odd"]);
        warnings.set(Topic::Uplink, vec!["odd".into()]);
        assert_eq!(warnings.all(), ["ignored", "odd"]);
        warnings.set(Topic::Uplink, vec![]);
        assert_eq!(warnings.all(), ["ignored"]);
    }
}
