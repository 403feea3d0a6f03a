//! What is carried to and from each other node.
//!
//! Any worker may carry packets of any peer, so the counts are shared; each adds once for a run of packets of one peer.

use std::net::Ipv4Addr;

use super::routes::Out;
use super::{PeerIndex, Peers, Route, Tables};
use crate::burst::{Packet, Verdict};
use crate::port::PortIndex;
use crate::stats::Total;

/// Frames and bytes of IP packets in the tunnel of one peer, or without one where the path to it has none; a superframe
/// counts once. Snapshots share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Traffic {
    pub rx_frames: Total,
    pub rx_bytes: Total,
    pub tx_frames: Total,
    pub tx_bytes: Total,
}

/// Adds up a burst's packets, run by run of one peer.
pub struct PeerTally<'a> {
    tables: &'a Tables,
    received: Run,
    sent: Run,
}

/// Packets of one peer, one after the other.
#[derive(Default)]
struct Run {
    peer: Option<PeerIndex>,
    frames: u64,
    bytes: u64,
    /// An address without tunnel that was looked up last, and whose it is.
    known: Option<(Ipv4Addr, Option<PeerIndex>)>,
}

impl<'a> PeerTally<'a> {
    /// Nothing yet.
    pub fn new(tables: &'a Tables) -> Self {
        Self { tables, received: Run::default(), sent: Run::default() }
    }

    /// The peer that a packet comes from, as long as it has the source that it came with.
    #[inline]
    pub fn origin(&mut self, packet: &Packet) -> Option<PeerIndex> {
        let plain = packet.port == PortIndex::UPLINK && self.tables.peers.any_direct;
        packet.peer.or_else(|| if plain { self.received.direct(packet.ip.src, self.tables) } else { None })
    }

    /// A packet that is forwarded, with where it came from.
    #[inline]
    pub fn carried(&mut self, from: Option<PeerIndex>, packet: &Packet) {
        if cfg!(not(feature = "counters")) {
            return;
        }
        let bytes = u64::from(packet.ip.total_len);
        if let Some(from) = from
            && let Some(ended) = self.received.add(from, bytes)
        {
            end_received(&self.tables.peers, &ended);
        }
        let to = match packet.verdict {
            Verdict::Forward(Out::Tunnel(to)) => Some(to),
            Verdict::Forward(Out::Wire(_)) if self.tables.peers.any_direct => {
                self.sent.direct(packet.ip.dst, self.tables)
            }
            _ => None,
        };
        if let Some(to) = to
            && let Some(ended) = self.sent.add(to, bytes)
        {
            end_sent(&self.tables.peers, &ended);
        }
    }
}

impl Drop for PeerTally<'_> {
    fn drop(&mut self) {
        end_received(&self.tables.peers, &self.received);
        end_sent(&self.tables.peers, &self.sent);
    }
}

impl Run {
    /// Adds a packet; gives the run that it ends.
    #[inline]
    fn add(&mut self, peer: PeerIndex, bytes: u64) -> Option<Self> {
        if self.peer == Some(peer) {
            self.frames += 1;
            self.bytes += bytes;
            return None;
        }
        let next = Self { peer: Some(peer), frames: 1, bytes, known: self.known };
        Some(std::mem::replace(self, next))
    }

    /// The peer that has this address, where the path to it has no tunnel.
    fn direct(&mut self, address: Ipv4Addr, tables: &Tables) -> Option<PeerIndex> {
        if let Some((known, peer)) = self.known
            && known == address
        {
            return peer;
        }
        let peer = match tables.routes.lookup(address) {
            Route::Peer(index) if tables.peers.get(index).is_some_and(|peer| peer.direct) => Some(index),
            _ => None,
        };
        self.known = Some((address, peer));
        peer
    }
}

fn end_received(peers: &Peers, run: &Run) {
    if let Some(peer) = run.peer.and_then(|peer| peers.get(peer)) {
        peer.traffic.rx_frames.add(run.frames);
        peer.traffic.rx_bytes.add(run.bytes);
    }
}

fn end_sent(peers: &Peers, run: &Run) {
    if let Some(peer) = run.peer.and_then(|peer| peers.get(peer)) {
        peer.traffic.tx_frames.add(run.frames);
        peer.traffic.tx_bytes.add(run.bytes);
    }
}
