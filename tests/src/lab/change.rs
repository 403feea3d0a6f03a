//! What a lab can be told while it is up: pods, Services and daemons come and go.

use std::net::Ipv4Addr;

use crate::daemon::Daemon;
use crate::machine::Machine;
use crate::plan::{NodeKind, NodePlan};
use crate::process::Process;
use crate::state::{Node, Pod};
use crate::{LabError, Service, daemon, headrace_node, kernel_node, pod};

use super::{Lab, missing};

impl Lab {
    /// Attaches one more pod named `name` to `node`.
    ///
    /// # Errors
    /// [`LabError::Cni`] or, on a kernel node, [`LabError::Command`].
    pub fn attach(&mut self, node: &str, name: &str) -> Result<Pod, LabError> {
        let index = self.node_index(node)?;
        let Node { plan, machine, pods, .. } = &self.state.nodes[index];
        let pod = match plan.kind {
            NodeKind::Headrace => headrace_node::attach(machine, name, &self.state.config)?,
            NodeKind::Kernel => {
                let free = (2..=254).map(|host| Ipv4Addr::new(10, 244, plan.number, host));
                let mut free = free.filter(|address| pods.iter().all(|pod| pod.address != *address));
                let address = free.next().ok_or_else(|| missing("free pod address"))?;
                kernel_node::attach(machine, plan, name, address)?
            }
            NodeKind::Cluster => return Err(LabError::Scheduled(node.to_owned())),
        };
        self.state.nodes[index].pods.push(pod.clone());
        self.state.save()?;
        Ok(pod)
    }

    /// Detaches a pod and removes its namespace.
    ///
    /// # Errors
    /// [`LabError::Cni`].
    pub fn detach(&mut self, name: &str) -> Result<(), LabError> {
        let holds = |node: &Node| node.pods.iter().any(|pod| pod.name == name);
        let index = self.state.nodes.iter().position(holds).ok_or_else(|| missing(name))?;
        let node = &mut self.state.nodes[index];
        match node.plan.kind {
            NodeKind::Headrace => pod::detach(&node.machine, name, &self.state.config)?,
            NodeKind::Kernel => node.machine.delete_namespace(name)?,
            NodeKind::Cluster => return Err(LabError::Scheduled(node.plan.name.clone())),
        }
        node.pods.retain(|pod| pod.name != name);
        self.state.save()
    }

    /// Puts a Service in force on every node, replacing an earlier one of that name, and waits until it is.
    ///
    /// # Errors
    /// [`LabError::Daemon`] or [`LabError::Command`].
    pub fn apply_service(&mut self, service: &Service) -> Result<(), LabError> {
        if self.state.services.contains(service) {
            return Ok(());
        }
        let plans = self.plans();
        for node in &self.state.nodes {
            match node.plan.kind {
                NodeKind::Headrace => headrace_node::apply_service(&node.machine, service, &plans)?,
                NodeKind::Kernel => kernel_node::apply_service(&node.machine, &node.plan, service)?,
                NodeKind::Cluster => return Err(LabError::Scheduled(node.plan.name.clone())),
            }
        }
        self.state.services.retain(|known| known.name != service.name);
        self.state.services.push(service.clone());
        self.state.save()
    }

    /// Removes a Service from every node and waits until it is gone.
    ///
    /// # Errors
    /// [`LabError::Daemon`] or [`LabError::Command`].
    pub fn remove_service(&mut self, name: &str) -> Result<(), LabError> {
        for node in &self.state.nodes {
            match node.plan.kind {
                NodeKind::Headrace => headrace_node::remove_service(&node.machine, name)?,
                NodeKind::Kernel => kernel_node::remove_service(&node.machine, name)?,
                NodeKind::Cluster => return Err(LabError::Scheduled(node.plan.name.clone())),
            }
        }
        self.state.services.retain(|known| known.name != name);
        self.state.save()
    }

    /// Starts a daemon that was stopped or killed, and waits until the node is as before.
    ///
    /// # Errors
    /// [`LabError::Daemon`] with the end of its log.
    pub fn start(&mut self, node: &str, daemon: Daemon) -> Result<(), LabError> {
        let index = self.node_index(node)?;
        let machine = &self.state.nodes[index].machine;
        let process = daemon::start(machine, daemon, &self.state.config)?;
        self.note(index, daemon, Some(process))?;
        let both =
            self.state.nodes[index].daemons.is_some_and(|d| d.dataplane.is_some() && d.agent.is_some());
        if both { headrace_node::wait_fed(&self.state.nodes[index].machine) } else { Ok(()) }
    }

    /// Asks a daemon to end and waits until it has.
    ///
    /// # Errors
    /// [`LabError::Daemon`].
    pub fn stop(&mut self, node: &str, daemon: Daemon) -> Result<(), LabError> {
        self.end(node, daemon, daemon::stop)
    }

    /// Ends a daemon as a crash would (SIGKILL).
    ///
    /// # Errors
    /// [`LabError::Daemon`].
    pub fn kill(&mut self, node: &str, daemon: Daemon) -> Result<(), LabError> {
        self.end(node, daemon, daemon::kill)
    }

    /// Restarts all agents to follow the cluster of the file `kubeconfig` in their nodes' directories from now on, and waits
    /// until they do.
    ///
    /// # Errors
    /// [`LabError::Daemon`] with the end of a log.
    pub fn follow_cluster(&mut self, kubeconfig: &str) -> Result<(), LabError> {
        self.state.config.kubeconfig = Some(kubeconfig.to_owned());
        let nodes = self.state.nodes.iter().filter(|node| node.plan.kind == NodeKind::Headrace);
        let names: Vec<String> = nodes.map(|node| node.plan.name.clone()).collect();
        for name in names {
            self.stop(&name, Daemon::Agent)?;
            self.start(&name, Daemon::Agent)?;
        }
        Ok(())
    }

    fn plans(&self) -> Vec<NodePlan> {
        self.state.nodes.iter().map(|node| node.plan.clone()).collect()
    }

    fn end(
        &mut self,
        node: &str,
        daemon: Daemon,
        how: impl Fn(&Machine, Daemon, Process) -> Result<(), LabError>,
    ) -> Result<(), LabError> {
        let index = self.node_index(node)?;
        let Node { machine, daemons, .. } = &self.state.nodes[index];
        if let Some(process) = daemons.and_then(|daemons| daemons.process(daemon)) {
            how(machine, daemon, process)?;
        }
        self.note(index, daemon, None)
    }

    fn note(&mut self, index: usize, daemon: Daemon, process: Option<Process>) -> Result<(), LabError> {
        self.state.nodes[index].daemons.get_or_insert_default().set(daemon, process);
        self.state.save()
    }
}
