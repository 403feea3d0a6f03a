use std::fs;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;

use super::*;
use crate::objects::{AddressType, ObjectName, Objects, Protocol, ServiceType};
use crate::source::ObjectsWatch;

/// No change takes that long; a test that waits so long has failed.
const LONG: Duration = Duration::from_secs(20);

const CLUSTER: &str = "\
# A cluster
apiVersion: v1
kind: Node
metadata:
  name: a
  labels: null
  annotations: {flannel.alpha.coreos.com/backend-data: '{\"VNI\":1,\"VtepMAC\":\"02:00:00:00:00:0a\"}'}
spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24], taints: [{key: x}]}
status:
  addresses:
  - {type: InternalIP, address: 192.168.0.1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {type: 5, ports: nonsense}
items: 7
---
---
apiVersion: v1
kind: List
metadata: {resourceVersion: \"\"}
items:
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: shop}
  spec:
    type: NodePort
    clusterIPs: [10.96.0.7]
    ports: [{name: dns, protocol: UDP, port: 53, targetPort: dns}]
- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  ports: [{port: 5353, protocol: UDP, name: dns}]
  endpoints:
  - {addresses: [10.244.1.9], conditions: {ready: true}, nodeName: a}
";

#[test]
fn ordinary_manifests_are_understood() {
    let Parsed { objects, skipped } = parse(Path::new("c.yaml"), CLUSTER.as_bytes()).unwrap();
    assert_eq!(Vec::from_iter(skipped), ["apps/v1/Deployment", "v1/ConfigMap"]);
    let [parse::Object::Node(node), parse::Object::Service(service), parse::Object::EndpointSlice(slice)] =
        &objects[..]
    else {
        panic!("{objects:?}");
    };
    assert_eq!(node.spec.pod_cidrs, ["10.244.1.0/24"]);
    assert_eq!(node.status.addresses[0].kind, "InternalIP");
    assert_eq!(node.metadata.annotations.len(), 1);
    assert_eq!(service.metadata.object_name().to_string(), "shop/web");
    assert_eq!((service.spec.kind, service.spec.ports[0].protocol), (ServiceType::NodePort, Protocol::Udp));
    assert_eq!((slice.address_type, slice.ports[0].port), (AddressType::IPv4, NonZeroU16::new(5353)));
    assert_eq!(slice.endpoints[0].conditions.ready, Some(true));
}

#[test]
fn json_is_understood_too() {
    let text = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Service\",\n\t\"metadata\": {\"name\": \"w\\u0065b\"},\n\
                \t\"spec\": {\"clusterIP\": \"10.96.0.1\", \"ports\": [{\"port\": 80}]}\n}\n";
    let parsed = parse(Path::new("c.json"), text.as_bytes()).unwrap();
    let [parse::Object::Service(service)] = &parsed.objects[..] else { panic!("{parsed:?}") };
    assert_eq!((service.metadata.name.as_str(), service.spec.ports[0].port.get()), ("web", 80));
}

#[test]
fn a_fault_is_told_with_file_line_and_field() {
    let cases = [
        (CLUSTER.replace("port: 53,", "port: 99999,"), "items[0].spec.ports[0].port: ", "line 30"),
        (CLUSTER.replace("addressType: IPv4", "addressType: IPX"), "items[2].addressType: ", "line 35"),
        (CLUSTER.replace("type: NodePort", "type: nodeport"), "items[0].spec.type: ", "line 28"),
        (CLUSTER.replace("podCIDR: 10.244.1.0/24", "podCIDR: [1]"), "spec.podCIDR: ", "line 8"),
        (
            CLUSTER.replace("{name: web-1, ", "{nom: web-1, "),
            "items[2].metadata: missing field `name`",
            "line 34",
        ),
        (CLUSTER.replace("status:\n", "status: [\n"), "status: ", "line 9"),
        (
            CLUSTER.replace("kind: Deployment", "sort: Deployment"),
            "the document at line 12 has no apiVersion and kind",
            "",
        ),
    ];
    for (text, field, line) in cases {
        let error = parse(Path::new("/m/c.yaml"), text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("/m/c.yaml: "), "{error}");
        assert!(
            error.contains(field) && error.contains(line),
            "{field:?} or {line:?} is missing in {error:?}"
        );
    }
    let error = parse(Path::new("b.yaml"), b"ab\xff").unwrap_err().to_string();
    assert!(error.contains("not UTF-8"), "{error}");
}

#[test]
fn every_short_prefix_of_a_manifest_is_parsed_or_refused() {
    for end in 0..CLUSTER.len() {
        let _ = parse(Path::new("c.yaml"), &CLUSTER.as_bytes()[..end]);
    }
}

#[tokio::test]
async fn changes_are_followed_however_they_are_made() {
    let mut dir = Followed::start().await;
    dir.expect("nothing yet", |o| o == &Objects::default()).await;

    dir.write("one.yaml", &service("one", "10.96.0.1"));
    dir.expect("a new file", |o| cluster_ip(o, "one") == Some("10.96.0.1")).await;

    dir.write("one.yaml", &service("one", "10.96.0.2"));
    dir.expect("an edit in place", |o| cluster_ip(o, "one") == Some("10.96.0.2")).await;

    dir.write(".two.tmp", &service("one", "10.96.0.3"));
    fs::rename(dir.path().join(".two.tmp"), dir.path().join("one.yaml")).unwrap();
    dir.expect("an atomic rename", |o| cluster_ip(o, "one") == Some("10.96.0.3")).await;

    dir.write("two.yml", &format!("{}---\n{}", service("two", "10.96.0.4"), service("three", "10.96.0.5")));
    dir.expect("a second file", |o| o.services.len() == 3).await;

    fs::remove_file(dir.path().join("one.yaml")).unwrap();
    dir.expect("a deletion", |o| cluster_ip(o, "one").is_none() && o.services.len() == 2).await;
}

#[tokio::test]
async fn a_broken_file_keeps_its_last_good_objects_and_no_others() {
    let mut dir = Followed::start().await;
    dir.write("a.yaml", &service("a", "10.96.0.1"));
    dir.write("b.yaml", &service("b", "10.96.0.2"));
    dir.expect("two files", |o| o.services.len() == 2).await;

    dir.write("a.yaml", &service("a", "10.96.0.9").replace("port: 80", "port: eighty"));
    dir.write("b.yaml", &service("b", "10.96.0.3"));
    dir.expect("b changes", |o| cluster_ip(o, "b") == Some("10.96.0.3")).await;
    assert_eq!(cluster_ip(&dir.latest(), "a"), Some("10.96.0.1"));

    dir.write("a.yaml", "");
    dir.write("b.yaml", &service("b", "10.96.0.4"));
    dir.expect("b changes", |o| cluster_ip(o, "b") == Some("10.96.0.4")).await;
    assert_eq!(
        cluster_ip(&dir.latest(), "a"),
        Some("10.96.0.1"),
        "an empty file is one that is being written"
    );

    dir.write("a.yaml", &service("a", "10.96.0.8"));
    dir.expect("a is mended", |o| cluster_ip(o, "a") == Some("10.96.0.8")).await;
}

#[tokio::test]
async fn a_wrong_document_leaves_the_rest_of_its_file_and_its_own_last_good_object_in_force() {
    let mut dir = Followed::start().await;
    let file = |a: &str, b: &str| format!("{}---\n{}", service("a", a), service("b", b));
    dir.write("all.yaml", &file("10.96.0.1", "10.96.0.2"));
    dir.expect("two objects", |o| o.services.len() == 2).await;

    let wrong = file("10.96.0.9", "10.96.0.3").replacen("port: 80", "port: 70000", 1);
    dir.write("all.yaml", &wrong);
    dir.expect("the good one changes", |o| cluster_ip(o, "b") == Some("10.96.0.3")).await;
    assert_eq!(cluster_ip(&dir.latest(), "a"), Some("10.96.0.1"));
    let told = dir.reports.lines();
    assert_eq!(told.len(), 1, "{told:?}");
    for word in ["all.yaml", "spec.ports[0].port: 70000 is no port", "line 4"] {
        assert!(told[0].contains(word), "{word:?} is missing in {told:?}");
    }

    dir.write("all.yaml", &service("b", "10.96.0.4"));
    dir.expect("without a fault, what is not there is gone", |o| {
        cluster_ip(o, "b") == Some("10.96.0.4") && cluster_ip(o, "a").is_none()
    })
    .await;
    assert!(dir.reports.lines().is_empty());
}

#[tokio::test]
async fn what_has_not_changed_in_a_large_file_stays_the_same_object() {
    let mut dir = Followed::start().await;
    let file = |last: &str| {
        let others: String = (0..500).map(|i| service(&format!("s{i}"), "10.96.0.1") + "---\n").collect();
        others + &service("last", last)
    };
    dir.write("all.yaml", &file("10.96.0.2"));
    dir.expect("all are read", |o| o.services.len() == 501).await;
    let before = dir.latest();
    dir.write("all.yaml", &file("10.96.0.3"));
    dir.expect("one changes", |o| cluster_ip(o, "last") == Some("10.96.0.3")).await;
    let after = dir.latest();
    let same = |name: &ObjectName| Arc::ptr_eq(&before.services[name], &after.services[name]);
    assert_eq!(before.services.keys().filter(|name| !same(name)).count(), 1, "the last");
}

#[tokio::test]
async fn objects_know_their_line_also_when_it_moves() {
    let mut dir = Followed::start().await;
    let place = |o: &Objects, name: &str| {
        let name = ObjectName { namespace: "default".into(), name: name.into() };
        o.services.get(&name)?.metadata.origin.as_deref().map(ToOwned::to_owned)
    };
    let (one, two) = (service("one", "10.96.0.1"), service("two", "10.96.0.2"));
    let lines = one.lines().count();
    dir.write("all.yaml", &format!("{one}---\n# The second\n\n{two}"));
    let second = format!("all.yaml:{}", lines + 4);
    dir.expect("where they stand", |o| {
        place(o, "one").as_deref() == Some("all.yaml:1") && place(o, "two").as_ref() == Some(&second)
    })
    .await;
    dir.write("all.yaml", &format!("{one}---\n---\n# The second\n\n{two}"));
    let second = format!("all.yaml:{}", lines + 5);
    dir.expect("one moves", |o| place(o, "two").as_ref() == Some(&second)).await;
}

#[test]
fn a_file_is_cut_where_yaml_ends_a_document_and_nowhere_else() {
    let cases: [(&str, &[usize]); 8] = [
        ("", &[0]),
        ("a: 1\n", &[0]),
        ("a: 1\n---\nb: 2\n", &[0, 1]),
        ("---\na: 1\n--- # more\nb: 2", &[0, 2]),
        ("a: |\n  ---\n  x\n", &[0]),
        ("a: 1\n----\n", &[0]),
        ("a: 1\n---", &[0, 1]),
        ("%YAML 1.1\n---\na: 1\n---\nb: 2\n", &[0]),
    ];
    for (text, lines) in cases {
        let found = parse::documents(text);
        assert_eq!(found.iter().map(parse::Document::lines_before).collect::<Vec<_>>(), lines, "{text:?}");
        assert_eq!(found.iter().map(|d| d.text).collect::<String>(), text);
    }
}

#[tokio::test]
async fn of_two_files_with_one_object_the_last_name_wins_until_it_goes() {
    let mut dir = Followed::start().await;
    dir.write("2.yaml", &service("web", "10.96.0.2"));
    dir.write("1.yaml", &service("web", "10.96.0.1"));
    dir.expect("both are read", |o| cluster_ip(o, "web") == Some("10.96.0.2")).await;
    fs::remove_file(dir.path().join("2.yaml")).unwrap();
    dir.expect("the first is in force", |o| cluster_ip(o, "web") == Some("10.96.0.1")).await;
}

#[tokio::test]
async fn a_directory_may_come_late_and_go_and_come_again() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("later");
    let mut dir = Followed::follow(root, path.clone());
    assert_eq!(*dir.objects.borrow(), None);

    fs::create_dir(&path).unwrap();
    dir.write("a.yaml", &service("a", "10.96.0.1"));
    dir.expect("it has come", |o| cluster_ip(o, "a") == Some("10.96.0.1")).await;

    let old = path.with_extension("old");
    fs::rename(&path, &old).unwrap();
    fs::create_dir(&path).unwrap();
    dir.write("b.yaml", &service("b", "10.96.0.2"));
    dir.expect("another one stands in its place", |o| {
        cluster_ip(o, "b").is_some() && cluster_ip(o, "a").is_none()
    })
    .await;
}

#[tokio::test]
async fn a_directory_of_links_is_followed_as_kubelet_swaps_it() {
    let mut dir = Followed::start().await;
    let path = dir.path().to_owned();
    for (version, address) in [("v1", "10.96.0.1"), ("v2", "10.96.0.2")] {
        fs::create_dir(path.join(version)).unwrap();
        fs::write(path.join(version).join("a.yaml"), service("a", address)).unwrap();
        std::os::unix::fs::symlink(version, path.join("..data_tmp")).unwrap();
        fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
        if version == "v1" {
            std::os::unix::fs::symlink("..data/a.yaml", path.join("a.yaml")).unwrap();
        }
        dir.expect(version, |o| cluster_ip(o, "a") == Some(address)).await;
    }
}

fn service(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: {address}, ports: [{{port: 80}}]}}\n"
    )
}

fn cluster_ip<'a>(objects: &'a Objects, name: &str) -> Option<&'a str> {
    let name = ObjectName { namespace: "default".into(), name: name.into() };
    objects.services.get(&name)?.spec.cluster_ip.as_deref()
}

/// A directory that is followed while the test changes it.
struct Followed {
    path: PathBuf,
    objects: ObjectsWatch,
    reports: Reports,
    _root: TempDir,
}

impl Followed {
    async fn start() -> Self {
        let root = TempDir::new().unwrap();
        let path = root.path().to_owned();
        Self::follow(root, path)
    }

    fn follow(root: TempDir, path: PathBuf) -> Self {
        let (publisher, objects) = watch::channel(None);
        let followed = path.clone();
        let reports = Reports::new();
        let told = reports.clone();
        std::thread::spawn(move || follow(&followed, &publisher, &told));
        Self { path, objects, reports, _root: root }
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path.join(name), text).unwrap();
    }

    fn latest(&self) -> Arc<Objects> {
        self.objects.borrow().clone().unwrap()
    }

    async fn expect(&mut self, what: &str, wanted: impl Fn(&Objects) -> bool) {
        let arrives = self.objects.wait_for(|o| o.as_deref().is_some_and(&wanted));
        let arrived = timeout(LONG, arrives).await.is_ok();
        assert!(arrived, "{what}: {:?}", self.objects.borrow());
    }
}
