//! Where destinations lie: one lookup for a flow's first packet.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use prefix_trie::PrefixMap;

use super::{HopIndex, Map, PeerIndex};
use crate::port::PortIndex;

/// Where a packet goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// A pod of this node.
    Pod(PortIndex),
    /// The dataplane itself: the pods' gateway or its own address.
    Own,
    /// The node's own stack.
    Host,
    /// Another node: its pods, or its own addresses.
    Peer(PeerIndex),
    /// Outside of the cluster, by a next hop on the uplink; `None` = the destination itself is on the subnet.
    Outside(Option<Ipv4Addr>),
    /// Nowhere.
    None,
}

/// Destinations: exact addresses first, then prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    exact: Map<Ipv4Addr, Route>,
    prefixes: PrefixMap<Ipv4Network, Route>,
}

impl Routes {
    /// The route to an address.
    pub fn lookup(&self, destination: Ipv4Addr) -> Route {
        if let Some(route) = self.exact.get(&destination) {
            return *route;
        }
        let host = Ipv4Network::from(destination);
        self.prefixes.get_lpm(&host).map_or(Route::None, |(_, route)| *route)
    }

    /// Whether an address is the dataplane's own.
    pub fn is_own(&self, address: Ipv4Addr) -> bool {
        // No range is: what is not exact need not be looked for.
        self.exact.get(&address) == Some(&Route::Own)
    }

    /// Adds the route of one address; a later one replaces an earlier one.
    pub fn add_address(&mut self, address: Ipv4Addr, route: Route) {
        self.exact.insert(address, route);
    }

    /// Adds the route of a range.
    pub fn add_prefix(&mut self, prefix: Ipv4Network, route: Route) {
        self.prefixes.insert(prefix, route);
    }
}

/// A route's outcome as a flow caches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// A pod of this node.
    Pod(PortIndex),
    /// The node's own stack.
    Host,
    /// Another node, by its tunnel.
    Tunnel(PeerIndex),
    /// A next hop on the uplink.
    Wire(HopIndex),
}

impl Out {
    /// Kind in the upper half, index in the lower; 0 is no outcome.
    pub fn encode(self) -> u32 {
        match self {
            Self::Pod(PortIndex(i)) => 1 << 16 | u32::from(i),
            Self::Host => 2 << 16,
            Self::Tunnel(PeerIndex(i)) => 3 << 16 | u32::from(i),
            Self::Wire(HopIndex(i)) => 4 << 16 | u32::from(i),
        }
    }

    /// The inverse of [`Out::encode`]; `None` for anything else.
    pub fn decode(word: u32) -> Option<Self> {
        let index = word as u16;
        match word >> 16 {
            1 => Some(Self::Pod(PortIndex(index))),
            2 => Some(Self::Host),
            3 => Some(Self::Tunnel(PeerIndex(index))),
            4 => Some(Self::Wire(HopIndex(index))),
            _ => None,
        }
    }
}
