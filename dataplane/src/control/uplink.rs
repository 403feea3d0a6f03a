//! The uplink: the node's NIC, of which the XDP program takes only what is ours.
//!
//! Modes from best to last: zero-copy; UDP sockets for the tunnel and packet sockets for the rest; AF_XDP with a copy in the
//! driver; generic, which switches the device's own GRO off for the whole node. Status says which one it became and why. What
//! the program takes is brought up to date before tables that count on it; without settings it takes nothing. Without an
//! uplink pods of this node reach each other and the node, no more.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;

use headrace_api::state::{Encapsulation, Settings};
use headrace_xsk::packet::{PacketError, PacketSocket};
use headrace_xsk::program::{
    Attached, Frontend, Preference, Prefix, ProgramError, Snat, UplinkConfig, UplinkProgram, XdpMode,
};
use headrace_xsk::udp::UdpError;
use headrace_xsk::{AreaHandle, Granted, Mode, SocketConfig};
use ipnetwork::IpNetwork;

use super::desired::Desired;
use super::frontends;
use super::kernel::{Link, View};
use super::queues::{Queues, QueuesError};
use super::retry::Failure;
use super::uplink_queues;
use super::workers::{Half, Workers};
use crate::config::TunnelDriver;
use crate::frames::{AreaId, HEADROOM};
use crate::port::PortIndex;
use crate::port::packet::PacketPort;
use crate::port::tunnel::Tunnel;
use crate::port::uplink::UplinkPort;
use crate::stats::PortCounters;

/// The open uplink.
pub struct Open {
    /// Name of the device when it was opened.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// How frames that are not in the tunnel get in and out.
    pub driver: Driver,
    /// How many sockets there are for them.
    pub queues: u32,
    /// Counters of each worker's half.
    pub counters: Vec<Arc<PortCounters>>,
    /// How tunnelled packets get in and out.
    pub tunnel: TunnelState,
    /// What an operator should know about it.
    pub warnings: Vec<String>,
    /// The tunnel's end that was asked for, whatever came of it.
    asked_end: Option<SocketAddrV4>,
}

/// How frames get in and out.
pub enum Driver {
    /// AF_XDP sockets.
    AfXdp {
        /// How the XDP program is attached.
        attached: Attached,
        /// What the sockets got.
        granted: Granted,
    },
    /// Packet sockets beside a program at tc ingress.
    Packet,
}

/// How tunnelled packets get in and out, and why so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelState {
    /// Where the UDP sockets are; `None` = by the uplink's own sockets.
    pub udp: Option<SocketAddrV4>,
    /// Why.
    pub why: &'static str,
    /// What went wrong on the way to UDP sockets.
    pub problem: String,
}

/// The uplink could not be opened in the node's stack, with UDP and packet sockets.
#[derive(Debug, thiserror::Error)]
enum InStackError {
    #[error(transparent)]
    Tunnel(#[from] UdpError),
    #[error(transparent)]
    Packet(#[from] PacketError),
    #[error(transparent)]
    Program(#[from] ProgramError),
}

/// The uplink with its programs.
pub struct Uplink {
    program: UplinkProgram,
    driver: TunnelDriver,
    match_queues: bool,
    open: Option<Open>,
    problem: String,
    failure: Option<Failure>,
    config: Option<UplinkConfig>,
    /// Pod ranges of other nodes that the program knows.
    peers: Option<Vec<Prefix>>,
}

impl Uplink {
    /// Loads the XDP program, or takes over that of an earlier process. With `match_queues` the device gets a queue for each
    /// worker.
    ///
    /// # Errors
    /// [`ProgramError`] when it cannot be loaded or pinned.
    pub fn new(pins: &Path, driver: TunnelDriver, match_queues: bool) -> Result<Self, ProgramError> {
        let program = UplinkProgram::load_or_take_over(pins)?;
        Ok(Self {
            program,
            driver,
            match_queues,
            open: None,
            problem: "it was not looked for yet".into(),
            failure: None,
            config: None,
            peers: None,
        })
    }

    /// The uplink, when it is open; else why not.
    pub fn open(&self) -> Result<&Open, &str> {
        self.open.as_ref().ok_or(&self.problem)
    }

    /// Which device it should be: the one that is configured, or the one that the node's address is on.
    pub fn choose<'a>(
        configured: Option<&str>,
        settings: Option<&Settings>,
        view: &'a View,
    ) -> Result<&'a Link, String> {
        if let Some(name) = configured {
            return view
                .link(name)
                .ok_or_else(|| format!("no device {name} yet; it is opened when it appears"));
        }
        let Some(settings) = settings else {
            return Err("the controller has not told the node's address yet".into());
        };
        let addresses: Vec<_> = v4(&settings.node_addresses).collect();
        view.find_uplink(&addresses).ok_or_else(|| {
            format!(
                "no device holds {addresses:?} and there is no default route; name the device with --uplink"
            )
        })
    }

    /// Opens the device, or lets go of it when it is another one now, or the tunnel's end.
    pub fn follow(&mut self, chosen: Result<&Link, String>, settings: Option<&Settings>, workers: &Workers) {
        let index = chosen.as_ref().ok().map(|link| link.index);
        let end = settings.and_then(tunnel_end);
        let stays = |open: &Open| Some(open.ifindex) == index && open.asked_end == end;
        if let Some(open) = self.open.take_if(|open| !stays(open)) {
            tracing::info!("the uplink, {}, is opened anew", open.name);
            workers.detach(PortIndex::UPLINK);
            workers.release_anchors(AreaId::Uplink);
        }
        // Without settings it is not known whether a device taken over is still the uplink.
        if let Some(index) = index {
            let others: Vec<u32> = self.program.devices().filter(|device| *device != index).collect();
            for device in others {
                self.program.detach(device);
            }
        }
        let waits = |index| self.failure.is_some_and(|failure| !failure.is_over(index));
        if self.open.is_some() || index.is_some_and(waits) {
            return;
        }
        let opened = match chosen {
            Ok(link) if link.up => self.open_device(link, end, workers).map_err(|error| {
                self.failure = Some(Failure::on(link.index));
                error.to_string()
            }),
            Ok(link) => Err(format!("device {0} is down (ip link set dev {0} up)", link.name)),
            Err(problem) => Err(problem),
        };
        match opened {
            Ok(open) => {
                let name = &open.name;
                match &open.driver {
                    Driver::AfXdp { attached, granted } => {
                        tracing::info!("uplink {name} is open: {} XDP, {}", attached.mode, copy(granted));
                    }
                    Driver::Packet => tracing::info!("uplink {name} is open: UDP and packet sockets"),
                }
                self.open = Some(Open { asked_end: end, ..open });
            }
            Err(problem) => self.problem = problem,
        }
    }

    /// Brings what the program takes in step with the desired state and the node's addresses.
    ///
    /// # Errors
    /// [`ProgramError::Map`]: tables that count on it must not be published.
    pub fn configure(&mut self, desired: &Desired, local: &BTreeSet<Ipv4Addr>) -> Result<(), ProgramError> {
        let peers = desired.peers().values().flat_map(|peer| &peer.pod_cidrs);
        let prefixes: Vec<Prefix> = peers.filter_map(prefix).collect();
        if self.peers.as_ref() != Some(&prefixes) {
            self.program.set_peer_pods(&prefixes)?;
            self.peers = Some(prefixes);
        }
        let by_socket = self.open.as_ref().is_some_and(|open| open.tunnel.udp.is_some());
        let config = desired.settings().map(|s| config(s, local, by_socket)).unwrap_or_default();
        if self.config.as_ref() != Some(&config) {
            self.program.configure(&config)?;
            self.config = Some(config);
        }
        Ok(())
    }

    /// Changes what the program takes for Services and hostPorts. The first call also ends what an earlier process took for
    /// those that are gone.
    ///
    /// # Errors
    /// [`ProgramError::Map`]: what is missing is tried again with the next change.
    pub fn change_frontends(&mut self, removed: &[Frontend], added: &[Frontend]) -> Result<(), ProgramError> {
        self.program.change_frontends(removed, added)?;
        self.program.forget_inherited_frontends()
    }

    fn open_device(
        &mut self,
        link: &Link,
        end: Option<SocketAddrV4>,
        workers: &Workers,
    ) -> Result<Open, QueuesError> {
        // Most drivers cannot while sockets are open.
        let unfit =
            if self.match_queues { uplink_queues::fit(&link.name, workers.count()) } else { Vec::new() };
        let mut open = self.open_with_driver(link, end, workers)?;
        open.warnings.extend(unfit);
        Ok(open)
    }

    fn open_with_driver(
        &mut self,
        link: &Link,
        end: Option<SocketAddrV4>,
        workers: &Workers,
    ) -> Result<Open, QueuesError> {
        // An earlier process has found out already that there is no zero-copy.
        if self.program.is_at_tc(link.index)
            && let Some(Ok(open)) = self.tunnel_end_in_stack(end).map(|end| self.in_stack(link, end, workers))
        {
            return Ok(open);
        }
        let (attached, queues) = self.open_queues(link, workers)?;
        let wanted = self
            .tunnel_end_in_stack(end)
            .filter(|_| !(queues.granted.zero_copy && self.driver == TunnelDriver::Auto));
        let Some(end) = wanted else {
            let why = if self.driver == TunnelDriver::Auto && queues.granted.zero_copy {
                "auto: zero-copy"
            } else {
                ""
            };
            return Ok(self.over_xdp(link, attached, queues, (why, String::new()), workers));
        };
        drop(queues);
        workers.release_anchors(AreaId::Uplink);
        match self.in_stack(link, end, workers) {
            Ok(open) => Ok(open),
            Err(problem) => {
                self.program.detach_from_tc(link.index);
                let (attached, queues) = self.open_queues(link, workers)?;
                Ok(self.over_xdp(link, attached, queues, ("", problem.to_string()), workers))
            }
        }
    }

    /// Where the tunnel's UDP sockets are to be, if there may be any.
    fn tunnel_end_in_stack(&self, end: Option<SocketAddrV4>) -> Option<SocketAddrV4> {
        end.filter(|_| self.driver != TunnelDriver::AfXdp)
    }

    /// Opens the AF_XDP sockets, with the best mode there is.
    fn open_queues(&mut self, link: &Link, workers: &Workers) -> Result<(Attached, Queues), QueuesError> {
        let native = self.program.attach(link.index, Preference::Native);
        let why = match native {
            Ok(attached) => match self.open_queues_as(link, &attached, Mode::Auto, workers) {
                Ok(queues) => return Ok((attached, queues)),
                Err(error) => error.to_string(),
            },
            // Another program is there: it is never replaced.
            Err(error @ ProgramError::Foreign { .. }) => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        self.program.detach_from_xdp(link.index);
        let mut attached = self.program.attach(link.index, Preference::Generic)?;
        attached.why = join([why.as_str(), &attached.why]);
        let queues = self.open_queues_as(link, &attached, Mode::Copy, workers)?;
        Ok((attached, queues))
    }

    fn open_queues_as(
        &mut self,
        link: &Link,
        attached: &Attached,
        mode: Mode,
        workers: &Workers,
    ) -> Result<Queues, QueuesError> {
        let config = SocketConfig { mode, multi_buffer: attached.frags, ..SocketConfig::default() };
        let program = &mut self.program;
        let wanted = link.rx_queues.max(1);
        let opened = Queues::open(workers, AreaId::Uplink, link.index, wanted, &config, |queue, socket| {
            program.set_socket(queue, socket)
        });
        opened.inspect_err(|_| workers.release_anchors(AreaId::Uplink))
    }

    /// All packets by AF_XDP sockets.
    fn over_xdp(
        &mut self,
        link: &Link,
        attached: Attached,
        queues: Queues,
        (why, problem): (&'static str, String),
        workers: &Workers,
    ) -> Open {
        self.program.detach_from_tc(link.index);
        let mut warnings = Vec::new();
        if !queues.serve_everybody() {
            warnings.push(format!(
                "{} has {} queues for {} workers: the others cannot send by it; run as many workers as it has queues",
                link.name,
                queues.count,
                workers.count()
            ));
        }
        if attached.mode == XdpMode::Generic {
            warnings.push(format!(
                "generic XDP on {} switches off its receive offload (GRO) for the whole node",
                link.name
            ));
        }
        if self.driver == TunnelDriver::Udp && !problem.is_empty() {
            warnings.push(format!("the tunnel is not carried by UDP sockets: {problem}"));
        }
        let (granted, count) = (queues.granted.clone(), queues.count);
        let half = |sockets| Half::of_sockets(PortIndex::UPLINK, AreaId::Uplink, sockets, false);
        let counters = workers.attach(PortIndex::UPLINK, queues.sockets.into_iter().map(half));
        Open {
            name: link.name.clone(),
            ifindex: link.index,
            driver: Driver::AfXdp { attached, granted },
            queues: count,
            counters,
            tunnel: TunnelState { udp: None, why, problem },
            warnings,
            asked_end: None,
        }
    }

    /// Tunnelled packets by UDP sockets, the rest by packet sockets, a worker each.
    fn in_stack(&mut self, link: &Link, end: SocketAddrV4, workers: &Workers) -> Result<Open, InStackError> {
        let areas: Vec<&AreaHandle> = workers.areas(AreaId::Uplink).collect();
        let tunnels = Tunnel::open(&areas, end)?;
        self.program.attach_at_tc(link.index)?;
        let (pieces, filter) = (PacketPort::chunks(true), self.program.filter());
        let sockets = PacketSocket::open(&areas, link.index, pieces, HEADROOM, Some(filter))?;
        self.program.take_by_packet_sockets()?;
        // It would see packets before them.
        self.program.detach_from_xdp(link.index);
        let queues = sockets.len() as u32;
        let half = |(socket, tunnel)| Half::of(UplinkPort::new(PacketPort::of_uplink(socket), tunnel));
        let counters = workers.attach(PortIndex::UPLINK, sockets.into_iter().zip(tunnels).map(half));
        let auto = self.driver == TunnelDriver::Auto;
        let why = if auto { "auto: the fastest measured without zero-copy" } else { "" };
        Ok(Open {
            name: link.name.clone(),
            ifindex: link.index,
            driver: Driver::Packet,
            queues,
            counters,
            tunnel: TunnelState { udp: Some(end), why, problem: String::new() },
            warnings: Vec::new(),
            asked_end: None,
        })
    }
}

/// Where the tunnel of these settings ends on this node.
fn tunnel_end(settings: &Settings) -> Option<SocketAddrV4> {
    v4(&settings.node_addresses).next().map(|address| SocketAddrV4::new(address, settings.vxlan_port.get()))
}

/// What the program takes for these settings. Tunnelled packets pass when they are to reach UDP sockets.
fn config(settings: &Settings, local: &BTreeSet<Ipv4Addr>, by_socket: bool) -> UplinkConfig {
    let own: BTreeSet<Ipv4Addr> = v4(&settings.node_addresses).chain(local.iter().copied()).collect();
    let snat = v4(&settings.node_addresses).next().map(|address| Snat {
        address,
        first: *settings.snat_ports.start(),
        last: *settings.snat_ports.end(),
    });
    UplinkConfig {
        node_port_addresses: frontends::node_port_addresses(settings, &own).collect(),
        addresses: own.into_iter().collect(),
        vxlan_port: (!by_socket).then(|| settings.vxlan_port.get()),
        pods: settings.pod_cidrs.iter().find_map(prefix),
        direct: settings.encapsulation == Encapsulation::Direct,
        snat,
        take_fragments: true,
    }
}

fn prefix(network: &IpNetwork) -> Option<Prefix> {
    match network {
        IpNetwork::V4(n) => Some(Prefix { address: n.network(), len: n.prefix() }),
        IpNetwork::V6(_) => None,
    }
}

fn v4(addresses: &[IpAddr]) -> impl Iterator<Item = Ipv4Addr> + '_ {
    addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    })
}

/// "zero-copy" or "copy".
pub fn copy(granted: &Granted) -> &'static str {
    if granted.zero_copy { "zero-copy" } else { "copy" }
}

/// Reasons, without empty ones.
pub fn join<'a>(reasons: impl IntoIterator<Item = &'a str>) -> String {
    reasons.into_iter().filter(|reason| !reason.is_empty()).collect::<Vec<_>>().join("; ")
}
