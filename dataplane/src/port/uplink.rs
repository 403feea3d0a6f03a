//! The uplink where its tunnel goes over UDP sockets: they carry what is in the tunnel, AF_XDP the rest.
//!
//! To the pipeline it is one port: frames look the same either way.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::afxdp::AfXdpPort;
use super::tunnel::Tunnel;
use super::{Capabilities, Port, PortIndex, Received};
use crate::frames::{AreaId, Frame, Pool};
use crate::stats::PortCounters;

/// One worker's half of the uplink.
pub struct UplinkPort {
    rest: AfXdpPort,
    tunnel: Tunnel,
}

impl UplinkPort {
    /// Of both kinds of sockets; the first may have none.
    pub fn new(rest: AfXdpPort, tunnel: Tunnel) -> Self {
        Self { rest, tunnel }
    }
}

impl Port for UplinkPort {
    fn area(&self) -> AreaId {
        self.rest.area()
    }

    fn capabilities(&self) -> Capabilities {
        self.rest.capabilities()
    }

    fn receive(&mut self, pool: &mut Pool, received: &mut Received) -> usize {
        let before = received.len();
        self.rest.receive(pool, received);
        self.tunnel.receive(pool, received, self.rest.counters());
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
