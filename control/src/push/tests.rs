use std::net::IpAddr;
use std::num::NonZeroU16;

use headrace_api::state::{
    Bandwidth, Change, Encapsulation, Frontend, Port, PortId, Protocol, Resource, Service, Settings,
};
use headrace_api::{check, proto};
use headrace_wire::vxlan::Vni;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::time::timeout;

use super::fake::{Fake, LONG, Model, apply, model_of};
use super::gate::{PortAnswer, PortProblem};
use super::*;
use crate::desired::Peers;

const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_stream_begins_with_a_snapshot_and_goes_on_with_what_differs() {
    let fake = Fake::start();
    let pusher = fake.pusher();
    pusher.update(desired(&[1, 2], &["a"]));
    fake.reaches(&desired(&[1, 2], &["a"])).await;
    pusher.update(desired(&[2, 3], &["a", "b"]));
    fake.reaches(&desired(&[2, 3], &["a", "b"])).await;
    let log = fake.log();
    assert_eq!(log[0].kind, "snapshot");
    let mut sync = pusher.sync();
    let done = timeout(LONG, sync.wait_for(|s| s.lacking_since.is_none())).await.unwrap().unwrap().updated;
    assert!(done.is_some());
    assert_eq!((log[1].kind, log[1].upserts, log[1].deletes), ("delta", 2, 1), "only what differs is sent");
    assert!(log.is_sorted_by(|a, b| a.generation < b.generation));
}

#[tokio::test]
async fn nothing_is_sent_before_there_is_a_state_and_nothing_equal_twice() {
    let fake = Fake::start();
    let pusher = fake.pusher();
    tokio::time::sleep(SHORT).await;
    assert_eq!(fake.log().len(), 0);
    for _ in 0..3 {
        pusher.update(desired(&[1], &["a"]));
        fake.reaches(&desired(&[1], &["a"])).await;
    }
    pusher.update(desired(&[1], &["b"]));
    fake.reaches(&desired(&[1], &["b"])).await;
    assert_eq!(fake.log().len(), 2);
}

#[tokio::test]
async fn a_dataplane_that_starts_again_gets_everything_again() {
    let mut fake = Fake::start();
    let pusher = fake.pusher();
    pusher.update(desired(&[1], &["a"]));
    fake.reaches(&desired(&[1], &["a"])).await;
    let before = fake.log().last().unwrap().generation;
    fake.stop();
    pusher.update(desired(&[1, 2], &[]));
    fake.start_again();
    fake.reaches(&desired(&[1, 2], &[])).await;
    let log = fake.log();
    assert_eq!(log[0].kind, "snapshot");
    assert!(log[0].generation > before);
}

#[tokio::test]
async fn a_port_is_waited_for_until_it_is_open() {
    let fake = Fake::start();
    let pusher = fake.pusher();
    let gate = pusher.gate();
    pusher.update(desired(&[], &[]));
    let waiting = tokio::spawn(async move { gate.wait_port(id(7), LONG).await });
    pusher.update(desired(&[7], &[]));
    assert_eq!(waiting.await.unwrap(), Ok(()));
    pusher.update(desired(&[], &[]));
    assert_eq!(pusher.gate().wait_port_gone(id(7), LONG).await, Ok(()));
    assert!(!fake.state().contains_key("port 7"));
}

#[tokio::test]
async fn a_port_that_cannot_be_opened_is_told_with_the_dataplanes_words() {
    let fake = Fake::start();
    fake.model().unopenable.insert(8);
    let pusher = fake.pusher();
    pusher.update(desired(&[7, 8], &[]));
    assert_eq!(pusher.gate().wait_port(id(7), LONG).await, Ok(()));
    let problem = pusher.gate().wait_port(id(8), LONG).await.unwrap_err();
    assert_eq!(problem, PortProblem::NotReady { id: id(8), problem: "no such interface".into() });
}

#[tokio::test]
async fn a_refused_resource_is_told_and_does_not_keep_the_others_back() {
    let fake = Fake::start();
    fake.model().refused.extend(["port 8".to_owned(), "service default/bad".to_owned()]);
    let pusher = fake.pusher();
    pusher.update(desired(&[7, 8], &["bad", "good"]));
    assert_eq!(pusher.gate().wait_port(id(7), LONG).await, Ok(()));
    let problem = pusher.gate().wait_port(id(8), LONG).await.unwrap_err();
    assert!(
        matches!(&problem, PortProblem::Refused { refusal, .. } if refusal.reason == "not this one"),
        "{problem}"
    );
    fake.reaches(&desired(&[7], &["good"])).await;
    assert_eq!(pusher.board().refusals.len(), 2);

    // An unchanged refused resource is not sent again, a port that is refused is as good as gone.
    assert_eq!(pusher.gate().wait_port_gone(id(8), LONG).await, Ok(()));
    pusher.update(desired(&[7, 8, 9], &["bad", "good"]));
    fake.reaches(&desired(&[7, 9], &["good"])).await;
    assert_eq!(fake.log().last().unwrap().upserts, 1);

    // A changed one is.
    fake.model().refused.clear();
    let mut changed = desired(&[7, 8, 9], &["bad", "good"]);
    Arc::make_mut(&mut changed.ports).get_mut(&id(8)).unwrap().label = "changed".into();
    let mut bad = service("bad");
    bad.frontends[0].port = NonZeroU16::new(81).unwrap();
    changed.services.insert(bad.name.clone(), Arc::new(bad));
    pusher.update(changed.clone());
    fake.reaches(&changed).await;
    assert_eq!(pusher.gate().wait_port(id(8), LONG).await, Ok(()));
    assert_eq!(pusher.board().refusals, []);
}

#[tokio::test]
async fn a_refused_change_leaves_the_last_accepted_form_in_force() {
    let fake = Fake::start();
    let pusher = fake.pusher();
    let good = desired(&[], &["web"]);
    pusher.update(good.clone());
    fake.reaches(&good).await;
    fake.model().refused.insert("service default/web".to_owned());
    let mut changed = desired(&[1], &["web"]);
    let mut web = service("web");
    web.frontends[0].port = NonZeroU16::new(81).unwrap();
    changed.services.insert(web.name.clone(), Arc::new(web));
    pusher.update(changed);
    let mut expected = good;
    expected.ports = desired(&[1], &[]).ports;
    fake.reaches(&expected).await;
}

#[tokio::test]
async fn settings_in_conflict_with_what_is_there_are_held_back_and_the_rest_goes_on() {
    let fake = Fake::start();
    let pusher = fake.pusher();
    let mut first = desired(&[1], &[]);
    first.settings = Some(Arc::new(settings(1)));
    pusher.update(first.clone());
    fake.reaches(&first).await;
    // The port is the one that is named, though it has not changed.
    fake.model().settings_conflict = Some("port 1".into());
    let mut second = desired(&[1, 2], &["web"]);
    second.settings = Some(Arc::new(settings(2)));
    pusher.update(second.clone());
    let expected = Desired { settings: first.settings, ..second.clone() };
    fake.reaches(&expected).await;
    assert_eq!(pusher.gate().wait_port(id(2), LONG).await, Ok(()));
    fake.model().settings_conflict = None;
    second.settings = Some(Arc::new(settings(3)));
    pusher.update(second.clone());
    fake.reaches(&second).await;
}

#[tokio::test]
async fn first_settings_that_are_refused_are_not_sent_again_until_something_changes() {
    let fake = Fake::start();
    fake.model().settings_conflict = Some("settings".into());
    let pusher = fake.pusher();
    let mut wanted = desired(&[1], &[]);
    wanted.settings = Some(Arc::new(settings(1)));
    pusher.update(wanted.clone());
    let problem = pusher.gate().wait_port(id(1), LONG).await.unwrap_err();
    assert!(matches!(problem, PortProblem::Refused { .. }), "{problem}");
    assert!(pusher.sync().borrow().lacking_since.is_some());
    fake.model().settings_conflict = None;
    wanted.services = desired(&[], &["web"]).services;
    pusher.update(wanted.clone());
    fake.reaches(&wanted).await;
    assert_eq!(fake.log().len(), 2);
}

#[tokio::test]
async fn without_a_dataplane_waiting_ends_with_the_reason() {
    let dir = TempDir::new().unwrap();
    let (pusher, feed) = new(dir.path().to_owned());
    let problem = pusher.gate().wait_port(id(1), SHORT).await.unwrap_err().to_string();
    assert!(problem.contains("has not read its objects yet"), "{problem}");
    pusher.update(desired(&[1], &[]));
    tokio::spawn(feed.run());
    let told = async {
        while !pusher.gate().wait_port(id(1), SHORT).await.unwrap_err().to_string().contains("dataplane.sock")
        {
        }
    };
    timeout(LONG, told).await.unwrap();
    let problem = pusher.gate().wait_port_gone(id(1), SHORT).await.unwrap_err();
    assert!(matches!(problem, PortProblem::Away { .. }), "the dataplane may hold it from an earlier run");
}

proptest! {
    #[test]
    fn a_delta_leads_from_any_state_to_any_other(from in any_desired(), to in any_desired()) {
        let mut state = model_of(&from);
        let delta = diff::delta(&from, &to);
        prop_assert_eq!(delta.is_none(), from == to);
        if let Some(delta) = delta {
            let change = Some(proto::sync_request::Change::Delta(delta));
            apply(&mut state, checked(change).unwrap());
        }
        prop_assert_eq!(state, model_of(&to));
    }

    #[test]
    fn a_snapshot_holds_everything(desired in any_desired()) {
        let change = Some(proto::sync_request::Change::Snapshot(diff::snapshot(&desired)));
        let mut state = model_of(&super::tests::desired(&[99], &["old"]));
        apply(&mut state, checked(change).unwrap());
        prop_assert_eq!(state, model_of(&desired));
    }

    /// Whatever the dataplane refuses, and whenever, it ends with all that it does not refuse.
    #[test]
    fn refusals_never_keep_the_rest_back(
        steps in prop::collection::vec((any_desired(), prop::collection::btree_set(0u32..6, 0..3)), 1..6),
    ) {
        let mut progress = Progress::new(PortBoard::default());
        let mut model = Model::default();
        let mut generation = 0;
        for (wanted, refused) in &steps {
            model.refused = refused.iter().map(|n| format!("port {}", n + 1)).collect();
            let mut rounds = 0;
            while let Some(request) = progress.next(wanted, Generation(generation + 1)) {
                generation += 1;
                rounds += 1;
                prop_assert!(rounds < 10, "it does not come to rest");
                progress.take(model.answer(request)).unwrap();
            }
            for (id, port) in wanted.ports.iter() {
                let held = model.state.get(&format!("port {id}"));
                let refused_now = progress.board.ports.get(id).is_some_and(|a| matches!(a, PortAnswer::Refused(_)));
                prop_assert!(refused_now || held == Some(&Resource::Port(port.clone())), "{id}: {held:?}");
            }
            let services = wanted.services.values().map(|s| Resource::Service(s.as_ref().clone()));
            for service in services {
                prop_assert_eq!(model.state.get(&diff::title(&service)), Some(&service));
            }
            let gone = model.state.keys().filter(|k| !model_of(wanted).contains_key(*k)).count();
            prop_assert_eq!(gone, 0, "what is no longer wanted is deleted");
        }
    }
}

fn any_desired() -> impl Strategy<Value = Desired> {
    let ports = prop::collection::btree_map(1u32..7, 0u8..3, 0..5);
    let services = prop::collection::btree_map("[a-d]", 1u16..4, 0..4);
    (ports, services).prop_map(|(ports, services)| {
        let mut all = desired(&[], &[]);
        for (n, variant) in ports {
            let mut port = port(n);
            port.label = variant.to_string();
            Arc::make_mut(&mut all.ports).insert(port.id, port);
        }
        for (name, number) in services {
            let mut service = service(&name);
            service.frontends[0].port = NonZeroU16::new(number).unwrap();
            all.services.insert(service.name.clone(), Arc::new(service));
        }
        all
    })
}

fn desired(ports: &[u32], services: &[&str]) -> Desired {
    Desired {
        settings: None,
        ports: Arc::new(ports.iter().map(|n| (id(*n), port(*n))).collect()),
        peers: Peers::new(),
        services: services.iter().map(|name| (format!("default/{name}"), Arc::new(service(name)))).collect(),
    }
}

fn settings(vni: u32) -> Settings {
    Settings {
        node_addresses: vec![[192, 168, 0, 1].into()],
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
        cluster_cidrs: vec![],
        service_cidrs: vec![],
        vxlan_port: NonZeroU16::new(8472).unwrap(),
        vni: Vni::new(vni).unwrap(),
        vtep_mac: "02:00:00:00:00:0a".parse().unwrap(),
        encapsulation: Encapsulation::Vxlan,
        masquerade: true,
        non_masquerade_cidrs: vec![],
        snat_ports: 49152..=65535,
        node_port_ranges: Vec::new(),
        node_port_loopback: false,
        masquerade_all: false,
        local_sources: Vec::new(),
    }
}

fn port(n: u32) -> Port {
    Port {
        id: id(n),
        interface: format!("hr{n}"),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        addresses: vec![IpAddr::from([10, 244, 1, u8::try_from(n).unwrap()])],
        path_mtu: None,
        superframes: true,
        label: String::new(),
        host_ports: Vec::new(),
        bandwidth: Bandwidth::default(),
    }
}

fn service(name: &str) -> Service {
    let frontend = Frontend::cluster_ip([10, 96, 0, 1].into(), NonZeroU16::new(80).unwrap(), Protocol::Tcp);
    Service::new(format!("default/{name}"), vec![frontend], vec![])
}

fn id(n: u32) -> PortId {
    PortId::new(n).unwrap()
}

fn checked(change: Option<proto::sync_request::Change>) -> Result<Change, Vec<headrace_api::state::Refusal>> {
    let api_version = headrace_api::API_VERSION;
    check::request(proto::SyncRequest { api_version, generation: 1, change }).map(|(_, change)| change)
}
