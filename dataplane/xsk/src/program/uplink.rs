//! The programs of the node's NIC (bpf/uplink.bpf.c): what they steal, from which addresses, into which sockets.
//!
//! For AF_XDP sockets there is one at XDP. For packet sockets one at tc ingress stops what they take by a filter of the same
//! rules: XDP on a device that receives socket buffers, as a veth, copies every packet before it sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::maps::lpm_trie::Key;
use aya::maps::{HashMap, LpmTrie, MapData, MapError, PerCpuArray, XskMap};

use super::ProgramError;
use super::attach::{Attached, Attachments, Rung, XdpMode};
use super::load::Loaded;
use super::tcx::TcxLinks;
use crate::sys;

mod frontends;

use frontends::Frontends;
pub use frontends::{Frontend, Place};

/// Which modes to try on a NIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// Native, else generic, which switches the device's own GRO off for the whole node.
    #[default]
    Auto,
    /// Native or nothing; zero-copy sockets need it.
    Native,
    /// Generic only.
    Generic,
}

/// An IPv4 prefix. Bits behind `len` are ignored; a `len` above 32 means 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// Network address.
    pub address: Ipv4Addr,
    /// Bits.
    pub len: u8,
}

impl Prefix {
    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.len.min(32))).unwrap_or(0)
    }

    fn network(self) -> u32 {
        u32::from(self.address) & self.mask()
    }
}

/// The node's address and ports for masqueraded connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snat {
    /// Source of masqueraded packets.
    pub address: Ipv4Addr,
    /// First port, or ICMP echo id.
    pub first: u16,
    /// Last one, inclusive.
    pub last: u16,
}

/// What the program steals; everything else stays with the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UplinkConfig {
    /// The node's addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// Those of them at which NodePorts are served.
    pub node_port_addresses: Vec<Ipv4Addr>,
    /// VXLAN packets to an own address and this UDP port, and ICMP errors about ours.
    pub vxlan_port: Option<u16>,
    /// Packets to this own podCIDR: untunnelled ones of other nodes, or answers to pods that are not masqueraded.
    pub pods: Option<Prefix>,
    /// Direct routing: also packets from other nodes' pods ([`UplinkProgram::set_peer_pods`]) to an own address, and ICMP
    /// errors about packets of our pods.
    pub direct: bool,
    /// Replies to masqueraded connections, TCP, UDP and ICMP echo, and ICMP errors about them.
    pub snat: Option<Snat>,
    /// All fragments to own addresses and to those of frontends; what turns out not to be ours must be given back to the host.
    pub take_fragments: bool,
}

/// Packets by what the program saw in them, since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UplinkCounters {
    /// Left to the kernel.
    pub passed: u64,
    /// VXLAN.
    pub vxlan: u64,
    /// To or from pods, without encapsulation.
    pub direct: u64,
    /// Replies to masqueraded connections.
    pub snat: u64,
    /// ICMP errors about packets of ours.
    pub icmp_error: u64,
    /// Fragments.
    pub fragment: u64,
    /// To frontends of Services and to hostPorts.
    pub frontend: u64,
}

const DIRECT: u16 = 1 << 0;
const TAKE_FRAGMENTS: u16 = 1 << 1;

/// Values of `own_addresses` in bpf/uplink.bpf.c.
const OWN: u32 = 1 << 0;
const NODE_PORTS: u32 = 1 << 1;

/// `struct config` in bpf/uplink.bpf.c: addresses and the VXLAN port in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Config {
    snat_address: [u8; 4],
    pod_network: [u8; 4],
    pod_mask: [u8; 4],
    snat_first: u16,
    snat_last: u16,
    vxlan_port: [u8; 2],
    flags: u16,
}

// SAFETY: integers and bytes without padding.
unsafe impl aya::Pod for Config {}

impl From<&UplinkConfig> for Config {
    fn from(config: &UplinkConfig) -> Self {
        let pods = config.pods.unwrap_or(Prefix { address: Ipv4Addr::UNSPECIFIED, len: 0 });
        // Without SNAT: the unspecified address, which no packet is for, and an empty range.
        let none = Snat { address: Ipv4Addr::UNSPECIFIED, first: 1, last: 0 };
        let snat = config.snat.unwrap_or(none);
        let flag = |on: bool, flag: u16| if on { flag } else { 0 };
        Self {
            snat_address: snat.address.octets(),
            pod_network: pods.network().to_be_bytes(),
            pod_mask: pods.mask().to_be_bytes(),
            snat_first: snat.first,
            snat_last: snat.last,
            vxlan_port: config.vxlan_port.unwrap_or(0).to_be_bytes(),
            flags: flag(config.direct, DIRECT) | flag(config.take_fragments, TAKE_FRAGMENTS),
        }
    }
}

/// The program on the node's NIC. Passes everything until configured, and whenever a queue has no socket.
///
/// Unpinned, it is detached when this is dropped; pinned, it stays and passes.
pub struct UplinkProgram {
    attachments: Attachments,
    tc: TcxLinks,
    filter: OwnedFd,
    /// Stands in the socket map while packet sockets take what is stolen; the kernel takes it out when the process ends.
    lease: Option<OwnedFd>,
    config: HashMap<MapData, u32, Config>,
    own_addresses: HashMap<MapData, [u8; 4], u32>,
    frontends: Frontends,
    peer_pods: LpmTrie<MapData, [u8; 4], u32>,
    sockets: XskMap<MapData>,
    counters: PerCpuArray<MapData, u64>,
}

impl UplinkProgram {
    /// Loads the program without pins.
    ///
    /// # Errors
    /// [`ProgramError::Load`].
    pub fn load() -> Result<Self, ProgramError> {
        Self::new(None)
    }

    /// Loads the program with its link and maps pinned in `dir`, inside a bpffs (see [`crate::bpffs::ensure`]),
    /// and takes over what is pinned there, with configuration and counters. A device found attached runs the
    /// old program until [`UplinkProgram::attach`] renews it.
    ///
    /// # Errors
    /// [`ProgramError::Load`], [`ProgramError::Pin`].
    pub fn load_or_take_over(dir: &Path) -> Result<Self, ProgramError> {
        Self::new(Some(dir))
    }

    fn new(dir: Option<&Path>) -> Result<Self, ProgramError> {
        let object = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/uplink.o"));
        let maps = ["config", "own_addresses", "frontends", "peer_pods", "sockets", "counters"];
        let mut loaded = Loaded::new("uplink", object, &maps, dir)?;
        Ok(Self {
            config: loaded.map("config")?,
            own_addresses: loaded.map("own_addresses")?,
            frontends: Frontends::new(loaded.map("frontends")?),
            peer_pods: loaded.map("peer_pods")?,
            sockets: loaded.map("sockets")?,
            counters: loaded.map("counters")?,
            tc: TcxLinks::new("uplink-tc", loaded.classifier("uplink_tc")?, dir)?,
            filter: loaded.socket_filter("uplink_filter")?,
            lease: None,
            attachments: Attachments::new("uplink", loaded.programs, dir)?,
        })
    }

    /// Devices that are attached, with those taken over; detach what is not the uplink any more.
    pub fn devices(&self) -> impl Iterator<Item = u32> {
        self.attachments.devices().chain(self.tc.devices())
    }

    /// Attaches to device `ifindex` at XDP, or renews the program there.
    ///
    /// # Errors
    /// [`ProgramError::Foreign`], [`ProgramError::Attach`].
    pub fn attach(&mut self, ifindex: u32, preference: Preference) -> Result<Attached, ProgramError> {
        let native = [true, false].map(|frags| Rung { mode: XdpMode::Native, frags });
        let generic = [true, false].map(|frags| Rung { mode: XdpMode::Generic, frags });
        let rungs: Vec<Rung> = match preference {
            Preference::Auto => native.into_iter().chain(generic).collect(),
            Preference::Native => native.into(),
            Preference::Generic => generic.into(),
        };
        self.attachments.attach(ifindex, &rungs)
    }

    /// Attaches to device `ifindex` at tc ingress, or renews the program there, for sockets with
    /// [`UplinkProgram::filter`]. What is stolen is theirs alone from [`UplinkProgram::take_by_packet_sockets`] on.
    ///
    /// # Errors
    /// [`ProgramError::Attach`], [`ProgramError::Pin`].
    pub fn attach_at_tc(&mut self, ifindex: u32) -> Result<(), ProgramError> {
        self.tc.attach(ifindex)
    }

    /// Whether it is attached to device `ifindex` at tc ingress.
    pub fn is_at_tc(&self, ifindex: u32) -> bool {
        self.tc.devices().any(|device| device == ifindex)
    }

    /// What packet sockets have to take: a socket filter.
    pub fn filter(&self) -> BorrowedFd<'_> {
        self.filter.as_fd()
    }

    /// Packet sockets with the filter are open: what they take is stopped at tc ingress, until the process ends or
    /// [`UplinkProgram::detach_from_tc`].
    ///
    /// # Errors
    /// [`ProgramError::Map`].
    pub fn take_by_packet_sockets(&mut self) -> Result<(), ProgramError> {
        let failed = |reason| ProgramError::Map { program: "uplink", map: "sockets", reason };
        let lease =
            sys::socket(libc::AF_XDP, libc::SOCK_RAW, 0).map_err(|error| failed(error.to_string()))?;
        self.set_socket(0, &lease)?;
        self.lease = Some(lease);
        Ok(())
    }

    /// Detaches from device `ifindex`, at once; nothing happens when it is not attached.
    pub fn detach(&mut self, ifindex: u32) {
        self.detach_from_xdp(ifindex);
        self.detach_from_tc(ifindex);
    }

    /// Leaves XDP of device `ifindex`, and tc ingress as it is.
    pub fn detach_from_xdp(&mut self, ifindex: u32) {
        self.attachments.detach(ifindex);
    }

    /// Leaves tc ingress of device `ifindex`, and XDP as it is.
    pub fn detach_from_tc(&mut self, ifindex: u32) {
        self.tc.detach(ifindex);
        self.lease = None;
    }

    /// Sets what is stolen. Ports, ranges, flags and podCIDR change together for every packet; addresses new
    /// to the node are added before, addresses it lost removed after.
    ///
    /// # Errors
    /// [`ProgramError::Map`], when there are more than 4096 addresses.
    pub fn configure(&mut self, config: &UplinkConfig) -> Result<(), ProgramError> {
        let flags =
            |address| if config.node_port_addresses.contains(address) { OWN | NODE_PORTS } else { OWN };
        let wanted: BTreeMap<[u8; 4], u32> =
            config.addresses.iter().map(|address| (address.octets(), flags(address))).collect();
        let present: BTreeMap<[u8; 4], u32> = self.own_addresses.iter().filter_map(Result::ok).collect();
        for (address, flags) in &wanted {
            if present.get(address) != Some(flags) {
                self.own_addresses.insert(address, flags, 0).map_err(|e| map_error("own_addresses", &e))?;
            }
        }
        self.config.insert(0, Config::from(config), 0).map_err(|e| map_error("config", &e))?;
        for address in present.keys().filter(|address| !wanted.contains_key(*address)) {
            self.own_addresses.remove(address).map_err(|e| map_error("own_addresses", &e))?;
        }
        Ok(())
    }

    /// Changes which frontends are stolen; the cost is that of the difference. Every frontend counts how often it was
    /// added. What could not be written is tried again with the next call.
    ///
    /// # Errors
    /// [`ProgramError::Map`], when there are more than some hundred thousand.
    pub fn change_frontends(&mut self, removed: &[Frontend], added: &[Frontend]) -> Result<(), ProgramError> {
        self.frontends.change(removed, added).map_err(|e| map_error("frontends", &e))
    }

    /// Removes frontends that an earlier process left and nobody has added since.
    ///
    /// # Errors
    /// [`ProgramError::Map`].
    pub fn forget_inherited_frontends(&mut self) -> Result<(), ProgramError> {
        self.frontends.forget_inherited().map_err(|e| map_error("frontends", &e))
    }

    /// Sets the other nodes' podCIDRs, of use in direct routing. Only differences are written.
    ///
    /// # Errors
    /// [`ProgramError::Map`], when there are more than 16384.
    pub fn set_peer_pods(&mut self, prefixes: &[Prefix]) -> Result<(), ProgramError> {
        let key = |p: &Prefix| (u32::from(p.len.min(32)), p.network().to_be_bytes());
        let wanted: BTreeSet<(u32, [u8; 4])> = prefixes.iter().map(key).collect();
        let present: BTreeSet<(u32, [u8; 4])> =
            self.peer_pods.keys().filter_map(Result::ok).map(|k| (k.prefix_len(), k.data())).collect();
        for (len, network) in present.difference(&wanted) {
            let key = Key::new(*len, *network);
            self.peer_pods.remove(&key).map_err(|e| map_error("peer_pods", &e))?;
        }
        for (len, network) in wanted.difference(&present) {
            let key = Key::new(*len, *network);
            self.peer_pods.insert(&key, 1, 0).map_err(|e| map_error("peer_pods", &e))?;
        }
        Ok(())
    }

    /// Sends what is stolen from a receive queue to a socket bound to that queue. The entry goes when the
    /// socket is closed.
    ///
    /// # Errors
    /// [`ProgramError::Map`], when `queue` is 1024 or higher.
    pub fn set_socket(&mut self, queue: u32, socket: impl AsFd) -> Result<(), ProgramError> {
        self.sockets.set(queue, socket.as_fd().as_raw_fd(), 0).map_err(|error| map_error("sockets", &error))
    }

    /// Sums of all processors' counters; zero where the kernel does not answer.
    pub fn counters(&self) -> UplinkCounters {
        let sum = |index| self.counters.get(&index, 0).map_or(0, |values| values.iter().sum());
        UplinkCounters {
            passed: sum(0),
            vxlan: sum(1),
            direct: sum(2),
            snat: sum(3),
            icmp_error: sum(4),
            fragment: sum(5),
            frontend: sum(6),
        }
    }
}

fn map_error(map: &'static str, error: &MapError) -> ProgramError {
    ProgramError::Map { program: "uplink", map, reason: super::load::chain(error) }
}

#[cfg(test)]
mod tests;
