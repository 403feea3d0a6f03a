//! Our answer to a case, and whether it is kube-proxy's.

use headrace_control::desired::categorize::{Candidate, Policies, categorize};
use serde_json::Value;

use super::case::NODE;
use super::oracle::{Answer, Port};

/// Who may get new connections.
#[derive(Debug, PartialEq)]
struct Choice {
    cluster: Vec<String>,
    local: Vec<String>,
    has_any: bool,
}

/// What differs; `None` when nothing does.
pub(crate) fn disagreement(objects: &[Value], theirs: &Answer) -> Option<String> {
    let zone = objects[0]["metadata"]["labels"]["topology.kubernetes.io/zone"].as_str().unwrap_or_default();
    theirs.ports.iter().find_map(|(name, port)| {
        let ours = choice(port, zone);
        let (cluster, local) = (port.cluster.clone(), port.local.clone());
        let theirs = Choice { cluster, local, has_any: port.has_any };
        (ours != theirs).then(|| format!("{name}:\nours         {ours:?}\nkube-proxy's {theirs:?}"))
    })
}

fn choice(port: &Port, zone: &str) -> Choice {
    let candidates: Vec<Candidate<'_>> = port
        .endpoints
        .iter()
        .map(|e| Candidate {
            ready: e.ready,
            serving: e.serving,
            terminating: e.terminating,
            local: e.local,
            zone_hints: &e.zone_hints,
            node_hints: &e.node_hints,
        })
        .collect();
    let policies = Policies {
        internal_local: port.internal_local,
        external_local: port.external_local,
        externally_accessible: port.node_port != 0
            || !port.external_ips.is_empty()
            || !port.load_balancer_ips.is_empty(),
    };
    let found = categorize(&candidates, policies, NODE, zone);
    let texts = |positions: &[usize]| {
        let mut texts: Vec<_> = positions.iter().map(|i| port.endpoints[*i].address.clone()).collect();
        texts.sort();
        texts
    };

    Choice { cluster: texts(&found.cluster), local: texts(&found.local), has_any: found.has_any }
}
