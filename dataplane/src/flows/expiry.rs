//! Flows that have been idle for too long go, a few buckets at a time; and those of pods that are gone, all at once.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use headrace_flowmap::{Cursor, Entry, Sweep};
use headrace_wire::ipv4::Protocol;

use super::{Event, Flow, FlowKey, Flows, Kind, Seconds, Seen};

/// No flow goes before this many seconds: most entries need no second look.
const SHORTEST: Seconds = 10;

/// One worker's walk over the table.
#[derive(Default)]
pub struct Expiry {
    cursor: Cursor,
    clients: Cursor,
}

impl Expiry {
    /// Looks at the entries of the next `buckets` buckets and removes those that are due, with their other direction; and
    /// at as many clients with affinity. Returns how many entries went.
    pub fn run(&mut self, flows: &Flows, buckets: usize, now: Seconds) -> usize {
        let buckets_of_clients = buckets.min(flows.affinity.map().buckets());
        let clients = flows.affinity.expire(&mut self.clients, buckets_of_clients, now);
        let ended = flows.map.sweep(&mut self.cursor, buckets, |entry| {
            if due(flows, entry, now) { Sweep::Remove } else { Sweep::Keep }
        });
        clients + ended
    }
}

impl Flows {
    /// Ends every connection that has one of these addresses at an end, translated or not. Goes through the whole table, so
    /// not for a worker. Returns how many entries went.
    pub fn end_of(&self, gone: &BTreeSet<Ipv4Addr>) -> usize {
        self.map.sweep(&mut Cursor::default(), self.map.buckets(), |entry| {
            let Some(key) = FlowKey::unpack(&entry.key) else { return Sweep::Remove };
            let flow = Flow::unpack(entry.slot, entry.value);
            let ends = [key.tuple.src, key.tuple.dst, flow.rewrite.src, flow.rewrite.dst];
            if !ends.iter().any(|end| gone.contains(end)) {
                return Sweep::Keep;
            }
            if key.kind == Kind::Ports {
                self.note(Event::Ended, &key, &flow, entry.last_seen);
                self.map.remove_key(&flow.partner_key(&key).pack());
            }
            Sweep::Remove
        })
    }
}

fn due(flows: &Flows, entry: &Entry, now: Seconds) -> bool {
    let idle = entry.idle(now);
    if idle < SHORTEST {
        return false;
    }
    let Some(key) = FlowKey::unpack(&entry.key) else { return true };
    let flow = Flow::unpack(entry.slot, entry.value);
    match key.kind {
        Kind::Fragments => return idle >= FRAGMENTS,
        Kind::Ports => {}
    }
    let partner_key = flow.partner_key(&key).pack();
    let partner = flows.map.lookup(&partner_key, flows.map.hash(&partner_key));
    let (seen, partner_idle) = match partner {
        Some(found) => (Flow::unpack(found.slot, found.value).seen, now.saturating_sub(found.last_seen)),
        None => (Seen::NOTHING, idle),
    };
    let is_due = idle.min(partner_idle) >= timeout(key.protocol, flow.seen, seen);
    if is_due {
        flows.note(Event::Ended, &key, &flow, entry.last_seen);
        flows.map.remove_key(&partner_key);
    }
    is_due
}

/// How long later fragments may follow their first one, in seconds (Linux: net.ipv4.ipfrag_time).
const FRAGMENTS: Seconds = 30;

/// After how many idle seconds a connection is over, by what was seen of its two directions. The values are those of
/// Linux's connection tracking (net.netfilter.nf_conntrack_*), established TCP as kube-proxy sets it.
pub(super) fn timeout(protocol: Protocol, one: Seen, other: Seen) -> Seconds {
    let both = one.has(Seen::DATA) && other.has(Seen::DATA);
    match protocol {
        Protocol::TCP => tcp_timeout(one, other, both),
        Protocol::UDP if both => 120,
        Protocol::UDP | Protocol::ICMP => 30,
        _ => 600,
    }
}

fn tcp_timeout(one: Seen, other: Seen, both: bool) -> Seconds {
    let either = one.and(other);
    if either.has(Seen::RST) {
        return 10;
    }
    match (one.has(Seen::FIN), other.has(Seen::FIN)) {
        (true, true) => 120,
        (true, false) | (false, true) => 3_600,
        (false, false) if both => 86_400,
        (false, false) if one.has(Seen::SYN) && other.has(Seen::SYN) => 60,
        (false, false) if either.has(Seen::SYN) => 120,
        // Picked up in the middle, so far in one direction only.
        (false, false) => 300,
    }
}
