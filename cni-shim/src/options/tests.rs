//! Every capability in both spellings, and what is refused.

use serde_json::json;

use super::*;

fn read(runtime: &Value) -> Result<PodOptions, CniError> {
    PodOptions::read(&json!({ "runtimeConfig": runtime }), &BTreeMap::new())
}

fn args(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn nothing_asked_is_nothing_wanted() {
    for config in
        [json!({}), json!({"runtimeConfig": null, "args": null}), json!({"args": {"cni": {"labels": []}}})]
    {
        assert_eq!(
            PodOptions::read(&config, &args(&[("K8S_POD_NAME", "web")])).unwrap(),
            PodOptions::default()
        );
    }
}

#[test]
fn port_mappings_come_in_the_specifications_spelling_and_in_containerds() {
    let specified = json!({"portMappings": [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8080, "containerPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"},
        {"hostPort": 9000, "containerPort": 9000, "hostIP": "0.0.0.0"},
    ]});
    let containerds = json!({"portMappings": [
        {"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""},
        {"HostPort": 8080, "ContainerPort": 53, "Protocol": "udp", "HostIP": "192.0.2.1"},
        {"HostPort": 9000, "ContainerPort": 9000, "Protocol": "", "HostIP": "::"},
    ]});
    let mappings = read(&specified).unwrap().port_mappings;
    assert_eq!(read(&containerds).unwrap().port_mappings, mappings);
    let shown: Vec<_> = mappings.iter().map(|m| format!("{m} -> {}", m.container_port)).collect();
    assert_eq!(shown, ["8080/tcp -> 80", "192.0.2.1:8080/udp -> 53", "9000/tcp -> 9000"]);
}

#[test]
fn mappings_collide_where_both_would_take_a_packet() {
    let mapping = |ip: &str, protocol: &str| {
        read(&json!({"portMappings": [{"hostPort": 80, "containerPort": 80, "hostIP": ip, "protocol": protocol}]}))
            .unwrap()
            .port_mappings[0]
    };
    let table =
        [("", "192.0.2.1", true), ("192.0.2.1", "192.0.2.1", true), ("192.0.2.1", "192.0.2.2", false)];
    for (a, b, collide) in table {
        assert_eq!(mapping(a, "tcp").collides(&mapping(b, "tcp")), collide, "{a} {b}");
        assert!(!mapping(a, "tcp").collides(&mapping(b, "udp")));
    }
}

#[test]
fn bandwidth_comes_in_both_spellings_and_containerds_lack_of_a_burst_is_none() {
    let specified = json!({"bandwidth": {"ingressRate": 1_000_000, "ingressBurst": 80_000, "egressRate": 8}});
    let read_back = read(&specified).unwrap().bandwidth;
    let ingress = read_back.ingress.unwrap();
    assert_eq!((ingress.rate.get(), ingress.burst.map(std::num::NonZero::get)), (1_000_000, Some(80_000)));
    let containerds = json!({"bandwidth":
        {"IngressRate": 0, "IngressBurst": 0, "EgressRate": 1_000_000, "EgressBurst": 4_294_967_295u32}});
    let read_back = read(&containerds).unwrap().bandwidth;
    assert_eq!(read_back.ingress, None);
    let egress = read_back.egress.unwrap();
    assert_eq!((egress.rate.get(), egress.burst), (1_000_000, None));
}

#[test]
fn the_mac_address_may_be_asked_for_in_three_places() {
    let config = |runtime: Value, cni: Value| json!({"runtimeConfig": {"mac": runtime}, "args": {"cni": {"mac": cni}}});
    let (a, b, c) = ("02:00:00:00:00:0A", "02-00-00-00-00-0b", "02:00:00:00:00:0c");
    let last = |config: Value, pairs: &[(&str, &str)]| {
        PodOptions::read(&config, &args(pairs)).unwrap().mac.map(|mac| mac[5])
    };
    assert_eq!(last(config(json!(a), json!(c)), &[("MAC", b)]), Some(0x0a));
    assert_eq!(last(config(json!(null), json!(c)), &[("MAC", b)]), Some(0x0b));
    assert_eq!(last(config(json!(null), json!(c)), &[]), Some(0x0c));
    assert_eq!(last(config(json!(null), json!(null)), &[]), None);
}

#[test]
fn addresses_of_all_places_add_up_once() {
    let config = json!({"runtimeConfig": {"ips": ["10.0.0.7/24", "2001:db8::7"]}, "args": {"cni": {"ips": ["10.0.0.7"]}}});
    let ips = PodOptions::read(&config, &args(&[("IP", "10.0.0.9")])).unwrap().ips;
    assert_eq!(
        ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.9", "10.0.0.7", "2001:db8::7"]
    );
}

#[test]
fn ranges_and_dns() {
    let runtime = json!({
        "ipRanges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.8", "rangeEnd": "10.0.0.20", "gateway": "10.0.0.9"}], []],
        "dns": {"Servers": ["192.0.2.53"], "Searches": ["a.example"], "Options": null},
    });
    let config =
        json!({"runtimeConfig": runtime, "dns": {"nameservers": ["192.0.2.1"], "domain": "example"}});
    let options = PodOptions::read(&config, &BTreeMap::new()).unwrap();
    assert_eq!(options.ranges.len(), 2);
    assert_eq!(options.ranges[0][0].first, Some("10.0.0.8".parse().unwrap()));
    let expected = json!({"nameservers": ["192.0.2.53"], "search": ["a.example"], "domain": "example"});
    assert_eq!(Value::Object(options.dns.unwrap()), expected);
}

#[test]
fn superframes_by_argument_annotation_and_configuration() {
    let annotated = |text: &str| json!({"superframes": "on", "runtimeConfig": {ANNOTATIONS: {SUPERFRAMES_ANNOTATION: text}}});
    let superframes =
        |config: &Value, pairs: &[(&str, &str)]| PodOptions::read(config, &args(pairs)).unwrap().superframes;
    assert_eq!(superframes(&annotated("off"), &[]), Some(false));
    assert_eq!(superframes(&annotated("off"), &[(SUPERFRAMES_ARG, "on")]), Some(true));
    assert_eq!(superframes(&json!({"superframes": "off"}), &[]), Some(false));
    assert_eq!(superframes(&json!({}), &[]), None);
}

#[test]
fn wrong_values_are_told_with_key_and_value() {
    let mapping = |entry: Value| json!({"portMappings": [entry]});
    let table = [
        (json!([]), 6, "runtimeConfig: want an object"),
        (json!({"portMappings": {}}), 6, "portMappings: want a list"),
        (mapping(json!("80:80")), 6, "portMappings[0]: want an object"),
        (
            mapping(json!({"hostPort": "80", "containerPort": 80})),
            6,
            "portMappings[0].hostPort: want a whole number",
        ),
        (mapping(json!({"containerPort": 80})), 7, "portMappings[0].hostPort is 0; want 1 to 65535"),
        (mapping(json!({"hostPort": 70000, "containerPort": 80})), 7, "70000"),
        (mapping(json!({"hostPort": 80, "containerPort": -1})), 7, "portMappings[0].containerPort is -1"),
        (mapping(json!({"hostPort": 80, "containerPort": 80, "protocol": "icmp"})), 7, "\"icmp\""),
        (mapping(json!({"hostPort": 80, "containerPort": 80, "hostIP": "eth0"})), 7, "\"eth0\""),
        (mapping(json!({"hostPort": 80, "containerPort": 80, "hostIP": "224.0.0.1"})), 7, "224.0.0.1"),
        (
            json!({"portMappings": [
                {"hostPort": 80, "containerPort": 80},
                {"hostPort": 80, "containerPort": 81, "hostIP": "192.0.2.1"},
            ]}),
            7,
            "192.0.2.1:80/tcp and 80/tcp",
        ),
        (json!({"bandwidth": {"ingressRate": -1}}), 7, "bandwidth.ingressRate is -1"),
        (json!({"bandwidth": {"egressBurst": 5}}), 7, "bandwidth.egressBurst is set"),
        (json!({"bandwidth": {"egressRate": 1.5}}), 6, "bandwidth.egressRate: want a whole number"),
        (json!({"mac": "01:00:5e:00:00:01"}), 7, "runtimeConfig.mac"),
        (json!({"mac": "00:00:00:00:00:00"}), 7, "runtimeConfig.mac"),
        (json!({"mac": "02:00:00:00:00"}), 7, "02:00:00:00:00"),
        (json!({"mac": "02:00:00:00:00:0é"}), 7, "runtimeConfig.mac"),
        (json!({"ips": ["10.0.0"]}), 7, "\"10.0.0\""),
        (json!({"ips": "10.0.0.1"}), 6, "ips: want a list"),
        (json!({"ipRanges": [{}]}), 6, "ipRanges[0]: want a list of ranges"),
        (json!({"ipRanges": [[{}]]}), 7, "subnet is \"\""),
        (json!({"ipRanges": [[{"subnet": "10.0.0.0"}]]}), 7, "\"10.0.0.0\""),
        (json!({"ipRanges": [[{"subnet": "10.0.0.0/24", "rangeEnd": "x"}]]}), 7, "rangeEnd is \"x\""),
        (json!({"dns": {"servers": "192.0.2.1"}}), 6, "dns.servers: want a list"),
        (json!({ANNOTATIONS: {SUPERFRAMES_ANNOTATION: "no"}}), 7, SUPERFRAMES_ANNOTATION),
    ];
    for (runtime, code, words) in table {
        let error = read(&runtime).unwrap_err();
        let text = format!("{} {}", error.msg, error.details);
        assert!(error.code.get() == code && text.contains(words), "{runtime}: {} {text}", error.code);
    }
    for pair in [("MAC", "x"), ("IP", "10.0.0"), (SUPERFRAMES_ARG, "perhaps")] {
        let error = PodOptions::read(&json!({}), &args(&[pair])).unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_ENVIRONMENT, "{pair:?}");
    }
}
