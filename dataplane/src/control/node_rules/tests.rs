//! The rules in a real kernel, beside those of others.

use std::net::Ipv4Addr;
use std::process::Command;

use headrace_xsk::program::Place;
use rtnetlink::new_connection;

use super::super::namespace::Namespace;
use super::*;

const TCP: u8 = 6;
const UDP: u8 = 17;

fn frontend(place: Place, port: u16, protocol: u8) -> Frontend {
    Frontend { place, port, protocol }
}

fn wanted(link: u32) -> Wanted {
    let balancer = Place::Address(Ipv4Addr::new(203, 0, 113, 5));
    Wanted {
        host_link: Some(("headrace0".to_owned(), link)),
        node_port_addresses: ["172.30.0.1/32".parse().unwrap()].into(),
        frontends: [frontend(Place::NodePort, 30080, TCP), frontend(balancer, 443, TCP)].into(),
        serves_unmasqueraded: false,
    }
}

/// The node's rules as nft lists them, one blank between words.
fn listed(node: &Namespace) -> String {
    let output = Command::new("ip").args(["netns", "exec", node.name(), "nft", "list", "ruleset"]).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A node with a host link and a table of somebody else's; gives the link's index.
fn node() -> Option<(Namespace, u32)> {
    let node = Namespace::new()?;
    node.ip("link add headrace0 type veth peer name headrace1");
    node.ip("link set headrace0 up");
    node.exec("nft add table ip others");
    let index = node.exec("cat /sys/class/net/headrace0/ifindex").trim().parse().unwrap();
    Some((node, index))
}

#[test]
fn rules_are_put_in_force_changed_by_difference_and_removed_beside_those_of_others() {
    let Some((node, link)) = node() else { return };
    node.block_on(|| async {
        let (connection, handle, _) = new_connection().unwrap();
        tokio::spawn(connection);
        let first = wanted(link);
        apply(&handle, None, &first).await.unwrap();
        let rules = listed(&node);
        for part in [
            "table ip others",
            "table netdev headrace",
            "fwd ip to 169.254.1.1 device \"headrace0\"",
            "elements = { tcp . 30080 }",
            "elements = { 203.0.113.5 . tcp . 443 }",
        ] {
            assert!(rules.contains(part), "no {part:?} in {rules}");
        }
        assert!(!rules.contains("ct "), "no tracking without need: {rules}");
        let way = node.exec("ip route show table 7272") + &node.exec("ip rule");
        assert!(way.contains("default via 169.254.1.1 dev headrace0 proto 72 onlink"), "{way}");
        assert!(way.contains("72:\tfrom all fwmark 0x1000/0x1000 lookup 7272"), "{way}");

        // As a new process, which does not know what an earlier one has done.
        apply(&handle, None, &first).await.unwrap();
        assert_eq!(listed(&node), rules);
        assert_eq!(node.exec("ip rule").matches("7272").count(), 1);

        let mut second = first.clone();
        second.frontends.remove(&frontend(Place::NodePort, 30080, TCP));
        second.frontends.insert(frontend(Place::EveryOwn, 8053, UDP));
        second.node_port_addresses.insert("10.7.0.0/16".parse().unwrap());
        apply(&handle, Some(&first), &second).await.unwrap();
        let by_difference = listed(&node);
        assert!(by_difference.contains("10.7.0.0/16") && !by_difference.contains("30080"), "{by_difference}");
        apply(&handle, None, &second).await.unwrap();
        assert_eq!(listed(&node), by_difference);

        let mut tracked = Wanted { serves_unmasqueraded: true, ..second.clone() };
        apply(&handle, Some(&second), &tracked).await.unwrap();
        assert!(listed(&node).contains("ip daddr 127.0.0.0/8 accept"), "{}", listed(&node));
        assert_eq!(node.exec("cat /proc/sys/net/ipv4/conf/headrace0/route_localnet"), "0\n");
        tracked.node_port_addresses.insert("127.0.0.0/8".parse().unwrap());
        apply(&handle, Some(&second), &tracked).await.unwrap();
        assert!(!listed(&node).contains("127.0.0.0/8 accept"), "{}", listed(&node));
        assert_eq!(node.exec("cat /proc/sys/net/ipv4/conf/headrace0/route_localnet"), "1\n");
        assert!(listed(&node).contains("ct direction reply"), "{}", listed(&node));

        for _ in 0..2 {
            remove(&handle).await.unwrap();
            assert_eq!(listed(&node), "table ip others { }");
            assert!(!node.exec("ip rule").contains("7272"));
        }
        assert!(!node.exec("ip route show table all").contains("7272"));
    });
}

#[test]
fn the_task_follows_what_is_wanted_and_says_what_does_not_work() {
    let Some((node, link)) = node() else { return };
    node.block_on(|| async {
        let (connection, handle, _) = new_connection().unwrap();
        tokio::spawn(connection);
        let rules = NodeRules::start(handle);
        let set = |next: Wanted| {
            rules.set(|wanted| {
                let differs = *wanted != next;
                *wanted = next;
                differs
            });
        };
        set(wanted(link));
        eventually(|| listed(&node).contains("30080")).await;
        // A link that is not there.
        set(Wanted { host_link: Some(("headrace9".to_owned(), 999)), ..wanted(link) });
        eventually(|| !rules.problems().is_empty()).await;
        assert!(listed(&node).contains("30080"), "the last good rules stay");
        set(wanted(link));
        eventually(|| rules.problems().is_empty()).await;
    });
}

/// Waits until something holds; the limit is only there to end a failing test.
async fn eventually(holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came");
}
