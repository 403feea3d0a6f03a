//! ARP for IPv4 over Ethernet (RFC 826): the 28-byte packet behind the Ethernet header.
//!
//! The dataplane answers requests for addresses that it owns (the pod gateway) and never learns from ARP.

use std::net::Ipv4Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Header;
use crate::ethernet::{EtherType, MacAddr};

/// Hardware type Ethernet.
const HARDWARE_ETHERNET: u16 = 1;
/// Operation: "who has the target protocol address?"
pub const REQUEST: u16 = 1;
/// Operation: answer to the sender of a request.
pub const REPLY: u16 = 2;

/// An ARP packet for IPv4 over Ethernet in place: 28 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ArpPacket {
    hardware_type: U16,
    protocol_type: U16,
    hardware_len: u8,
    protocol_len: u8,
    operation: U16,
    /// Hardware address of the sender.
    pub sender_mac: MacAddr,
    sender_ip: [u8; 4],
    /// Hardware address of the target; without meaning in a request.
    pub target_mac: MacAddr,
    target_ip: [u8; 4],
}

impl Header for ArpPacket {}

impl ArpPacket {
    /// A request of `sender` for the hardware address of `target_ip`. Send it to [`MacAddr::BROADCAST`].
    pub fn request(sender_mac: MacAddr, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Self {
        Self::new(REQUEST, (sender_mac, sender_ip), (MacAddr::ZERO, target_ip))
    }

    /// The answer to this request: the address asked for is at `mac`. Send it to `self.sender_mac`.
    pub fn reply(&self, mac: MacAddr) -> Self {
        Self::new(REPLY, (mac, self.target_ip()), (self.sender_mac, self.sender_ip()))
    }

    /// The packet at the front of `bytes` when it is ARP for IPv4 over Ethernet, else `None`.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<&Self> {
        Self::of(bytes).filter(|arp| {
            arp.hardware_type.get() == HARDWARE_ETHERNET
                && arp.protocol_type.get() == EtherType::IPV4.0
                && arp.hardware_len == 6
                && arp.protocol_len == 4
        })
    }

    /// [`REQUEST`], [`REPLY`] or something that is to be ignored.
    #[inline]
    pub fn operation(&self) -> u16 {
        self.operation.get()
    }

    /// Protocol address of the sender; 0.0.0.0 in a probe (RFC 5227).
    #[inline]
    pub fn sender_ip(&self) -> Ipv4Addr {
        self.sender_ip.into()
    }

    /// Protocol address that is asked for, or that of the receiver of a reply.
    #[inline]
    pub fn target_ip(&self) -> Ipv4Addr {
        self.target_ip.into()
    }

    fn new(operation: u16, sender: (MacAddr, Ipv4Addr), target: (MacAddr, Ipv4Addr)) -> Self {
        Self {
            hardware_type: U16::new(HARDWARE_ETHERNET),
            protocol_type: U16::new(EtherType::IPV4.0),
            hardware_len: 6,
            protocol_len: 4,
            operation: U16::new(operation),
            sender_mac: sender.0,
            sender_ip: sender.1.octets(),
            target_mac: target.0,
            target_ip: target.1.octets(),
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{ArpOperation, ArpPacket as Oracle};

    use super::*;

    const GATEWAY: MacAddr = MacAddr([0xee; 6]);
    const POD: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

    #[test]
    fn etherparse_reads_a_request_and_its_reply() {
        let (pod, gateway) = (Ipv4Addr::new(10, 1, 0, 7), Ipv4Addr::new(169, 254, 1, 1));
        let request = ArpPacket::request(POD, pod, gateway);
        let oracle = Oracle::from_slice(request.as_bytes()).unwrap();
        assert_eq!(oracle.operation, ArpOperation::REQUEST);
        let oracle = oracle.try_eth_ipv4().unwrap();
        assert_eq!((oracle.sender_mac, oracle.sender_ipv4), (POD.0, pod.octets()));
        assert_eq!(oracle.target_ipv4, gateway.octets());

        let reply = ArpPacket::parse(request.as_bytes()).unwrap().reply(GATEWAY);
        let oracle = Oracle::from_slice(reply.as_bytes()).unwrap();
        assert_eq!(oracle.operation, ArpOperation::REPLY);
        let oracle = oracle.try_eth_ipv4().unwrap();
        assert_eq!((oracle.sender_mac, oracle.sender_ipv4), (GATEWAY.0, gateway.octets()));
        assert_eq!((oracle.target_mac, oracle.target_ipv4), (POD.0, pod.octets()));
    }

    #[test]
    fn other_hardware_and_cut_packets_are_not_arp_for_us() {
        let request = ArpPacket::request(POD, Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
        for at in [0, 1, 2, 3, 4, 5] {
            let mut bytes = request.as_bytes().to_vec();
            bytes[at] ^= 2;
            assert_eq!(ArpPacket::parse(&bytes), None, "byte {at}");
        }
        assert_eq!(ArpPacket::parse(&request.as_bytes()[..27]), None);
    }
}
