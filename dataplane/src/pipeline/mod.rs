//! The packet walk: plain functions over a burst, in one visible order.
//!
//! A stage looks at the packets whose verdict concerns it and says what it found out; the last one, [`output`], carries the
//! verdicts out. To add a stage, copy a file and add its line to [`run`].

pub mod connect;
pub mod flow;
pub mod fragment;
pub mod hop;
pub mod icmp_error;
pub mod ingress;
pub mod limit;
pub mod masquerade;
pub mod output;
pub mod own;
pub mod refuse;
pub mod rewrite;
pub mod route;
pub mod service;

use std::net::Ipv4Addr;

use crossbeam::channel::Sender;

use crate::burst::Burst;
use crate::flows::{Flows, Seconds};
use crate::frames::Pools;
use crate::random::Random;
use crate::stats::WorkerStats;
use crate::tables::{Nanos, Node, Tables};

/// What stages may look at and change besides the packets themselves.
pub struct Context<'a> {
    /// The snapshot in force, the same for the whole burst.
    pub tables: &'a Tables,
    /// The node; there is no burst without one.
    pub node: &'a Node,
    /// All flows.
    pub flows: &'a Flows,
    /// The worker's memory.
    pub pools: &'a mut Pools,
    /// The worker's counters.
    pub stats: &'a WorkerStats,
    /// Time of this burst.
    pub now: Seconds,
    /// The worker's state between bursts.
    pub state: &'a mut State,
    /// Next hops whose MAC address is wanted.
    pub asked: &'a Sender<Ipv4Addr>,
}

/// What a worker's stages remember from burst to burst.
#[derive(Default)]
pub struct State {
    /// Endpoint and port choices.
    pub random: Random,
    /// Identification of the next packet that the dataplane makes itself.
    pub ip_id: u16,
    /// Time of this turn, for bandwidth limits.
    pub clock: Nanos,
    /// How many ICMP errors may still be sent.
    pub icmp_budget: refuse::Budget,
}

impl State {
    /// Identification for one more packet of our own.
    pub fn next_ip_id(&mut self) -> u16 {
        self.ip_id = self.ip_id.wrapping_add(1);
        self.ip_id
    }
}

/// Decides about every packet of a burst and rewrites those that leave.
pub fn run(burst: &mut Burst, cx: &mut Context<'_>) {
    flow::run(burst, cx); //       known connections: their rewrite and way out
    icmp_error::run(burst, cx); // errors about known connections: translated like them
    own::run(burst, cx); //        the gateway itself: echo
    connect::run(burst, cx); //    first packets: Service, masquerade, route; makes the flow
    route::run(burst, cx); //      way out and next hop, anew when routes changed
    hop::run(burst, cx); //        time to live, size
    refuse::run(burst, cx); //     ICMP errors to senders
    limit::run(burst, cx); //      bandwidth of pods
    rewrite::run(burst, cx); //    addresses, ports, time to live
}
