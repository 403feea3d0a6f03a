//! The view itself: links, addresses, routes and neighbours, and what the tables need of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

use headrace_wire::ethernet::MacAddr;
use ipnetwork::Ipv4Network;

use crate::tables::build::KernelFacts;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index: another one whenever the device is made anew.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address; zero when it has none.
    pub mac: MacAddr,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Whether it is set up.
    pub up: bool,
    /// Kind of a software device: "veth", "vxlan".
    pub kind: Option<String>,
    /// Index of the other end of a veth pair, when that is in this namespace.
    pub peer: Option<u32>,
    /// Receive queues it was made with.
    pub rx_queues: u32,
    /// Transmit queues it was made with.
    pub tx_queues: u32,
}

/// An IPv4 address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) link: u32,
    pub(super) address: Ipv4Addr,
}

/// One way of a unicast route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) prefix: Ipv4Network,
    pub(super) link: u32,
    pub(super) gateway: Option<Ipv4Addr>,
    /// Lower counts more.
    pub(super) metric: u32,
}

/// What the kernel knows of a host on a device's subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// Index of the device.
    pub link: u32,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its MAC address while it is usable.
    pub mac: Option<MacAddr>,
    /// What the kernel thinks of it.
    pub state: NeighborState,
    /// Whether the entry is one that [`super::Resolver`] made.
    pub ours: bool,
}

/// How far the kernel trusts an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighborState {
    /// Set by an administrator.
    Permanent,
    /// Confirmed.
    Reachable,
    /// Known, not confirmed lately.
    Stale,
    /// Being asked, or without answer.
    Unresolved,
}

/// Everything, as it was last read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    links: HashMap<String, Link>,
    addresses: Vec<Address>,
    routes: Vec<Route>,
    neighbors: HashMap<(u32, Ipv4Addr), Neighbor>,
}

impl View {
    /// The device of that name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.get(name)
    }

    /// The device of that index.
    pub fn link_by_index(&self, index: u32) -> Option<&Link> {
        self.links.values().find(|link| link.index == index)
    }

    /// A host on a device's subnet.
    pub fn neighbor(&self, link: u32, address: Ipv4Addr) -> Option<&Neighbor> {
        self.neighbors.get(&(link, address))
    }

    /// Hosts on a device's subnet.
    pub fn neighbors(&self, link: u32) -> impl Iterator<Item = &Neighbor> {
        self.neighbors.values().filter(move |n| n.link == link)
    }

    /// All hosts on all subnets.
    pub fn all_neighbors(&self) -> impl Iterator<Item = &Neighbor> {
        self.neighbors.values()
    }

    /// The device that holds one of these addresses, the first that is held; else that of the best default route.
    pub fn find_uplink(&self, node_addresses: &[Ipv4Addr]) -> Option<&Link> {
        let holder =
            |a: &Ipv4Addr| self.addresses.iter().find(|held| held.address == *a).map(|held| held.link);
        let by_route = || {
            let defaults = self.routes.iter().filter(|route| route.prefix.prefix() == 0);
            defaults.min_by_key(|route| route.metric).map(|route| route.link)
        };
        self.link_by_index(node_addresses.iter().find_map(holder).or_else(by_route)?)
    }

    /// Every IPv4 address of the node but loopback addresses.
    pub fn local(&self) -> BTreeSet<Ipv4Addr> {
        self.addresses.iter().map(|held| held.address).filter(|address| !address.is_loopback()).collect()
    }

    /// What the tables need. Without an uplink there are no routes and no neighbours.
    pub fn facts(
        &self,
        uplink: Option<&Link>,
        host_link: Option<&Link>,
        listening: BTreeSet<u16>,
    ) -> KernelFacts {
        let index = uplink.map(|link| link.index);
        let on_uplink = |n: &&Neighbor| Some(n.link) == index;
        KernelFacts {
            uplink_mac: uplink.map(|link| link.mac).unwrap_or_default(),
            uplink_mtu: uplink.map_or(0, |link| u16::try_from(link.mtu).unwrap_or(u16::MAX)),
            host_mac: host_link.map(|link| link.mac).unwrap_or_default(),
            local: self.local(),
            routes: index.map(|index| self.routes_by(index)).unwrap_or_default(),
            neighbors: self
                .neighbors
                .values()
                .filter(on_uplink)
                .filter_map(|n| Some((n.address, n.mac?)))
                .collect(),
            listening,
        }
    }

    /// Of several routes to one prefix the one with the lowest metric counts, if it leads over the device at all.
    fn routes_by(&self, link: u32) -> BTreeMap<Ipv4Network, Option<Ipv4Addr>> {
        let mut best: BTreeMap<Ipv4Network, &Route> = BTreeMap::new();
        for route in &self.routes {
            let kept = best.entry(route.prefix).or_insert(route);
            // Of a multipath route's ways, which have one metric, the first over the device.
            if route.metric < kept.metric
                || route.metric == kept.metric && kept.link != link && route.link == link
            {
                *kept = route;
            }
        }
        best.into_iter().filter(|(_, r)| r.link == link).map(|(prefix, r)| (prefix, r.gateway)).collect()
    }

    /// Replaces the devices; as all of these, returns whether anything is different now.
    pub(super) fn set_links(&mut self, links: Vec<Link>) -> bool {
        replace(&mut self.links, links.into_iter().map(|link| (link.name.clone(), link)).collect())
    }

    pub(super) fn set_addresses(&mut self, addresses: Vec<Address>) -> bool {
        replace(&mut self.addresses, addresses)
    }

    pub(super) fn set_routes(&mut self, routes: Vec<Route>) -> bool {
        replace(&mut self.routes, routes)
    }

    pub(super) fn set_neighbors(&mut self, neighbors: Vec<Neighbor>) -> bool {
        replace(&mut self.neighbors, neighbors.into_iter().map(|n| ((n.link, n.address), n)).collect())
    }

    pub(super) fn set_neighbor(&mut self, neighbor: Neighbor) -> bool {
        self.neighbors.insert((neighbor.link, neighbor.address), neighbor) != Some(neighbor)
    }

    pub(super) fn remove_neighbor(&mut self, neighbor: &Neighbor) -> bool {
        self.neighbors.remove(&(neighbor.link, neighbor.address)).is_some()
    }
}

fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let differs = *old != new;
    *old = new;
    differs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(prefix: &str, link: u32, gateway: Option<&str>, metric: u32) -> Route {
        let gateway = gateway.map(|g| g.parse().unwrap());
        Route { prefix: prefix.parse().unwrap(), link, gateway, metric }
    }

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            mac: MacAddr([2, 0, 0, 0, 0, index as u8]),
            mtu: 1500,
            up: true,
            kind: None,
            peer: None,
            rx_queues: 1,
            tx_queues: 1,
        }
    }

    fn view() -> View {
        let mut view = View::default();
        view.set_links(vec![link(2, "eth0"), link(3, "eth1")]);
        let address = |link, a: &str| Address { link, address: a.parse().unwrap() };
        view.set_addresses(vec![address(1, "127.0.0.1"), address(2, "10.0.0.2"), address(3, "10.1.0.2")]);
        view.set_routes(vec![
            route("0.0.0.0/0", 3, Some("10.1.0.1"), 200),
            route("0.0.0.0/0", 2, Some("10.0.0.1"), 100),
            route("10.0.0.0/24", 2, None, 0),
            route("10.1.0.0/24", 3, None, 0),
            route("10.9.0.0/16", 3, Some("10.1.0.9"), 0),
            route("10.9.0.0/16", 2, Some("10.0.0.9"), 0),
        ]);
        view
    }

    #[test]
    fn the_uplink_holds_the_nodes_address_or_the_best_default_route() {
        let named = |list: &[&str]| {
            let addresses: Vec<Ipv4Addr> = list.iter().map(|a| a.parse().unwrap()).collect();
            view().find_uplink(&addresses).map(|link| link.name.clone())
        };
        assert_eq!(named(&["10.1.0.2"]).as_deref(), Some("eth1"));
        assert_eq!(named(&["10.7.7.7"]).as_deref(), Some("eth0"));
        assert_eq!(View::default().find_uplink(&[]), None);
    }

    #[test]
    fn only_the_best_routes_by_the_uplink_count() {
        let view = view();
        let facts = |name| view.facts(view.link(name), None, BTreeSet::new());
        let hop = |facts: &KernelFacts, a: &str| facts.next_hop(a.parse().unwrap()).map(|h| h.to_string());
        let eth0 = facts("eth0");
        assert_eq!(hop(&eth0, "8.8.8.8").as_deref(), Some("10.0.0.1"));
        assert_eq!(hop(&eth0, "10.0.0.7").as_deref(), Some("10.0.0.7"));
        assert_eq!(hop(&eth0, "10.9.1.1").as_deref(), Some("10.0.0.9"), "its way of the multipath route");
        let eth1 = facts("eth1");
        assert_eq!(hop(&eth1, "8.8.8.8"), None, "the default route leads elsewhere");
        assert_eq!(hop(&eth1, "10.9.1.1").as_deref(), Some("10.1.0.9"));
        assert_eq!(eth1.local.len(), 2, "loopback addresses are nobody's way in");
    }

    #[test]
    fn without_uplink_there_is_nowhere_to_go() {
        let facts = view().facts(None, None, BTreeSet::new());
        assert!(facts.routes.is_empty() && facts.neighbors.is_empty() && facts.uplink_mtu == 0);
    }
}
