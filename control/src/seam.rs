//! What the parts of the agent tell each other: facts about the node, the ports of attached pods, the dataplane's answers.
//!
//! [`NodeFacts`] flow from the agent to [`crate::cni`] and [`crate::node`]; [`Ports`] flow from `cni` to the agent;
//! [`PortGate`] lets `cni` wait for the dataplane. All are watch channels that hold the latest value: nobody queues,
//! nobody replays. `None` always means "not known yet", never "nothing": the agent sends the dataplane nothing before
//! the attached pods are known, or a restart would detach them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use headrace_api::state::{Encapsulation, Port, PortId};
use ipnetwork::IpNetwork;
use tokio::sync::watch;

pub use crate::push::gate::{PortBoard, PortGate, PortProblem};

/// What is known of the node the agent runs on, from its Node object and the agent's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// The Node object's name.
    pub name: String,
    /// The node's InternalIPs, at least one. The uplink is the link that holds the first; its MTU less the tunnel's
    /// overhead (50 bytes over IPv4) is the pods' path MTU.
    pub node_addresses: Vec<IpAddr>,
    /// The node's own pod ranges, at least one.
    pub pod_cidrs: Vec<IpNetwork>,
    /// All pods of the cluster.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// All Service addresses.
    pub service_cidrs: Vec<IpNetwork>,
    /// How packets travel between nodes.
    pub encapsulation: Encapsulation,
    /// Whether pod traffic that leaves the cluster carries the node's address.
    pub masquerade: bool,
    /// Destinations outside the cluster that see pod addresses all the same.
    pub non_masquerade_cidrs: Vec<IpNetwork>,
}

/// Latest facts; `None` until the own Node object has been read. They stay when the object goes away.
pub type FactsWatch = watch::Receiver<Option<Arc<NodeFacts>>>;

/// The ports of all attached pods.
pub type Ports = Arc<BTreeMap<PortId, Port>>;

/// Latest ports; `None` until the attachments of earlier runs have been read.
pub type PortsWatch = watch::Receiver<Option<Ports>>;

/// Where `cni` publishes the ports of attached pods.
pub type PortsPublisher = watch::Sender<Option<Ports>>;

/// Where the agent keeps its files and sockets.
#[derive(Clone, Debug)]
pub struct Directories {
    /// Sockets and what may go with a reboot.
    pub run: PathBuf,
    /// What must outlive a restart of the agent: attachments, port ids, the VTEP MAC.
    pub state: PathBuf,
}
