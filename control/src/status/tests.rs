use super::*;

#[test]
fn a_dataplane_of_another_contract_needs_attention() {
    let text = table(&Status { api_version: 99, ..reply().into() }, None);
    assert!(text.contains("contract 99"), "{text}");
    assert!(!table(&reply().into(), None).contains("contract"));
}

#[test]
fn the_json_has_text_addresses_and_every_field_of_the_contract() {
    let json = serde_json::to_value(Status::from(reply())).unwrap();
    assert_eq!(json["ports"][0]["addresses"][0], "10.244.1.2");
    assert_eq!(json["ports"][0]["addresses"][1], "fd00::1");
    assert_eq!(json["ports"][0]["mac"], "02:00:00:00:00:01");
    assert_eq!(json["ports"][0]["counters"]["rx_frames"], 1_234_567);
    assert_eq!(json["workers"][0]["drops"][0]["reason"], "no_route");
    assert_eq!(json["workers"][0]["frames_ledger"][0]["in_hand"], 3);
    assert_eq!(json["peers"][0]["address"], "192.168.0.2");
    assert_eq!(json["flows"]["capacity"], 1000);
    assert_eq!(json["last_refusals"][0]["field"], "mac");
}

#[test]
fn the_table_tells_what_an_operator_asks() {
    let text = table(&Status::from(reply()), None);
    let words = [
        "fed by the agent",
        "generic, copy, frags, superframes, 2 queues",
        "veth has no zero-copy",
        "default/web",
        "1 234 567",
        "no_route",
        "no route to the destination",
        "192.168.0.2",
        "refused: port 9: mac: is wrong",
        "the uplink is slow",
    ];
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in\n{text}");
    }
    let ledger = text.lines().find(|l| l.contains("pods")).unwrap();
    assert!(ledger.trim_end().ends_with(" 2"), "two frames are missing: {ledger}");
}

#[test]
fn the_table_keeps_to_the_width_of_the_terminal() {
    let text = table(&Status::from(reply()), Some(100));
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
    assert!(text.lines().count() > 20);
}

#[test]
fn an_empty_status_has_no_empty_tables() {
    let text = table(&Status::default(), None);
    assert!(text.contains("no agent has connected yet") && !text.contains("Ports"), "{text}");
}

#[tokio::test]
async fn a_dataplane_that_is_away_is_told_with_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let error = fetch(dir.path()).await.unwrap_err();
    assert!(matches!(error, StatusError::Away(_)));
    assert!(error.to_string().contains("dataplane.sock"), "{error}");
}

fn reply() -> proto::StatusReply {
    let address = |octets: &[u8]| proto::Address { octets: octets.to_vec() };
    let v6 = std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).octets();
    let port = proto::PortStatus {
        id: 1,
        interface: "hr1".into(),
        role: "pod".into(),
        label: "default/web".into(),
        ready: true,
        driver: "af_xdp".into(),
        xdp_mode: "generic".into(),
        copy_mode: "copy".into(),
        frags: true,
        superframes: true,
        queues: 2,
        why: "veth has no zero-copy".into(),
        mtu: 65535,
        mac: vec![2, 0, 0, 0, 0, 1],
        addresses: vec![address(&[10, 244, 1, 2]), address(&v6)],
        counters: Some(proto::PortCounters {
            rx_frames: 1_234_567,
            rx_bytes: 5_000_000,
            ..Default::default()
        }),
        ..Default::default()
    };
    let drop =
        proto::Count { name: "no_route".into(), meaning: "no route to the destination".into(), count: 4 };
    let ledger = proto::FrameLedger {
        area: "pods".into(),
        total: 100,
        free: 90,
        fill: 5,
        in_hand: 3,
        ..Default::default()
    };
    let worker = proto::WorkerStatus {
        core: 1,
        pinned: true,
        bursts: 10,
        frames: 100,
        drops: vec![drop],
        frames_ledger: vec![ledger],
        ..Default::default()
    };
    proto::StatusReply {
        version: "0.1.0".into(),
        api_version: headrace_api::API_VERSION,
        state_source: "controller".into(),
        ports: vec![port],
        workers: vec![worker],
        peers: vec![proto::PeerStatus {
            name: "b".into(),
            address: Some(address(&[192, 168, 0, 2])),
            path: "vxlan".into(),
            neighbor: "reachable".into(),
            traffic: Some(proto::PeerCounters { rx_frames: 3, rx_bytes: 4000, ..Default::default() }),
        }],
        flows: Some(proto::FlowTableStatus { capacity: 1000, ..Default::default() }),
        last_refusals: vec![proto::Refusal {
            resource: "port 9".into(),
            field: "mac".into(),
            reason: "is wrong".into(),
        }],
        warnings: vec!["the uplink is slow".into()],
        shortcut: Some(proto::ShortcutStatus { state: "paused".into(), ways: 6, ..Default::default() }),
        ..Default::default()
    }
}
