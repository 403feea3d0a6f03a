//! Packets on their way through the pipeline.

use std::net::Ipv4Addr;

use arrayvec::ArrayVec;
use headrace_wire::icmp4::IcmpError;
use headrace_wire::parse::Ipv4Packet;

use crate::drop_reason::DropReason;
use crate::flows::{Flow, FlowKey};
use crate::frames::Frame;
use crate::port::{BURST, PortIndex};
use crate::tables::PeerIndex;
use crate::tables::routes::Out;

/// What becomes of a packet. Stages look only at packets that are still undecided for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next stage decides.
    Undecided,
    /// It leaves, translated and with one hop less to live.
    Forward(Out),
    /// A stolen packet that nobody here wants: back to the node's own stack, untouched.
    Punt,
    /// Its bytes have become an answer that leaves this way, as it is.
    Reply(Out),
    /// It waits until the MAC address of this next hop is known, and begins again.
    Wait(Ipv4Addr),
    /// A later fragment that waits for the first one of its datagram, and begins again.
    WaitForFirst,
    /// It ends here, and its sender is told.
    Refuse(IcmpError, DropReason),
    /// It ends here.
    Drop(DropReason),
}

/// A frame with what the stages found out about it.
#[derive(Debug)]
pub struct Packet {
    /// The frame; its first byte is an Ethernet header.
    pub frame: Frame,
    /// Where it came in.
    pub port: PortIndex,
    /// The peer whose tunnel it came by.
    pub peer: Option<PeerIndex>,
    /// Its headers as they came in; still true when the verdict falls.
    pub ip: Ipv4Packet,
    /// The flow it belongs to: found, or made by its first packet. `None` = carried without one.
    pub flow: Option<(FlowKey, Flow)>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// By which those who follow it know it; 0 = nobody does.
    pub mark: u16,
}

/// Packets that travel through the stages together.
pub type Burst = ArrayVec<Packet, BURST>;
