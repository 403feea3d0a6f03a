//! What this node tells the cluster, in its Node object's status: flannel's annotations, by which its peers find it, and
//! that its network is available.
//!
//! Both are written as flannel does it (pkg/subnet/kube/kube.go), by a strategic merge patch of the subresource
//! `nodes/status`, which is the one thing that the agent may write. Only what differs is written, and written again when
//! the object was made anew.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::info;

use super::resource::Slim;
use super::watch::{Trouble, describe_call};
use crate::identity::annotation;
use crate::objects::Node;
use crate::report::Reports;
use crate::seam::PortGate;
use crate::source::ObjectsWatch;

const MANAGER: &str = "headrace-agent";
const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";

/// Annotations by key.
pub type Annotations = BTreeMap<&'static str, String>;

/// Latest annotations; `None` until they are known.
pub type AnnotationsWatch = watch::Receiver<Option<Annotations>>;

/// Keeps the object of node `name` as it should be. Ends when the objects or annotations do.
pub async fn keep(
    client: Client,
    name: String,
    mut objects: ObjectsWatch,
    mut annotations: AnnotationsWatch,
    gate: PortGate,
    reports: &Reports,
) {
    let api: Api<Slim<Node>> = Api::all(client);
    let mut trouble = Trouble::new("nodes/status", reports);
    let mut confirmed = false;
    loop {
        let node = objects.borrow_and_update().as_ref().and_then(|o| o.nodes.get(&name).cloned());
        let wanted = annotations.borrow_and_update().clone();
        let patch = node.zip(wanted).and_then(|(node, wanted)| patch(&node, wanted, confirmed));
        if let Some(patch) = patch {
            let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
            match api.patch_status(&name, &params, &Patch::Strategic(&patch)).await {
                Ok(_) => {
                    trouble.over();
                    info!("Node {name}: wrote {patch}");
                }
                Err(e) => {
                    tokio::time::sleep(trouble.met(&describe_call(&e))).await;
                    continue;
                }
            }
        }
        let alive = tokio::select! {
            changed = objects.changed() => changed.is_ok(),
            changed = annotations.changed() => changed.is_ok(),
            () = gate.confirmed(), if !confirmed => {
                confirmed = true;
                true
            }
        };
        if !alive {
            return;
        }
    }
}

/// What has to be written; `None` when all is as it should be.
fn patch(node: &Node, mut wanted: Annotations, confirmed: bool) -> Option<Value> {
    let held = &node.metadata.annotations;
    // The operator's word: flannel publishes it in place of what the node has found.
    if let Some(public) = held.get(annotation::PUBLIC_IP_OVERWRITE) {
        wanted.insert(annotation::PUBLIC_IP, public.clone());
    }
    wanted.retain(|key, value| held.get(*key) != Some(value));
    let available =
        node.status.conditions.iter().any(|c| c.kind == NETWORK_UNAVAILABLE && c.status == "False");
    let mut patch = json!({});
    if !wanted.is_empty() {
        patch["metadata"] = json!({ "annotations": wanted });
    }
    if confirmed && !available {
        let now = Time(Timestamp::now());
        patch["status"] = json!({ "conditions": [{
            "type": NETWORK_UNAVAILABLE,
            "status": "False",
            "reason": "HeadraceIsUp",
            "message": "The dataplane has taken the agent's state",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }] });
    }
    (patch != json!({})).then_some(patch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::NodeCondition;

    fn wanted() -> Annotations {
        BTreeMap::from([
            (annotation::PUBLIC_IP, "192.168.0.1".into()),
            (annotation::BACKEND_TYPE, "vxlan".into()),
        ])
    }

    fn node(annotations: &[(&str, &str)]) -> Node {
        let mut node = Node::default();
        node.metadata.annotations = annotations.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        node
    }

    #[test]
    fn only_what_differs_is_written() {
        let found = patch(&node(&[(annotation::BACKEND_TYPE, "vxlan")]), wanted(), false);
        let annotations = json!({ annotation::PUBLIC_IP: "192.168.0.1" });
        assert_eq!(found, Some(json!({ "metadata": { "annotations": annotations } })));
        let done = node(&[(annotation::BACKEND_TYPE, "vxlan"), (annotation::PUBLIC_IP, "192.168.0.1")]);
        assert_eq!(patch(&done, wanted(), false), None);
    }

    #[test]
    fn the_network_is_available_once_the_dataplane_has_confirmed() {
        let mut done = node(&[(annotation::BACKEND_TYPE, "vxlan"), (annotation::PUBLIC_IP, "192.168.0.1")]);
        let found = patch(&done, wanted(), true).unwrap();
        assert_eq!(found["status"]["conditions"][0]["status"], "False");
        assert_eq!(found.get("metadata"), None);
        done.status.conditions =
            vec![NodeCondition { kind: NETWORK_UNAVAILABLE.into(), status: "True".into() }];
        assert!(patch(&done, wanted(), true).is_some());
        done.status.conditions[0].status = "False".into();
        assert_eq!(patch(&done, wanted(), true), None);
    }

    #[test]
    fn an_overwritten_public_address_is_published() {
        let overwritten = node(&[(annotation::PUBLIC_IP_OVERWRITE, "203.0.113.9")]);
        let found = patch(&overwritten, wanted(), false).unwrap();
        assert_eq!(found["metadata"]["annotations"][annotation::PUBLIC_IP], "203.0.113.9");
    }
}
