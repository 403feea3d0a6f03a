//! The checks that need more than one resource.

use std::collections::HashMap;
use std::net::IpAddr;

use headrace_api::state::{Port, Refusal, Resource, Settings};
use ipnetwork::IpNetwork;

use super::claims::{self, Claim, Ranges};
use super::{Desired, Owner, Plan};

impl Desired {
    /// Checks a plan against itself and against what stays. Returns the pod ranges that will be in force when they change.
    pub(super) fn check(&self, plan: &Plan) -> Result<Option<Ranges>, Vec<Refusal>> {
        let mut refusals = self.check_claims(plan);
        let ranges = self.check_ranges(plan, &mut refusals);
        self.check_pod_addresses(plan, &mut refusals);
        if refusals.is_empty() { Ok(ranges) } else { Err(refusals) }
    }

    /// Nothing may have two owners.
    fn check_claims(&self, plan: &Plan) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let mut fresh: HashMap<Claim, &Owner> = HashMap::new();
        for (owner, resource) in upserts(plan) {
            for (claim, field) in claims::of(resource) {
                let stays = self.claims.holder(&claim).filter(|holder| !plan.contains_key(*holder));
                let holder = stays.or_else(|| fresh.get(&claim).copied()).filter(|holder| *holder != owner);
                match holder {
                    Some(holder) => {
                        let reason =
                            format!("{claim} belongs to {holder} already; delete or change that first");
                        refusals.push(owner.refuse(field, reason));
                    }
                    None => {
                        fresh.insert(claim, owner);
                    }
                }
            }
        }
        refusals
    }

    /// Pod ranges of this node and of peers must not overlap.
    fn check_ranges(&self, plan: &Plan, refusals: &mut Vec<Refusal>) -> Option<Ranges> {
        if !plan.keys().any(|owner| matches!(owner, Owner::Settings | Owner::Peer(_))) {
            return None;
        }
        let mut ranges = self.ranges.clone();
        ranges.retain(|owner| !plan.contains_key(owner));
        for (owner, resource) in upserts(plan) {
            for (i, range) in claims::ranges_of(resource).iter().enumerate() {
                if let Err(other) = ranges.add(*range, owner) {
                    let reason =
                        format!("{range} overlaps a pod range of {other}; pod ranges must be disjoint");
                    refusals.push(owner.refuse(format!("pod_cidrs[{i}]"), reason));
                }
            }
        }
        Some(ranges)
    }

    /// Pods have addresses of the node's own ranges, but for the two that the node itself holds.
    fn check_pod_addresses(&self, plan: &Plan, refusals: &mut Vec<Refusal>) {
        let (settings, all) = match plan.get(&Owner::Settings) {
            Some(Some(Resource::Settings(settings))) => (Some(settings), true),
            Some(_) => (None, true),
            None => (self.settings.as_ref(), false),
        };
        let Some(settings) = settings else { return };
        let mut check = |owner: &Owner, port: &Port| {
            for (i, address) in port.addresses.iter().enumerate() {
                if let Err(reason) = pod_address(settings, *address) {
                    refusals.push(owner.refuse(format!("addresses[{i}]"), reason));
                }
            }
        };
        for (owner, resource) in upserts(plan) {
            if let Resource::Port(port) = resource {
                check(owner, port);
            }
        }
        if all {
            for port in self.ports.values() {
                let owner = Owner::Port(port.id);
                if !plan.contains_key(&owner) {
                    check(&owner, port);
                }
            }
        }
    }
}

fn upserts(plan: &Plan) -> impl Iterator<Item = (&Owner, &Resource)> {
    plan.iter().filter_map(|(owner, resource)| Some((owner, resource.as_ref()?)))
}

/// Whether a pod of this node may have that address.
pub(super) fn pod_address(settings: &Settings, address: IpAddr) -> Result<(), String> {
    let ranges = || settings.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let Some(range) = settings.pod_cidrs.iter().find(|range| range.contains(address)) else {
        return Err(format!("{address} is outside of this node's pod ranges ({})", ranges()));
    };
    let IpNetwork::V4(range) = range else { return Ok(()) };
    let offset = match address {
        IpAddr::V4(a) => u32::from(a) - u32::from(range.network()),
        IpAddr::V6(_) => return Ok(()),
    };
    match offset {
        0 => Err(format!("{address} is the node's own address in {range}; pods begin two after it")),
        1 => Err(format!("{address} is the dataplane's address in {range}; pods begin with the next one")),
        _ => Ok(()),
    }
}
