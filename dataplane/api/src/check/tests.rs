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
    let cases: [(&str, Damage); 9] = [
        ("port 0: id: is 0", |p| p.id = 0),
        ("port 7: interface: \"\" is no", |p| p.interface.clear()),
        ("port 7: interface: \"a/b\" is no", |p| p.interface = "a/b".into()),
        ("port 7: mac: has 5 bytes", |p| p.mac.truncate(5)),
        ("port 7: mac: 01:00:00:00:00:07 is no unicast", |p| p.mac[0] = 1),
        ("port 7: addresses: is empty", |p| p.addresses.clear()),
        ("port 7: addresses[0]: has 3 bytes", |p| p.addresses[0].octets.truncate(3)),
        ("port 7: addresses[0]: 224.0.0.1 is no unicast", |p| p.addresses[0].octets = vec![224, 0, 0, 1]),
        ("port 7: path_mtu: 100 is outside", |p| p.path_mtu = 100),
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
    let two = proto::Service { name: "a/b:c".into(), frontends: Vec::new(), endpoints: Vec::new() };
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
