//! Endpoints of one Service port: merged over the EndpointSlices and sorted by [`categorize`] (kubernetes, pkg/proxy/
//! endpointslicecache.go).
//!
//! Of an endpoint only the first address counts; of two with one address and port, the one on this node stays. Ports
//! without a number and slices of names or IPv6 addresses are skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use headrace_api::state::Endpoint;

use super::categorize::{Candidate, Policies, categorize};
use super::{Context, Problem, address};
use crate::objects::{
    AddressType, EndpointSlice, Hints, Protocol, ServicePort, SliceAddress, SliceEndpoint, SlicePort,
};

/// Every endpoint of the port that is ready, or still serves while it terminates, on whatever node; marked with who may
/// get new connections here.
pub(super) fn endpoints(
    slices: &[&Arc<EndpointSlice>],
    port: &ServicePort,
    policies: Policies,
    context: &Context,
) -> Vec<Endpoint> {
    let merged = merged(slices, &port.name, port.protocol, context);
    let candidates: Vec<Candidate<'_>> = merged.values().copied().collect();
    let found = categorize(&candidates, policies, &context.node, &context.zone);
    let endpoint = |(i, ((address, port), candidate)): (usize, (&(IpAddr, NonZeroU16), &Candidate<'_>))| {
        let usable = candidate.ready || (candidate.serving && candidate.terminating);
        usable.then(|| Endpoint {
            address: *address,
            port: *port,
            cluster: found.cluster.binary_search(&i).is_ok(),
            local: found.local.binary_search(&i).is_ok(),
            serving: candidate.serving,
        })
    };
    merged.iter().enumerate().filter_map(endpoint).collect()
}

/// How many addresses of this node serve the Service, whatever the port: what its health check tells load balancers.
/// Those that still serve while they terminate do not count (kubernetes, pkg/proxy: EndpointsMap.LocalReadyEndpoints).
pub(super) fn local_ready(slices: &[&Arc<EndpointSlice>], context: &Context) -> usize {
    let mut ready = BTreeSet::new();
    for slice in slices.iter().filter(|s| is_carried(s) && s.ports.iter().any(|p| p.port.is_some())) {
        for server in &slice.endpoints {
            let is_ready = server.conditions.ready.unwrap_or(true);
            if is_ready && is_local(server, context) {
                ready.extend(usable_address(server).ok().flatten());
            }
        }
    }
    ready.len()
}

/// What is wrong with a slice, at most one problem of a kind.
pub(super) fn check(slice: &EndpointSlice, context: &Context, problems: &mut Vec<Problem>) {
    match slice.address_type {
        AddressType::IPv4 => {}
        AddressType::IPv6 => return problems.push(super::ipv6_problem()),
        AddressType::Fqdn => return,
    }
    let title = || slice.metadata.title("EndpointSlice");
    let (mut wrong, mut outside) = (Vec::new(), Vec::new());
    for (i, server) in slice.endpoints.iter().enumerate() {
        match usable_address(server) {
            Ok(Some(address)) if !context.knows(address) => outside.push(address),
            Ok(_) => {}
            Err(what) => wrong.push(format!("endpoints[{i}].addresses[0]: {what}")),
        }
    }
    if let Some(first) = wrong.first() {
        problems.push(Problem::new(
            title(),
            format!("{first}{}", more(wrong.len())),
            "such endpoints are left out",
        ));
    }
    // API servers write this one themselves, and need not be nodes.
    let name = slice.metadata.object_name();
    let of_api_servers = name.namespace == "default" && name.name == "kubernetes";
    if let Some(first) = outside.first()
        && !of_api_servers
    {
        let what = format!("{first}{} is in no pod range and no node's address", more(outside.len()));
        let remedy = "it is used all the same; correct it, or set --cluster-cidr to the range of all pods";
        problems.push(Problem::new(title(), what, remedy));
    }
}

type Merged<'a> = BTreeMap<(IpAddr, NonZeroU16), Candidate<'a>>;

fn merged<'a>(
    slices: &[&'a Arc<EndpointSlice>],
    name: &str,
    protocol: Protocol,
    context: &Context,
) -> Merged<'a> {
    let mut merged = Merged::new();
    for slice in slices.iter().filter(|s| is_carried(s)) {
        let matches = |p: &&SlicePort| p.name == name && p.protocol == protocol;
        let numbers: BTreeSet<_> = slice.ports.iter().filter(matches).filter_map(|p| p.port).collect();
        for server in &slice.endpoints {
            let Ok(Some(address)) = usable_address(server) else { continue };
            let candidate = candidate(server, context);
            for number in &numbers {
                let held = merged.entry((address, *number)).or_insert(candidate);
                if candidate.local {
                    *held = candidate;
                }
            }
        }
    }
    merged
}

fn candidate<'a>(server: &'a SliceEndpoint, context: &Context) -> Candidate<'a> {
    let hints = |of: fn(&Hints) -> &[String]| server.hints.as_deref().map_or(&[][..], of);
    Candidate {
        ready: server.conditions.ready.unwrap_or(true),
        serving: server.conditions.serving.unwrap_or(true),
        terminating: server.conditions.terminating.unwrap_or(false),
        local: is_local(server, context),
        zone_hints: hints(|h| &h.for_zones),
        node_hints: hints(|h| &h.for_nodes),
    }
}

fn is_carried(slice: &EndpointSlice) -> bool {
    slice.address_type == AddressType::IPv4
}

fn is_local(server: &SliceEndpoint, context: &Context) -> bool {
    server.node_name.as_deref() == Some(&context.node)
}

/// `None` when there is none, or one of the other family.
fn usable_address(server: &SliceEndpoint) -> Result<Option<IpAddr>, String> {
    match &server.address {
        Some(SliceAddress::Ip(ip)) if ip.is_ipv4() => address::usable(*ip).map(Some),
        Some(SliceAddress::Text(text)) => Err(address::no_address(text)),
        Some(SliceAddress::Ip(_)) | None => Ok(None),
    }
}

/// " (and 3 more)" behind the first of four.
fn more(count: usize) -> String {
    if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() }
}
