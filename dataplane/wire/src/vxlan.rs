//! VXLAN (RFC 7348): the header, the headers around a frame that goes into the tunnel, and what happens to ECN.
//!
//! Outer packets look like those of Linux's vxlan device as flannel sets it up: UDP checksum 0, "don't fragment"
//! not set, time to live 64, DSCP 0.

use std::fmt;
use std::net::Ipv4Addr;

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checksum::{Sum, sum};
use crate::ethernet::{EtherType, EthernetHeader, MacAddr};
use crate::ipv4::{Ipv4Header, NewHeader, Protocol};
use crate::udp::UdpHeader;
use crate::{Header, NoRoom};

/// All that stands before the inner frame: Ethernet, IPv4, UDP and VXLAN headers, in bytes.
pub const ENCAP_LEN: usize = EthernetHeader::LEN + Ipv4Header::LEN + UdpHeader::LEN + VxlanHeader::LEN;
/// What the tunnel takes from the path MTU: all but the outer Ethernet header, plus the inner one, in bytes.
pub const MTU_OVERHEAD: usize = ENCAP_LEN;

/// "The I flag MUST be set to 1 for a valid VXLAN Network ID" (RFC 7348, 5).
const FLAG_VNI: u32 = 1 << 27;
/// Source ports lie in Linux's ephemeral range, as its vxlan device has it by default.
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 32768..=60999;
/// Time to live of outer packets.
const TTL: u8 = 64;

/// A VXLAN network identifier: 24 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(u32);

impl Vni {
    /// The identifier, or `None` when it needs more than 24 bits.
    #[inline]
    pub const fn new(vni: u32) -> Option<Self> {
        if vni < 1 << 24 { Some(Self(vni)) } else { None }
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A VXLAN header in place: 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct VxlanHeader {
    flags: U32,
    vni: U32,
}

impl Header for VxlanHeader {}

impl VxlanHeader {
    /// The header of a frame of network `vni`.
    pub const fn new(vni: Vni) -> Self {
        Self { flags: U32::new(FLAG_VNI), vni: U32::new(vni.0 << 8) }
    }

    /// The network; `None` when the I flag is not set. Reserved bits "MUST be ignored on receipt" (RFC 7348, 5).
    #[inline]
    pub fn vni(&self) -> Option<Vni> {
        (self.flags.get() & FLAG_VNI != 0).then(|| Vni(self.vni.get() >> 8))
    }
}

/// The two ends of a tunnel: what is the same in all its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    /// Ethernet address of the uplink.
    pub src_mac: MacAddr,
    /// Ethernet address of the next hop.
    pub dst_mac: MacAddr,
    /// Address of this node.
    pub src: Ipv4Addr,
    /// Address of the peer.
    pub dst: Ipv4Addr,
    /// UDP port of the peer: 4789 by IANA, 8472 by Linux and flannel.
    pub port: u16,
    /// Network.
    pub vni: Vni,
}

/// What differs from packet to packet of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// Length of the inner frame, Ethernet header included, in bytes.
    pub frame_len: usize,
    /// Type of service byte of the inner packet (0 when it is not IP): its ECN bits are copied.
    pub tos: u8,
    /// Hash of the inner flow, of which [`source_port`] is made.
    pub flow_hash: u32,
    /// Identification of the outer packet, from a counter of the caller: it may be fragmented.
    pub id: u16,
}

/// Writes the headers that stand before an inner frame.
///
/// # Errors
/// Those of [`Encap::write`].
pub fn encap_header(out: &mut [u8; ENCAP_LEN], tunnel: &Tunnel, inner: &Inner) -> Result<(), NoRoom> {
    Encap::new(tunnel).write(out, inner)
}

/// The headers of all packets of a tunnel, but for what differs: a packet costs a copy of them, a few fields, and the sum of
/// these.
#[derive(Debug, Clone, Copy)]
pub struct Encap {
    headers: EncapHeaders,
    /// Of the IPv4 header without those fields.
    sum: Sum,
}

impl Encap {
    /// The headers of a tunnel.
    pub fn new(tunnel: &Tunnel) -> Self {
        let mut ip = Ipv4Header::from(NewHeader {
            src: tunnel.src,
            dst: tunnel.dst,
            protocol: Protocol::UDP,
            tos: 0,
            ttl: TTL,
            id: 0,
            total_len: 0,
        });
        ip.checksum.set(0);
        let headers = EncapHeaders {
            ethernet: EthernetHeader::new(tunnel.src_mac, tunnel.dst_mac, EtherType::IPV4),
            ip,
            udp: UdpHeader {
                src_port: U16::ZERO,
                dst_port: U16::new(tunnel.port),
                length: U16::ZERO,
                checksum: U16::ZERO,
            },
            vxlan: VxlanHeader::new(tunnel.vni),
        };
        Self { sum: sum(headers.ip.as_bytes()), headers }
    }

    /// Writes the headers that stand before an inner frame.
    ///
    /// # Errors
    /// [`NoRoom`] when the outer packet would be longer than the 65535 bytes of IPv4 (`have` is the room for the
    /// inner frame, `need` its length).
    #[inline]
    pub fn write(&self, out: &mut [u8; ENCAP_LEN], inner: &Inner) -> Result<(), NoRoom> {
        const MAX_INNER: usize = u16::MAX as usize - (ENCAP_LEN - EthernetHeader::LEN);
        if inner.frame_len > MAX_INNER {
            return Err(NoRoom { need: inner.frame_len, have: MAX_INNER });
        }
        let udp_len = (UdpHeader::LEN + VxlanHeader::LEN + inner.frame_len) as u16;
        let total_len = Ipv4Header::LEN as u16 + udp_len;
        let tos = ecn_of(inner.tos);
        let fields = Sum::of_word(tos.into()) + Sum::of_word(total_len) + Sum::of_word(inner.id);
        // Changed where they lie: a copy of what has just been written in parts waits for the processor's store buffer.
        self.headers.put(out)?;
        let headers = EncapHeaders::of_mut(out).ok_or(NoRoom { need: ENCAP_LEN, have: 0 })?;
        headers.ip.tos = tos;
        headers.ip.total_len.set(total_len);
        headers.ip.id.set(inner.id);
        headers.ip.checksum.set((self.sum + fields).finish());
        headers.udp.src_port.set(source_port(inner.flow_hash));
        headers.udp.length.set(udp_len);
        Ok(())
    }
}

/// The outer source port of a flow: 32768 to 60999, evenly over the hash's values. "It is RECOMMENDED that the
/// UDP source port number be calculated using a hash of fields from the inner packet" (RFC 7348, 5).
#[inline]
pub const fn source_port(flow_hash: u32) -> u16 {
    let ports = (*SOURCE_PORTS.end() - *SOURCE_PORTS.start()) as u64 + 1;
    *SOURCE_PORTS.start() + ((flow_hash as u64 * ports) >> 32) as u16
}

/// The type of service byte of an inner packet that leaves the tunnel (RFC 6040, 4.2): congestion met by the
/// outer packet is handed on.
///
/// `None` when the packet must be dropped: the outer one says congestion experienced, which an inner one that is
/// not ECN-capable cannot carry on.
#[inline]
pub const fn decap_tos(outer_tos: u8, inner_tos: u8) -> Option<u8> {
    let ecn = match (ecn_of(inner_tos), ecn_of(outer_tos)) {
        (NOT_ECT, CE) => return None,
        (NOT_ECT, _) => NOT_ECT,
        (_, CE) => CE,
        (ECT_0, ECT_1) => ECT_1,
        (inner, _) => inner,
    };
    Some((inner_tos & !CE) | ecn)
}

/// Not ECN-capable (RFC 3168, 5).
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
/// Congestion experienced.
const CE: u8 = 0b11;

const fn ecn_of(tos: u8) -> u8 {
    tos & CE
}

/// The headers in a row, to be written at once.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct EncapHeaders {
    ethernet: EthernetHeader,
    ip: Ipv4Header,
    udp: UdpHeader,
    vxlan: VxlanHeader,
}

impl Header for EncapHeaders {}

#[cfg(test)]
mod tests;
