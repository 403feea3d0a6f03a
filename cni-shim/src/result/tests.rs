//! Shapes of each version, and what passes through.

use super::*;

fn ours() -> CniResult {
    let interface = |name: &str, sandbox: &str, mtu| Interface {
        name: name.to_owned(),
        mac: "02:00:00:00:00:01".to_owned(),
        mtu,
        sandbox: sandbox.to_owned(),
        ..Interface::default()
    };
    CniResult {
        interfaces: vec![interface("hr0", "", None), interface("eth0", "/run/netns/x", Some(65535))],
        ips: vec![IpConfig {
            address: "10.244.1.2/32".parse().unwrap(),
            gateway: Some("169.254.1.1".parse().unwrap()),
            interface: Some(1),
            other: Map::new(),
        }],
        routes: vec![Route {
            dst: "0.0.0.0/0".parse().unwrap(),
            gw: Some("169.254.1.1".parse().unwrap()),
            mtu: Some(1450),
            other: Map::new(),
        }],
        other: Map::new(),
    }
}

fn expected(version: &str, with_mtu: bool, with_family: bool) -> Value {
    let mut json = json!({
        "cniVersion": version,
        "interfaces": [
            {"name": "hr0", "mac": "02:00:00:00:00:01"},
            {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/x"},
        ],
        "ips": [{"address": "10.244.1.2/32", "gateway": "169.254.1.1", "interface": 1}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
    });
    if with_mtu {
        json["interfaces"][1]["mtu"] = 65535.into();
        json["routes"][0]["mtu"] = 1450.into();
    }
    if with_family {
        json["ips"][0]["version"] = "4".into();
    }
    json
}

#[test]
fn each_version_gets_its_own_shape() {
    let table = [
        (SpecVersion::V0_3_0, expected("0.3.0", false, true)),
        (SpecVersion::V0_3_1, expected("0.3.1", false, true)),
        (SpecVersion::V0_4_0, expected("0.4.0", false, true)),
        (SpecVersion::V1_0_0, expected("1.0.0", false, false)),
        (SpecVersion::V1_1_0, expected("1.1.0", true, false)),
    ];
    for (version, json) in table {
        assert_eq!(ours().to_json(version), json, "{version}");
    }
}

#[test]
fn what_was_printed_reads_back() {
    assert_eq!(CniResult::from_json("prevResult", &ours().to_json(SpecVersion::V1_1_0)).unwrap(), ours());
}

#[test]
fn results_of_earlier_plugins_pass_through_and_indices_move() {
    let previous = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "net1", "sandbox": "/run/netns/x", "pciID": "0000:01:00.0"}],
        "ips": [{"address": "192.0.2.7/24", "interface": 0}],
        "dns": {"nameservers": ["192.0.2.1"]},
    });
    let all = ours()
        .after(Some(CniResult::from_json("prevResult", &previous).unwrap()))
        .to_json(SpecVersion::V1_0_0);
    assert_eq!(all["interfaces"][0]["pciID"], "0000:01:00.0");
    assert_eq!(all["ips"][0], json!({"address": "192.0.2.7/24", "interface": 0}));
    assert_eq!(all["ips"][1]["interface"], 2);
    assert_eq!(all["interfaces"][2]["name"], "eth0");
    assert_eq!(all["dns"]["nameservers"][0], "192.0.2.1");
}

#[test]
fn an_index_that_points_nowhere_is_refused() {
    let json = json!({"interfaces": [], "ips": [{"address": "192.0.2.7/24", "interface": 0}]});
    assert_eq!(CniResult::from_json("prevResult", &json).unwrap_err().code, ErrorCode::DECODING_FAILURE);
}

fn legacy(version: &str) -> Value {
    json!({
        "cniVersion": version,
        "ip4": {
            "ip": "10.244.1.2/32",
            "gateway": "169.254.1.1",
            "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
        },
    })
}

#[test]
fn the_first_versions_have_one_address_of_each_family() {
    assert_eq!(ours().to_json(SpecVersion::V0_1_0), legacy("0.1.0"));
    assert_eq!(ours().to_json(SpecVersion::V0_2_0), legacy("0.2.0"));
    let mut both = legacy("0.2.0");
    both["ip6"] = json!({"ip": "2001:db8::2/64", "routes": null});
    both["dns"] = json!({"nameservers": ["192.0.2.1"]});
    let read = CniResult::from_json("prevResult", &both).unwrap();
    assert_eq!((read.ips.len(), read.routes.len()), (2, 1));
    both["ip6"].as_object_mut().unwrap().remove("routes");
    assert_eq!(read.to_json(SpecVersion::V0_2_0), both);
}

#[test]
fn what_is_no_result_is_refused() {
    for json in [
        json!(null),
        json!([]),
        json!("x"),
        json!({"ip4": 3}),
        json!({"ip4": {"ip": "10.0.0"}}),
        json!({"ips": 3}),
    ] {
        let error = CniResult::from_json("the result of x", &json).unwrap_err();
        assert_eq!((error.code.get(), error.msg.contains("the result of x")), (6, true), "{json}");
    }
    let nulls = json!({"interfaces": null, "ips": null, "routes": null});
    assert_eq!(CniResult::from_json("prevResult", &nulls).unwrap(), CniResult::default());
}
