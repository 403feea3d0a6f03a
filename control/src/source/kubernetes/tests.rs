use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use kube::runtime::watcher::Event;
use serde_json::json;
use tokio::sync::watch;

use super::*;

fn node(name: &str, version: &str, cidr: &str) -> Slim<Node> {
    let object = json!({
        "metadata": { "name": name, "resourceVersion": version },
        "spec": { "podCIDR": cidr },
    });
    serde_json::from_value(object).unwrap()
}

fn names(nodes: &Collection<Node>) -> Option<Vec<&str>> {
    nodes.complete().map(|nodes| nodes.keys().map(String::as_str).collect())
}

/// What the first list of a watch tells.
fn list(objects: Vec<Slim<Node>>) -> Vec<Event<Slim<Node>>> {
    let listed = objects.into_iter().map(Event::InitApply);
    [Event::Init].into_iter().chain(listed).chain([Event::InitDone]).collect()
}

#[test]
fn nothing_is_known_before_the_list_is_complete() {
    let mut nodes = Collection::default();
    assert!(!nodes.take(Event::Init));
    assert!(!nodes.take(Event::InitApply(node("a", "1", "10.244.1.0/24"))));
    assert_eq!(names(&nodes), None);
    assert!(nodes.take(Event::InitDone));
    assert_eq!(names(&nodes), Some(vec!["a"]));
}

#[test]
fn an_empty_list_is_complete_too() {
    let mut nodes = Collection::<Node>::default();
    assert!(!nodes.take(Event::Init));
    assert!(nodes.take(Event::InitDone));
    assert_eq!(names(&nodes), Some(vec![]));
}

#[test]
fn a_list_that_breaks_off_changes_nothing_and_leaves_no_ghost() {
    let mut nodes = Collection::default();
    for event in list(vec![node("a", "1", "10.244.1.0/24"), node("b", "2", "10.244.2.0/24")]) {
        nodes.take(event);
    }
    assert!(!nodes.take(Event::Init));
    assert!(!nodes.take(Event::InitApply(node("ghost", "3", "10.244.3.0/24"))));
    assert_eq!(names(&nodes), Some(vec!["a", "b"]));
    let changes: Vec<bool> =
        list(vec![node("b", "2", "10.244.2.0/24")]).into_iter().map(|event| nodes.take(event)).collect();
    assert_eq!(changes, [false, false, true]);
    assert_eq!(names(&nodes), Some(vec!["b"]));
}

#[test]
fn a_list_of_the_same_objects_is_no_change_whatever_their_versions() {
    let mut nodes = Collection::default();
    for event in list(vec![node("a", "1", "10.244.1.0/24")]) {
        nodes.take(event);
    }
    let before = Arc::clone(&nodes.complete().unwrap()["a"]);
    for event in list(vec![node("a", "9", "10.244.1.0/24")]) {
        assert!(!nodes.take(event));
    }
    assert!(Arc::ptr_eq(&before, &nodes.complete().unwrap()["a"]));
    assert!(!nodes.take(Event::Apply(node("a", "10", "10.244.1.0/24"))));
    assert!(nodes.take(Event::Apply(node("a", "11", "10.244.9.0/24"))));
    assert!(nodes.take(Event::Delete(node("a", "12", "10.244.9.0/24"))));
    assert!(!nodes.take(Event::Delete(node("a", "13", "10.244.9.0/24"))));
}

#[tokio::test]
async fn nothing_is_published_before_every_kind_is_known() {
    let (news, incoming) = mpsc::channel(16);
    let (publisher, mut objects) = watch::channel(None);
    let task = tokio::spawn(async move { publish(incoming, &publisher).await });
    for event in list(vec![node("a", "1", "10.244.1.0/24")]) {
        news.send(News::Node(event)).await.unwrap();
    }
    for event in [Event::Init, Event::InitDone] {
        news.send(News::Service(event)).await.unwrap();
    }
    for event in [Event::Init, Event::InitDone] {
        news.send(News::ServiceCidr(event)).await.unwrap();
    }
    for event in [Event::Init, Event::InitDone] {
        news.send(News::Namespace(event)).await.unwrap();
    }
    for event in [Event::Init, Event::InitDone] {
        news.send(News::Pod(event)).await.unwrap();
    }
    let early = tokio::time::timeout(Duration::from_millis(50), objects.changed()).await;
    assert!(early.is_err(), "EndpointSlices are not known yet");
    for event in [Event::Init, Event::InitDone] {
        news.send(News::Slice(event)).await.unwrap();
    }
    objects.changed().await.unwrap();
    assert_eq!(objects.borrow().as_ref().unwrap().nodes.len(), 1);
    drop(news);
    task.await.unwrap();
}

#[test]
fn an_object_is_cut_down_to_what_is_used() {
    let object = json!({
        "metadata": {
            "name": "web", "namespace": "default", "resourceVersion": "7", "managedFields": [{ "manager": "x" }],
            "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "1" },
        },
        "spec": { "clusterIP": "10.96.0.1", "ports": [{ "port": 80, "targetPort": "http" }] },
    });
    let Slim { object, .. } = serde_json::from_value::<Slim<Service>>(object).unwrap();
    assert_eq!(object.metadata.resource_version, None);
    assert_eq!(object.metadata.annotations.into_keys().collect::<Vec<_>>(), ["kept"]);
}

#[tokio::test]
async fn an_older_api_server_is_followed_too() {
    let client = Client::new(axum::Router::new().fallback(older), "default");
    let (publisher, mut objects) = watch::channel(None);
    let reports = Reports::new();
    let task = tokio::spawn(async move { follow(client, "a", &publisher, &reports).await });
    tokio::time::timeout(Duration::from_secs(20), objects.changed()).await.unwrap().unwrap();
    let latest = objects.borrow().clone().unwrap();
    assert_eq!(latest.nodes.keys().collect::<Vec<_>>(), ["a"]);
    assert!(latest.service_cidrs.is_empty());
    task.abort();
}

/// One without streaming lists and ServiceCIDRs. None here is old enough to run for real.
async fn older(uri: axum::http::Uri) -> (StatusCode, String) {
    let path = uri.path();
    let query = uri.query().unwrap_or_default();
    let failure = |code: StatusCode, message: &str| {
        let status =
            json!({ "kind": "Status", "status": "Failure", "message": message, "code": code.as_u16() });
        (code, status.to_string())
    };
    if path.ends_with("/servicecidrs") {
        return failure(StatusCode::NOT_FOUND, "the server could not find the requested resource");
    }
    if query.contains("sendInitialEvents") {
        return failure(StatusCode::UNPROCESSABLE_ENTITY, "sendInitialEvents is forbidden for watch");
    }
    if query.contains("watch=") {
        std::future::pending::<()>().await;
    }
    let node = json!({ "metadata": { "name": "a" }, "spec": { "podCIDR": "10.244.1.0/24" } });
    let items = if path.ends_with("/nodes") { vec![node] } else { vec![] };
    (StatusCode::OK, json!({ "metadata": { "resourceVersion": "1" }, "items": items }).to_string())
}
