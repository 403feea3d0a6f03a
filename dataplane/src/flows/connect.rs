//! New connections: both entries at once, and with them the source port.
//!
//! Inserting the reply's tuple is the reservation of the port: whoever inserts first has it, in every worker and across
//! restarts.

use std::sync::atomic::Ordering::Relaxed;

use headrace_flowmap::{EvictionRank, Insert, Key, Slot, Value};
use headrace_wire::ipv4::Protocol;
use headrace_wire::nat::{Deltas, Rewrite};

use super::{Event, Flow, FlowKey, Flows, Kind, Seconds, Seen};
use crate::drop_reason::DropReason;
use crate::random::Random;
use crate::stats::Hot;
use crate::tables::routes::Out;
use crate::tables::service::Hits;

/// Source ports tried before a connection is given up as [`DropReason::SnatPortsExhausted`]. With nine ports in ten taken
/// for one destination this fails once in 10^23 times.
const TRIES: usize = 512;

/// Which source ports a connection may have.
#[derive(Clone, Copy, Debug)]
pub enum SourcePorts<'a> {
    /// Its own one, or any other above 1023 when the reply's tuple is taken.
    OwnOrAny,
    /// Only these.
    Of(&'a [u16]),
}

/// A connection to be.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// Tuple of its first packet.
    pub key: FlowKey,
    /// Addresses and ports that it leaves with; the source port may still change.
    pub rewrite: Rewrite,
    /// Which source ports it may have.
    pub source_ports: SourcePorts<'a>,
    /// The way its packets leave.
    pub out: Out,
    /// Generation of routes in which `out` was found.
    pub route_generation: u32,
    /// The counts of the Service that its destination is of; `None` = it is no Service's.
    pub service: Option<&'a Hits>,
    /// Generation of Services in which its destination was found.
    pub service_generation: u32,
    /// What its first packet shows.
    pub seen: Seen,
}

impl Flows {
    /// Makes a connection, or finds that another worker has just made it.
    ///
    /// # Errors
    /// No source port is free: [`DropReason::SnatPortsExhausted`], or [`DropReason::SnatConflict`] for protocols without
    /// ports.
    pub fn connect(
        &self,
        connection: &Connection<'_>,
        now: Seconds,
        random: &mut Random,
        stats: &Hot,
    ) -> Result<Flow, DropReason> {
        let (rewrite, reply) = self.reserve(connection, now, random, stats)?;
        let key = &connection.key;
        let flow = Flow {
            rewrite,
            deltas: Deltas::between(&key.tuple, &rewrite),
            out: Some(connection.out),
            route_generation: connection.route_generation,
            seen: connection.seen,
            original: true,
            service: connection.service.is_some(),
            service_generation: connection.service_generation,
            punted: false,
            elsewhere: false,
            slot: reply,
            mss: 0,
        };
        match self.insert(key, &flow, now, stats) {
            Insert::New { slot, .. } => {
                let flow = Flow { slot, ..flow };
                self.note(Event::Began, key, &flow, now);
                if let Some(hits) = connection.service.filter(|_| !self.on_trial) {
                    hits.add((rewrite.dst, rewrite.dst_port));
                    stats.service_connections.add(1);
                }
                Ok(flow)
            }
            Insert::Exists { slot, value } => {
                let theirs = Flow::unpack(slot, value);
                if theirs.rewrite != rewrite {
                    let ours = FlowKey { tuple: rewrite.reversed(), ..*key };
                    self.map.remove(reply, &ours.pack());
                }
                Ok(theirs)
            }
        }
    }

    /// Makes later fragments of a datagram follow its first one.
    pub fn follow_fragments(&self, key: &FlowKey, flow: &Flow, now: Seconds, stats: &Hot) {
        let addresses = Rewrite { src: flow.rewrite.src, dst: flow.rewrite.dst, ..key.tuple };
        let follower = Flow {
            rewrite: addresses,
            deltas: Deltas::between(&key.tuple, &addresses),
            seen: Seen::NOTHING,
            service: false,
            elsewhere: false,
            ..*flow
        };
        if let Insert::Exists { slot, .. } = self.insert(key, &follower, now, stats) {
            // Identifications come round again, and an earlier datagram may have gone elsewhere.
            self.map.update(slot, &key.pack(), |value| *value = follower.pack());
            self.map.touch(slot, &key.pack(), now);
        }
        self.first_fragments.fetch_add(1, Relaxed);
    }

    /// Lets later fragments of a datagram follow nothing.
    pub fn forget_fragments(&self, key: &FlowKey) {
        self.map.remove_key(&key.pack());
    }

    fn reserve(
        &self,
        connection: &Connection<'_>,
        now: Seconds,
        random: &mut Random,
        stats: &Hot,
    ) -> Result<(Rewrite, Slot), DropReason> {
        let key = &connection.key;
        let back = key.tuple.reversed();
        let movable = has_movable_port(key);
        for attempt in 0..if movable { TRIES } else { 1 } {
            let mut rewrite = connection.rewrite;
            if movable {
                rewrite.src_port = match connection.source_ports {
                    SourcePorts::OwnOrAny if attempt == 0 => rewrite.src_port,
                    SourcePorts::OwnOrAny => 1024 + random.below(65_536 - 1024) as u16,
                    SourcePorts::Of([]) => return Err(DropReason::SnatPortsExhausted),
                    SourcePorts::Of(ports) => ports[random.below(ports.len())],
                };
            }
            let reply_key = FlowKey { tuple: rewrite.reversed(), ..*key };
            let reply = Flow {
                rewrite: back,
                deltas: Deltas::between(&reply_key.tuple, &back),
                out: None,
                route_generation: connection.route_generation,
                mss: 0,
                seen: Seen::NOTHING,
                original: false,
                service: connection.service.is_some(),
                service_generation: 0,
                punted: false,
                elsewhere: false,
                slot: Slot::from_raw(0),
            };
            match self.insert(&reply_key, &reply, now, stats) {
                Insert::New { slot, .. } => return Ok((rewrite, slot)),
                Insert::Exists { slot, value } if Flow::unpack(slot, value).rewrite == back => {
                    return Ok((rewrite, slot));
                }
                Insert::Exists { .. } => {}
            }
        }
        Err(if movable { DropReason::SnatPortsExhausted } else { DropReason::SnatConflict })
    }

    fn insert(&self, key: &FlowKey, flow: &Flow, now: Seconds, stats: &Hot) -> Insert {
        let packed = key.pack();
        let inserted = self.map.insert(&packed, self.map.hash(&packed), flow.pack(), now, rank);
        if let Insert::New { slot, evicted } = &inserted {
            stats.flows_inserted.add(1);
            if let Some(entry) = evicted {
                stats.flows_evicted.add(1);
                // A connection of which one direction is gone would be carried untranslated in the other.
                if let Some(old) = FlowKey::unpack(&entry.key).filter(|old| old.kind == Kind::Ports) {
                    let flow = Flow::unpack(entry.slot, entry.value);
                    self.note(Event::Ended, &old, &flow, entry.last_seen);
                    self.map.remove_key(&flow.partner_key(&old).pack());
                }
            }
            self.counts.begin(*slot, now);
        }
        inserted
    }
}

/// Whether a connection of this key can be told apart by another source port or echo identifier.
fn has_movable_port(key: &FlowKey) -> bool {
    let echo_request = key.protocol == Protocol::ICMP && key.tuple.src_port != 0;
    let has_port = matches!(key.protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP) || echo_request;
    key.kind == Kind::Ports && has_port
}

/// Who goes first when the table is full: closed connections, then half-open ones and what is no connection, then the
/// longest idle.
fn rank(key: &Key, value: &Value, idle: u32) -> EvictionRank {
    let is_connection = FlowKey::unpack(key).is_some_and(|key| key.kind == Kind::Ports);
    let seen = if is_connection { Flow::unpack(Slot::from_raw(0), *value).seen } else { Seen::NOTHING };
    let class: u64 = if seen.has(Seen::RST) || seen.has(Seen::FIN) {
        2
    } else if !seen.has(Seen::DATA) {
        1
    } else {
        0
    };
    EvictionRank(u64::from(idle) + (class << 6))
}
