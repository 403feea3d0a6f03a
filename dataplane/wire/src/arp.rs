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
