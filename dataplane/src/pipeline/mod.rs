//! The packet walk: plain functions over a burst, in one visible order.
//!
//! A stage looks at the packets whose verdict concerns it and says what it found out; the last one, [`output`], carries the
//! verdicts out. To add a stage, copy a file and add its line to [`STAGES`].

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
mod way;

use std::net::Ipv4Addr;

use crossbeam::channel::Sender;

use crate::burst::Burst;
use crate::flows::{Flows, Seconds};
use crate::frames::Pools;
use crate::observe::{Observer, StageId};
use crate::random::Random;
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
    /// The worker's counters, and whoever looks.
    pub stats: &'a Observer,
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

/// A stage.
pub type Stage = fn(&mut Burst, &mut Context<'_>);

/// The stages between [`ingress`] and [`output`], in order.
pub const STAGES: [(&str, Stage); 9] = [
    // Known connections: their rewrite and way out.
    ("flow", flow::run),
    // Errors about known connections: translated like them.
    ("icmp_error", icmp_error::run),
    // The gateway itself: echo.
    ("own", own::run),
    // First packets: Service, masquerade, route; makes the flow.
    ("connect", connect::run),
    // Way out and next hop, anew when routes changed.
    ("route", route::run),
    // Time to live, size.
    ("hop", hop::run),
    // ICMP errors to senders.
    ("refuse", refuse::run),
    // Bandwidth of pods.
    ("limit", limit::run),
    // Addresses, ports, time to live.
    ("rewrite", rewrite::run),
];

/// Decides about every packet of a burst and rewrites those that leave.
pub fn run(burst: &mut Burst, cx: &mut Context<'_>) {
    for (number, (_, stage)) in STAGES.iter().enumerate() {
        stage(burst, cx);
        cx.stats.walked(StageId::of_pipeline(number), burst);
    }
}
