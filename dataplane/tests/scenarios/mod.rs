//! Who sends what, what comes out where, what is dropped why.

mod affinity;
mod bandwidth;
mod cluster;
mod coalescing;
mod connections;
mod counters;
mod explain;
mod fragments;
mod frontends;
mod gateway;
mod hostile;
mod icmp_errors;
mod kube_proxy;
mod masquerade;
mod neighbors;
mod node;
mod resets;
mod resources;
mod same_node;
mod services;
mod translations;
mod truth_table;
mod tunnel;
