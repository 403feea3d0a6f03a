//! Where the node is reached: what the uplink steals and what the node's own rules bring, by difference.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headrace_api::state::{PortId, Service};
use headrace_xsk::program::Frontend;

use super::{Reconciler, sentence};
use crate::control::desired::Diff;
use crate::control::frontends::{self, Counted};
use crate::control::warnings::Topic;

/// How long the uplink steals for a frontend that is gone: its connections go on, and what is not theirs goes back to the
/// node.
const LINGER: Duration = Duration::from_secs(3600);

/// What of the desired state the uplink and the node's rules have been told.
#[derive(Default)]
pub(super) struct Served {
    frontends: Counted,
    host_ports: BTreeMap<PortId, Vec<Frontend>>,
    /// Frontends that are gone, and when the uplink is told so.
    leaving: VecDeque<(Instant, Vec<Frontend>)>,
    /// Services that processes of this node serve for clients that are not masqueraded.
    unmasqueraded: usize,
}

impl Reconciler {
    /// Follows a change of Services and ports. The tables know them already: what is stolen a moment too early or too late
    /// goes to the node as it would have without.
    pub(super) fn follow_frontends(&mut self, diff: &Diff) {
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        let of = |service: &Option<Arc<Service>>| {
            service.iter().flat_map(|service| frontends::of_service(service)).collect::<Vec<_>>()
        };
        for change in &diff.services {
            removed.extend(of(&change.old));
            added.extend(of(&change.new));
        }
        for id in &diff.ports {
            let new: Vec<Frontend> =
                self.desired.ports().get(id).into_iter().flat_map(frontends::of_port).collect();
            added.extend(&new);
            removed.extend(self.served.host_ports.insert(*id, new).unwrap_or_default());
            if !self.desired.ports().contains_key(id) {
                self.served.host_ports.remove(id);
            }
        }
        self.count_unmasqueraded(diff);
        // Another endpoint is no other frontend.
        if removed != added {
            let changed = self.uplink.change_frontends(&[], &added);
            self.warnings.set(Topic::Frontends, sentence(changed));
            if self.served.frontends.change(&removed, &added) {
                let all = self.served.frontends.all();
                self.node_rules.set(|wanted| {
                    wanted.frontends = all;
                    true
                });
            }
            self.served.leaving.push_back((Instant::now() + LINGER, removed));
        }
        self.keep_node_rules();
    }

    /// Ends what has lingered long enough.
    pub(super) fn forget_left_frontends(&mut self) {
        let now = Instant::now();
        while let Some((_, left)) = self.served.leaving.pop_front_if(|(due, _)| *due <= now) {
            let changed = self.uplink.change_frontends(&left, &[]);
            self.warnings.set(Topic::Frontends, sentence(changed));
        }
    }

    /// Follows the settings and the kernel: the host link may be another, and the node may have other addresses.
    pub(super) fn keep_node_rules(&mut self) {
        let name = &self.config.host_link.kernel;
        let host_link = self.kernel.view().link(name).map(|link| (name.clone(), link.index));
        let local = self.kernel.view().local();
        let settings = self.desired.settings();
        let ranges = settings.map(|s| frontends::node_port_ranges(s, &local)).unwrap_or_default();
        let unmasqueraded = self.served.unmasqueraded > 0;
        self.node_rules.set(|wanted| {
            let mut next = std::mem::take(wanted);
            let before = (next.host_link, next.node_port_addresses, next.serves_unmasqueraded);
            let after = (host_link, ranges, unmasqueraded);
            let differs = before != after;
            (next.host_link, next.node_port_addresses, next.serves_unmasqueraded) = after;
            *wanted = next;
            differs
        });
        self.warnings.set(Topic::NodeRules, self.node_rules.problems());
    }

    fn count_unmasqueraded(&mut self, diff: &Diff) {
        let Some(settings) = self.desired.settings() else { return };
        let serves = |service: &Arc<Service>| frontends::serves_unmasqueraded(service, settings);
        if diff.settings {
            self.served.unmasqueraded = self.desired.services().filter(|service| serves(service)).count();
            return;
        }
        for change in &diff.services {
            self.served.unmasqueraded += usize::from(change.new.as_ref().is_some_and(serves));
            self.served.unmasqueraded -= usize::from(change.old.as_ref().is_some_and(serves));
        }
    }
}
