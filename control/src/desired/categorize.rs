//! Which endpoints of a Service port may get new connections on this node: kube-proxy's CategorizeEndpoints
//! (kubernetes 1.35, pkg/proxy/topology.go), as one function over plain values.
//!
//! It is pure and knows neither objects nor addresses, so that it can be compared with the original case by case
//! (control/tests/kube_proxy.rs). Ready endpoints come first; those that still serve while they terminate are the
//! fallback, for each policy by itself. Topology comes from hints alone, counts only under policy Cluster, and either
//! all ready endpoints have hints of a kind or that kind is ignored.

/// What decides about one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// It may get new connections.
    pub ready: bool,
    /// It answers, also when it is not ready because it terminates.
    pub serving: bool,
    /// Its pod is about to end.
    pub terminating: bool,
    /// It is on this node.
    pub local: bool,
    /// Zones whose clients should use it (`hints.forZones`); empty = no hint.
    pub zone_hints: &'a [String],
    /// Nodes whose clients should use it (`hints.forNodes`); empty = no hint.
    pub node_hints: &'a [String],
}

/// What of a Service port decides about its endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// The port is reached by something besides its cluster address: a node port, an external or load-balancer address.
    pub externally_accessible: bool,
}

impl Policies {
    /// Whether any frontend ever uses policy Cluster. External traffic that starts in the cluster does even under Local.
    pub fn uses_cluster_endpoints(self) -> bool {
        !self.internal_local || self.externally_accessible
    }

    /// Whether any frontend ever uses policy Local.
    pub fn uses_local_endpoints(self) -> bool {
        self.internal_local || (self.external_local && self.externally_accessible)
    }
}

/// Who may get new connections: positions in the list that was given, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Categories {
    /// Under policy Cluster; empty when the port never uses it.
    pub cluster: Vec<usize>,
    /// Under policy Local; empty when the port never uses it.
    pub local: Vec<usize>,
    /// Under either.
    pub all_reachable: Vec<usize>,
    /// Whether any node has an endpoint that could be used; without one, clients are refused instead of dropped.
    pub has_any: bool,
}

/// Sorts the endpoints of one Service port for the node `node` in zone `zone` ("" = the node has no zone).
pub fn categorize(endpoints: &[Candidate<'_>], policies: Policies, node: &str, zone: &str) -> Categories {
    let mut categories = Categories::default();
    if policies.uses_cluster_endpoints() {
        let topology = Topology::of_hints(endpoints, node, zone);
        categories.cluster = ready_or_terminating(endpoints, |e| !e.ready || topology.admits(e, node, zone));
    }
    if policies.uses_local_endpoints() {
        categories.local = ready_or_terminating(endpoints, |e| e.local);
    }
    categories.all_reachable = union(&categories.cluster, &categories.local);
    categories.has_any = endpoints.iter().any(|e| e.ready || (e.serving && e.terminating));
    categories
}

/// Of the eligible endpoints the ready ones; when there are none, those that still serve while they terminate.
fn ready_or_terminating(
    endpoints: &[Candidate<'_>],
    eligible: impl Fn(&Candidate<'_>) -> bool,
) -> Vec<usize> {
    let all_with = |wanted: fn(&Candidate<'_>) -> bool| -> Vec<usize> {
        let indexed = endpoints.iter().enumerate();
        indexed.filter(|(_, e)| wanted(e) && eligible(e)).map(|(i, _)| i).collect()
    };
    let ready = all_with(|e| e.ready);
    if ready.is_empty() { all_with(|e| e.serving && e.terminating) } else { ready }
}

/// How hints narrow the choice (topologyModeFromHints).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topology {
    Anywhere,
    SameNode,
    SameZone,
}

impl Topology {
    /// A kind of hint counts when every ready endpoint has one and at least one of them names this node or zone. So
    /// there is no fallback within a mode, and none is needed.
    fn of_hints(endpoints: &[Candidate<'_>], node: &str, zone: &str) -> Self {
        let ready = || endpoints.iter().filter(|e| e.ready);
        let all_hint_nodes = ready().all(|e| !e.node_hints.is_empty());
        let all_hint_zones = ready().all(|e| !e.zone_hints.is_empty());
        if all_hint_nodes && ready().any(|e| names(e.node_hints, node)) {
            Self::SameNode
        } else if all_hint_zones && ready().any(|e| names(e.zone_hints, zone)) {
            Self::SameZone
        } else {
            Self::Anywhere
        }
    }

    fn admits(self, endpoint: &Candidate<'_>, node: &str, zone: &str) -> bool {
        match self {
            Self::Anywhere => true,
            Self::SameNode => names(endpoint.node_hints, node),
            Self::SameZone => names(endpoint.zone_hints, zone),
        }
    }
}

fn names(hints: &[String], wanted: &str) -> bool {
    hints.iter().any(|hint| hint == wanted)
}

/// Of two ascending lists.
fn union(a: &[usize], b: &[usize]) -> Vec<usize> {
    let mut all = [a, b].concat();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Candidate<'_> = Candidate {
        ready: true,
        serving: true,
        terminating: false,
        local: false,
        zone_hints: &[],
        node_hints: &[],
    };
    const ENDING: Candidate<'_> = Candidate { ready: false, terminating: true, ..READY };
    const GONE: Candidate<'_> = Candidate { serving: false, ..ENDING };

    const CLUSTER: Policies =
        Policies { internal_local: false, external_local: false, externally_accessible: true };
    const EXTERNAL_LOCAL: Policies = Policies { external_local: true, ..CLUSTER };
    const INTERNAL_LOCAL: Policies =
        Policies { internal_local: true, external_local: false, externally_accessible: false };

    fn local(candidate: Candidate<'_>) -> Candidate<'_> {
        Candidate { local: true, ..candidate }
    }

    fn lists(endpoints: &[Candidate<'_>], policies: Policies) -> (Vec<usize>, Vec<usize>, bool) {
        let found = categorize(endpoints, policies, "a", "east");
        (found.cluster, found.local, found.has_any)
    }

    #[test]
    fn ready_endpoints_come_first_and_terminating_ones_that_serve_are_the_fallback() {
        assert_eq!(lists(&[READY, ENDING, READY], CLUSTER), (vec![0, 2], vec![], true));
        assert_eq!(lists(&[GONE, ENDING], CLUSTER), (vec![1], vec![], true));
        assert_eq!(lists(&[GONE], CLUSTER), (vec![], vec![], false));
        assert_eq!(lists(&[], CLUSTER), (vec![], vec![], false));
    }

    #[test]
    fn an_endpoint_that_is_ready_while_it_terminates_is_ready() {
        let published = Candidate { ready: true, ..GONE };
        assert_eq!(lists(&[published, ENDING], CLUSTER), (vec![0], vec![], true));
    }

    #[test]
    fn policy_local_falls_back_by_itself_and_leaves_policy_cluster_alone() {
        assert_eq!(lists(&[READY, local(ENDING)], EXTERNAL_LOCAL), (vec![0], vec![1], true));
        let found = categorize(&[READY, local(ENDING)], EXTERNAL_LOCAL, "a", "");
        assert_eq!(found.all_reachable, [0, 1]);
        assert_eq!(lists(&[READY], EXTERNAL_LOCAL), (vec![0], vec![], true));
    }

    #[test]
    fn a_list_that_no_frontend_uses_stays_empty() {
        assert_eq!(lists(&[local(READY), READY], INTERNAL_LOCAL), (vec![], vec![0], true));
        let both = Policies { externally_accessible: true, ..INTERNAL_LOCAL };
        assert_eq!(lists(&[local(READY), READY], both), (vec![0, 1], vec![0], true));
        let unreachable = Policies { externally_accessible: false, ..EXTERNAL_LOCAL };
        assert_eq!(lists(&[local(READY)], unreachable), (vec![0], vec![], true));
    }

    #[test]
    fn hints_count_when_every_ready_endpoint_has_one_and_one_of_them_is_ours() {
        let (east, west) = ([String::from("east")], [String::from("west")]);
        let (here, there) = ([String::from("a")], [String::from("b")]);
        let in_zone = |zones| Candidate { zone_hints: zones, ..READY };
        let on_node = |nodes, zones| Candidate { node_hints: nodes, zone_hints: zones, ..READY };
        let cases: [(&[Candidate<'_>], &[usize]); 7] = [
            (&[in_zone(&east), in_zone(&west)], &[0]),
            (&[in_zone(&east), in_zone(&west), READY], &[0, 1, 2]),
            (&[in_zone(&east), in_zone(&west), ENDING], &[0]),
            (&[in_zone(&west), in_zone(&west)], &[0, 1]),
            (&[on_node(&here, &west), on_node(&there, &east)], &[0]),
            (&[on_node(&there, &east), on_node(&there, &west)], &[0]),
            (&[on_node(&[], &west), on_node(&here, &east)], &[1]),
        ];
        for (endpoints, expected) in cases {
            assert_eq!(lists(endpoints, CLUSTER).0, expected, "{endpoints:?}");
        }
    }

    #[test]
    fn policy_local_ignores_hints() {
        let west = [String::from("west")];
        let endpoint = local(Candidate { zone_hints: &west, ..READY });
        let east = [String::from("east")];
        let elsewhere = Candidate { zone_hints: &east, ..READY };
        assert_eq!(lists(&[endpoint, elsewhere], EXTERNAL_LOCAL), (vec![1], vec![0], true));
    }
}
