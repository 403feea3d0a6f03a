//! What stands in front of a packet on its way out: an Ethernet header, or a tunnel and one.

use headrace_wire::Header;
use headrace_wire::ethernet::{EtherType, EthernetHeader, MacAddr};
use headrace_wire::vxlan::{ENCAP_LEN, Inner, Tunnel, encap_header};

/// Most bytes that an envelope has.
pub const LONGEST: usize = ENCAP_LEN + EthernetHeader::LEN;

/// Headers of the way out. The same for all packets that one frame becomes.
#[derive(Clone, Copy, Debug)]
pub enum Envelope {
    /// Ethernet only.
    Plain {
        /// Of the port it leaves by.
        src: MacAddr,
        /// Of the next hop or pod.
        dst: MacAddr,
    },
    /// VXLAN around an inner Ethernet header.
    Tunnel {
        /// Both ends.
        tunnel: Tunnel,
        /// This node's inner MAC address.
        src: MacAddr,
        /// The peer's.
        dst: MacAddr,
        /// Chooses the outer source port.
        flow_hash: u32,
    },
}

impl Envelope {
    /// Bytes in front of the IP packet.
    pub fn len(&self) -> usize {
        match self {
            Self::Plain { .. } => EthernetHeader::LEN,
            Self::Tunnel { .. } => LONGEST,
        }
    }

    /// Whether it is a tunnel's.
    pub fn is_tunnel(&self) -> bool {
        matches!(self, Self::Tunnel { .. })
    }

    /// Whether it has no bytes; never.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the headers in front of an IP packet of `packet_len` bytes; `id` is that of the outer packet.
    ///
    /// `None` when it does not fit: the packet is larger than a tunnel may carry.
    pub fn write(&self, out: &mut [u8], packet_len: usize, tos: u8, id: u16) -> Option<()> {
        match self {
            Self::Plain { src, dst } => EthernetHeader::new(*src, *dst, EtherType::IPV4).put(out).ok(),
            Self::Tunnel { tunnel, src, dst, flow_hash } => {
                let frame_len = EthernetHeader::LEN + packet_len;
                let inner = Inner { frame_len, tos, flow_hash: *flow_hash, id };
                let outer = out.first_chunk_mut::<ENCAP_LEN>()?;
                encap_header(outer, tunnel, &inner).ok()?;
                EthernetHeader::new(*src, *dst, EtherType::IPV4).put(&mut out[ENCAP_LEN..]).ok()
            }
        }
    }
}
