use super::*;

fn port() -> proto::Port {
    proto::Port {
        id: 7,
        interface: "hr0123456789ab".into(),
        mac: vec![2, 0, 0, 0, 0, 7],
        addresses: vec![proto::Address { octets: vec![10, 244, 1, 7] }],
        path_mtu: 0,
        superframes: true,
        label: "default/web".into(),
        host_ports: vec![proto::HostPort {
            address: None,
            port: 8080,
            protocol: proto::Protocol::Udp.into(),
            pod_port: 80,
        }],
        bandwidth: Some(proto::Bandwidth {
            ingress: None,
            egress: Some(proto::RateLimit { rate: 10_000_000, burst: 0 }),
        }),
    }
}

fn delta(upserts: Vec<proto::resource::Kind>) -> proto::SyncRequest {
    let upserts = upserts.into_iter().map(|kind| proto::Resource { kind: Some(kind) }).collect();
    let delta = proto::Delta { upserts, deletes: Vec::new() };
    proto::SyncRequest {
        api_version: API_VERSION,
        generation: 1,
        change: Some(proto::sync_request::Change::Delta(delta)),
    }
}

fn refusals(kind: proto::resource::Kind) -> Vec<String> {
    match request(delta(vec![kind])) {
        Ok(_) => Vec::new(),
        Err(refusals) => refusals.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_good_port_survives_the_way_there_and_back() {
    let (_, change) = request(delta(vec![proto::resource::Kind::Port(port())])).unwrap();
    let Change::Delta { upserts, .. } = change else { panic!("a delta stays one") };
    let Resource::Port(checked) = &upserts[0] else { panic!("a port stays one") };
    assert_eq!(proto::Port::from(checked), port());
}

type Damage = fn(&mut proto::Port);

#[test]
fn every_fault_of_a_port_is_named() {
    let cases: [(&str, Damage); 13] = [
        ("port 0: id: is 0", |p| p.id = 0),
        ("port 7: interface: \"\" is no", |p| p.interface.clear()),
        ("port 7: interface: \"a/b\" is no", |p| p.interface = "a/b".into()),
        ("port 7: mac: has 5 bytes", |p| p.mac.truncate(5)),
        ("port 7: mac: 01:00:00:00:00:07 is no unicast", |p| p.mac[0] = 1),
        ("port 7: addresses: is empty", |p| p.addresses.clear()),
        ("port 7: addresses[0]: has 3 bytes", |p| p.addresses[0].octets.truncate(3)),
        ("port 7: addresses[0]: 224.0.0.1 is no unicast", |p| p.addresses[0].octets = vec![224, 0, 0, 1]),
        ("port 7: path_mtu: 100 is outside", |p| p.path_mtu = 100),
        ("port 7: host_ports[0].port: 0 is outside", |p| p.host_ports[0].port = 0),
        ("port 7: host_ports[0].pod_port: 65536 is outside", |p| p.host_ports[0].pod_port = 65_536),
        ("port 7: host_ports[0].protocol: is not set", |p| p.host_ports[0].protocol = 1),
        ("port 7: host_ports[0].address: has 0 bytes", |p| {
            p.host_ports[0].address = Some(proto::Address::default());
        }),
    ];
    for (expected, break_it) in cases {
        let mut broken = port();
        break_it(&mut broken);
        let found = refusals(proto::resource::Kind::Port(broken));
        assert_eq!(found.len(), 1, "{expected}: {found:?}");
        assert!(found[0].starts_with(expected), "{expected}: {found:?}");
    }
}

#[test]
fn all_faults_of_a_request_come_at_once() {
    let mut one = port();
    one.mac.clear();
    one.addresses.clear();
    let two = proto::Service { name: "a/b:c".into(), ..proto::Service::default() };
    let kinds = vec![proto::resource::Kind::Port(one), proto::resource::Kind::Service(two)];
    assert_eq!(request(delta(kinds)).unwrap_err().len(), 3);
}

#[test]
fn requests_of_another_version_or_without_generation_are_refused() {
    let mut other = delta(Vec::new());
    other.api_version = API_VERSION + 1;
    assert_eq!(request(other).unwrap_err()[0].field, "api_version");
    let mut zero = delta(Vec::new());
    zero.generation = 0;
    assert_eq!(request(zero).unwrap_err()[0].field, "generation");
    let mut nothing = delta(Vec::new());
    nothing.change = None;
    assert_eq!(request(nothing).unwrap_err()[0].field, "change");
}

#[test]
fn prefixes_with_host_bits_are_refused_with_the_range_they_mean() {
    let prefix = proto::Prefix { address: Some(proto::Address { octets: vec![10, 1, 2, 3] }), length: 24 };
    let peer = proto::Peer {
        name: "b".into(),
        address: Some(proto::Address { octets: vec![192, 0, 2, 1] }),
        other_addresses: Vec::new(),
        pod_cidrs: vec![prefix],
        vtep_mac: vec![2, 0, 0, 0, 0, 1],
    };
    let found = refusals(proto::resource::Kind::Peer(peer));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("10.1.2.0/24"), "{found:?}");
}

fn service() -> proto::Service {
    let address = |last: u8| Some(proto::Address { octets: vec![10, 96, 0, last] });
    let frontend = |kind: proto::FrontendKind, address| proto::Frontend {
        address,
        port: 80,
        protocol: proto::Protocol::Tcp.into(),
        kind: kind.into(),
    };
    let endpoint = |last: u8, local: bool| proto::Endpoint {
        address: address(last),
        port: 8080,
        cluster: !local,
        local,
        serving: true,
    };
    proto::Service {
        name: "a/b:c".into(),
        frontends: vec![
            frontend(proto::FrontendKind::ClusterIp, address(1)),
            frontend(proto::FrontendKind::ExternalIp, address(2)),
            frontend(proto::FrontendKind::LoadBalancer, address(3)),
            frontend(proto::FrontendKind::NodePort, None),
        ],
        endpoints: vec![endpoint(4, false), endpoint(5, true)],
        internal_policy: proto::TrafficPolicy::Cluster.into(),
        external_policy: proto::TrafficPolicy::Local.into(),
        affinity_seconds: 86_400,
        source_ranges: vec![proto::Prefix { address: address(0), length: 24 }],
    }
}

#[test]
fn a_good_service_survives_the_way_there_and_back() {
    let (_, change) = request(delta(vec![proto::resource::Kind::Service(service())])).unwrap();
    let Change::Delta { upserts, .. } = change else { panic!("a delta stays one") };
    let Resource::Service(checked) = &upserts[0] else { panic!("a Service stays one") };
    assert_eq!(proto::Service::from(checked), service());
}

type DamageToService = fn(&mut proto::Service);

#[test]
fn every_fault_of_a_service_is_named() {
    let cases: [(&str, DamageToService); 15] = [
        ("service : name: \"\" is no name", |s| s.name.clear()),
        ("service a/b:c: frontends: is empty", |s| s.frontends.clear()),
        ("service a/b:c: frontends[1].address: is missing", |s| s.frontends[1].address = None),
        ("service a/b:c: frontends[3].address: is set", |s| {
            s.frontends[3].address = s.frontends[0].address.clone();
        }),
        ("service a/b:c: frontends[0].kind: is not set", |s| s.frontends[0].kind = 0),
        ("service a/b:c: frontends[0].kind: is not set", |s| s.frontends[0].kind = 77),
        ("service a/b:c: frontends[0].port: 0 is outside", |s| s.frontends[0].port = 0),
        ("service a/b:c: frontends[0].port: 70000 is outside", |s| s.frontends[0].port = 70_000),
        ("service a/b:c: frontends[2].protocol: is not set", |s| s.frontends[2].protocol = 0),
        ("service a/b:c: endpoints[1].port: 70000 is outside", |s| s.endpoints[1].port = 70_000),
        ("service a/b:c: endpoints[1]: 10.96.0.4 port 8080 stands", |s| {
            s.endpoints[1] = s.endpoints[0].clone();
        }),
        ("service a/b:c: internal_policy: 9 is of a later", |s| s.internal_policy = 9),
        ("service a/b:c: external_policy: 9 is of a later", |s| s.external_policy = 9),
        ("service a/b:c: affinity_seconds: 86401 is above", |s| s.affinity_seconds = 86_401),
        ("service a/b:c: source_ranges[0]: /33 is too long", |s| s.source_ranges[0].length = 33),
    ];
    for (expected, break_it) in cases {
        let mut broken = service();
        break_it(&mut broken);
        let found = refusals(proto::resource::Kind::Service(broken));
        assert_eq!(found.len(), 1, "{expected}: {found:?}");
        assert!(found[0].starts_with(expected), "{expected}: {found:?}");
    }
}

#[test]
fn a_limit_of_nothing_is_refused() {
    let none = Some(proto::RateLimit { rate: 0, burst: 8 });
    let bandwidth = Some(proto::Bandwidth { ingress: none, egress: none });
    let refused = refusals(proto::resource::Kind::Port(proto::Port { bandwidth, ..port() }));
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[0].contains("bandwidth.ingress.rate: is 0 bits per second"), "{refused:?}");
}
