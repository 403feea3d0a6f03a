//! The server with real namespaces, links and routes, called through the real plugin.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use headrace_cni::protocol::{self, Reply, Request, Verb};
use serde_json::{Value, json};

use crate::node::testns::TestNetns;

mod crash;
mod harness;
mod options;

use harness::{Call, Node, Policy, Running};

/// A node with the server on it, and a pod; `None` where namespaces cannot be made.
fn node_and_pod() -> Option<(Node, Running, TestNetns)> {
    let node = Node::new("10.244.3.0/24")?;
    let running = node.start();
    Some((node, running, TestNetns::new()?))
}

fn code(outcome: &Result<Value, Value>) -> u64 {
    outcome.as_ref().unwrap_err()["code"].as_u64().unwrap()
}

fn said(outcome: &Result<Value, Value>) -> String {
    let error = outcome.as_ref().unwrap_err();
    format!("{} {}", error["msg"].as_str().unwrap(), error["details"].as_str().unwrap())
}

#[test]
fn add_makes_a_link_with_address_routes_and_offloads_and_del_leaves_nothing() {
    let Some((node, running, pod)) = node_and_pod() else { return };
    let result = node.add("c1", &pod).unwrap();
    let host = result["interfaces"][0]["name"].as_str().unwrap().to_owned();
    assert_eq!(
        result["ips"],
        json!([{"address": "10.244.3.2/32", "gateway": "169.254.1.1", "interface": 1}])
    );
    assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0", "gw": "169.254.1.1", "mtu": 1450}]));
    assert_eq!(result["interfaces"][1]["mac"], "0a:58:0a:f4:03:02");

    let address = pod.command("ip", "-o -4 addr show dev eth0");
    assert!(address.contains("inet 10.244.3.2/32"), "{address}");
    let routes = pod.command("ip", "route show");
    assert!(routes.contains("default via 169.254.1.1 dev eth0 proto 72 mtu 1450"), "{routes}");
    assert!(routes.contains("169.254.1.1 dev eth0 proto 72 scope link"), "{routes}");
    let neighbour = pod.command("ip", "neigh show");
    assert!(neighbour.contains("169.254.1.1 dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT"), "{neighbour}");
    let link = pod.command("ip", "-d -o link show dev eth0");
    for part in ["mtu 65535", ",UP", "0a:58:0a:f4:03:02", "numtxqueues 3", "numrxqueues 2"] {
        assert!(link.contains(part), "{part}: {link}");
    }
    let features = pod.run(|| headrace_xsk::offloads::get("eth0").unwrap());
    for (feature, on) in
        [("tx-udp-segmentation", false), ("tx-checksum-sctp", false), ("tx-tcp-segmentation", true)]
    {
        assert_eq!(features[feature], on, "{feature}");
    }
    let link = node.netns.command("ip", &format!("-d -o link show dev {host}"));
    for part in ["mtu 65535", ",UP", "ee:ee:ee:ee:ee:ee", "numtxqueues 2", "numrxqueues 2"] {
        assert!(link.contains(part), "{part}: {link}");
    }
    assert_eq!(node.netns.command("ip", &format!("-6 addr show dev {host}")), "");
    let ports = running.published();
    let port = ports.values().next().unwrap();
    assert_eq!(
        (port.interface.as_str(), port.mac.to_string()),
        (host.as_str(), "0a:58:0a:f4:03:02".to_owned())
    );
    assert_eq!((port.superframes, port.label.as_str()), (true, "c1"));

    node.check("c1", &pod, &result).unwrap();
    node.del("c1", &pod).unwrap();
    node.assert_clean(&running);
    node.del("c1", &pod).unwrap();
}

#[test]
fn a_pod_can_do_without_superframes() {
    let Some((node, running, pod)) = node_and_pod() else { return };
    let mut config = node.config();
    config["superframes"] = "on".into();
    let args = "HEADRACE_SUPERFRAMES=off;K8S_POD_NAMESPACE=default;K8S_POD_NAME=vpn";
    let call = Call { verb: "ADD", id: "c1", netns: pod.path(), args, config };
    let result = node.call(&call).unwrap();
    assert_eq!(result["interfaces"][1]["mtu"], 1450);
    let link = pod.command("ip", "-o link show dev eth0");
    assert!(link.contains("mtu 1450"), "{link}");
    let features = pod.run(|| headrace_xsk::offloads::get("eth0").unwrap());
    for feature in ["tx-tcp-segmentation", "tx-generic-segmentation", "rx-gro", "tx-checksum-ip-generic"] {
        assert!(!features[feature], "{feature}");
    }
    let port = running.published().values().next().unwrap().clone();
    assert_eq!((port.superframes, port.label.as_str()), (false, "default/vpn"));

    let wrong = Call { args: "HEADRACE_SUPERFRAMES=perhaps", ..call };
    assert_eq!(code(&node.call(&wrong)), 4);
}

#[test]
fn a_second_add_is_refused_and_the_first_one_stays() {
    let Some((node, running, pod)) = node_and_pod() else { return };
    let result = node.add("c1", &pod).unwrap();
    let other = TestNetns::new().unwrap();
    for pod in [&pod, &other] {
        let again = node.add("c1", pod);
        assert!(
            said(&again).contains("10.244.3.2 has been allocated to c1, duplicate allocation"),
            "{again:?}"
        );
    }
    node.check("c1", &pod, &result).unwrap();
    assert_eq!((running.published().len(), node.reserved().len()), (1, 1));

    // Also when the reservation was lost.
    fs::remove_file(node.state("ipam/headrace/10.244.3.2")).unwrap();
    assert!(said(&node.add("c1", &pod)).contains("duplicate allocation"));
    assert_eq!(running.published().len(), 1);
    fs::write(node.state("ipam/headrace/10.244.3.2"), "c1\r\neth0").unwrap();

    let taken = node.add("c2", &pod);
    assert!(said(&taken).contains("eth0 is in the pod already"), "{taken:?}");
    node.check("c1", &pod, &result).unwrap();
    assert_eq!((running.published().len(), node.reserved().len()), (1, 1));
}

/// Something that makes ADD fail at one step, what it does, and a word of the error.
type Sabotage = (&'static str, fn(&Node, &TestNetns), &'static str);

#[test]
fn an_add_that_fails_at_any_step_leaves_nothing() {
    let table: [Sabotage; 6] = [
        (
            "numbering the port",
            |node, _| fs::create_dir(node.state("attachments/next-port.new")).unwrap(),
            "next-port",
        ),
        (
            "making the link",
            |_, pod| drop(pod.command("ip", "link add eth0 type veth peer name x")),
            "eth0 is in the pod",
        ),
        (
            "setting the pod up",
            |_, pod| {
                pod.command("ip", "link add net1 type veth peer name x");
                pod.command("ip", "link set net1 up");
                pod.command("ip", "route add default dev net1");
            },
            "adding the route to 0.0.0.0/0",
        ),
        (
            "writing it down",
            |node, _| {
                let owner = super::owner::Owner { container_id: "c1".to_owned(), ifname: "eth0".to_owned() };
                fs::create_dir(node.state(&format!("attachments/{}.json.new", owner.host_link()))).unwrap();
            },
            "attachments",
        ),
        ("opening the port", |node, _| node.answer_with(Policy::NotReady), "no queue 0"),
        ("an answer", |node, _| node.answer_with(Policy::Silent), "has not answered"),
    ];
    for (step, sabotage, word) in table {
        let Some((node, running, pod)) = node_and_pod() else { return };
        sabotage(&node, &pod);
        let links = pod.command("ip", "-o link show");
        let outcome = node.add("c1", &pod);
        assert!(said(&outcome).contains(word), "{step}: {outcome:?}");
        node.assert_clean(&running);
        assert_eq!(pod.command("ip", "-o link show"), links, "{step}");
        node.del("c1", &pod).unwrap();
    }
}

#[test]
fn a_full_pool_is_an_error_of_its_own_until_a_pod_goes() {
    let Some(node) = Node::new("10.244.3.0/30") else { return };
    let running = node.start();
    let (first, second) = (TestNetns::new().unwrap(), TestNetns::new().unwrap());
    node.simple("STATUS", "", "").unwrap();
    node.add("c1", &first).unwrap();
    assert_eq!(code(&node.add("c2", &second)), 102);
    assert_eq!(code(&node.simple("STATUS", "", "")), 50);
    node.del("c2", &second).unwrap();
    assert_eq!(running.published().len(), 1);
    node.del("c1", &first).unwrap();
    node.add("c2", &second).unwrap();
}

#[test]
fn without_a_dataplane_nothing_is_begun() {
    let Some(mut node) = Node::new("10.244.3.0/24") else { return };
    node.options.queues = None;
    let running = node.start();
    let pod = TestNetns::new().unwrap();
    assert_eq!(code(&node.simple("STATUS", "", "")), 51);
    let outcome = node.add("c1", &pod);
    assert_eq!(code(&outcome), 11);
    assert!(said(&outcome).contains("dataplane.sock"), "{outcome:?}");
    node.assert_clean(&running);
    assert_eq!(pod.command("ip", "-o link show").lines().count(), 1);
}

#[test]
fn del_succeeds_whatever_is_left() {
    let Some((node, running, pod)) = node_and_pod() else { return };
    node.simple("DEL", "never-seen", "").unwrap();

    node.add("netns-gone", &pod).unwrap();
    drop(pod);
    node.simple("DEL", "netns-gone", "/no/such/namespace").unwrap();
    node.assert_clean(&running);

    let pod = TestNetns::new().unwrap();
    node.add("link-gone", &pod).unwrap();
    pod.command("ip", "link del eth0");
    node.del("link-gone", &pod).unwrap();
    node.assert_clean(&running);

    node.add("list-renamed", &pod).unwrap();
    let mut config = node.config();
    config["name"] = "renamed".into();
    let del = Call { verb: "DEL", id: "list-renamed", netns: pod.path(), args: "", config };
    node.call(&del).unwrap();
    node.assert_clean(&running);

    node.add("record-gone", &pod).unwrap();
    fs::remove_dir_all(node.state("attachments")).unwrap();
    node.del("record-gone", &pod).unwrap();
    fs::create_dir_all(node.state("attachments")).unwrap();
    node.assert_clean(&running);
}

#[test]
fn pods_stay_attached_over_a_restart() {
    let Some((node, running, pod)) = node_and_pod() else { return };
    let result = node.add("c1", &pod).unwrap();
    let before = running.published();
    drop(running);
    assert_eq!(code(&node.add("c2", &pod)), 11);

    let running = node.start();
    assert_eq!(running.published(), before);
    node.check("c1", &pod, &result).unwrap();
    let other = TestNetns::new().unwrap();
    node.add("c2", &other).unwrap();
    assert_eq!(running.published().keys().map(|id| id.get()).collect::<Vec<_>>(), [1, 2]);
    node.del("c1", &pod).unwrap();
    node.del("c2", &other).unwrap();
    node.assert_clean(&running);
}

#[test]
fn an_add_that_a_crash_cut_short_does_not_stand_in_the_way() {
    let Some((node, running, pod)) = node_and_pod() else { return };
    node.add("c1", &pod).unwrap();
    drop(running);
    // What a kill between making the link and writing it down leaves, the reservation lost as well.
    fs::remove_dir_all(node.state("attachments")).unwrap();
    fs::remove_dir_all(node.state("ipam")).unwrap();
    let running = node.start();
    let result = node.add("c1", &pod).unwrap();
    node.check("c1", &pod, &result).unwrap();
    node.del("c1", &pod).unwrap();
    node.assert_clean(&running);
}

#[test]
fn many_pods_at_once() {
    let Some(node) = Node::new("10.244.3.0/24") else { return };
    let running = node.start();
    let pods: Vec<_> = (0..12).map(|n| (format!("c{n}"), TestNetns::new().unwrap())).collect();
    let each = |work: &(dyn Fn(&str, &TestNetns) + Sync)| {
        std::thread::scope(|scope| {
            for (id, pod) in &pods {
                scope.spawn(move || work(id, pod));
            }
        });
    };
    each(&|id, pod| drop(node.add(id, pod).unwrap()));
    assert_eq!((running.published().len(), node.reserved().len()), (12, 12));
    // Both verbs for one pod at the same time: whichever comes last, nothing is half there.
    each(&|id, pod| {
        std::thread::scope(|scope| {
            scope.spawn(|| node.del(id, pod).unwrap());
            scope.spawn(|| node.add(id, pod));
        });
    });
    assert_eq!(running.published().len(), node.reserved().len());
    each(&|id, pod| drop(node.del(id, pod).unwrap()));
    node.assert_clean(&running);
}

#[test]
fn check_names_what_is_damaged() {
    type Damage = (fn(&Node, &TestNetns), &'static str);
    let table: [Damage; 7] = [
        (|_, pod| drop(pod.command("ip", "route del default")), "the route to 0.0.0.0/0"),
        (|_, pod| drop(pod.command("ip", "addr flush dev eth0")), "lost address 10.244.3.2"),
        (|_, pod| drop(pod.command("ip", "neigh del 169.254.1.1 dev eth0")), "neighbour entry"),
        (|_, pod| drop(pod.command("ip", "link set eth0 down")), "eth0 is down"),
        (|_, pod| drop(pod.command("ip", "link set eth0 address 02:00:00:00:00:01")), "MAC address"),
        (|_, pod| drop(pod.command("ip", "link del eth0")), "gone from the pod"),
        (|node, _| fs::remove_file(node.state("ipam/headrace/10.244.3.2")).unwrap(), "not reserved"),
    ];
    for (damage, word) in table {
        let Some((node, _running, pod)) = node_and_pod() else { return };
        let result = node.add("c1", &pod).unwrap();
        damage(&node, &pod);
        let outcome = node.check("c1", &pod, &result);
        assert!(said(&outcome).contains(word), "{word}: {outcome:?}");
        assert_eq!(code(&outcome), 100);
    }
    let Some((node, _running, pod)) = node_and_pod() else { return };
    let result = node.add("c1", &pod).unwrap();
    assert!(said(&node.check("c2", &pod, &result)).contains("not attached"));
    let foreign = json!({"cniVersion": "1.1.0", "ips": [{"address": "10.244.3.9/32"}]});
    assert!(said(&node.check("c1", &pod, &foreign)).contains("prevResult"));
}

#[test]
fn collection_detaches_what_is_not_listed() {
    let Some((node, running, pod)) = node_and_pod() else { return };
    let other = TestNetns::new().unwrap();
    let result = node.add("keep", &pod).unwrap();
    node.add("drop", &other).unwrap();
    assert_eq!(code(&node.simple("GC", "", "")), 7);
    let mut config = node.config();
    config["cni.dev/valid-attachments"] = json!([{"containerID": "keep", "ifname": "eth0"}]);
    for orphan in ["hr0123456789ab", "hrmine"] {
        node.netns.command("ip", &format!("link add {orphan} type veth peer name p{orphan}"));
    }
    node.call(&Call { verb: "GC", id: "", netns: String::new(), args: "", config }).unwrap();
    node.check("keep", &pod, &result).unwrap();
    assert_eq!((running.published().len(), node.reserved()), (1, vec!["10.244.3.2".to_owned()]));
    assert_eq!(other.command("ip", "-o link show").lines().count(), 1);
    let links = node.netns.command("ip", "-o link show");
    assert!(!links.contains("hr0123456789ab") && links.contains("hrmine"), "{links}");
}

#[test]
fn what_is_no_pods_network_namespace_is_refused() {
    let Some((node, running, _pod)) = node_and_pod() else { return };
    let request = |netns: Option<&std::path::Path>| {
        let stream = UnixStream::connect(node.state("cni.sock")).unwrap();
        let request = Request {
            verb: Verb::Add,
            container_id: "c1".to_owned(),
            ifname: "eth0".to_owned(),
            netns: None,
            args: Default::default(),
            ipam: None,
            config: node.config(),
        };
        let file = netns.map(|path| fs::File::open(path).unwrap());
        protocol::send_request(&stream, &request, file.as_ref().map(std::os::fd::AsFd::as_fd)).unwrap();
        match protocol::receive_reply(&stream).unwrap() {
            Reply::Ok(_) => panic!("accepted"),
            Reply::Error(e) => (e.code.get(), e.msg),
        }
    };
    let own = node.netns.path();
    for (path, word) in [
        (None, "without a network namespace"),
        (Some("/etc/passwd"), "not a namespace"),
        (Some(own.as_str()), "the node's own"),
        (Some("/proc/self/ns/mnt"), "want a network namespace"),
    ] {
        let (code, msg) = request(path.map(std::path::Path::new));
        assert_eq!(code, 8, "{path:?}: {msg}");
        assert!(msg.contains(word), "{path:?}: {msg}");
    }
    node.assert_clean(&running);
}

#[test]
fn hostile_bytes_are_answered_or_dropped_and_the_server_goes_on() {
    let Some((node, running, pod)) = node_and_pod() else { return };
    let socket = node.state("cni.sock");
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&socket).unwrap().permissions()) & 0o777,
        0o600
    );
    let said = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The server may have hung up already.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        match protocol::receive_reply(&stream) {
            Ok(Reply::Error(e)) => Some((e.code.get(), e.msg)),
            Ok(Reply::Ok(_)) => panic!("accepted"),
            Err(_) => None,
        }
    };
    let framed = |body: &str| [&u32::try_from(body.len()).unwrap().to_be_bytes(), body.as_bytes()].concat();
    assert_eq!(said(b""), None);
    assert_eq!(said(b"\0\0"), None);
    assert_eq!(said(&[0, 0, 1, 0, b'{']), None);
    let (code, msg) = said(&[0xff; 4]).unwrap();
    assert_eq!(code, 6);
    assert!(msg.contains("4294967295 bytes"), "{msg}");
    assert_eq!(said(&framed("{}")).unwrap().0, 6);
    assert_eq!(said(&framed(&"[".repeat(100_000))).unwrap().0, 6);
    let names = r#"{"verb":"DEL","container_id":"../../x","ifname":"a/b","config":{"cniVersion":"1.0.0","name":"n"}}"#;
    assert_eq!(said(&framed(names)).unwrap().0, 4);
    let network =
        r#"{"verb":"DEL","container_id":"x","ifname":"a","config":{"cniVersion":"1.0.0","name":"../n"}}"#;
    assert_eq!(said(&framed(network)).unwrap().0, 7);
    node.add("c1", &pod).unwrap();
    node.del("c1", &pod).unwrap();
    node.assert_clean(&running);
}
