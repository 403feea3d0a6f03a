//! Where packets go in and come out, and the headers they wear there.
//!
//! ```text
//!   PodA 10.1.0.2 ---+                        +--- NodeB 192.168.7.11, pods 10.1.1.0/24
//!   PodB 10.1.0.3 ---+--- node 192.168.7.10 --+--- router 192.168.7.1 --- NodeC 192.168.9.12, pods 10.1.2.0/24
//!   Plain 10.1.0.4 --+    pods 10.1.0.0/24    |                      \--- the rest of the world
//!   Host ------------+                        +--- 192.168.7.50
//! ```

use etherparse::{EtherType, Ethernet2Header, PacketBuilder};
use headrace_dataplane::port::PortIndex;
use headrace_dataplane::tables::GATEWAY_MAC;
use headrace_wire::ethernet::MacAddr;

use super::packet::Packet;

/// A place outside of the dataplane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum At {
    /// The node's own stack, by the host link.
    Host,
    /// The uplink without a tunnel.
    Wire,
    /// A pod with superframes whose port takes partial checksums.
    PodA,
    /// A pod with superframes whose port wants complete checksums.
    PodB,
    /// A pod without superframes.
    Plain,
    /// A node on the uplink's subnet, by its tunnel.
    NodeB,
    /// A node behind the router, by its tunnel.
    NodeC,
}

pub(crate) const NODE: &str = "192.168.7.10";
pub(crate) const NODE_B: &str = "192.168.7.11";
pub(crate) const NODE_C: &str = "192.168.9.12";
pub(crate) const UPLINK_MAC: MacAddr = MacAddr([2, 0, 0, 0, 7, 10]);
pub(crate) const HOST_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 7, 1]);
pub(crate) const NODE_B_MAC: MacAddr = MacAddr([2, 0, 0, 0, 7, 11]);
pub(crate) const VTEP: MacAddr = MacAddr([2, 0, 0, 0, 99, 10]);

impl At {
    /// One place for each port.
    pub(crate) const PORTS: [Self; 5] = [Self::Host, Self::Wire, Self::PodA, Self::PodB, Self::Plain];

    /// The port that leads there.
    pub(crate) fn port(self) -> PortIndex {
        match self {
            Self::Host => PortIndex::HOST,
            Self::Wire | Self::NodeB | Self::NodeC => PortIndex::UPLINK,
            Self::PodA => PortIndex(2),
            Self::PodB => PortIndex(3),
            Self::Plain => PortIndex(4),
        }
    }

    /// MAC address of a pod.
    pub(crate) fn pod_mac(self) -> MacAddr {
        MacAddr([2, 0, 0, 1, 0, self.port().0 as u8])
    }

    /// Inner MAC address of a node.
    pub(crate) fn vtep(self) -> MacAddr {
        match self {
            Self::NodeB => MacAddr([2, 0, 0, 0, 99, 11]),
            Self::NodeC => MacAddr([2, 0, 0, 0, 99, 12]),
            other => panic!("{other:?} is no node"),
        }
    }

    /// A packet's frame as it comes from there.
    pub(crate) fn frame(self, packet: &Packet) -> Vec<u8> {
        let packet = packet.bytes();
        match self {
            Self::PodA | Self::PodB | Self::Plain => ethernet(self.pod_mac(), GATEWAY_MAC, 0x0800, &packet),
            Self::Host => ethernet(HOST_MAC, GATEWAY_MAC, 0x0800, &packet),
            Self::Wire => ethernet(ROUTER_MAC, UPLINK_MAC, 0x0800, &packet),
            Self::NodeB | Self::NodeC => Vxlan::from(self).around(&packet),
        }
    }
}

/// A frame of an Ethernet header and what it carries.
pub(crate) fn ethernet(src: MacAddr, dst: MacAddr, ethertype: u16, carried: &[u8]) -> Vec<u8> {
    let header = Ethernet2Header { source: src.0, destination: dst.0, ether_type: EtherType(ethertype) };
    [header.to_bytes().as_slice(), carried].concat()
}

/// The headers of a tunnel, to be changed by hostile walks.
#[derive(Clone)]
pub(crate) struct Vxlan {
    pub(crate) src: &'static str,
    pub(crate) tos: u8,
    pub(crate) flags: u8,
    pub(crate) vni: u32,
    pub(crate) inner_src: MacAddr,
    pub(crate) inner_dst: MacAddr,
    pub(crate) ethertype: u16,
}

impl Vxlan {
    /// As flannel of that node sends it.
    pub(crate) fn from(node: At) -> Self {
        let src = if node == At::NodeB { NODE_B } else { NODE_C };
        let (inner_src, inner_dst) = (node.vtep(), VTEP);
        Self { src, tos: 0, flags: 8, vni: 1, inner_src, inner_dst, ethertype: 0x0800 }
    }

    /// The frame around an IP packet.
    pub(crate) fn around(&self, packet: &[u8]) -> Vec<u8> {
        self.around_frame(&ethernet(self.inner_src, self.inner_dst, self.ethertype, packet))
    }

    /// The frame around whatever is inside.
    pub(crate) fn around_frame(&self, inner: &[u8]) -> Vec<u8> {
        let header = [[self.flags, 0, 0, 0], (self.vni << 8).to_be_bytes()].concat();
        self.around_vxlan(&[header.as_slice(), inner].concat())
    }

    /// The frame around a VXLAN header and what follows.
    pub(crate) fn around_vxlan(&self, payload: &[u8]) -> Vec<u8> {
        let src = self.src.parse::<std::net::Ipv4Addr>().unwrap().octets();
        let mut ip =
            etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::UDP, src, [192, 168, 7, 10]).unwrap();
        ip.dscp = (self.tos >> 2).try_into().unwrap();
        ip.ecn = (self.tos & 3).try_into().unwrap();
        let ip = etherparse::IpHeaders::Ipv4(ip, Default::default());
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2(NODE_B_MAC.0, UPLINK_MAC.0).ip(ip).udp(51_234, 8472);
        builder.write(&mut frame, payload).unwrap();
        // "It SHOULD be transmitted as zero" (RFC 7348, 5).
        frame[40..42].fill(0);
        frame
    }
}
