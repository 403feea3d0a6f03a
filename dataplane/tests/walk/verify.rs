//! Checks of all that comes out and that no walk needs to repeat: MAC addresses, tunnel headers, checksum state.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{Ethernet2Header, Ipv4Header, UdpHeader};
use headrace_dataplane::frames::Checksum;
use headrace_dataplane::port::memory::Sent;
use headrace_dataplane::tables::GATEWAY_MAC;
use headrace_wire::ethernet::MacAddr;

use super::desired::Desired;
use super::packet::{Body, Packet, Sum};
use super::place::{At, HOST_MAC, NODE, UPLINK_MAC, VTEP};

const ETHERNET: usize = 14;
/// Outer Ethernet, IPv4, UDP and VXLAN headers.
const ENCAPSULATION: usize = 50;

/// Where a frame went and the packet in it; `None` for an ARP reply, which is checked to be the gateway's.
pub(super) fn frame(port: At, sent: &Sent, desired: &Desired) -> Option<(At, Packet)> {
    let bytes = &sent.bytes;
    let (ether, carried) = Ethernet2Header::from_slice(bytes).unwrap();
    if ether.ether_type.0 == 0x0806 {
        arp_reply(port, &ether, carried);
        return None;
    }
    assert_eq!(ether.ether_type.0, 0x0800, "ethertype");
    let outer = Packet::read(carried);
    let (at, at_byte, packet) = match (port, &outer.body) {
        (At::Wire, Body::Udp) if outer.ports.1 == vxlan_port(desired) => {
            let (node, inner) = tunnel(bytes, &outer, desired);
            (node, ENCAPSULATION + ETHERNET, inner)
        }
        _ => (port, ETHERNET, outer),
    };
    let (src, dst) = macs(at, &packet, desired);
    assert_eq!(
        (MacAddr(ether.source), MacAddr(ether.destination)),
        (src, dst),
        "MAC addresses of {packet:?}"
    );
    checksum_state(sent, at_byte, &packet);
    Some((at, packet))
}

fn vxlan_port(desired: &Desired) -> u16 {
    desired.settings.as_ref().map_or(8472, |s| s.vxlan_port.get())
}

fn arp_reply(port: At, ether: &Ethernet2Header, carried: &[u8]) {
    assert_eq!(ether.source, GATEWAY_MAC.0, "source of an ARP reply");
    let asker = if port == At::Host { HOST_MAC } else { port.pod_mac() };
    assert_eq!(ether.destination, asker.0, "destination of an ARP reply");
    let arp = etherparse::ArpPacket::from_slice(carried).unwrap();
    assert_eq!(arp.operation, etherparse::ArpOperation::REPLY);
    let arp = arp.try_eth_ipv4().unwrap();
    assert_eq!((arp.sender_mac, arp.target_mac), (GATEWAY_MAC.0, asker.0));
    assert!([[169, 254, 1, 1], [10, 1, 0, 1]].contains(&arp.sender_ipv4), "{arp:?}");
}

/// VXLAN as flannel speaks it, byte for byte.
fn tunnel(bytes: &[u8], outer: &Packet, desired: &Desired) -> (At, Packet) {
    let node = [At::NodeB, At::NodeC].into_iter().find(|n| {
        let peer = desired.peers.iter().find(|p| p.vtep_mac == n.vtep());
        peer.is_some_and(|p| p.address == outer.dst)
    });
    let node = node.unwrap_or_else(|| panic!("a tunnel to no peer: {outer:?}"));
    let (ip, _) = Ipv4Header::from_slice(&bytes[ETHERNET..]).unwrap();
    let (udp, vxlan) = UdpHeader::from_slice(&bytes[34..]).unwrap();
    assert_eq!(outer.src, NODE.parse::<Ipv4Addr>().unwrap(), "outer source");
    assert_eq!((ip.time_to_live, ip.dont_fragment, ip.dscp.value()), (64, false, 0), "outer IPv4 header");
    assert_eq!(usize::from(ip.total_len), bytes.len() - ETHERNET, "outer length");
    assert_eq!((udp.checksum, usize::from(udp.length)), (0, vxlan.len() + 8), "outer UDP header");
    assert!((32_768..=60_999).contains(&udp.source_port), "outer source port {}", udp.source_port);
    let vni = desired.settings.as_ref().map_or(1, |s| s.vni.get());
    assert_eq!(vxlan[..8], [[8, 0, 0, 0], (vni << 8).to_be_bytes()].concat(), "VXLAN header");
    let (inner, packet) = Ethernet2Header::from_slice(&vxlan[8..]).unwrap();
    let macs = (MacAddr(inner.source), MacAddr(inner.destination));
    assert_eq!((macs, inner.ether_type.0), ((VTEP, node.vtep()), 0x0800), "inner Ethernet header");
    let packet = Packet::read(packet);
    assert_eq!(ip.ecn.value(), packet.tos & 3, "ECN of the tunnel");
    assert!(bytes.len() - ETHERNET <= usize::from(desired.facts.uplink_mtu), "{} bytes", bytes.len());
    (node, packet)
}

/// MAC addresses that a frame must have: source and destination.
fn macs(at: At, packet: &Packet, desired: &Desired) -> (MacAddr, MacAddr) {
    let hop = |to: Ipv4Addr| desired.facts.neighbors[&desired.facts.next_hop(to).unwrap()];
    let peer = |node: At| desired.peers.iter().find(|p| p.vtep_mac == node.vtep()).unwrap().address;
    // Pods of nodes without a tunnel lie behind their node.
    let owner = desired.peers.iter().find(|p| p.pod_cidrs.iter().any(|c| c.contains(packet.dst.into())));
    match at {
        At::PodA | At::PodB | At::Plain => (GATEWAY_MAC, at.pod_mac()),
        At::Host => (GATEWAY_MAC, HOST_MAC),
        At::Wire => (UPLINK_MAC, hop(owner.map_or(packet.dst, |p| v4(p.address)))),
        At::NodeB | At::NodeC => (UPLINK_MAC, hop(v4(peer(at)))),
    }
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} is not of this world"),
    }
}

/// A frame says that its checksum is partial if and only if it is.
fn checksum_state(sent: &Sent, packet_at: usize, packet: &Packet) {
    let l4 = (packet_at + 20 + packet.options.len()) as u16;
    let expected = match (packet.checksum, &packet.body) {
        (Sum::Partial, Body::Udp) => Checksum::Partial { start: l4, offset: 6 },
        (Sum::Partial, _) => Checksum::Partial { start: l4, offset: 16 },
        _ => Checksum::AsSent,
    };
    assert_eq!(sent.checksum, expected, "checksum state of {packet:?}");
}
