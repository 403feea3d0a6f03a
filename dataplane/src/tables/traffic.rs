//! What is carried to and from each other node.
//!
//! Any worker may carry packets of any peer, so the counts are shared; each adds once for a run of packets of one peer.

use std::cell::Cell;

use super::{PeerIndex, Peers};
use crate::stats::Total;

/// Frames and bytes of IP packets in the tunnel of one peer, a superframe counts once. Snapshots share them.
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
    peers: &'a Peers,
    received: Run,
    sent: Run,
}

#[derive(Default)]
struct Run(Cell<Option<(PeerIndex, u64, u64)>>);

impl<'a> PeerTally<'a> {
    /// Nothing yet.
    pub fn new(peers: &'a Peers) -> Self {
        Self { peers, received: Run::default(), sent: Run::default() }
    }

    /// A packet that came by the tunnel of a peer.
    #[inline]
    pub fn received(&self, from: PeerIndex, bytes: u16) {
        self.received.add(from, bytes, |run| self.end_received(run));
    }

    /// A packet that leaves by the tunnel of a peer.
    #[inline]
    pub fn sent(&self, to: PeerIndex, bytes: u16) {
        self.sent.add(to, bytes, |run| self.end_sent(run));
    }

    fn end_received(&self, (peer, frames, bytes): (PeerIndex, u64, u64)) {
        if let Some(peer) = self.peers.get(peer) {
            peer.traffic.rx_frames.add(frames);
            peer.traffic.rx_bytes.add(bytes);
        }
    }

    fn end_sent(&self, (peer, frames, bytes): (PeerIndex, u64, u64)) {
        if let Some(peer) = self.peers.get(peer) {
            peer.traffic.tx_frames.add(frames);
            peer.traffic.tx_bytes.add(bytes);
        }
    }
}

impl Run {
    #[inline]
    fn add(&self, peer: PeerIndex, bytes: u16, end: impl FnOnce((PeerIndex, u64, u64))) {
        if cfg!(not(feature = "counters")) {
            return;
        }
        let (frames, sum) = match self.0.get() {
            Some((at, frames, sum)) if at == peer => (frames, sum),
            Some(other) => {
                end(other);
                (0, 0)
            }
            None => (0, 0),
        };
        self.0.set(Some((peer, frames + 1, sum + u64::from(bytes))));
    }
}

impl Drop for PeerTally<'_> {
    fn drop(&mut self) {
        if let Some(run) = self.received.0.get() {
            self.end_received(run);
        }
        if let Some(run) = self.sent.0.get() {
            self.end_sent(run);
        }
    }
}
