//! A table of conflicts, and random changes against an oracle that checks everything anew.

use std::net::{IpAddr, Ipv4Addr};

use headrace_api::state::{Bandwidth, Encapsulation, Endpoint, Frontend, Protocol};
use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::Vni;
use ipnetwork::IpNetwork;
use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn settings(node: &str, cidrs: &[&str]) -> Settings {
    Settings {
        node_addresses: vec![ip(node)],
        pod_cidrs: cidrs.iter().map(|c| c.parse().unwrap()).collect(),
        cluster_cidrs: vec![],
        service_cidrs: vec![],
        vxlan_port: 8472.try_into().unwrap(),
        vni: Vni::new(1).unwrap(),
        vtep_mac: MacAddr([2; 6]),
        encapsulation: Encapsulation::Vxlan,
        masquerade: true,
        non_masquerade_cidrs: vec![],
        snat_ports: 20000..=20999,
        node_port_ranges: Vec::new(),
        node_port_loopback: false,
        masquerade_all: false,
        local_sources: Vec::new(),
    }
}

fn port(id: u32, interface: &str, addresses: &[&str]) -> Port {
    Port {
        id: PortId::new(id).unwrap(),
        interface: interface.into(),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        addresses: addresses.iter().map(|a| ip(a)).collect(),
        path_mtu: None,
        superframes: true,
        label: String::new(),
        host_ports: Vec::new(),
        bandwidth: Bandwidth::default(),
    }
}

fn peer(name: &str, address: &str, cidrs: &[&str]) -> Peer {
    Peer {
        name: name.into(),
        address: ip(address),
        other_addresses: vec![],
        pod_cidrs: cidrs.iter().map(|c| c.parse().unwrap()).collect(),
        vtep_mac: MacAddr([2; 6]),
    }
}

fn service(name: &str, frontends: &[(&str, u16)], endpoints: usize) -> Service {
    let frontend = |(address, port): &(&str, u16)| {
        Frontend::cluster_ip(ip(address), (*port).try_into().unwrap(), Protocol::Tcp)
    };
    let endpoint =
        |n: usize| Endpoint::ready(Ipv4Addr::new(10, 0, 1, n as u8 + 2).into(), 80.try_into().unwrap());
    let (frontends, endpoints) = (frontends.iter().map(frontend), (0..endpoints).map(endpoint));
    Service::new(name, frontends.collect(), endpoints.collect())
}

fn base() -> Vec<Resource> {
    vec![
        Resource::Settings(settings("192.0.2.1", &["10.0.1.0/24"])),
        Resource::Port(port(1, "hr1", &["10.0.1.2"])),
        Resource::Peer(peer("b", "192.0.2.2", &["10.0.2.0/24"])),
        Resource::Service(service("d/s:p", &[("10.96.0.1", 80)], 2)),
    ]
}

fn upsert(resource: Resource) -> Change {
    Change::Delta { upserts: vec![resource], deletes: vec![] }
}

#[test]
fn conflicts_are_refused_with_both_names_and_leave_everything_as_it_was() {
    let conflicts = [
        (Resource::Port(port(2, "hr1", &["10.0.1.3"])), "port 2: interface: hr1 belongs to port 1"),
        (Resource::Port(port(2, "hr2", &["10.0.1.2"])), "port 2: addresses[0]: 10.0.1.2 belongs to port 1"),
        (Resource::Port(port(2, "hr2", &["10.0.9.2"])), "outside of this node's pod ranges (10.0.1.0/24)"),
        (Resource::Port(port(2, "hr2", &["10.0.1.0"])), "is the node's own address"),
        (Resource::Port(port(2, "hr2", &["10.0.1.1"])), "is the dataplane's address"),
        (Resource::Peer(peer("c", "192.0.2.2", &[])), "peer c: address: 192.0.2.2 belongs to peer b"),
        (Resource::Peer(peer("c", "192.0.2.1", &[])), "192.0.2.1 belongs to settings"),
        (Resource::Peer(peer("c", "192.0.2.3", &["10.0.2.128/25"])), "overlaps a pod range of peer b"),
        (Resource::Peer(peer("c", "192.0.2.3", &["10.0.0.0/16"])), "overlaps a pod range of"),
        (Resource::Peer(peer("c", "192.0.2.3", &["10.0.1.0/24"])), "overlaps a pod range of settings"),
        (
            Resource::Settings(settings("192.0.2.1", &["10.0.3.0/24"])),
            "port 1: addresses[0]: 10.0.1.2 is outside",
        ),
        (
            Resource::Service(service("d/t:p", &[("10.96.0.1", 80)], 0)),
            "service d/t:p: frontends[0]: 10.96.0.1:80/Tcp belongs to service d/s:p",
        ),
    ];
    let mut desired = Desired::default();
    desired.apply(Change::Snapshot(base())).unwrap();
    let before: Vec<_> = desired.resources().collect();
    for (resource, reason) in conflicts {
        let refusals = desired.apply(upsert(resource)).unwrap_err();
        let text = refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(text.contains(reason), "{text:?} lacks {reason:?}");
        assert!(desired.resources().eq(before.iter().cloned()));
    }
}

#[test]
fn all_conflicts_of_a_request_are_named_at_once() {
    let mut desired = Desired::default();
    let mut resources = base();
    resources.push(Resource::Port(port(2, "hr1", &["10.0.1.2", "10.0.9.9"])));
    resources.push(Resource::Service(service("d/t:p", &[("10.96.0.1", 80)], 0)));
    assert_eq!(desired.apply(Change::Snapshot(resources)).unwrap_err().len(), 4);
    let twice = vec![Resource::Port(port(1, "a", &[])), Resource::Port(port(1, "b", &[]))];
    let refusals = desired.apply(Change::Snapshot(twice)).unwrap_err();
    assert!(refusals[0].reason.contains("twice"), "{refusals:?}");
}

#[test]
fn the_same_again_is_no_change() {
    let mut desired = Desired::default();
    assert!(!desired.apply(Change::Snapshot(base())).unwrap().is_empty());
    assert!(desired.apply(Change::Snapshot(base())).unwrap().is_empty());
    for resource in base() {
        assert!(desired.apply(upsert(resource)).unwrap().is_empty());
    }
    let unknown = Change::Delta { upserts: vec![], deletes: vec![Key::Peer("nobody".into())] };
    assert!(desired.apply(unknown).unwrap().is_empty());
}

#[test]
fn things_pass_from_one_owner_to_another_in_one_change() {
    let mut desired = Desired::default();
    desired.apply(Change::Snapshot(base())).unwrap();
    let swap = Change::Delta {
        upserts: vec![
            Resource::Port(port(2, "hr1", &["10.0.1.2"])),
            Resource::Peer(peer("c", "192.0.2.2", &["10.0.2.0/24"])),
            Resource::Service(service("d/t:p", &[("10.96.0.1", 80)], 1)),
            Resource::Service(service("d/s:p", &[("10.96.0.2", 80)], 2)),
        ],
        deletes: vec![Key::Port(PortId::new(1).unwrap()), Key::Peer("b".into())],
    };
    let diff = desired.apply(swap).unwrap();
    assert_eq!(diff.ports.len(), 2);
    assert!(diff.peers && !diff.settings);
    assert_eq!(diff.services.len(), 2);
    assert_eq!(desired.service_counts(), (2, 3));
    let taken = desired.apply(upsert(Resource::Service(service("d/u:p", &[("10.96.0.1", 80)], 0))));
    assert!(taken.unwrap_err()[0].reason.contains("d/t:p"));
}

#[test]
fn without_settings_pod_addresses_are_not_judged() {
    let mut desired = Desired::default();
    desired.apply(upsert(Resource::Port(port(1, "hr1", &["10.0.9.2"])))).unwrap();
    let late = desired.apply(upsert(Resource::Settings(settings("192.0.2.1", &["10.0.1.0/24"]))));
    assert!(late.unwrap_err()[0].resource == "port 1");
}

/// The same rules, told as sentences about all resources there would be.
#[derive(Clone, Debug, Default, PartialEq)]
struct Oracle(BTreeMap<Owner, Resource>);

impl Oracle {
    fn after(&self, change: &Change) -> Option<Self> {
        let (mut next, upserts) = match change {
            Change::Snapshot(upserts) => (Self::default(), upserts),
            Change::Delta { upserts, deletes } => {
                let mut next = self.clone();
                next.0.retain(|owner, _| !deletes.iter().any(|key| Owner::from(key.clone()) == *owner));
                (next, upserts)
            }
        };
        for (n, resource) in upserts.iter().enumerate() {
            if upserts[..n].iter().any(|other| Owner::of(other) == Owner::of(resource)) {
                return None;
            }
            next.0.insert(Owner::of(resource), resource.clone());
        }
        next.is_sound().then_some(next)
    }

    fn is_sound(&self) -> bool {
        let all: Vec<_> = self.0.values().collect();
        let pairs = || all.iter().enumerate().flat_map(|(n, a)| all[..n].iter().map(move |b| (*a, *b)));
        let collide = pairs().any(|(a, b)| match (a, b) {
            (Resource::Port(a), Resource::Port(b)) => {
                a.interface == b.interface || a.addresses.iter().any(|x| b.addresses.contains(x))
            }
            (Resource::Service(a), Resource::Service(b)) => {
                a.frontends.iter().any(|f| b.frontends.contains(f))
            }
            (a, b) => nodes(a).iter().any(|x| nodes(b).contains(x)),
        });
        let ranges: Vec<_> = all.iter().flat_map(|r| cidrs(r)).collect();
        let overlap = ranges
            .iter()
            .enumerate()
            .any(|(n, a)| ranges[..n].iter().any(|b| a.contains(b.network()) || b.contains(a.network())));
        !collide && !overlap && self.pods_are_at_home()
    }

    fn pods_are_at_home(&self) -> bool {
        let Some(Resource::Settings(settings)) = self.0.get(&Owner::Settings) else { return true };
        let good = |address: &IpAddr| {
            settings.pod_cidrs.iter().any(|range| {
                let IpNetwork::V4(v4) = range else { return false };
                range.contains(*address) && v4.iter().take(2).all(|own| IpAddr::V4(own) != *address)
            })
        };
        self.0.values().all(|r| !matches!(r, Resource::Port(p) if !p.addresses.iter().all(good)))
    }
}

fn nodes(resource: &Resource) -> Vec<IpAddr> {
    match resource {
        Resource::Settings(s) => s.node_addresses.clone(),
        Resource::Peer(p) => p.other_addresses.iter().copied().chain([p.address]).collect(),
        _ => vec![],
    }
}

fn cidrs(resource: &Resource) -> Vec<IpNetwork> {
    match resource {
        Resource::Settings(s) => s.pod_cidrs.clone(),
        Resource::Peer(p) => p.pod_cidrs.clone(),
        _ => vec![],
    }
}

/// Resources out of few names and addresses, so that many collide.
fn any_resource() -> impl Strategy<Value = Resource> {
    let node = (1u8..5).prop_map(|n| format!("192.0.2.{n}"));
    let range = prop::sample::select(vec![
        "10.0.0.0/24",
        "10.0.1.0/24",
        "10.0.2.0/24",
        "10.0.2.0/23",
        "10.0.3.128/25",
    ]);
    let ranges = prop::collection::vec(range, 0..3);
    let address = (0u8..3, 0u8..5).prop_map(|(net, host)| format!("10.0.{net}.{host}"));
    let frontend = (1u8..5).prop_map(|n| format!("10.96.0.{n}"));
    prop_oneof![
        (node.clone(), ranges.clone()).prop_map(|(n, r)| Resource::Settings(settings(&n, &r))),
        (1u32..4, 1u8..4, prop::collection::vec(address, 1..3)).prop_map(|(id, dev, list)| {
            let list: Vec<_> = list.iter().map(String::as_str).collect();
            Resource::Port(port(id, &format!("hr{dev}"), &list))
        }),
        (1u8..4, node.clone(), node, ranges).prop_map(|(name, a, other, r)| {
            let mut peer = peer(&format!("p{name}"), &a, &r);
            peer.other_addresses.push(ip(&other));
            Resource::Peer(peer)
        }),
        (1u8..4, prop::collection::vec(frontend, 1..3), 0usize..3).prop_map(|(name, list, count)| {
            let list: Vec<_> = list.iter().map(|f| (f.as_str(), 80)).collect();
            Resource::Service(service(&format!("s{name}"), &list, count))
        }),
    ]
}

fn any_key() -> impl Strategy<Value = Key> {
    prop_oneof![
        (1u32..4).prop_map(|id| Key::Port(PortId::new(id).unwrap())),
        (1u8..4).prop_map(|n| Key::Peer(format!("p{n}"))),
        (1u8..4).prop_map(|n| Key::Service(format!("s{n}"))),
    ]
}

fn any_change() -> impl Strategy<Value = Change> {
    let resources = |most| prop::collection::vec(any_resource(), 0..most);
    let delta = (resources(4), prop::collection::vec(any_key(), 0..3))
        .prop_map(|(upserts, deletes)| Change::Delta { upserts, deletes });
    prop_oneof![1 => resources(7).prop_map(Change::Snapshot), 5 => delta]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_changes_end_as_the_oracle_says(changes in prop::collection::vec(any_change(), 1..25)) {
        let mut desired = Desired::default();
        let mut oracle = Oracle::default();
        for change in changes {
            let expected = oracle.after(&change);
            let outcome = desired.apply(change);
            prop_assert_eq!(outcome.is_ok(), expected.is_some(), "{:?}", outcome);
            if let (Ok(diff), Some(next)) = (outcome, expected) {
                prop_assert_eq!(diff.is_empty(), next == oracle);
                let changed: BTreeSet<_> = oracle.0.keys().chain(next.0.keys())
                    .filter(|owner| oracle.0.get(*owner) != next.0.get(*owner)).cloned().collect();
                prop_assert_eq!(owners(&diff), coarse(&changed));
                oracle = next;
            }
            let held: BTreeMap<_, _> = desired.resources().map(|r| (Owner::of(&r), r)).collect();
            prop_assert_eq!(&held, &oracle.0);
            let endpoints = held.values().map(|r| if let Resource::Service(s) = r { s.endpoints.len() } else { 0 });
            prop_assert_eq!(desired.service_counts().1, endpoints.sum::<usize>());
        }
    }
}

/// What a diff says has changed; peers are one.
fn owners(diff: &Diff) -> BTreeSet<Owner> {
    let services = diff.services.iter().filter_map(|change| change.old.as_ref().or(change.new.as_ref()));
    let mut owners: BTreeSet<_> = services.map(|s| Owner::Service(s.name.clone())).collect();
    owners.extend(diff.ports.iter().map(|id| Owner::Port(*id)));
    owners.extend(diff.settings.then_some(Owner::Settings));
    owners.extend(diff.peers.then(|| Owner::Peer(String::new())));
    owners
}

fn coarse(changed: &BTreeSet<Owner>) -> BTreeSet<Owner> {
    let one = |owner: &Owner| {
        if matches!(owner, Owner::Peer(_)) { Owner::Peer(String::new()) } else { owner.clone() }
    };
    changed.iter().map(one).collect()
}
