//! The uplink: the node's NIC, of which the XDP program takes only what is ours.
//!
//! Modes from best to last: zero-copy, copy in the driver, generic, which switches the device's own GRO off for the whole
//! node. Status says which one it became and why. What the program takes is brought up to date before tables that count on
//! it; without settings it takes nothing. Tunnelled packets go by UDP sockets where there is no zero-copy. Without an
//! uplink pods of this node reach each other and the node, no more.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;

use headrace_api::state::{Encapsulation, Settings};
use headrace_xsk::program::{
    Attached, Frontend, Preference, Prefix, ProgramError, Snat, UplinkConfig, UplinkProgram, XdpMode,
};
use headrace_xsk::{AreaHandle, Granted, Mode, SocketConfig};
use ipnetwork::IpNetwork;

use super::desired::Desired;
use super::frontends;
use super::kernel::{Link, View};
use super::queues::{Queues, QueuesError};
use super::retry::Failure;
use super::workers::{Half, Workers};
use crate::config::TunnelDriver;
use crate::frames::AreaId;
use crate::port::PortIndex;
use crate::port::afxdp::AfXdpPort;
use crate::port::tunnel::Tunnel;
use crate::port::uplink::UplinkPort;
use crate::stats::PortCounters;

/// The open uplink.
pub struct Open {
    /// Name of the device when it was opened.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// How the XDP program is attached.
    pub attached: Attached,
    /// What the sockets got.
    pub granted: Granted,
    /// How many there are.
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

/// The uplink with its XDP program.
pub struct Uplink {
    program: UplinkProgram,
    driver: TunnelDriver,
    open: Option<Open>,
    problem: String,
    failure: Option<Failure>,
    config: Option<UplinkConfig>,
    /// Pod ranges of other nodes that the program knows.
    peers: Option<Vec<Prefix>>,
}

impl Uplink {
    /// Loads the XDP program, or takes over that of an earlier process.
    ///
    /// # Errors
    /// [`ProgramError`] when it cannot be loaded or pinned.
    pub fn new(pins: &Path, driver: TunnelDriver) -> Result<Self, ProgramError> {
        let program = UplinkProgram::load_or_take_over(pins)?;
        Ok(Self {
            program,
            driver,
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
                let (name, mode) = (&open.name, open.attached.mode);
                tracing::info!("uplink {name} is open: {mode} XDP, {}", copy(&open.granted));
                self.open = Some(open);
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
        let native = self.program.attach(link.index, Preference::Native);
        let why = match native {
            Ok(attached) => match self.open_queues(link, attached, Mode::Auto, end, workers) {
                Ok(open) => return Ok(open),
                Err(error) => error.to_string(),
            },
            // Another program is there: it is never replaced.
            Err(error @ ProgramError::Foreign { .. }) => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        self.program.detach(link.index);
        let mut attached = self.program.attach(link.index, Preference::Generic)?;
        attached.why = join([why.as_str(), &attached.why]);
        self.open_queues(link, attached, Mode::Copy, end, workers)
    }

    fn open_queues(
        &mut self,
        link: &Link,
        attached: Attached,
        mode: Mode,
        end: Option<SocketAddrV4>,
        workers: &Workers,
    ) -> Result<Open, QueuesError> {
        let config = SocketConfig { mode, multi_buffer: attached.frags, ..SocketConfig::default() };
        let program = &mut self.program;
        let wanted = link.rx_queues.max(1);
        let opened = Queues::open(workers, AreaId::Uplink, link.index, wanted, &config, |queue, socket| {
            program.set_socket(queue, socket)
        });
        let queues = opened.inspect_err(|_| workers.release_anchors(AreaId::Uplink))?;
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
        let (granted, count) = (queues.granted.clone(), queues.count);
        let (tunnels, tunnel) = self.open_tunnel(end, &granted, workers);
        if self.driver == TunnelDriver::Udp && !tunnel.problem.is_empty() {
            warnings.push(format!("the tunnel is not carried by UDP sockets: {}", tunnel.problem));
        }
        let mut tunnels = tunnels.into_iter();
        let half = |sockets| match tunnels.next() {
            Some(tunnel) => {
                let rest = AfXdpPort::new(PortIndex::UPLINK, AreaId::Uplink, sockets, false);
                Half::of(UplinkPort::new(rest, tunnel))
            }
            None => Half::of_sockets(PortIndex::UPLINK, AreaId::Uplink, sockets, false),
        };
        let counters = workers.attach(PortIndex::UPLINK, queues.sockets.into_iter().map(half));
        Ok(Open {
            name: link.name.clone(),
            ifindex: link.index,
            attached,
            granted,
            queues: count,
            counters,
            tunnel,
            warnings,
            asked_end: end,
        })
    }

    /// Opens the UDP sockets of the tunnel, a worker each, where they are the better choice.
    fn open_tunnel(
        &self,
        end: Option<SocketAddrV4>,
        granted: &Granted,
        workers: &Workers,
    ) -> (Vec<Tunnel>, TunnelState) {
        let by_uplink = |why, problem| (Vec::new(), TunnelState { udp: None, why, problem });
        let why = match self.driver {
            TunnelDriver::AfXdp => return by_uplink("", String::new()),
            TunnelDriver::Auto if granted.zero_copy => return by_uplink("auto: zero-copy", String::new()),
            TunnelDriver::Auto => "auto: the fastest measured without zero-copy",
            TunnelDriver::Udp => "",
        };
        let Some(end) = end else { return by_uplink("", "no settings yet".into()) };
        let areas: Vec<&AreaHandle> = workers.areas(AreaId::Uplink).collect();
        match Tunnel::open(&areas, end) {
            Ok(tunnels) => (tunnels, TunnelState { udp: Some(end), why, problem: String::new() }),
            Err(error) => by_uplink("", error.to_string()),
        }
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
