//! What is the same for all packets that take one way out of one port: worked out once for a run of them.

use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::{Encap, Tunnel};

use super::{Context, hop};
use crate::drop_reason::DropReason;
use crate::frames::AreaId;
use crate::port::{Capabilities, PortIndex, PortSet};
use crate::superframe::Envelope;
use crate::tables::GATEWAY_MAC;
use crate::tables::routes::Out;

/// Port, size and headers of a way out.
pub(super) struct Way {
    /// The port that its packets leave by.
    pub port: PortIndex,
    /// What that port can do.
    pub capabilities: Capabilities,
    /// The area of that port's frames.
    pub area: AreaId,
    /// The largest IP packet that it takes.
    pub mtu: usize,
    /// What stands in front of packets; a tunnel's is made that of each packet's flow.
    pub envelope: Envelope,
}

/// The last way taken.
#[derive(Default)]
pub(super) struct Ways(Option<(PortIndex, Out, Way)>);

impl Ways {
    /// The way of a packet from a port.
    ///
    /// # Errors
    /// What is missing on it.
    #[inline]
    pub(super) fn get(
        &mut self,
        from: PortIndex,
        out: Out,
        ports: &PortSet,
        cx: &Context<'_>,
    ) -> Result<&mut Way, DropReason> {
        if !matches!(&self.0, Some((port, way, _)) if (*port, *way) == (from, out)) {
            self.0 = Some((from, out, find(from, out, ports, cx)?));
        }
        match &mut self.0 {
            Some((.., way)) => Ok(way),
            None => unreachable!("it was found just now"),
        }
    }
}

fn find(from: PortIndex, out: Out, ports: &PortSet, cx: &Context<'_>) -> Result<Way, DropReason> {
    let Some((port, envelope)) = headers(out, cx) else {
        return Err(match out {
            Out::Pod(_) | Out::Host => DropReason::PortGone,
            Out::Tunnel(_) | Out::Wire(_) => DropReason::NeighborUnresolved,
        });
    };
    let Some(capabilities) = ports.capabilities(port) else {
        return Err(if port == PortIndex::HOST { DropReason::NoHostLink } else { DropReason::PortGone });
    };
    let area = if port == PortIndex::UPLINK { AreaId::Uplink } else { AreaId::Pods };
    let mtu = usize::from(hop::mtu(from, out, cx.tables, cx.node));
    Ok(Way { port, capabilities, area, mtu, envelope })
}

/// The port and the headers of a way out.
fn headers(out: Out, cx: &Context<'_>) -> Option<(PortIndex, Envelope)> {
    let node = cx.node;
    let hop_mac = |hop| cx.tables.hops.get(hop).and_then(|(_, mac): (_, Option<MacAddr>)| mac);
    Some(match out {
        Out::Pod(port) => (port, Envelope::Plain { src: GATEWAY_MAC, dst: cx.tables.ports.get(port)?.mac }),
        Out::Host => (PortIndex::HOST, Envelope::Plain { src: GATEWAY_MAC, dst: node.host_mac }),
        Out::Wire(hop) => (PortIndex::UPLINK, Envelope::Plain { src: node.uplink_mac, dst: hop_mac(hop)? }),
        Out::Tunnel(index) => {
            let peer = cx.tables.peers.get(index)?;
            let outer = Encap::new(&Tunnel {
                src_mac: node.uplink_mac,
                dst_mac: hop_mac(peer.hop?)?,
                src: node.address,
                dst: peer.address,
                port: node.vxlan_port,
                vni: node.vni,
            });
            let (src, dst) = (node.vtep_mac, peer.vtep_mac);
            (PortIndex::UPLINK, Envelope::Tunnel { outer, src, dst, flow_hash: 0 })
        }
    })
}
