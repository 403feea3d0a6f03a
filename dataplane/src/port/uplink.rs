//! The uplink where its tunnel goes over UDP sockets: they carry what is in the tunnel, another driver the rest.
//!
//! To the pipeline it is one port: frames look the same either way.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::tunnel::Tunnel;
use super::{Capabilities, Port, PortIndex, Received};
use crate::frames::{AreaId, Frame, Pool};
use crate::stats::PortCounters;

/// Turns in which the tunnel alone is asked while it has something: the rest may need a system call of its own.
const TUNNEL_TURNS: u8 = 8;

/// One worker's half of the uplink.
pub struct UplinkPort<P> {
    rest: P,
    tunnel: Tunnel,
    turns: u8,
}

impl<P: Port> UplinkPort<P> {
    /// Of both kinds of sockets; the first may have none.
    pub fn new(rest: P, tunnel: Tunnel) -> Self {
        Self { rest, tunnel, turns: 0 }
    }
}

impl<P: Port> Port for UplinkPort<P> {
    fn area(&self) -> AreaId {
        self.rest.area()
    }

    fn capabilities(&self) -> Capabilities {
        self.rest.capabilities()
    }

    fn receive(&mut self, pool: &mut Pool, received: &mut Received) -> usize {
        let before = received.len();
        self.tunnel.receive(pool, received, self.rest.counters());
        self.turns += 1;
        if received.len() == before || self.turns >= TUNNEL_TURNS {
            self.turns = 0;
            self.rest.receive(pool, received);
        }
        received.len() - before
    }

    fn replenish(&mut self, pool: &mut Pool) {
        self.rest.replenish(pool);
        self.tunnel.replenish(pool, PortIndex::UPLINK);
    }

    fn transmit(&mut self, pool: &mut Pool, frame: Frame) -> Result<(), Frame> {
        if frame.tunnelled {
            return self.tunnel.transmit(pool, frame, PortIndex::UPLINK, self.rest.counters());
        }
        self.rest.transmit(pool, frame)
    }

    fn flush(&mut self, pool: &mut Pool) -> bool {
        let tunnel = self.tunnel.flush(pool, PortIndex::UPLINK, self.rest.counters());
        self.rest.flush(pool) | tunnel
    }

    fn readiness(&self) -> Vec<BorrowedFd<'_>> {
        let mut all = self.rest.readiness();
        all.push(self.tunnel.readiness());
        all
    }

    fn asks_the_kernel(&self) -> bool {
        !self.tunnel.has_more()
    }

    fn counters(&self) -> &Arc<PortCounters> {
        self.rest.counters()
    }

    fn publish(&mut self) {
        self.rest.publish();
    }

    fn zero_copy(&self) -> bool {
        self.rest.zero_copy()
    }
}
