//! The ruleset as text for nft: whole, or the difference of two.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use headrace_xsk::program::{Frontend, Place};

use super::Wanted;
use super::way::MARK;
use crate::tables::POD_GATEWAY;

/// The tables, as `nft list tables` names them.
pub(super) const TABLES: &[&str] = &["table netdev headrace", "table ip headrace"];

/// Each removes one table, whether it is there or not.
pub(super) const REMOVE: [&str; 2] = [
    "table netdev headrace\ndelete table netdev headrace\n",
    "table ip headrace\ndelete table ip headrace\n",
];

/// A set of one of the tables. Protocols stand there by number, since names need /etc/protocols.
struct Set {
    name: &'static str,
    kind: &'static str,
    families: &'static [&'static str],
    elements: fn(&Wanted) -> BTreeSet<String>,
}

const SETS: [Set; 4] = [
    Set {
        name: "node_port_addresses",
        kind: "ipv4_addr; flags interval",
        families: &["netdev"],
        elements: |wanted| wanted.node_port_addresses.iter().map(ToString::to_string).collect(),
    },
    Set {
        name: "node_ports",
        kind: "inet_proto . inet_service",
        families: &["netdev"],
        elements: |wanted| ports(wanted, Place::NodePort),
    },
    Set {
        name: "host_ports",
        kind: "inet_proto . inet_service",
        families: &["netdev"],
        elements: |wanted| ports(wanted, Place::EveryOwn),
    },
    Set {
        name: "frontends",
        kind: "ipv4_addr . inet_proto . inet_service",
        families: &["netdev", "ip"],
        elements: |wanted| wanted.frontends.iter().filter_map(at_address).collect(),
    },
];

/// Whether [`difference`] leads from one to the other: it changes sets, not chains.
pub(super) fn same_shape(a: &Wanted, b: &Wanted) -> bool {
    a.host_link == b.host_link
        && a.serves_unmasqueraded == b.serves_unmasqueraded
        && a.uses_loopback() == b.uses_loopback()
}

/// Both tables, in the place of what is there.
pub(super) fn whole(wanted: &Wanted, host_link: &str) -> String {
    let [netdev, ip] = ["netdev", "ip"].map(|family| {
        let sets: String = SETS
            .iter()
            .filter(|set| set.families.contains(&family))
            .map(|set| definition(set, wanted))
            .collect();
        sets
    });
    let [remove_netdev, remove_ip] = REMOVE;
    let loopback = if wanted.uses_loopback() { "" } else { "ip daddr 127.0.0.0/8 accept" };
    // A datagram of `lo` is as long as its sender likes, and no router on its way could teach him the path's MTU: his route
    // is the local one. So it may be fragmented, for which it needs an identification of its own (RFC 6864 4.1).
    let fragmentable = "meta l4proto udp meta length > 1280 ip frag-off & 0x4000 == 0x4000 \
        ip frag-off set ip frag-off & 0xbfff ip id set numgen inc mod 65536";
    let mark = format!("meta mark set meta mark | {MARK:#x}");
    let (came, answers) = match wanted.serves_unmasqueraded {
        true => (
            format!("iifname \"{host_link}\" ct direction original ct mark set ct mark | {MARK:#x}"),
            format!("ct direction reply ct mark & {MARK:#x} == {MARK:#x} {mark}"),
        ),
        // A rule with `ct` switches connection tracking on for the whole node.
        false => (String::new(), String::new()),
    };
    format!(
        "{remove_netdev}{remove_ip}\
table netdev headrace {{
{netdev}\
	chain loopback {{
		type filter hook egress device \"lo\" priority 0; policy accept;
		{loopback}
		ip daddr . meta l4proto . th dport @frontends goto to_dataplane
		ip daddr @node_port_addresses meta l4proto . th dport @node_ports goto to_dataplane
		meta protocol ip meta l4proto . th dport @host_ports goto to_dataplane
	}}
	chain to_dataplane {{
		{fragmentable}
		fwd ip to {POD_GATEWAY} device \"{host_link}\"
	}}
}}
table ip headrace {{
{ip}\
	chain prerouting {{
		type filter hook prerouting priority -150; policy accept;
		{came}
	}}
	chain output {{
		type route hook output priority -150; policy accept;
		ip daddr . meta l4proto . th dport @frontends {mark}
		{answers}
	}}
}}
"
    )
}

/// Elements to add and to delete; empty when there are none.
pub(super) fn difference(applied: &Wanted, wanted: &Wanted) -> String {
    let mut script = String::new();
    for set in &SETS {
        let (before, after) = ((set.elements)(applied), (set.elements)(wanted));
        let steps = [("delete", before.difference(&after)), ("add", after.difference(&before))];
        for (verb, elements) in steps {
            let elements: Vec<&str> = elements.map(String::as_str).collect();
            for family in set.families.iter().filter(|_| !elements.is_empty()) {
                // Writing to a string cannot fail.
                let _ = writeln!(
                    script,
                    "{verb} element {family} headrace {} {{ {} }}",
                    set.name,
                    elements.join(", ")
                );
            }
        }
    }
    script
}

impl Wanted {
    /// Whether loopback addresses serve too; the host link must take their packets then.
    pub(super) fn uses_loopback(&self) -> bool {
        self.node_port_addresses.iter().any(|range| range.ip().is_loopback())
    }
}

fn definition(set: &Set, wanted: &Wanted) -> String {
    let elements: Vec<String> = (set.elements)(wanted).into_iter().collect();
    // nft knows no empty list.
    let list = match elements.is_empty() {
        true => String::new(),
        false => format!("; elements = {{ {} }}", elements.join(", ")),
    };
    format!("\tset {} {{ type {}{list}; }}\n", set.name, set.kind)
}

fn ports(wanted: &Wanted, place: Place) -> BTreeSet<String> {
    let there = wanted.frontends.iter().filter(|frontend| frontend.place == place);
    there.map(|frontend| format!("{} . {}", frontend.protocol, frontend.port)).collect()
}

fn at_address(frontend: &Frontend) -> Option<String> {
    match frontend.place {
        Place::Address(address) => Some(format!("{address} . {} . {}", frontend.protocol, frontend.port)),
        Place::EveryOwn | Place::NodePort => None,
    }
}
