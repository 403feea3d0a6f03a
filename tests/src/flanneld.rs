//! The real flanneld (tests/k8s/flannel), on a kernel node from which what stands for it has been taken.
//!
//! It follows the API server with the rights that its own manifest gives it, and makes the tunnel's device, routes, neighbours
//! and forwarding entries. Bridge and pods stay the lab's: they are its CNI plugin's work.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::control_plane::ControlPlane;
use crate::machine::Machine;
use crate::plan::{CLUSTER_CIDR, NIC, NodePlan};
use crate::process::{Process, wait_until};
use crate::state::{Node, write_whole};
use crate::{LabError, kernel_node};

/// Who flanneld is to the API server: its service account.
pub const ACCOUNT: &str = "system:serviceaccount:kube-flannel:flannel";
/// The tunnel's device.
pub const DEVICE: &str = "flannel.1";

/// Name of its log.
const NAME: &str = "flanneld";
/// Time for it to have read the nodes and made its device, and to end after SIGTERM.
const LIMIT: Duration = Duration::from_secs(60);
/// Written when it is ready, for the CNI plugin; /run is the machine's own.
const SUBNET_FILE: &str = "run/flannel/subnet.env";
/// ClusterRole and binding of kube-flannel.yml.
const RBAC: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: flannel}
rules:
- {apiGroups: [''], resources: [pods], verbs: [get]}
- {apiGroups: [''], resources: [nodes], verbs: [get, list, watch]}
- {apiGroups: [''], resources: [nodes/status], verbs: [patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: flannel}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: flannel}
subjects: [{kind: ServiceAccount, name: flannel, namespace: kube-flannel}]
";

/// flanneld of one node.
#[derive(Debug)]
pub struct Flanneld {
    machine: Machine,
    program: PathBuf,
    kubeconfig: PathBuf,
    process: Option<Process>,
}

/// What it has told the kernel about other nodes, in the order of their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remotes {
    /// Pod ranges, and the next hop on the tunnel's device.
    pub routes: Vec<(String, Ipv4Addr)>,
    /// MAC addresses of next hops.
    pub neighbors: Vec<(Ipv4Addr, String)>,
    /// Where the tunnel to a MAC address ends.
    pub ends: Vec<(String, Ipv4Addr)>,
}

impl Remotes {
    /// What there has to be for one other node with these annotations.
    #[must_use]
    pub fn of(node: &NodePlan, mac: &str, end: Ipv4Addr) -> Self {
        Self {
            routes: vec![(node.pod_cidr(), node.pod_side_address())],
            neighbors: vec![(node.pod_side_address(), mac.to_owned())],
            ends: vec![(mac.to_owned(), end)],
        }
    }
}

impl Flanneld {
    /// Makes room for flanneld on the kernel node `node`, gives it its rights and starts it. `program` is that of
    /// tests/k8s/flannel.
    ///
    /// # Errors
    /// [`LabError::Command`] with the step that failed, [`LabError::Daemon`] with the end of flanneld's log.
    pub fn install(plane: &ControlPlane, node: &Node, program: PathBuf) -> Result<Self, LabError> {
        let machine = node.machine.clone();
        kernel_node::remove_flannel(&machine)?;
        plane.apply(RBAC)?;
        let kubeconfig = machine.directory.join(plane.kubeconfig(&machine.directory, ACCOUNT, None)?);
        let network = format!(r#"{{"Network": "{CLUSTER_CIDR}", "Backend": {{"Type": "vxlan"}}}}"#);
        write_whole(&machine.directory.join("net-conf.json"), &network)?;
        let mut flanneld = Self { machine, program, kubeconfig, process: None };
        flanneld.start()?;
        Ok(flanneld)
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// [`LabError::Daemon`] with the end of its log.
    pub fn start(&mut self) -> Result<(), LabError> {
        self.machine.space.run(&format!("rm -f /{SUBNET_FILE}"))?;
        let directory = self.machine.directory.display();
        let argv = [
            "env".to_owned(),
            format!("NODE_NAME={}", self.machine.space.name),
            self.program.display().to_string(),
            "--kube-subnet-mgr".to_owned(),
            format!("--kubeconfig-file={}", self.kubeconfig.display()),
            format!("--net-config-path={directory}/net-conf.json"),
            format!("--iface={NIC}"),
            "--ip-masq".to_owned(),
            "--v=2".to_owned(),
        ];
        let process = self.machine.launch(NAME, argv)?;
        self.process = Some(process);
        let file = format!("/proc/{}/root/{SUBNET_FILE}", self.machine.holder.pid);
        let ready = || fs::exists(&file).unwrap_or(false);
        if wait_until(LIMIT, || !process.alive() || ready()) && process.alive() {
            return Ok(());
        }
        Err(self.machine.failure(NAME, format!("was not ready after {LIMIT:?}, or ended")))
    }

    /// Ends it; what it has set stays in force, as flannel wants it.
    ///
    /// # Errors
    /// [`LabError::Daemon`] when it does not end.
    pub fn stop(&mut self) -> Result<(), LabError> {
        let Some(process) = self.process.take() else { return Ok(()) };
        process.signal(Signal::TERM).map_err(LabError::io("end flanneld"))?;
        if process.wait_gone(LIMIT) {
            return Ok(());
        }
        Err(self.machine.failure(NAME, format!("did not end {LIMIT:?} after SIGTERM")))
    }

    /// What it has told its CNI plugin.
    ///
    /// # Errors
    /// [`LabError::Command`] while it is not ready.
    pub fn subnet_file(&self) -> Result<String, LabError> {
        self.machine.space.run(&format!("cat /{SUBNET_FILE}"))
    }

    /// MAC address of the tunnel's end.
    ///
    /// # Errors
    /// [`LabError::Command`] without a device.
    pub fn mac(&self) -> Result<String, LabError> {
        let text = self.machine.space.run(&format!("cat /sys/class/net/{DEVICE}/address"))?;
        Ok(text.trim().to_owned())
    }

    /// What is in force for other nodes.
    ///
    /// # Errors
    /// [`LabError::Command`] without a device.
    pub fn remotes(&self) -> Result<Remotes, LabError> {
        let routes: Vec<Route> = self.list(&format!("ip -j -4 route show dev {DEVICE}"))?;
        let neighbors: Vec<Neighbor> =
            self.list(&format!("ip -j -4 neigh show dev {DEVICE} nud permanent"))?;
        let ends: Vec<End> = self.list(&format!("bridge -j fdb show dev {DEVICE}"))?;
        let mut remotes = Remotes {
            routes: routes.into_iter().map(|route| (route.dst, route.gateway)).collect(),
            neighbors: neighbors.into_iter().map(|neighbor| (neighbor.dst, neighbor.lladdr)).collect(),
            ends: ends.into_iter().map(|end| (end.mac, end.dst)).collect(),
        };
        remotes.routes.sort();
        remotes.neighbors.sort();
        remotes.ends.sort();
        Ok(remotes)
    }

    /// The objects that `command` prints as JSON.
    fn list<T: DeserializeOwned>(&self, command: &str) -> Result<Vec<T>, LabError> {
        let text = self.machine.space.run(command)?;
        serde_json::from_str(&text).map_err(|error| LabError::Output {
            tool: "iproute2",
            problem: error.to_string(),
            output: text.clone(),
        })
    }
}

#[derive(Deserialize)]
struct Route {
    dst: String,
    gateway: Ipv4Addr,
}

#[derive(Deserialize)]
struct Neighbor {
    dst: Ipv4Addr,
    lladdr: String,
}

#[derive(Deserialize)]
struct End {
    mac: String,
    dst: Ipv4Addr,
}
