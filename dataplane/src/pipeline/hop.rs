//! One hop less to live, and whether the packet fits the way.

use headrace_wire::icmp4::IcmpError;
use headrace_wire::parse::{Fragment, L4};

use super::Context;
use crate::burst::{Burst, Packet, Verdict};
use crate::drop_reason::DropReason;
use crate::port::PortIndex;
use crate::tables::routes::Out;
use crate::tables::{Node, Tables, VXLAN_OVERHEAD};

/// The largest IP packet there is.
const LARGEST: u16 = u16::MAX;

/// Refuses packets whose time ran out, and those too large that must not be fragmented.
pub fn run(burst: &mut Burst, cx: &mut Context<'_>) {
    // That of the last packet's way, which is often the next one's.
    let mut known = None;
    for packet in burst.iter_mut() {
        let Verdict::Forward(out) = packet.verdict else { continue };
        let next_hop_mtu = match known {
            Some((port, way, mtu)) if (port, way) == (packet.port, out) => mtu,
            _ => mtu(packet.port, out, cx.tables, cx.node),
        };
        known = Some((packet.port, out, next_hop_mtu));
        if packet.ip.ttl <= 1 {
            packet.verdict = Verdict::Refuse(IcmpError::TimeExceeded, DropReason::TtlExceeded);
        } else if too_big(packet, next_hop_mtu) {
            let error = IcmpError::FragmentationNeeded { next_hop_mtu };
            packet.verdict = Verdict::Refuse(error, DropReason::TooBig);
        }
    }
}

/// The largest IP packet from a port that a way takes, in bytes.
pub fn mtu(from: PortIndex, out: Out, tables: &Tables, node: &Node) -> u16 {
    let of_sender = tables.ports.get(from).and_then(|pod| pod.path_mtu).unwrap_or(LARGEST);
    match out {
        Out::Host => LARGEST,
        Out::Pod(port) => match tables.ports.get(port) {
            Some(pod) if !pod.superframes => {
                pod.path_mtu.unwrap_or(node.uplink_mtu.saturating_sub(VXLAN_OVERHEAD))
            }
            _ => LARGEST,
        },
        Out::Tunnel(_) => node.uplink_mtu.saturating_sub(VXLAN_OVERHEAD).min(of_sender),
        Out::Wire(_) => node.uplink_mtu.min(of_sender),
    }
}

/// Whole TCP packets are cut into segments instead.
pub fn is_segmentable(packet: &Packet) -> bool {
    matches!(packet.ip.l4, L4::Tcp { .. })
        && packet.ip.fragment == Fragment::Whole
        && packet.ip.payload_len() > 0
}

fn too_big(packet: &Packet, mtu: u16) -> bool {
    packet.ip.total_len > mtu && packet.ip.dont_fragment && !is_segmentable(packet)
}
