//! From rtnetlink messages to the entries of the view.

use std::net::{IpAddr, Ipv4Addr};

use headrace_wire::ethernet::MacAddr;
use ipnetwork::Ipv4Network;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags, RouteProtocol,
    RouteType,
};

use super::view::{Address, Link, Neighbor, NeighborState, Route};

/// The originator by which our neighbour entries are known (NDA_PROTOCOL), a number that rtnetlink.h leaves free.
pub(super) const OURS: RouteProtocol = RouteProtocol::Other(72);

pub(super) fn link(message: &LinkMessage) -> Option<Link> {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: MacAddr::default(),
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        kind: None,
        peer: None,
        rx_queues: 1,
        tx_queues: 1,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac_of(mac).unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(peer) => link.peer = Some(*peer),
            LinkAttribute::NumRxQueues(count) => link.rx_queues = *count,
            LinkAttribute::NumTxQueues(count) => link.tx_queues = *count,
            LinkAttribute::LinkInfo(infos) => link.kind = infos.iter().find_map(kind),
            _ => {}
        }
    }
    // The other end's index means nothing here when it lies in another namespace.
    if message.attributes.iter().any(|a| matches!(a, LinkAttribute::LinkNetNsId(_))) {
        link.peer = None;
    }
    (!link.name.is_empty()).then_some(link)
}

fn kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

pub(super) fn address(message: &AddressMessage) -> Option<Address> {
    let of = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    // On a point-to-point device IFA_ADDRESS is the other side's.
    let local = of(|a| if let AddressAttribute::Local(ip) = a { Some(*ip) } else { None });
    let any = of(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None });
    match local.or(any)? {
        IpAddr::V4(address) => Some(Address { link: message.header.index, address }),
        IpAddr::V6(_) => None,
    }
}

/// The usable ways of a unicast route of the main table.
pub(super) fn routes(message: &RouteMessage) -> Vec<Route> {
    let header = &message.header;
    let dead = RouteFlags::Dead | RouteFlags::Linkdown;
    if header.address_family != AddressFamily::Inet
        || header.kind != RouteType::Unicast
        || header.flags.intersects(dead | RouteFlags::Cloned)
        || table(message) != u32::from(RouteHeader::RT_TABLE_MAIN)
    {
        return Vec::new();
    }
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let mut metric = 0;
    let mut ways = Vec::new();
    ways.extend(way(&message.attributes, None));
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::MultiPath(hops) => {
                let dead = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
                let usable = hops.iter().filter(|hop| !hop.flags.intersects(dead));
                ways.extend(usable.filter_map(|hop| way(&hop.attributes, Some(hop.interface_index))));
            }
            _ => {}
        }
    }
    let Ok(prefix) = Ipv4Network::new(destination, header.destination_prefix_length) else {
        return Vec::new();
    };
    ways.into_iter().map(|(link, gateway)| Route { prefix, link, gateway, metric }).collect()
}

fn table(message: &RouteMessage) -> u32 {
    let long = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    long.unwrap_or(message.header.table.into())
}

/// Device and gateway. A gateway of the other family (RTA_VIA) is one that the dataplane cannot reach yet: no way.
fn way(attributes: &[RouteAttribute], link: Option<u32>) -> Option<(u32, Option<Ipv4Addr>)> {
    let mut way = (link, None);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(index) => way.0 = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => way.1 = Some(*gateway),
            RouteAttribute::Via(_) => return None,
            _ => {}
        }
    }
    Some((way.0?, way.1))
}

pub(super) fn neighbor(message: &NeighbourMessage) -> Option<Neighbor> {
    let mut address = None;
    let mut mac = None;
    let mut ours = false;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(*ip),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = mac_of(bytes),
            NeighbourAttribute::Protocol(protocol) => ours = *protocol == OURS,
            _ => {}
        }
    }
    let state = match message.header.state {
        NeighbourState::Permanent | NeighbourState::Noarp => NeighborState::Permanent,
        NeighbourState::Reachable => NeighborState::Reachable,
        NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe => NeighborState::Stale,
        _ => NeighborState::Unresolved,
    };
    let mac = mac.filter(|_| state != NeighborState::Unresolved);
    Some(Neighbor { link: message.header.ifindex, address: address?, mac, state, ours })
}

fn mac_of(bytes: &[u8]) -> Option<MacAddr> {
    bytes.try_into().ok().map(MacAddr)
}
