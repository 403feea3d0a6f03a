//! The lab as a whole: up, look, down.

mod change;

use std::fs;
use std::net::Ipv4Addr;

use headrace_api::proto::StatusReply;

use crate::daemon::Daemon;
use crate::lan::{self, LONGEST_FRAME};
use crate::machine::Machine;
use crate::plan::{self, LAN_NAME, NodeKind, OUTSIDE, OUTSIDE_NAME};
use crate::process::{self, Process};
use crate::state::{LabState, Node, ROOT, lab_names};
use crate::{
    LabConfig, LabError, Space, Wire, cgroup, command, config, counters, daemon, dataplane, headrace_node,
    kernel_node,
};

/// Programs that making a lab needs.
const PROGRAMS: [&str; 10] = [
    "ip",
    "bridge",
    "ethtool",
    "nft",
    "nsenter",
    "unshare",
    "timeout",
    "sysctl",
    "iptables",
    "iptables-restore",
];

/// A lab that is up. Dropping it takes it down, unless it was told to [stay](Self::stay).
#[derive(Debug)]
pub struct Lab {
    state: LabState,
    stays: bool,
}

impl Lab {
    /// Makes a lab, telling `progress` what it is doing. Labs whose makers have died are removed first.
    ///
    /// # Errors
    /// Any [`LabError`]; nothing is left behind then.
    pub fn up(config: &LabConfig, progress: &mut dyn FnMut(&str)) -> Result<Self, LabError> {
        check_machine(config)?;
        remove_orphans();
        let directory = LabState::directory_of(&config.name);
        fs::create_dir_all(ROOT).map_err(LabError::io(format!("make {ROOT}")))?;
        fs::create_dir(&directory).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => LabError::Taken(config.name.clone()),
            _ => LabError::io(format!("make {}", directory.display()))(error),
        })?;
        let owner = Process::of(std::process::id()).ok();
        let state = LabState {
            config: config.clone(),
            directory,
            owner,
            lan: None,
            outside: None,
            nodes: Vec::new(),
            services: Vec::new(),
        };
        let mut lab = Self { state, stays: false };
        lab.state.save()?;
        lab.build(progress)?;
        Ok(lab)
    }

    /// A lab that another process has made; it stays when this handle goes.
    ///
    /// # Errors
    /// [`LabError::NoSuchLab`] or [`LabError::State`].
    pub fn open(name: &str) -> Result<Self, LabError> {
        config::check_name(name)?;
        Ok(Self { state: LabState::load(name)?, stays: true })
    }

    /// Removes the lab `name` with all that belongs to it, whoever made it and however far it came. `false` when there
    /// was none.
    ///
    /// # Errors
    /// [`LabError::Io`] with what could not be removed.
    pub fn remove(name: &str) -> Result<bool, LabError> {
        config::check_name(name)?;
        let directory = LabState::directory_of(name);
        let there = directory.exists() || !process::marked(name).is_empty();
        process::kill_marked(name)?;
        cgroup::remove(name)?;
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(LabError::io(format!("remove {}", directory.display()))(error));
            }
            _ => {}
        }
        // The folder of all labs goes with the last one; while it is not empty, this fails as it should.
        let _ = fs::remove_dir(ROOT);
        Ok(there)
    }

    /// Lets the lab outlive this handle and this process.
    ///
    /// # Errors
    /// [`LabError::Io`] when the state file cannot be written.
    pub fn stay(mut self) -> Result<(), LabError> {
        self.state.owner = None;
        self.state.save()?;
        self.stays = true;
        Ok(())
    }

    /// All names, addresses, namespaces and processes.
    #[must_use]
    pub fn state(&self) -> &LabState {
        &self.state
    }

    /// The namespace of a pod, a node, the outside host or the LAN.
    ///
    /// # Errors
    /// [`LabError::NoSuchSpace`] with the names that there are.
    pub fn space(&self, name: &str) -> Result<&Space, LabError> {
        let spaces = || {
            let machines =
                [&self.state.lan, &self.state.outside].into_iter().flatten().map(|machine| &machine.space);
            let nodes = self.state.nodes.iter();
            machines.chain(nodes.flat_map(|node| {
                std::iter::once(&node.machine.space).chain(node.pods.iter().map(|pod| &pod.space))
            }))
        };
        spaces().find(|space| space.name == name).ok_or_else(|| LabError::NoSuchSpace {
            name: name.to_owned(),
            known: spaces().map(|space| space.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The address of a pod, a node or the outside host.
    ///
    /// # Errors
    /// [`LabError::NoSuchSpace`].
    pub fn address(&self, name: &str) -> Result<Ipv4Addr, LabError> {
        let pods = self.state.nodes.iter().flat_map(|node| &node.pods).map(|pod| (&pod.name, pod.address));
        let nodes = self.state.nodes.iter().map(|node| (&node.plan.name, node.plan.address));
        let found = pods.chain(nodes).find(|(known, _)| *known == name).map(|(_, address)| address);
        match found {
            Some(address) => Ok(address),
            None if name == OUTSIDE_NAME => Ok(OUTSIDE),
            None => self.space(name).map(|_| Ipv4Addr::UNSPECIFIED),
        }
    }

    /// A node.
    ///
    /// # Errors
    /// [`LabError::NoSuchSpace`].
    pub fn node(&self, name: &str) -> Result<&Node, LabError> {
        self.node_index(name).map(|index| &self.state.nodes[index])
    }

    /// The switch of the LAN; its ports are named as the machines that they go to.
    ///
    /// # Errors
    /// [`LabError::NoSuchSpace`] while the lab is not complete.
    pub fn switch(&self) -> Result<&Machine, LabError> {
        self.state.lan.as_ref().ok_or_else(|| missing(LAN_NAME))
    }

    /// What the dataplane of `node` says.
    ///
    /// # Errors
    /// [`LabError::Status`] when it does not answer.
    pub fn dataplane(&self, node: &str) -> Result<StatusReply, LabError> {
        let run_dir = self.node(node)?.run_dir();
        dataplane::status(&run_dir).map_err(|problem| LabError::Status { node: node.to_owned(), problem })
    }

    /// Checks what must hold on every Headrace node at any time: both daemons run and every chunk is accounted for.
    ///
    /// # Errors
    /// [`LabError::Status`] or [`LabError::Daemon`].
    pub fn check(&self) -> Result<(), LabError> {
        for node in self.state.nodes.iter().filter(|node| node.plan.kind == NodeKind::Headrace) {
            let name = &node.plan.name;
            for kind in Daemon::ALL {
                if !node.daemons.and_then(|d| d.process(kind)).is_some_and(|process| process.alive()) {
                    return Err(daemon::failure(&node.machine, kind, "does not run".to_owned()));
                }
            }
            let faults = dataplane::ledger_faults(&self.dataplane(name)?);
            if !faults.is_empty() {
                let problem = format!("chunks are missing: {}", faults.join("; "));
                return Err(LabError::Status { node: name.clone(), problem });
            }
        }
        Ok(())
    }

    /// What makes the wire another than it was asked to be: frames of a segmented one that are longer than Ethernet's
    /// would make every figure worthless. Empty when all is well.
    #[must_use]
    pub fn long_frames(&self) -> Vec<String> {
        if self.state.config.wire == Wire::Whole {
            return Vec::new();
        }
        let start = counters::LinkCounters::default();
        let mean = |name: &str| lan::mean_frame(self.switch()?, name, &start);
        let names = self.state.nodes.iter().map(|node| &node.plan.name);
        names
            .filter_map(|name| match mean(name) {
                Ok(mean) if mean > LONGEST_FRAME => {
                    Some(format!("frames of {name} are {mean:.0} bytes long on average"))
                }
                Ok(_) => None,
                Err(error) => Some(error.to_string()),
            })
            .collect()
    }

    /// Takes the lab down, with an error where dropping would only print one.
    ///
    /// # Errors
    /// [`LabError::Io`] with what could not be removed.
    pub fn down(mut self) -> Result<(), LabError> {
        self.stays = true;
        Self::remove(&self.state.config.name).map(drop)
    }

    fn build(&mut self, progress: &mut dyn FnMut(&str)) -> Result<(), LabError> {
        let config = self.state.config.clone();
        let plans = plan::nodes(&config);
        progress("LAN and outside host");
        let lan = self.machine(LAN_NAME)?;
        lan::make_switch(&lan)?;
        self.state.lan = Some(lan.clone());
        let outside = self.machine(OUTSIDE_NAME)?;
        lan::plug_outside(&lan, &outside, &plans, &config)?;
        self.state.outside = Some(outside);
        for plan in &plans {
            progress(&plan.name);
            let machine = self.machine(&plan.name)?;
            lan::plug_node(&lan, &machine, plan, &config)?;
            let daemons = match plan.kind {
                NodeKind::Headrace => Some(headrace_node::set_up(&machine, &plans, &[], &config)?),
                NodeKind::Kernel => kernel_node::set_up(&machine, plan, &plans).map(|()| None)?,
                NodeKind::Cluster => None,
            };
            self.state.nodes.push(Node { plan: plan.clone(), machine, daemons, pods: Vec::new() });
            self.state.save()?;
            for pod in &plan.pod_names {
                progress(pod);
                self.attach(&plan.name, pod)?;
            }
        }
        Ok(())
    }

    fn machine(&self, name: &str) -> Result<Machine, LabError> {
        Machine::start(&self.state.config.name, &self.state.directory, name)
    }

    fn node_index(&self, name: &str) -> Result<usize, LabError> {
        self.state.nodes.iter().position(|node| node.plan.name == name).ok_or_else(|| missing(name))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        if let Err(error) = Self::remove(&self.state.config.name) {
            eprintln!("lab {} could not be removed: {error}", self.state.config.name);
        }
    }
}

fn check_machine(config: &LabConfig) -> Result<(), LabError> {
    config.check()?;
    if !rustix::process::geteuid().is_root() {
        return Err(LabError::NotRoot);
    }
    if let Some(missing) = PROGRAMS.into_iter().find(|program| command::find_program(program).is_none()) {
        return Err(LabError::MissingProgram(missing.to_owned()));
    }
    let binaries = ["headrace-dataplane", "headrace-agent", "headrace-cni"];
    binaries.into_iter().filter(|_| config.nodes > 0).try_for_each(|name| daemon::binary(name).map(drop))
}

/// Removes labs whose makers died without taking them down.
fn remove_orphans() {
    for name in lab_names() {
        let orphan = |state: LabState| state.owner.is_some_and(|owner| !owner.alive());
        if LabState::load(&name).is_ok_and(orphan) {
            // It may be removed by another process at the same time; whoever needs the name will see.
            let _ = Lab::remove(&name);
        }
    }
}

fn missing(name: &str) -> LabError {
    LabError::NoSuchSpace { name: name.to_owned(), known: "see `headrace-lab status`".to_owned() }
}
