//! Events about this node, where `kubectl describe node` and `kubectl events` show them: that its network is up, and what
//! the agent reports as wrong with it.
//!
//! A problem is told once while it lasts, and few at a time, so that a thousand wrong Services do not become a thousand
//! requests of every node. The agent may create Events, and neither read nor change them.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};

use super::watch::{Trouble, describe_call};
use crate::report::Reports;
use crate::seam::PortGate;

/// Whose reports are told. That the API server cannot be reached is nothing to tell it.
const PARTS: [&str; 3] = ["objects", "health checks", "CNI installation"];
/// Where Events about objects without a namespace are (client-go, tools/record).
const NAMESPACE: &str = "default";
const CONTROLLER: &str = "headrace-agent";
/// Most Events at a time, and the time until the next ones.
const MOST: usize = 10;
const REST: Duration = Duration::from_secs(10);
/// Longest note that the API server takes, in bytes (kubernetes, pkg/apis/core/validation/events.go, NoteLengthLimit).
const LONGEST: usize = 1024;

/// Longest name of who tells (the same file, ReportingInstanceLengthLimit).
const LONGEST_INSTANCE: usize = 128;

/// What an Event says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Note {
    kind: &'static str,
    reason: &'static str,
    text: String,
}

/// Tells as long as the agent runs.
pub async fn keep(client: Client, node: String, gate: PortGate, reports: &Reports) {
    let api = Api::namespaced(client, NAMESPACE);
    let mut trouble = Trouble::new("events", reports);
    let mut changes = reports.changes();
    let mut told = BTreeSet::new();
    let mut confirmed = false;
    loop {
        changes.borrow_and_update();
        let wanted = notes(reports.lines_of(&PARTS), confirmed);
        told.retain(|note| wanted.contains(note));
        for note in wanted.difference(&told.clone()).take(MOST) {
            match api.create(&PostParams::default(), &event(&node, note)).await {
                Ok(_) => {
                    trouble.over();
                    told.insert(note.clone());
                }
                Err(e) => {
                    tokio::time::sleep(trouble.met(&describe_call(&e))).await;
                    break;
                }
            }
        }
        let more = told.len() < wanted.len();
        if more {
            tokio::time::sleep(REST).await;
            continue;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = gate.confirmed(), if !confirmed => confirmed = true,
        }
    }
}

/// All there is to tell now.
fn notes(problems: Vec<String>, confirmed: bool) -> BTreeSet<Note> {
    let up = confirmed.then(|| Note {
        kind: "Normal",
        reason: "HeadraceIsUp",
        text: "The dataplane has taken the agent's state".into(),
    });
    let problem = |text| Note { kind: "Warning", reason: "HeadraceProblem", text };
    problems.into_iter().map(problem).chain(up).collect()
}

fn event(node: &str, note: &Note) -> Event {
    let mut text = note.text.clone();
    text.truncate(text.floor_char_boundary(LONGEST));
    Event {
        metadata: ObjectMeta {
            // The API server takes a prefix that ends with a hyphen, not one with a dot.
            generate_name: Some(format!("{node}-")),
            namespace: Some(NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        action: Some("Forwarding".into()),
        event_time: Some(MicroTime(Timestamp::now())),
        note: Some(text),
        reason: Some(note.reason.into()),
        // `kubectl describe node` looks for the node's name in place of its uid, as the kubelet writes it.
        regarding: Some(ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(node.into()),
            uid: Some(node.into()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.into()),
        reporting_instance: Some(node.chars().take(LONGEST_INSTANCE).collect()),
        type_: Some(note.kind.into()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_cut_between_characters_and_names_the_node_as_the_kubelet_does() {
        let text = "é".repeat(LONGEST);
        let event = event("node-a", &Note { kind: "Warning", reason: "HeadraceProblem", text });
        assert_eq!(event.metadata.generate_name.as_deref(), Some("node-a-"));
        assert_eq!(event.note.map(|note| note.len()), Some(LONGEST));
        assert_eq!(event.regarding.and_then(|node| node.uid).as_deref(), Some("node-a"));
    }

    #[test]
    fn that_the_network_is_up_is_told_after_the_confirmation() {
        assert!(notes(Vec::new(), false).is_empty());
        let reasons: Vec<_> = notes(vec!["x: wrong".into()], true).into_iter().map(|n| n.reason).collect();
        assert_eq!(reasons, ["HeadraceIsUp", "HeadraceProblem"]);
    }
}
