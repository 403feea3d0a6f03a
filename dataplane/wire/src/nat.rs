//! Address and port translation of IPv4 packets in place, with checksums updated incrementally (RFC 1624).
//!
//! A flow entry holds a [`Rewrite`] (what the packet shall say) and its [`Deltas`] (what that does to the
//! checksums), so that an established packet costs a few stores and additions, whatever its length.
//!
//! What always holds: a packet whose checksums were right has right ones afterwards, a wrong one stays wrong, and
//! translating there and back gives the same bytes.

use std::net::Ipv4Addr;

use crate::Header;
use crate::checksum::{Delta, L4Checksum};
use crate::icmp4::IcmpHeader;
use crate::ipv4::Ipv4Header;
use crate::parse::{Ipv4Packet, L4, ParseError};
use crate::sctp::SctpHeader;
use crate::tcp::TcpHeader;
use crate::udp::UdpHeader;

/// Addresses and ports that a packet shall have.
///
/// An ICMP echo identifier stands where [`L4::ports`] puts it: source port of a request, destination port of a
/// reply. Fields that a packet does not have (ports of a later fragment) are not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rewrite {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

impl Rewrite {
    /// What the packet says now; ports that it does not have are 0.
    #[inline]
    pub fn unchanged(packet: &Ipv4Packet) -> Self {
        let (src_port, dst_port) = packet.l4.ports().unwrap_or_default();
        Self { src: packet.src, dst: packet.dst, src_port, dst_port }
    }

    /// The same for packets of the other direction.
    #[inline]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self { src: self.dst, dst: self.src, src_port: self.dst_port, dst_port: self.src_port }
    }

    /// The identifier of an echo request, or else of an echo reply.
    #[inline]
    pub const fn echo_id(&self, request: bool) -> u16 {
        if request { self.src_port } else { self.dst_port }
    }
}

/// What a translation does to the checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deltas {
    /// Effect of the changed addresses: on the IPv4 header checksum, and through the pseudo-header on those of
    /// TCP and UDP, complete or partial.
    pub addresses: Delta,
    /// Effect of the changed ports (or echo identifier) on a complete L4 checksum.
    pub ports: Delta,
}

impl Deltas {
    /// Computes the effect of going from `old` to `new`; the port that an ICMP echo does not have must be the
    /// same in both.
    #[inline]
    pub const fn between(old: &Rewrite, new: &Rewrite) -> Self {
        Self {
            addresses: Delta::of_addr(old.src, new.src).and(Delta::of_addr(old.dst, new.dst)),
            ports: Delta::new(old.src_port, new.src_port).and(Delta::new(old.dst_port, new.dst_port)),
        }
    }

    /// The effect on packets of the other way.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { addresses: self.addresses.reversed(), ports: self.ports.reversed() }
    }
}

/// Rewrites addresses and ports of a packet, with [`Deltas`] computed on the spot.
///
/// Arguments and errors are those of [`apply`].
#[inline]
pub fn rewrite_ipv4(
    bytes: &mut [u8],
    packet: &Ipv4Packet,
    new: &Rewrite,
    checksum: L4Checksum,
) -> Result<(), ParseError> {
    let old = Rewrite::unchanged(packet);
    let mut new = *new;
    if let L4::IcmpEcho { request, .. } = packet.l4 {
        if request { new.dst_port = 0 } else { new.src_port = 0 }
    }
    apply(bytes, packet, &new, Deltas::between(&old, &new), checksum)
}

/// Rewrites addresses and ports of a packet and updates its IPv4, TCP, UDP, ICMP and SCTP checksums by `deltas`.
///
/// `bytes` begin with the IPv4 header and hold at least the headers; `packet` is what the parser said of them,
/// and afterwards no longer says what they hold. `checksum` is the state of the TCP or UDP checksum field: a
/// partial one covers the pseudo-header only, so ports do not count. Later fragments, ICMP other than echo and
/// unknown protocols get addresses only; a first fragment gets all, since its checksum is that of the datagram. The CRC of
/// SCTP is only right for a whole packet, or when the ports stay.
///
/// # Errors
/// [`ParseError::HeaderSplit`] when `bytes` end before the headers do; nothing is changed then.
#[inline]
pub fn apply(
    bytes: &mut [u8],
    packet: &Ipv4Packet,
    new: &Rewrite,
    deltas: Deltas,
    checksum: L4Checksum,
) -> Result<(), ParseError> {
    if bytes.len() < packet.payload_offset() {
        return Err(ParseError::HeaderSplit);
    }
    let (header, l4) = bytes.split_at_mut(packet.l4_offset());
    let ip = Ipv4Header::of_mut(header).ok_or(ParseError::HeaderSplit)?;
    ip.set_addresses(new.src, new.dst, deltas.addresses);
    match packet.l4 {
        L4::Tcp { .. } => {
            let tcp = TcpHeader::of_mut(l4).ok_or(ParseError::HeaderSplit)?;
            let stored = tcp.checksum.get();
            tcp.checksum.set(match checksum {
                L4Checksum::Complete => deltas.addresses.and(deltas.ports).apply(stored),
                L4Checksum::Partial => deltas.addresses.apply_partial(stored),
            });
            tcp.src_port.set(new.src_port);
            tcp.dst_port.set(new.dst_port);
        }
        L4::Udp { .. } => {
            let udp = UdpHeader::of_mut(l4).ok_or(ParseError::HeaderSplit)?;
            let stored = udp.checksum.get();
            udp.checksum.set(match checksum {
                L4Checksum::Complete => deltas.addresses.and(deltas.ports).apply_udp(stored),
                L4Checksum::Partial => deltas.addresses.apply_partial(stored),
            });
            udp.src_port.set(new.src_port);
            udp.dst_port.set(new.dst_port);
        }
        L4::Sctp { .. } => {
            let sctp = SctpHeader::of_mut(l4).ok_or(ParseError::HeaderSplit)?;
            sctp.set_ports(new.src_port, new.dst_port, packet.l4_len());
        }
        L4::IcmpEcho { request, .. } => {
            let icmp = IcmpHeader::of_mut(l4).ok_or(ParseError::HeaderSplit)?;
            icmp.checksum.set(deltas.ports.apply(icmp.checksum.get()));
            icmp.rest_high.set(new.echo_id(request));
        }
        L4::IcmpError { .. } | L4::Icmp { .. } | L4::Other | L4::Later => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
