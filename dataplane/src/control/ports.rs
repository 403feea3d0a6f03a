//! Pod ports and the host link: opened when their device is there, closed when it or its owner is gone.
//!
//! All of them share one frame area per worker, which AF_XDP knows by the host link's sockets: it outlives every pod.
//! So nothing is open before the host link is, and when its device is replaced, everything is closed and opened again; that
//! takes milliseconds, and flows are kept. A pod's slot is free again once every worker has let go of it.
//!
//! A port that is closed keeps its program as long as its device is there: the program drops what has no socket, so a
//! pod never reaches the node's own stack past the dataplane.

mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use headrace_api::state::{Port, PortId};
use headrace_xsk::program::ProgramError;

use super::kernel::{Link, View};
use super::retry::Failure;
use super::shortcut::{Place, Places, Shortcut};
use super::veth::{Opened, VethError, Veths};
use super::workers::Workers;
use crate::config::PodDriver;
use crate::frames::AreaId;
use crate::port::PortIndex;
use slots::Slots;

/// An open device.
pub struct Open {
    /// Its slot in every worker.
    pub index: PortIndex,
    /// Index of its device, by which a device made anew is told from the old one.
    pub ifindex: u32,
    /// What it was opened with.
    pub device: Opened,
    /// Whether superframes were asked for, whatever came of it.
    asked_superframes: bool,
}

/// Why a port is not open, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum PortProblem {
    /// No such device yet.
    #[error("no device {0} in the node's network namespace yet; it is opened when it appears")]
    Missing(String),
    /// It is down.
    #[error("device {0} is down; it is opened when it is up (ip link set dev {0} up)")]
    Down(String),
    /// The host link comes first.
    #[error("the host link is not open: {0}")]
    HostLink(String),
    /// All slots are taken.
    #[error("all {0} port slots are taken; delete ports that are gone")]
    Slots(usize),
    /// Its program or a socket.
    #[error(transparent)]
    Device(#[from] VethError),
}

/// What stands in a port's way since the last attempt.
struct Obstacle {
    text: String,
    failure: Option<Failure>,
}

impl Obstacle {
    fn new(text: &str) -> Self {
        Self { text: text.into(), failure: None }
    }

    /// Of an attempt: only one that touched the device makes the next one wait.
    fn of(problem: &PortProblem, link: Option<&Link>) -> Self {
        let tried = matches!(problem, PortProblem::Device(_));
        let failure = link.filter(|_| tried).map(|link| Failure::on(link.index));
        Self { text: problem.to_string(), failure }
    }

    fn must_wait(&self, link: Option<&Link>) -> bool {
        matches!((&self.failure, link), (Some(failure), Some(link)) if !failure.is_over(link.index))
    }
}

/// The host link and all pod ports.
pub struct Ports {
    veths: Veths,
    host: Option<Open>,
    host_obstacle: Obstacle,
    pods: BTreeMap<PortId, Open>,
    obstacles: BTreeMap<PortId, Obstacle>,
    slots: Slots,
}

impl Ports {
    /// Loads the programs, or takes over those of an earlier process with the devices they are attached to.
    ///
    /// # Errors
    /// [`ProgramError`] when one cannot be loaded or pinned.
    pub fn new(
        pins: &Path,
        workers: u32,
        driver: PodDriver,
        shortcut: Option<(Arc<Shortcut>, OwnedFd)>,
    ) -> Result<Self, ProgramError> {
        Ok(Self {
            veths: Veths::new(pins, workers, driver, shortcut)?,
            host: None,
            host_obstacle: Obstacle::new("it is not there yet"),
            pods: BTreeMap::new(),
            obstacles: BTreeMap::new(),
            slots: Slots::default(),
        })
    }

    /// The host link, when it is open; else why not.
    pub fn host(&self) -> Result<&Open, &str> {
        self.host.as_ref().ok_or(&self.host_obstacle.text)
    }

    /// A pod port, when it is open; else why not.
    pub fn pod(&self, id: PortId) -> Result<&Open, &str> {
        self.pods.get(&id).ok_or_else(|| self.obstacles.get(&id).map_or("it was not opened yet", |o| &o.text))
    }

    /// Slots of the open pod ports.
    pub fn open_pods(&self) -> impl Iterator<Item = (PortId, &Open)> {
        self.pods.iter().map(|(id, open)| (*id, open))
    }

    /// The open pod ports between which there may be a shortcut, but for some.
    pub fn places(&self, without: &BTreeSet<PortId>) -> Places {
        let open = self.pods.iter().filter(|(id, _)| !without.contains(id));
        let place = |(_, open): (&PortId, &Open)| {
            let counters = Arc::clone(open.device.elsewhere.as_ref()?);
            Some((open.index, Place { ifindex: open.ifindex, counters }))
        };
        open.filter_map(place).collect()
    }

    /// Whether some wanted port waits for something that may come without news from the kernel.
    pub fn incomplete(&self) -> bool {
        self.host.is_none() || !self.obstacles.is_empty()
    }

    /// Open pod ports that must be closed: not wanted any more, wanted otherwise, or their device is gone or replaced.
    /// Workers may still get frames for them; publish tables without them before [`Ports::close`].
    pub fn outdated(
        &self,
        wanted: &BTreeMap<PortId, Port>,
        host: Option<&Link>,
        view: &View,
    ) -> BTreeSet<PortId> {
        let host_stays =
            self.host.as_ref().is_none_or(|open| host.is_some_and(|link| link.index == open.ifindex));
        let fits = |id: &PortId, open: &Open| {
            wanted.get(id).is_some_and(|port| {
                let same_device = view.link(&port.interface).is_some_and(|link| link.index == open.ifindex);
                same_device && port.superframes == open.asked_superframes
            })
        };
        self.pods.iter().filter(|(id, open)| !host_stays || !fits(id, open)).map(|(id, _)| *id).collect()
    }

    /// Closes pod ports, and the host link when its device is another one.
    pub fn close(&mut self, ids: &BTreeSet<PortId>, host: Option<&Link>, workers: &Workers) {
        for id in ids {
            if let Some(open) = self.pods.remove(id) {
                workers.detach(open.index);
                self.slots.give_back(open.index);
            }
        }
        let replaced = |open: &mut Open| host.is_none_or(|link| link.index != open.ifindex);
        if let Some(open) = self.host.take_if(replaced) {
            tracing::warn!("the host link's device was replaced; all pod ports are opened again");
            workers.detach(open.index);
            workers.release_anchors(AreaId::Pods);
            self.host_obstacle = Obstacle::new("its device is gone");
        }
    }

    /// Opens what is wanted and not open: the host link first.
    pub fn open(
        &mut self,
        wanted: &BTreeMap<PortId, Port>,
        host: Option<&Link>,
        view: &View,
        workers: &Workers,
    ) {
        if self.host.is_none() && !self.host_obstacle.must_wait(host) {
            match self.open_device(PortIndex::HOST, host, "host link", true, workers) {
                Ok(open) => self.host = Some(open),
                Err(problem) => {
                    // Nothing else is open: a part of it that was must not stand in the next attempt's way.
                    workers.release_anchors(AreaId::Pods);
                    self.host_obstacle = Obstacle::of(&problem, host);
                }
            }
        }
        self.obstacles.retain(|id, _| wanted.contains_key(id));
        for port in wanted.values().filter(|port| !self.pods.contains_key(&port.id)).collect::<Vec<_>>() {
            let link = view.link(&port.interface);
            if !self.obstacles.get(&port.id).is_some_and(|obstacle| obstacle.must_wait(link)) {
                let outcome = self.open_pod(port, link, workers);
                self.record(port, link, outcome);
            }
        }
    }

    fn record(&mut self, port: &Port, link: Option<&Link>, outcome: Result<Open, PortProblem>) {
        let Port { id, interface, label, .. } = port;
        match outcome {
            Ok(open) => {
                tracing::info!("port {id} ({label}) is open on {interface}");
                self.obstacles.remove(id);
                self.pods.insert(*id, open);
            }
            Err(problem) => {
                let obstacle = Obstacle::of(&problem, link);
                if self.obstacles.get(id).is_none_or(|before| before.text != obstacle.text) {
                    tracing::warn!("port {id} ({label}) is not open: {}", obstacle.text);
                }
                self.obstacles.insert(*id, obstacle);
            }
        }
    }

    /// Takes what the programs know of devices that are gone out of their maps.
    pub fn forget_gone(&mut self, view: &View) {
        self.veths.forget_gone(view);
    }

    fn open_pod(&mut self, port: &Port, link: Option<&Link>, workers: &Workers) -> Result<Open, PortProblem> {
        if self.host.is_none() {
            return Err(PortProblem::HostLink(self.host_obstacle.text.clone()));
        }
        let index = self.slots.take().ok_or(PortProblem::Slots(Slots::CAPACITY))?;
        self.open_device(index, link, &port.interface, port.superframes, workers)
            .inspect_err(|_| self.slots.give_back(index))
    }

    fn open_device(
        &mut self,
        index: PortIndex,
        link: Option<&Link>,
        name: &str,
        superframes: bool,
        workers: &Workers,
    ) -> Result<Open, PortProblem> {
        let link = link.ok_or_else(|| PortProblem::Missing(name.into()))?;
        if !link.up {
            return Err(PortProblem::Down(link.name.clone()));
        }
        let device = self.veths.open(index, link, superframes, workers)?;
        Ok(Open { index, ifindex: link.index, device, asked_superframes: superframes })
    }
}
