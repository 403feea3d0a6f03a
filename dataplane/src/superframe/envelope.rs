//! What stands in front of a packet on its way out: an Ethernet header, or a tunnel and one.

use headrace_wire::Header;
use headrace_wire::ethernet::{EtherType, EthernetHeader, MacAddr};
use headrace_wire::vxlan::{ENCAP_LEN, Encap, Inner};

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
        /// The headers around it.
        outer: Encap,
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
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Plain { .. } => EthernetHeader::LEN,
            Self::Tunnel { .. } => LONGEST,
        }
    }

    /// Whether it is a tunnel's.
    #[inline]
    pub fn is_tunnel(&self) -> bool {
        matches!(self, Self::Tunnel { .. })
    }

    /// The same around a packet of another flow.
    #[inline]
    pub fn set_flow_hash(&mut self, hash: u32) {
        if let Self::Tunnel { flow_hash, .. } = self {
            *flow_hash = hash;
        }
    }

    /// Whether it has no bytes; never.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the headers in front of an IP packet of `packet_len` bytes; `id` is that of the outer packet.
    ///
    /// `None` when it does not fit: the packet is larger than a tunnel may carry.
    #[inline]
    pub fn write(&self, out: &mut [u8], packet_len: usize, tos: u8, id: u16) -> Option<()> {
        match self {
            Self::Plain { src, dst } => EthernetHeader::new(*src, *dst, EtherType::IPV4).put(out).ok(),
            Self::Tunnel { outer, src, dst, flow_hash } => {
                let frame_len = EthernetHeader::LEN + packet_len;
                let inner = Inner { frame_len, tos, flow_hash: *flow_hash, id };
                outer.write(out.first_chunk_mut::<ENCAP_LEN>()?, &inner).ok()?;
                EthernetHeader::new(*src, *dst, EtherType::IPV4).put(&mut out[ENCAP_LEN..]).ok()
            }
        }
    }
}
