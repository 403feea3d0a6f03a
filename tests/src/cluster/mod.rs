//! A real Kubernetes cluster in a lab: a control plane on the outside host, and nodes with a containerd and a kubelet each.
//!
//! Nodes ([`node`]) are machines of the lab that see files, mounts and control groups of their own, so that whatever the
//! cluster's workloads do to their node, they do to this node only. Images ([`image`]) are made here: there is no registry.
//! The network is not part of it; a node is Ready once something has put a CNI configuration in place.

pub mod image;
pub mod node;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use self::image::Image;
use self::node::ClusterNode;
use crate::control_plane::ControlPlane;
use crate::plan::OUTSIDE;
use crate::state::Pod;
use crate::{Lab, LabConfig, LabError, Space};

/// Address of the cluster's DNS server: the tenth of all Services' addresses, as kubeadm has it.
pub const DNS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 96, 0, 10);

/// A cluster that is up. Dropping it takes it down.
#[derive(Debug)]
pub struct Cluster {
    /// The API server and its friends.
    pub plane: ControlPlane,
    nodes: Vec<ClusterNode>,
    lab: Lab,
}

impl Cluster {
    /// Makes a cluster named `name` of `count` nodes that have `images`. `program` is
    /// [`control_plane::program`](crate::control_plane::program)'s.
    ///
    /// # Errors
    /// Any [`LabError`]; nothing is left behind then.
    pub fn up(name: String, count: usize, program: PathBuf, images: &[Image]) -> Result<Self, LabError> {
        node::check_machine()?;
        let config =
            LabConfig { name, nodes: 0, cluster_nodes: count, pods_per_node: 0, ..LabConfig::default() };
        let lab = Lab::up(&config, &mut |_| {})?;
        let outside = lab.state().outside.clone().ok_or_else(|| LabError::NoSuchSpace {
            name: crate::plan::OUTSIDE_NAME.to_owned(),
            known: "no outside host".to_owned(),
        })?;
        let archives = save(&lab, images)?;
        let mut plane = ControlPlane::start(&outside, OUTSIDE, program)?;
        plane.start_controllers(&["*"])?;
        plane.start_scheduler()?;
        let start = |node: &crate::state::Node| ClusterNode::start(&plane, node, &archives);
        let nodes = lab.state().nodes.iter().map(start).collect::<Result<_, _>>()?;
        Ok(Self { plane, nodes, lab })
    }

    /// The machines and the LAN below.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> &[ClusterNode] {
        &self.nodes
    }

    /// The node that is called `name`.
    ///
    /// # Errors
    /// [`LabError::NoSuchSpace`].
    pub fn node(&self, name: &str) -> Result<&ClusterNode, LabError> {
        self.nodes.iter().find(|node| node.name() == name).ok_or_else(|| LabError::NoSuchSpace {
            name: name.to_owned(),
            known: self.nodes.iter().map(ClusterNode::name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Ends the kubelet of node `name` and starts it again, which registers a node that was deleted.
    ///
    /// # Errors
    /// [`LabError::NoSuchSpace`] or [`LabError::Io`].
    pub fn restart_kubelet(&mut self, name: &str) -> Result<(), LabError> {
        let missing = self.node(name).map(drop);
        match self.nodes.iter_mut().find(|node| node.name() == name) {
            Some(node) => node.restart_kubelet(),
            None => missing,
        }
    }

    /// kubectl as an administrator: words separated by blanks, no quoting; its standard output.
    ///
    /// # Errors
    /// [`LabError::Command`] when it fails.
    pub fn kubectl(&self, line: &str) -> Result<String, LabError> {
        self.plane.kubectl(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Asks kubectl until `done` with its answer, at most `limit`; the answer.
    ///
    /// # Errors
    /// [`LabError::Output`] with the last answer.
    pub fn wait(
        &self,
        line: &str,
        limit: Duration,
        mut done: impl FnMut(&str) -> bool,
    ) -> Result<String, LabError> {
        let end = Instant::now() + limit;
        loop {
            let answer = self.kubectl(line);
            if let Ok(answer) = &answer
                && done(answer)
            {
                return Ok(answer.clone());
            }
            if Instant::now() > end {
                return Err(LabError::Output {
                    tool: "kubectl",
                    problem: format!("`{line}` is not as it should be after {limit:?}"),
                    output: answer.unwrap_or_else(|error| error.to_string()),
                });
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// The pod `name` of namespace `default`, whose first container runs.
    ///
    /// # Errors
    /// [`LabError::Output`] when it does not run.
    pub fn pod(&self, name: &str) -> Result<Pod, LabError> {
        let facts = "jsonpath={.spec.nodeName} {.status.podIP} {.status.containerStatuses[0].containerID}";
        let answer = self.plane.kubectl(&["get", "pod", name, "-o", facts])?;
        let failed = || LabError::Output {
            tool: "kubectl",
            problem: format!("pod {name} does not run"),
            output: answer.clone(),
        };
        let [node, address, container] =
            answer.split(' ').collect::<Vec<_>>().try_into().map_err(|_| failed())?;
        let node = self.node(node)?;
        let container = container.trim_start_matches("containerd://");
        let tasks = node.machine.space.run("ctr -n k8s.io tasks list")?;
        let pid = tasks.lines().find(|line| line.starts_with(container));
        let pid = pid.and_then(|line| line.split_whitespace().nth(1)).ok_or_else(failed)?;
        let net = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let space = Space { name: name.to_owned(), net, ..node.machine.space.clone() };
        Ok(Pod { name: name.to_owned(), address: address.parse().map_err(|_| failed())?, space })
    }

    /// Takes the cluster down, with an error where dropping would only print one.
    ///
    /// # Errors
    /// [`LabError::Io`] with what could not be removed.
    pub fn down(self) -> Result<(), LabError> {
        drop(self.plane);
        self.lab.down()
    }
}

fn save(lab: &Lab, images: &[Image]) -> Result<Vec<PathBuf>, LabError> {
    let folder = lab.state().directory.join("images");
    images.iter().map(|image| image.save(&folder)).collect()
}
