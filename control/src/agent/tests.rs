use std::collections::BTreeMap;

use tempfile::TempDir;

use super::*;
use crate::desired::test_objects::{cluster, config, mk_node, own_node, port_of};
use crate::objects::Node;

#[test]
fn without_the_attached_pods_the_facts_are_published_and_nothing_is_sent() {
    let mut rig = Rig::new();
    rig.reconcile([own_node()], None);
    assert_eq!(rig.facts.borrow().as_ref().unwrap().name, "a");
    assert!(rig.reconciler.pusher.latest().is_none());
    rig.reconcile([own_node()], Some(&ports()));
    assert_eq!(rig.reconciler.pusher.latest().unwrap().ports.len(), 1);
}

#[test]
fn a_node_object_that_goes_away_leaves_its_last_settings_and_the_rest_goes_on() {
    let mut rig = Rig::new();
    rig.reconcile([], Some(&ports()));
    assert!(rig.reconciler.pusher.latest().is_none(), "nothing is known of the node yet");
    rig.reconcile([own_node()], Some(&ports()));
    let before = rig.reconciler.pusher.latest().unwrap();
    let peer = mk_node("b", "10.244.2.0/24", "192.168.0.2", Some("02:00:00:00:00:0b"));
    rig.reconcile([peer], Some(&Ports::default()));
    let after = rig.reconciler.pusher.latest().unwrap();
    assert_eq!(after.settings, before.settings);
    assert_eq!((after.ports.len(), after.peers.len()), (0, 1));
}

#[test]
fn equal_facts_wake_nobody() {
    let mut rig = Rig::new();
    rig.reconcile([own_node()], None);
    assert!(rig.facts.has_changed().unwrap());
    rig.facts.mark_unchanged();
    rig.reconcile([own_node()], Some(&ports()));
    assert!(!rig.facts.has_changed().unwrap());
}

#[test]
fn the_annotations_are_shown_as_a_patch_of_the_node() {
    let mut rig = Rig::new();
    rig.reconcile([own_node()], None);
    let text = std::fs::read_to_string(rig.dir.path().join("node.json")).unwrap();
    let patch: Node = serde_json::from_str(&text).unwrap();
    let shown = |key: &str| patch.metadata.annotations[&format!("flannel.alpha.coreos.com/{key}")].clone();
    assert_eq!(shown("backend-data"), r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:0a"}"#);
    assert_eq!(shown("public-ip"), "192.168.0.1");
    assert_eq!((shown("backend-type"), shown("kube-subnet-manager")), ("vxlan".into(), "true".into()));
}

#[test]
fn two_agents_do_not_share_a_run_directory() {
    let dir = TempDir::new().unwrap();
    let first = lock(dir.path()).unwrap();
    let error = lock(dir.path()).unwrap_err().to_string();
    assert!(error.contains("another headrace-agent"), "{error}");
    drop(first);
    lock(dir.path()).unwrap();
}

fn ports() -> Ports {
    let port = port_of("default/web");
    Arc::new(BTreeMap::from([(port.id, port)]))
}

struct Rig {
    dir: TempDir,
    facts: watch::Receiver<Option<Arc<NodeFacts>>>,
    reconciler: Reconciler,
}

impl Rig {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let (facts_tx, facts) = watch::channel(None);
        let (pusher, _) = push::new(dir.path().to_owned());
        let (serving, _) = watch::channel(Serving::default());
        let published = Published {
            facts: facts_tx,
            serving,
            annotations: watch::channel(None).0,
            reports: Reports::new(),
        };
        let reconciler = Reconciler::new(config(), dir.path().to_owned(), published, pusher);
        Self { dir, facts, reconciler }
    }

    fn reconcile(&mut self, nodes: impl IntoIterator<Item = Node>, ports: Option<&Ports>) {
        self.reconciler.reconcile(&cluster(nodes), ports);
    }
}
