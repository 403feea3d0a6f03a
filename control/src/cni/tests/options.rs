//! What is asked for one pod: addresses, a MAC address, host ports, bandwidth, DNS, addresses of an IPAM plugin.

use serde_json::{Value, json};

use super::harness::{Call, Node};
use super::{TestNetns, code, node_and_pod, said};

/// ADD with more in the configuration.
fn add_with(node: &Node, id: &str, pod: &TestNetns, extra: &Value) -> Result<Value, Value> {
    call_with("ADD", node, id, pod, extra)
}

fn call_with(verb: &str, node: &Node, id: &str, pod: &TestNetns, extra: &Value) -> Result<Value, Value> {
    let mut config = node.config();
    for (key, value) in extra.as_object().unwrap() {
        config[key] = value.clone();
    }
    node.call(&Call { verb, id, netns: pod.path(), args: "", config })
}

#[test]
fn a_pod_gets_the_address_and_the_mac_that_are_asked_for() {
    let Some((node, running, pod)) = node_and_pod() else { return };
    let asked = json!({"runtimeConfig": {"ips": ["10.244.3.77/24"], "mac": "02:00:00:00:00:77"}});
    let result = add_with(&node, "c1", &pod, &asked).unwrap();
    assert_eq!(result["ips"][0]["address"], "10.244.3.77/32");
    assert_eq!(result["interfaces"][1]["mac"], "02:00:00:00:00:77");
    let port = running.published().values().next().unwrap().clone();
    assert_eq!(port.mac.to_string(), "02:00:00:00:00:77");
    node.check("c1", &pod, &result).unwrap();

    let other = TestNetns::new().unwrap();
    let taken = add_with(&node, "c2", &other, &asked);
    assert!(said(&taken).contains("10.244.3.77 is not available: it has been allocated to c1"), "{taken:?}");
    node.del("c1", &pod).unwrap();
    add_with(&node, "c2", &other, &asked).unwrap();
}

#[test]
fn ranges_narrow_the_nodes_own() {
    let Some((node, _running, pod)) = node_and_pod() else { return };
    let ranges = |subnet: &str, first: &str, last: &str| json!({"runtimeConfig": {"ipRanges": [[{"subnet": subnet, "rangeStart": first, "rangeEnd": last, "gateway": first}]]}});
    let result = add_with(&node, "c1", &pod, &ranges("10.244.3.0/24", "10.244.3.40", "10.244.3.41")).unwrap();
    assert_eq!(result["ips"][0]["address"], "10.244.3.41/32");
    let other = TestNetns::new().unwrap();
    let full = add_with(&node, "c2", &other, &ranges("10.244.3.0/24", "10.244.3.40", "10.244.3.41"));
    assert_eq!(code(&full), 102);
    for (subnet, first, last, words) in [
        ("10.9.0.0/24", "10.9.0.2", "10.9.0.9", "this node's pods have 10.244.3.2-10.244.3.254"),
        ("10.244.3.0/24", "10.9.0.2", "10.244.3.9", "10.9.0.2 does not lie in it"),
        ("10.244.3.0/24", "10.244.3.9", "10.244.3.8", "lies behind"),
    ] {
        let refused = add_with(&node, "c2", &other, &ranges(subnet, first, last));
        assert_eq!(code(&refused), 7);
        assert!(said(&refused).contains(words), "{refused:?}");
    }
}

#[test]
fn what_this_node_cannot_do_is_refused_before_anything_is_made() {
    let Some((node, running, pod)) = node_and_pod() else { return };
    let mapping = |ip: &str| json!({"portMappings": [{"hostPort": 80, "containerPort": 80, "hostIP": ip}]});
    let table = [
        (json!({"ips": ["2001:db8::7"]}), 2, "2001:db8::7"),
        (json!({"ips": ["10.244.3.7", "10.244.3.8"]}), 2, "2 addresses"),
        (json!({"ips": ["10.244.4.7"]}), 7, "10.244.4.7 is not in 10.244.3.2-10.244.3.254"),
        (json!({"ipRanges": [[{"subnet": "fd00::/64"}]]}), 2, "fd00::/64"),
        (json!({"ipRanges": [[{"subnet": "10.244.3.0/24"}], [{"subnet": "10.244.3.0/24"}]]}), 2, "2 sets"),
        (json!({"mac": "ee:ee:ee:ee:ee:ee"}), 7, "gateway"),
        (mapping("2001:db8::1"), 2, "[2001:db8::1]:80/tcp"),
    ];
    for (runtime, expected, words) in table {
        let refused = add_with(&node, "c1", &pod, &json!({ "runtimeConfig": runtime }));
        assert_eq!(code(&refused), expected, "{runtime}: {refused:?}");
        assert!(said(&refused).contains(words), "{runtime}: {refused:?}");
        node.assert_clean(&running);
    }
}

#[test]
fn a_host_port_leads_to_one_pod_until_that_goes() {
    let Some((node, running, pod)) = node_and_pod() else { return };
    let ask = |ip: &str, protocol: &str| {
        let mapping = json!({"HostPort": 8080, "ContainerPort": 80, "Protocol": protocol, "HostIP": ip});
        json!({"runtimeConfig": {"portMappings": [mapping]}})
    };
    let (second, third) = (TestNetns::new().unwrap(), TestNetns::new().unwrap());
    add_with(&node, "c1", &pod, &ask("", "tcp")).unwrap();
    let taken = add_with(&node, "c2", &second, &ask("192.0.2.1", "tcp"));
    assert_eq!(code(&taken), 103);
    let words = "host port 192.0.2.1:8080/tcp leads to pod c1 already (8080/tcp)";
    assert!(said(&taken).contains(words), "{taken:?}");
    assert_eq!((running.published().len(), node.reserved().len()), (1, 1));
    add_with(&node, "c3", &third, &ask("192.0.2.1", "udp")).unwrap();

    let host_ports: Vec<_> = running.published().values().flat_map(|port| port.host_ports.clone()).collect();
    assert_eq!(host_ports.len(), 2);
    assert_eq!(
        (host_ports[0].port.get(), host_ports[0].pod_port.get(), host_ports[0].address),
        (8080, 80, None)
    );
    let before = running.published();
    drop(running);
    let running = node.start();
    assert_eq!(running.published(), before, "they are kept with the attachment");

    assert_eq!(code(&add_with(&node, "c2", &second, &ask("", "tcp"))), 103);
    node.del("c1", &pod).unwrap();
    add_with(&node, "c2", &second, &ask("192.0.2.1", "tcp")).unwrap();
}

#[test]
fn of_pods_that_want_the_same_host_port_at_once_one_gets_it() {
    let Some((node, running, _pod)) = node_and_pod() else { return };
    let ask = json!({"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}});
    let pods: Vec<_> = (0..6).map(|n| (format!("c{n}"), TestNetns::new().unwrap())).collect();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let add = |id, pod| {
            let (node, ask) = (&node, &ask);
            scope.spawn(move || add_with(node, id, pod, ask))
        };
        let threads: Vec<_> = pods.iter().map(|(id, pod)| add(id, pod)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let refused: Vec<_> = outcomes.iter().filter(|outcome| outcome.is_err()).map(code).collect();
    assert_eq!(refused, [103; 5]);
    assert_eq!((running.published().len(), node.reserved().len()), (1, 1));
}

#[test]
fn dns_of_configuration_and_runtime_stands_in_the_result() {
    let Some((node, _running, pod)) = node_and_pod() else { return };
    let asked = json!({"dns": {"domain": "example"}, "runtimeConfig": {"dns": {"Servers": ["10.96.0.10"]}}});
    let result = add_with(&node, "c1", &pod, &asked).unwrap();
    assert_eq!(result["dns"], json!({"domain": "example", "nameservers": ["10.96.0.10"]}));
}

#[test]
fn networks_that_share_the_nodes_range_share_no_address() {
    let Some((node, running, pod)) = node_and_pod() else { return };
    let other = TestNetns::new().unwrap();
    node.add("c1", &pod).unwrap();
    let result = add_with(&node, "c2", &other, &json!({"name": "second"})).unwrap();
    assert_eq!(result["ips"][0]["address"], "10.244.3.3/32");
    call_with("DEL", &node, "c2", &other, &json!({"name": "second"})).unwrap();
    node.del("c1", &pod).unwrap();
    node.assert_clean(&running);
}

#[test]
fn the_host_local_plugin_can_give_addresses() {
    let Some((node, running, pod)) = node_and_pod() else { return };
    if !std::path::Path::new("/usr/lib/cni/host-local").exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "the Debian package containernetworking-plugins is missing"
        );
        println!("SKIPPED: there is no /usr/lib/cni/host-local");
        return;
    }
    let data = node.state("host-local");
    let ipam = |subnet: &str| {
        json!({
            "cniVersion": "1.0.0",
            "ipam": {"type": "host-local", "subnet": subnet, "dataDir": data},
        })
    };
    let result = add_with(&node, "c1", &pod, &ipam("10.244.3.0/24")).unwrap();
    assert_eq!(result["ips"][0]["address"], "10.244.3.2/32");
    assert_eq!(node.reserved(), Vec::<String>::new(), "our own pool has no part in it");
    assert_eq!(std::fs::read_to_string(data.join("headrace/10.244.3.2")).unwrap(), "c1\r\neth0");
    let mut checked = ipam("10.244.3.0/24");
    checked["prevResult"] = result;
    call_with("CHECK", &node, "c1", &pod, &checked).unwrap();
    std::fs::remove_file(data.join("headrace/10.244.3.2")).unwrap();
    let lost = call_with("CHECK", &node, "c1", &pod, &checked);
    assert!(said(&lost).contains("host-local"), "{lost:?}");
    call_with("DEL", &node, "c1", &pod, &ipam("10.244.3.0/24")).unwrap();
    node.assert_clean(&running);

    let outside = add_with(&node, "c1", &pod, &ipam("10.9.0.0/24"));
    assert!(said(&outside).contains("10.9.0.2, which is not in 10.244.3.2-10.244.3.254"), "{outside:?}");
    node.assert_clean(&running);
    assert!(!data.join("headrace/10.9.0.2").exists(), "the address was given back");
}
