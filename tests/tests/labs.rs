//! Labs on real frames. Everything here needs root; the limit on threads is the Makefile's.

mod findings;
mod support;

mod bad_manifests;
mod bandwidth;
mod churn;
mod cni;
mod command_line;
mod connectivity;
mod endpoint_churn;
mod full_table;
mod hostile;
mod kernel_node;
mod kernel_pair;
mod libcni;
mod restart;
mod service;
mod uplink;
mod workers;
