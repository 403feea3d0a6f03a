use headrace_api::check;
use headrace_api::proto;
use headrace_api::state::{Endpoint, Frontend, Protocol, Resource, Service};
use proptest::collection::vec;
use proptest::prelude::*;

use super::test_objects::*;
use super::*;
use crate::identity::{annotation, derive_vtep_mac};
use crate::objects::{self, AddressType, Conditions, ServiceType, SlicePort};

const MAC_B: &str = "02:00:00:00:00:0b";

#[test]
fn the_own_node_gives_the_settings() {
    let objects = cluster([mk_node("a", "10.244.1.0/24", "192.168.0.1", None)]);
    let (desired, problems) = derive(&objects);
    assert_eq!(problems, []);
    let settings = desired.settings.unwrap();
    assert_eq!(settings.node_addresses, [ip("192.168.0.1")]);
    assert_eq!(settings.pod_cidrs, ["10.244.1.0/24".parse::<IpNetwork>().unwrap()]);
    assert_eq!(settings.vtep_mac, config().vtep_mac);
    assert_eq!((settings.vxlan_port.get(), settings.vni.get()), (8472, 1));
}

#[test]
fn the_detector_says_whose_traffic_is_that_of_pods_here() {
    let objects = cluster([mk_node("a", "10.244.1.0/24", "192.168.0.1", None)]);
    for (detector, sources) in [
        (LocalDetector::ClusterCidr, &["10.244.0.0/16"][..]),
        (LocalDetector::NodeCidr, &["10.244.1.0/24"]),
        (LocalDetector::Nobody, &[]),
    ] {
        let mut config = config();
        config.cluster.local_detector = detector;
        let mut derivation = Derivation::new(config);
        derivation.update(&objects);
        let settings = derivation.desired(&Ports::default()).settings.unwrap();
        let found: Vec<_> = settings.local_sources.iter().map(ToString::to_string).collect();
        assert_eq!(found, sources, "{detector:?}");
    }
}

#[test]
fn the_mac_in_the_own_node_object_goes_before_the_made_one() {
    let objects = cluster([mk_node("a", "10.244.1.0/24", "192.168.0.1", Some(MAC_B))]);
    assert_eq!(derive(&objects).0.settings.unwrap().vtep_mac.to_string(), MAC_B);
}

#[test]
fn the_public_address_is_the_tunnels_source_only_if_the_node_has_it() {
    for (public, first) in [("192.168.9.1", "192.168.9.1"), ("8.8.8.8", "192.168.0.1")] {
        let mut node = mk_node("a", "10.244.1.0/24", "192.168.0.1", None);
        node.status.addresses.push(internal("192.168.9.1"));
        annotate(&mut node, annotation::PUBLIC_IP, public);
        let settings = derive(&cluster([node])).0.settings.unwrap();
        assert_eq!(settings.node_addresses[0], ip(first));
        assert_eq!(settings.node_addresses.len(), 2);
    }
}

#[test]
fn an_own_node_that_says_too_little_is_a_problem_and_no_settings() {
    let whole = || mk_node("a", "10.244.1.0/24", "192.168.0.1", None);
    let mut no_cidr = whole();
    no_cidr.spec = Default::default();
    let mut no_address = whole();
    no_address.status = Default::default();
    let mut wrong_cidr = whole();
    wrong_cidr.spec.pod_cidr = Some("10.244.1.0".into());
    let mut small = whole();
    small.spec.pod_cidr = Some("10.244.1.0/31".into());
    let mut loopback = whole();
    loopback.status.addresses = vec![internal("127.0.0.1")];
    let mut six = whole();
    six.spec.pod_cidr = Some("fd00::/64".into());
    let cases = [
        (vec![], "no such object"),
        (vec![no_cidr], "no IPv4 podCIDR"),
        (vec![no_address], "no IPv4 InternalIP"),
        (vec![wrong_cidr], "10.244.1.0/24"),
        (vec![small], "no room for a pod"),
        (vec![loopback], "127.0.0.1 is no address"),
        (vec![six], "no IPv4 podCIDR"),
    ];
    for (nodes, word) in cases {
        let (desired, problems) = derive(&cluster(nodes));
        assert_eq!(desired.settings, None, "{word}");
        assert!(
            problems.iter().any(|p| p.object == "Node a" && p.to_string().contains(word)),
            "{problems:?}"
        );
    }
}

#[test]
fn other_nodes_become_peers_where_a_tunnel_can_lead() {
    let annotated = |key, value: &str| {
        let mut node = mk_node("b", "10.244.2.0/24", "192.168.0.2", Some(MAC_B));
        annotate(&mut node, key, value);
        node
    };
    let bare = mk_node("b", "10.244.2.0/24", "192.168.0.2", None);
    let cases = [
        (mk_node("b", "10.244.2.0/24", "192.168.0.2", Some(MAC_B)), Ok("192.168.0.2")),
        (annotated(annotation::PUBLIC_IP, "192.168.7.2"), Ok("192.168.7.2")),
        (annotated(annotation::PUBLIC_IP_OVERWRITE, "192.168.8.2"), Ok("192.168.8.2")),
        (annotated(annotation::BACKEND_DATA, r#"{"VtepMAC":"02:00:00:00:00:0b"}"#), Ok("192.168.0.2")),
        (bare, Err("no annotation flannel.alpha.coreos.com/backend-data")),
        (annotated(annotation::BACKEND_DATA, r#"{"VNI":7,"VtepMAC":"02:00:00:00:00:0b"}"#), Err("VNI 7")),
        (annotated(annotation::BACKEND_DATA, r#"{"VNI":1,"VtepMAC":"zz"}"#), Err("\"zz\"")),
        (
            annotated(annotation::BACKEND_DATA, r#"{"VNI":1,"VtepMAC":"01:00:5e:00:00:01"}"#),
            Err("one station"),
        ),
        (annotated(annotation::BACKEND_DATA, "{"), Err("EOF")),
        (annotated(annotation::BACKEND_TYPE, "host-gw"), Err("host-gw")),
        (mk_node("b", "10.244.1.0/24", "192.168.0.2", Some(MAC_B)), Err("Node a already")),
    ];
    for (node, expected) in cases {
        let (desired, problems) = derive(&cluster([own_node(), node]));
        match expected {
            Ok(address) => {
                assert_eq!(problems, []);
                let peer = &desired.peers["b"];
                assert_eq!((peer.address, peer.vtep_mac.to_string().as_str()), (ip(address), MAC_B));
                let others = if address == "192.168.0.2" { vec![] } else { vec![ip("192.168.0.2")] };
                assert_eq!(peer.other_addresses, others);
                assert_eq!(peer.pod_cidrs, ["10.244.2.0/24".parse::<IpNetwork>().unwrap()]);
            }
            Err(word) => {
                assert!(desired.peers.is_empty(), "{word}");
                assert!(
                    problems.iter().any(|p| p.object == "Node b" && p.what.contains(word)),
                    "{problems:?}"
                );
            }
        }
    }
}

#[test]
fn without_a_tunnel_a_node_needs_no_annotation() {
    let objects = cluster([own_node(), mk_node("b", "10.244.2.0/24", "192.168.0.2", None)]);
    let mut config = config();
    config.cluster.encapsulation = Encapsulation::Direct;
    let (desired, problems) = desired(&objects, &config, &Ports::default());
    assert!(problems.is_empty());
    assert_eq!(desired.peers["b"].vtep_mac, derive_vtep_mac("b"));
}

#[test]
fn a_service_gets_one_entry_for_each_port_and_the_slices_ports_match_by_name_and_protocol() {
    let mut service = mk_service("dns", "10.96.0.10");
    service.spec.ports =
        vec![mk_port("dns", 53, objects::Protocol::Udp), mk_port("dns-tcp", 53, objects::Protocol::Tcp)];
    let mut slice = mk_slice("dns-1", "dns", &[("10.244.1.5", READY)]);
    slice.ports = vec![
        SlicePort { name: "dns".into(), port: NonZeroU16::new(5353), protocol: objects::Protocol::Udp },
        SlicePort { name: "dns-tcp".into(), port: NonZeroU16::new(5354), protocol: objects::Protocol::Tcp },
        SlicePort { name: "dns".into(), port: NonZeroU16::new(9), protocol: objects::Protocol::Tcp },
        SlicePort { name: "dns-tcp".into(), port: None, protocol: objects::Protocol::Tcp },
    ];
    let (desired, problems) = derive(&with(cluster([own_node()]), [service], [slice]));
    assert_eq!(problems, []);
    let udp = &desired.services["default/dns:dns"];
    assert_eq!(udp.frontends, [frontend("10.96.0.10", 53, Protocol::Udp)]);
    assert_eq!(udp.endpoints, [endpoint("10.244.1.5", 5353)]);
    let tcp = &desired.services["default/dns:dns-tcp"];
    assert_eq!(tcp.frontends, [frontend("10.96.0.10", 53, Protocol::Tcp)]);
    assert_eq!(tcp.endpoints, [endpoint("10.244.1.5", 5354)]);
    assert_eq!(desired.services.len(), 2);
}

#[test]
fn the_kubernetes_service_leads_to_the_api_servers_node() {
    let mut service = mk_service("kubernetes", "10.96.0.1");
    service.spec.ports = vec![mk_port("https", 443, objects::Protocol::Tcp)];
    let mut slice = mk_slice("kubernetes", "kubernetes", &[("192.168.0.1", READY)]);
    slice.ports =
        vec![SlicePort { name: "https".into(), port: NonZeroU16::new(6443), ..SlicePort::default() }];
    slice.endpoints[0].node_name = None;
    let (desired, problems) = derive(&with(cluster([own_node()]), [service], [slice]));
    assert_eq!(problems, []);
    let entry = &desired.services["default/kubernetes:https"];
    assert_eq!(entry.frontends, [frontend("10.96.0.1", 443, Protocol::Tcp)]);
    assert_eq!(entry.endpoints, [endpoint("192.168.0.1", 6443)]);
}

#[test]
fn only_services_with_a_cluster_address_of_ours_are_carried() {
    let changed = |change: fn(&mut objects::Service)| {
        let mut service = mk_service("web", "10.96.0.20");
        change(&mut service);
        service
    };
    let cases: [(objects::Service, bool, &str); 10] = [
        (changed(|_| {}), true, ""),
        (changed(|s| s.spec.kind = ServiceType::NodePort), true, ""),
        (changed(|s| s.spec.kind = ServiceType::LoadBalancer), true, ""),
        (changed(|s| s.spec.kind = ServiceType::ExternalName), false, ""),
        (changed(|s| s.spec.cluster_ip = Some("None".into())), false, ""),
        (changed(|s| label(s, "service.kubernetes.io/headless")), false, ""),
        (changed(|s| label(s, "service.kubernetes.io/service-proxy-name")), false, ""),
        (changed(|s| s.spec.cluster_ip = None), false, "has no clusterIP"),
        (changed(|s| s.spec.cluster_ip = Some("10.96.0".into())), false, "no IP address"),
        (changed(|s| s.spec.cluster_ip = Some("10.11.0.1".into())), true, "--service-cidr"),
    ];
    for (service, carried, problem) in cases {
        let (desired, problems) = derive(&with(cluster([own_node()]), [service.clone()], []));
        assert_eq!(desired.services.contains_key("default/web"), carried, "{service:?}");
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.is_empty(), problem.is_empty(), "{told:?}");
        assert!(told.iter().all(|t| t.contains(problem)), "{told:?}");
    }
}

#[test]
fn two_services_with_one_address_and_port_are_a_problem_and_the_first_name_has_it() {
    let services = [mk_service("b", "10.96.0.5"), mk_service("a", "10.96.0.5")];
    let (desired, problems) = derive(&with(cluster([own_node()]), services, []));
    assert_eq!(desired.services.keys().collect::<Vec<_>>(), ["default/a"]);
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].to_string().contains("default/b") && problems[0].what.contains("default/a"),
        "{problems:?}"
    );
}

const READY: Conditions = Conditions { ready: Some(true), serving: Some(true), terminating: Some(false) };
const NOT_READY: Conditions =
    Conditions { ready: Some(false), serving: Some(false), terminating: Some(false) };
const ENDING: Conditions = Conditions { ready: Some(false), serving: Some(true), terminating: Some(true) };
const ENDED: Conditions = Conditions { ready: Some(false), serving: Some(false), terminating: Some(true) };
const SILENT: Conditions = Conditions { ready: None, serving: None, terminating: None };
const UNREADY_BUT_SERVING: Conditions =
    Conditions { ready: Some(false), serving: Some(true), terminating: None };

#[test]
fn ready_endpoints_get_connections_and_serving_ones_that_end_only_when_none_is_ready() {
    let (a, b, c) = ("10.244.1.2", "10.244.1.3", "10.244.2.4");
    type Case<'a> = (&'a [(&'a str, Conditions)], &'a [&'a str]);
    let cases: [Case<'_>; 8] = [
        (&[(a, READY), (b, READY)], &[a, b]),
        (&[(a, READY), (b, NOT_READY)], &[a]),
        (&[(a, READY), (b, ENDING)], &[a]),
        (&[(a, NOT_READY), (b, ENDING), (c, ENDED)], &[b]),
        (&[(a, NOT_READY), (b, ENDED)], &[]),
        (&[(a, SILENT)], &[a]),
        (&[(a, UNREADY_BUT_SERVING)], &[]),
        (&[], &[]),
    ];
    for (servers, expected) in cases {
        let slice = mk_slice("web-1", "web", servers);
        let objects = with(cluster([own_node()]), [mk_service("web", "10.96.0.20")], [slice]);
        let (desired, problems) = derive(&objects);
        assert_eq!(problems, []);
        let expected: Vec<Endpoint> = expected.iter().map(|e| endpoint(e, 8080)).collect();
        let chosen = desired.services["default/web"].endpoints.iter().filter(|e| e.cluster).copied();
        assert_eq!(chosen.collect::<Vec<_>>(), expected, "{servers:?}");
    }
}

#[test]
fn endpoints_are_merged_over_slices_and_the_local_one_of_two_stays() {
    let first = mk_slice("web-1", "web", &[("10.244.1.2", NOT_READY), ("10.244.1.3", READY)]);
    let mut second = mk_slice("web-2", "web", &[("10.244.1.2", READY), ("10.244.1.3", READY)]);
    second.endpoints[0].node_name = Some("a".into());
    let mut other_namespace = mk_slice("web-3", "web", &[("10.244.1.9", READY)]);
    other_namespace.metadata.namespace = Some("elsewhere".into());
    let objects =
        with(cluster([own_node()]), [mk_service("web", "10.96.0.20")], [first, second, other_namespace]);
    let (desired, _) = derive(&objects);
    let expected = [endpoint("10.244.1.2", 8080), endpoint("10.244.1.3", 8080)];
    assert_eq!(desired.services["default/web"].endpoints, expected);
}

#[test]
fn slices_that_cannot_be_used_are_left_out_and_told() {
    let mut unlabelled = mk_slice("lost", "web", &[("10.244.1.2", READY)]);
    unlabelled.metadata.labels.clear();
    let wrong = mk_slice("wrong", "web", &[("10.244.1", READY), ("0.0.0.0", READY), ("10.244.1.4", READY)]);
    let mut six = mk_slice("six", "web", &[("fd00::1", READY)]);
    six.address_type = AddressType::IPv6;
    let mut names = mk_slice("names", "web", &[("example.org", READY)]);
    names.address_type = AddressType::Fqdn;
    let objects =
        with(cluster([own_node()]), [mk_service("web", "10.96.0.20")], [unlabelled, wrong, six, names]);
    let (desired, problems) = derive(&objects);
    assert_eq!(desired.services["default/web"].endpoints, [endpoint("10.244.1.4", 8080)]);
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let words =
        ["default/lost: has no label", "default/wrong: endpoints[0].addresses[0]: \"10.244.1\"", "IPv6"];
    assert_eq!(told.len(), words.len(), "{told:?}");
    for word in words {
        assert!(told.iter().any(|t| t.contains(word)), "{word} is missing in {told:?}");
    }
}

#[test]
fn of_a_dual_stack_service_the_ipv4_half_is_carried_and_one_problem_is_told() {
    let services = ["x", "y"].map(|name| {
        let mut service = mk_service(name, if name == "x" { "10.96.0.30" } else { "10.96.0.31" });
        service.spec.cluster_ips = vec![service.spec.cluster_ip.clone().unwrap(), "fd00::1".into()];
        service
    });
    let (desired, problems) = derive(&with(cluster([own_node()]), services, []));
    assert_eq!(desired.services["default/x"].frontends, [frontend("10.96.0.30", 80, Protocol::Tcp)]);
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn whatever_is_derived_passes_the_contracts_own_check() {
    let objects = with(
        cluster([own_node(), mk_node("b", "10.244.2.0/24", "192.168.0.2", Some(MAC_B))]),
        [mk_service("web", "10.96.0.20")],
        [mk_slice("web-1", "web", &[("10.244.1.2", READY)])],
    );
    let (desired, problems) = derive(&objects);
    assert_eq!(problems, []);
    let settings = Resource::Settings(desired.settings.unwrap().as_ref().clone());
    let peers = desired.peers.values().map(|p| Resource::Peer(p.as_ref().clone()));
    let services = desired.services.values().map(|s| Resource::Service(s.as_ref().clone()));
    let resources: Vec<proto::Resource> =
        [settings].into_iter().chain(peers).chain(services).map(|r| (&r).into()).collect();
    assert_eq!(resources.len(), 3);
    let change = Some(proto::sync_request::Change::Snapshot(proto::Snapshot { resources }));
    check::request(proto::SyncRequest { api_version: headrace_api::API_VERSION, generation: 1, change })
        .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn deriving_change_by_change_gives_what_deriving_from_nothing_gives(steps in vec(any_objects(), 1..6)) {
        let mut derivation = Derivation::new(config());
        for objects in steps {
            derivation.update(&objects);
            let mut fresh = Derivation::new(config());
            fresh.update(&objects);
            let ports = Ports::default();
            prop_assert_eq!(derivation.desired(&ports), fresh.desired(&ports));
            prop_assert_eq!(derivation.problems(), fresh.problems());
            prop_assert_eq!(derivation.health_checks(), fresh.health_checks());
            prop_assert_eq!(derivation.node_eligible(), fresh.node_eligible());
        }
    }
}

#[test]
fn a_change_leaves_everything_else_the_same_object() {
    let services = (0..50).map(|i| mk_service(&format!("s{i}"), &format!("10.96.0.{}", i + 1)));
    let slices: Vec<_> =
        (0..50).map(|i| mk_slice(&format!("s{i}-1"), &format!("s{i}"), &[("10.244.1.2", READY)])).collect();
    let mut objects = with(cluster([own_node()]), services, slices);
    let mut derivation = Derivation::new(config());
    derivation.update(&objects);
    let before = derivation.desired(&Ports::default()).services;
    let changed = mk_slice("s7-1", "s7", &[("10.244.1.3", READY)]);
    objects.slices.insert(changed.metadata.object_name(), Arc::new(changed));
    derivation.update(&objects);
    let after = derivation.desired(&Ports::default()).services;
    let other = |(name, service): &(&String, &Arc<Service>)| !Arc::ptr_eq(&before[*name], service);
    assert_eq!(after.iter().filter(other).map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["default/s7"]);
}

/// Few names, addresses and ages, so that Services meet.
fn any_objects() -> impl Strategy<Value = Objects> {
    let service = (0..3u8, 0..4u8, any::<bool>(), any::<bool>(), 0..3u8).prop_map(
        |(address, kind, port, local, age)| {
            let mut service = mk_service("", &format!("10.96.0.{address}"));
            service.spec.kind = [
                ServiceType::ClusterIP,
                ServiceType::NodePort,
                ServiceType::LoadBalancer,
                ServiceType::ExternalName,
            ][usize::from(kind)];
            service.spec.ports[0].node_port = NonZeroU16::new(30_000).filter(|_| port);
            service.spec.health_check_node_port = NonZeroU16::new(32_000).filter(|_| port);
            if local {
                service.spec.external_traffic_policy = objects::TrafficPolicy::Local;
            }
            service.metadata.creation_timestamp = (age > 0).then(|| format!("2026-01-0{age}T00:00:00Z"));
            service
        },
    );
    let slice = (prop::option::of("[a-d]"), 0..4u8, any::<bool>()).prop_map(|(service, address, ready)| {
        let address = ["10.244.1.2", "10.244.2.2", "8.8.8.8", "garbage"][usize::from(address)];
        let mut slice = mk_slice("", "", &[(address, if ready { READY } else { ENDING })]);
        slice.endpoints[0].node_name = Some("a".into());
        match service {
            Some(service) => drop(slice.metadata.labels.insert("kubernetes.io/service-name".into(), service)),
            None => slice.metadata.labels.clear(),
        }
        slice
    });
    let services = prop::collection::btree_map("[a-c]", service, 0..4);
    let slices = prop::collection::btree_map("[a-e]", slice, 0..5);
    (services, slices, any::<bool>(), any::<bool>()).prop_map(|(services, slices, own, tainted)| {
        let mut node = own_node();
        if tainted {
            node.metadata.labels.insert("topology.kubernetes.io/zone".into(), "east".into());
            node.spec.taints = vec![objects::Taint { key: "ToBeDeletedByClusterAutoscaler".into() }];
        }
        let named = |(name, mut service): (String, objects::Service)| {
            service.metadata.name = name;
            service
        };
        let slice_named = |(name, mut slice): (String, objects::EndpointSlice)| {
            slice.metadata.name = name;
            slice
        };
        with(
            cluster(own.then_some(node)),
            services.into_iter().map(named),
            slices.into_iter().map(slice_named),
        )
    })
}

fn derive(objects: &Objects) -> (Desired, Vec<Problem>) {
    let (desired, problems) = desired(objects, &config(), &Ports::default());
    (desired, problems.iter().cloned().collect())
}

fn label(service: &mut objects::Service, key: &str) {
    service.metadata.labels.insert(key.into(), String::new());
}

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

fn frontend(address: &str, port: u16, protocol: Protocol) -> Frontend {
    Frontend::cluster_ip(ip(address), NonZeroU16::new(port).unwrap(), protocol)
}

fn endpoint(address: &str, port: u16) -> Endpoint {
    Endpoint::ready(ip(address), NonZeroU16::new(port).unwrap())
}
