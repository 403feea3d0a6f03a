//! What a lab shall look like.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::LabError;

/// How packets travel between Headrace nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Encapsulation {
    /// VXLAN to every peer.
    Vxlan,
    /// No tunnel between nodes on one subnet.
    Direct,
}

impl Encapsulation {
    /// The word that the agent's configuration uses.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Direct => "direct",
        }
    }
}

/// What the nodes' NICs do to frames: which kind of wire the LAN is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// Frames of 1514 bytes at most, merged again on receipt (GRO): a NIC without tunnel offloads.
    Segmented,
    /// Frames of 1514 bytes at most, not merged on receipt.
    Plain,
    /// Frames of up to 64 KiB cross as they are, which no real wire does.
    Whole,
}

/// A lab to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabConfig {
    /// Unique on the machine; also the name of the lab's directory.
    pub name: String,
    /// Headrace nodes: `node1`, `node2`, ...
    pub nodes: usize,
    /// Kernel nodes: `kernel1`, `kernel2`, ...
    pub kernel_nodes: usize,
    /// Nodes for a Kubernetes cluster to be made of: `worker1`, `worker2`, ...
    #[serde(default)]
    pub cluster_nodes: usize,
    /// Pods on every node: `node1-pod1`, ...
    pub pods_per_node: usize,
    /// Workers of each dataplane; also the number of queues of every NIC.
    pub workers: usize,
    /// Between Headrace nodes.
    pub encapsulation: Encapsulation,
    /// Whether pod traffic that leaves the cluster gets the node's address.
    pub masquerade: bool,
    /// The LAN.
    pub wire: Wire,
    /// Whether pods get superframes; otherwise they are annotated to be without.
    pub superframes: bool,
    /// Appended to every dataplane's command line.
    pub dataplane_args: Vec<String>,
    /// Appended to the command line of one node's dataplane, by the node's name.
    #[serde(default)]
    pub node_args: BTreeMap<String, Vec<String>>,
    /// Appended to every agent's command line.
    pub agent_args: Vec<String>,
    /// Name of the kubeconfig in every node's directory, of the cluster that agents follow; `None` = they follow manifests.
    #[serde(default)]
    pub kubeconfig: Option<String>,
}

impl Default for LabConfig {
    fn default() -> Self {
        Self {
            name: "lab".to_owned(),
            nodes: 2,
            kernel_nodes: 0,
            cluster_nodes: 0,
            pods_per_node: 2,
            workers: 1,
            encapsulation: Encapsulation::Vxlan,
            masquerade: true,
            wire: Wire::Segmented,
            superframes: true,
            dataplane_args: Vec::new(),
            node_args: BTreeMap::new(),
            agent_args: Vec::new(),
            kubeconfig: None,
        }
    }
}

impl LabConfig {
    /// Checks what the type cannot say.
    ///
    /// # Errors
    /// [`LabError::BadName`] or [`LabError::BadNumber`].
    pub fn check(&self) -> Result<(), LabError> {
        check_name(&self.name)?;
        let number = |key, value, range: std::ops::RangeInclusive<usize>, remedy| {
            if range.contains(&value) { Ok(()) } else { Err(LabError::BadNumber { key, value, remedy }) }
        };
        let nodes = self.nodes + self.kernel_nodes + self.cluster_nodes;
        number("nodes + kernel-nodes", nodes, 1..=99, "choose 1 to 99 in sum")?;
        number("pods", self.pods_per_node, 0..=200, "a node's range holds 200 pods")?;
        number("workers", self.workers, 1..=16, "choose 1 to 16")
    }
}

/// Whether `name` can be a lab's name.
///
/// # Errors
/// [`LabError::BadName`].
pub fn check_name(name: &str) -> Result<(), LabError> {
    let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if letters && !name.starts_with('-') && (1..=30).contains(&name.len()) {
        Ok(())
    } else {
        Err(LabError::BadName(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_labs_directory_are_refused() {
        for name in ["", "-a", "..", "a/b", "A", "a b", &"a".repeat(31)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        check_name("lab-2").unwrap();
    }

    #[test]
    fn a_lab_without_any_node_is_refused() {
        let config = LabConfig { nodes: 0, ..LabConfig::default() };
        assert!(config.check().unwrap_err().to_string().contains("nodes + kernel-nodes = 0"));
    }
}
