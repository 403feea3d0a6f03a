//! The view and the neighbours of a real kernel, in namespaces of their own.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::namespace::Namespace;
use super::*;
use crate::tables::build::KernelFacts;

/// Long enough for a slow machine; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(20);

fn a(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn facts(kernel: &Kernel) -> KernelFacts {
    let uplink = kernel.view().find_uplink(&[a("10.0.0.2")]);
    kernel.view().facts(uplink, None, BTreeSet::new())
}

/// Follows the kernel until something holds.
async fn until(kernel: &mut Kernel, what: &str, holds: impl Fn(&Kernel) -> bool) {
    let wait = async {
        while !holds(kernel) {
            kernel.changed().await.unwrap();
            kernel.refresh().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

#[test]
fn the_view_follows_links_addresses_and_routes() {
    let Some(node) = Namespace::new() else { return };
    node.block_on(|| async {
        let mut kernel = Kernel::open().await.unwrap();
        assert!(kernel.view().link("lo").is_some_and(|lo| lo.up));
        assert!(kernel.view().find_uplink(&[]).is_none());
        node.ip("link add up0 type veth peer name up1");
        node.ip("link set up0 mtu 1400 up");
        node.ip("link set up1 up");
        node.ip("addr add 10.0.0.2/24 dev up0");
        node.ip("route add default via 10.0.0.1 metric 7");
        node.ip("route add 10.5.0.0/16 via 10.0.0.5");
        until(&mut kernel, "everything is seen", |kernel| {
            let facts = facts(kernel);
            facts.uplink_mtu == 1400
                && facts.local == [a("10.0.0.2")].into()
                && facts.next_hop(a("8.8.8.8")) == Some(a("10.0.0.1"))
                && facts.next_hop(a("10.5.1.1")) == Some(a("10.0.0.5"))
                && facts.on_link(a("10.0.0.77"))
        })
        .await;
        let up0 = kernel.view().link("up0").unwrap();
        assert_eq!(up0.kind.as_deref(), Some("veth"));
        assert_eq!(up0.peer, kernel.view().link("up1").map(|l| l.index));
        let (index, mac) = (up0.index, up0.mac);
        assert_eq!(facts(&kernel).uplink_mac, mac);
        node.ip("link del up0");
        until(&mut kernel, "the device is gone", |kernel| facts(kernel) == KernelFacts::default()).await;
        node.ip("link add up0 type veth peer name up1");
        until(&mut kernel, "another device", |kernel| {
            kernel.view().link("up0").is_some_and(|link| link.index != index)
        })
        .await;
    });
}

/// A node with a neighbour on its subnet.
fn with_neighbor() -> Option<(Namespace, Namespace)> {
    let (node, other) = (Namespace::new()?, Namespace::new()?);
    node.ip(&format!("link add up0 type veth peer name eth0 netns {}", other.name()));
    for (namespace, device, address) in [(&node, "up0", "10.0.0.2/24"), (&other, "eth0", "10.0.0.3/24")] {
        namespace.ip(&format!("addr add {address} dev {device}"));
        namespace.ip(&format!("link set {device} up"));
    }
    Some((node, other))
}

#[test]
fn wanted_neighbours_become_known_and_unwanted_ones_go() {
    let Some((node, _other)) = with_neighbor() else { return };
    for mut resolver in [Resolver::new(), Resolver::asking()] {
        node.block_on(|| async move {
            let mut kernel = Kernel::open().await.unwrap();
            let link = kernel.view().link("up0").map(|link| link.index);
            let wanted = BTreeSet::from([a("10.0.0.3"), a("10.0.0.99")]);
            let faults = resolver.resolve(kernel.handle(), kernel.view(), link, &wanted).await;
            assert_eq!(faults, Vec::<String>::new());
            until(&mut kernel, "the neighbour answers", |kernel| {
                facts(kernel).neighbors.contains_key(&a("10.0.0.3"))
            })
            .await;
            let entry = kernel.view().neighbor(link.unwrap(), a("10.0.0.3")).unwrap();
            assert!(entry.ours, "{entry:?}");
            assert_eq!(facts(&kernel).neighbors.len(), 1, "nobody is at 10.0.0.99");

            resolver.resolve(kernel.handle(), kernel.view(), None, &BTreeSet::new()).await;
            until(&mut kernel, "our entries are gone", |kernel| {
                kernel.view().all_neighbors().all(|neighbor| !neighbor.ours)
            })
            .await;
        });
    }
}

#[test]
fn an_administrators_neighbour_is_left_alone() {
    let Some((node, _other)) = with_neighbor() else { return };
    node.ip("neigh add 10.0.0.3 lladdr 02:00:00:00:00:77 dev up0 nud permanent");
    node.block_on(|| async {
        let mut kernel = Kernel::open().await.unwrap();
        let link = kernel.view().link("up0").map(|link| link.index);
        let wanted = BTreeSet::from([a("10.0.0.3")]);
        Resolver::new().resolve(kernel.handle(), kernel.view(), link, &wanted).await;
        kernel.refresh().await.unwrap();
        let entry = kernel.view().neighbor(link.unwrap(), a("10.0.0.3")).unwrap();
        assert_eq!((entry.state, entry.ours), (NeighborState::Permanent, false));
    });
}
