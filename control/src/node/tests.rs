//! The host link in a namespace of its own, with real links and routes.

use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use headrace_api::state::Encapsulation;
use tokio::sync::watch;

use super::testns::TestNetns;
use super::*;

fn facts(cluster: &str) -> NodeFacts {
    NodeFacts {
        name: "node-a".to_owned(),
        node_addresses: vec!["192.0.2.1".parse().unwrap()],
        pod_cidrs: vec!["10.244.3.0/24".parse().unwrap()],
        cluster_cidrs: vec![cluster.parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        encapsulation: Encapsulation::Vxlan,
        masquerade: true,
        non_masquerade_cidrs: Vec::new(),
    }
}

/// A node with an uplink of MTU 1500 and the address of [`facts`].
fn node() -> Option<TestNetns> {
    let netns = TestNetns::new()?;
    netns.command("ip", "link add uplink type veth peer name wire");
    netns.command("ip", "addr add 192.0.2.1/24 dev uplink");
    netns.command("ip", "link set uplink up");
    netns.command("ip", "link set wire up");
    Some(netns)
}

fn add_host_link(netns: &TestNetns) {
    netns.command("ip", "link add headrace0 type veth peer name headrace1");
    netns.command("ip", "link set headrace1 up");
}

/// Runs [`keep`] inside while `scenario` goes on outside.
fn kept(netns: &TestNetns, first: NodeFacts, scenario: impl FnOnce(&watch::Sender<Option<Arc<NodeFacts>>>)) {
    let (sender, receiver) = watch::channel(Some(Arc::new(first)));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let directories = Directories { run: "/nonexistent".into(), state: "/nonexistent".into() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            netns.block_on(|| async {
                tokio::select! {
                    end = keep(directories, receiver) => panic!("ended: {end:?}"),
                    _ = stopped => {}
                }
            });
        });
        scenario(&sender);
        drop(stop);
    });
}

/// Waits until a command prints what is expected; the deadline is only there to end a failing test.
fn eventually(netns: &TestNetns, arguments: &str, expected: impl Fn(&str) -> bool) -> String {
    let mut seen = String::new();
    for _ in 0..1000 {
        seen = netns.command("ip", arguments);
        if expected(&seen) {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("ip {arguments}: {seen}")
}

const CLUSTER: &str = "10.244.0.0/16 via 169.254.1.1 proto 72 src 10.244.3.0 onlink mtu 1450";
const SERVICES: &str = "10.96.0.0/16 via 169.254.1.1 proto 72 src 10.244.3.0 onlink mtu 1450";
const GATEWAY_ROUTE: &str = "169.254.1.1 proto 72 scope link src 10.244.3.0";

fn complete(routes: &str) -> bool {
    [CLUSTER, SERVICES, GATEWAY_ROUTE].iter().all(|line| routes.lines().any(|l| l.trim() == *line))
}

#[test]
fn the_host_link_gets_its_address_routes_neighbour_and_sysctls() {
    let Some(netns) = node() else { return };
    add_host_link(&netns);
    kept(&netns, facts("10.244.0.0/16"), |_| {
        eventually(&netns, "route show dev headrace0", complete);
        let address = netns.command("ip", "-o -4 addr show dev headrace0");
        assert!(address.contains("inet 10.244.3.0/32"), "{address}");
        let link = netns.command("ip", "-o link show dev headrace0");
        assert!(link.contains("mtu 65535") && link.contains(",UP"), "{link}");
        let neighbour = netns.command("ip", "neigh show dev headrace0");
        assert!(neighbour.contains("169.254.1.1 lladdr ee:ee:ee:ee:ee:ee PERMANENT"), "{neighbour}");
        assert_eq!(netns.command("cat", "/proc/sys/net/ipv4/conf/headrace0/rp_filter"), "2\n");
        assert_eq!(netns.command("cat", "/proc/sys/net/ipv6/conf/headrace0/disable_ipv6"), "1\n");
        let features = netns.run(|| headrace_xsk::offloads::get(HOST_LINK).unwrap());
        assert_eq!((features["tx-udp-segmentation"], features["tx-tcp-segmentation"]), (false, true));
    });
}

#[test]
fn what_others_take_away_comes_back() {
    let Some(netns) = node() else { return };
    kept(&netns, facts("10.244.0.0/16"), |_| {
        add_host_link(&netns);
        let whole = |netns: &TestNetns| {
            eventually(netns, "route show dev headrace0", complete);
            eventually(netns, "neigh show dev headrace0", |n| n.contains("PERMANENT"));
        };
        whole(&netns);
        let damage = [
            "route del 10.96.0.0/16",
            "addr flush dev headrace0",
            "neigh del 169.254.1.1 dev headrace0",
            "link set headrace0 down",
            "link del headrace0",
        ];
        for arguments in damage {
            netns.command("ip", arguments);
            if arguments == "link del headrace0" {
                add_host_link(&netns);
            }
            whole(&netns);
        }
    });
}

#[test]
fn changed_settings_take_stale_routes_and_addresses_along() {
    let Some(netns) = node() else { return };
    add_host_link(&netns);
    kept(&netns, facts("10.244.0.0/16"), |sender| {
        eventually(&netns, "route show dev headrace0", complete);
        let mut changed = facts("10.200.0.0/14");
        changed.pod_cidrs = vec!["10.201.7.0/24".parse().unwrap()];
        sender.send_replace(Some(Arc::new(changed)));
        let moved =
            |r: &str| r.contains("10.200.0.0/14") && !r.contains("10.244.") && r.contains("src 10.201.7.0");
        eventually(&netns, "route show dev headrace0", moved);
        let only = |a: &str| a.contains("10.201.7.0/32") && !a.contains("10.244.3.0");
        eventually(&netns, "-o -4 addr show dev headrace0", only);

        netns.command("ip", "link set uplink mtu 1400");
        eventually(&netns, "route show dev headrace0", |r| r.matches("mtu 1350").count() == 2);
    });
}

#[test]
fn routes_of_others_are_named_and_left_alone() {
    let Some(netns) = node() else { return };
    add_host_link(&netns);
    netns.command("ip", "link add flannel.1 type veth peer name other");
    netns.command("ip", "link set flannel.1 up");
    netns.command("ip", "route add 10.244.0.0/16 dev flannel.1");
    netns.command("ip", "route add 10.96.9.0/24 dev flannel.1");
    let outcome = inside(&netns, |rtnl| async move {
        let plan = plan::plan(&facts("10.244.0.0/16"), 1450).unwrap();
        apply::apply(&rtnl, Some(&plan)).await
    });
    let Outcome::Kept { notes: conflicts } = outcome else { panic!("{outcome:?}") };
    assert_eq!(conflicts.len(), 2, "{conflicts:?}");
    assert!(conflicts.iter().all(|c| c.contains("flannel.1")), "{conflicts:?}");
    assert!(conflicts.iter().any(|c| c.contains("is in the way")), "{conflicts:?}");
    let routes = netns.command("ip", "route show");
    assert!(routes.contains("10.244.0.0/16 dev flannel.1"), "{routes}");
    assert!(routes.contains("10.96.0.0/16 via 169.254.1.1 dev headrace0"), "{routes}");
}

#[test]
fn the_path_mtu_is_the_uplinks_less_the_tunnel() {
    let Some(netns) = node() else { return };
    let ask = |facts: NodeFacts| {
        inside(&netns, |rtnl| async move { path_mtu(&rtnl, &facts).await.map_err(|e| e.to_string()) })
    };
    assert_eq!(ask(facts("10.244.0.0/16")), Ok(1450));
    let elsewhere =
        NodeFacts { node_addresses: vec!["192.0.2.9".parse().unwrap()], ..facts("10.244.0.0/16") };
    assert!(ask(elsewhere).unwrap_err().contains("192.0.2.9"));
    netns.command("ip", "link set uplink mtu 600");
    assert!(ask(facts("10.244.0.0/16")).unwrap_err().contains("MTU 600"));
}

#[test]
fn ranges_are_planned_once_and_the_own_range_is_always_among_them() {
    let mut facts = facts("10.244.0.0/16");
    facts.pod_cidrs = vec!["fd00::/64".parse().unwrap(), "10.9.0.0/24".parse().unwrap()];
    facts.cluster_cidrs.push("10.244.0.0/16".parse().unwrap());
    let plan = plan::plan(&facts, 1450).unwrap();
    assert_eq!(plan.address, Ipv4Addr::new(10, 9, 0, 0));
    let ranges: Vec<_> = plan.ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.9.0.0/24", "10.96.0.0/16", "10.244.0.0/16"]);
}

fn inside<F: Future<Output = T>, T: Send>(netns: &TestNetns, job: impl FnOnce(Rtnl) -> F + Send) -> T {
    netns.block_on(|| async { job(Rtnl::connect().unwrap()).await })
}
