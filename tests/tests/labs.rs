//! Labs on real frames. Everything here needs root; the limit on threads is the Makefile's.

mod exposed;
mod findings;
mod support;

mod bad_manifests;
mod bandwidth;
mod bench;
mod churn;
mod cluster;
mod cni;
mod command_line;
mod connectivity;
mod dashboard;
mod deploy;
mod endpoint_churn;
mod flannel;
mod frontends;
mod full_table;
mod host_port;
mod hostile;
mod kernel_node;
mod kernel_pair;
mod kubernetes;
mod kubernetes_scale;
mod libcni;
mod metrics;
mod observe;
mod path_mtu;
mod restart;
mod service;
mod shortcut;
mod translated_restart;
mod truth_table;
mod uplink;
mod watched;
mod workers;
