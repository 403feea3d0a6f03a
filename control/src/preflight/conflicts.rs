//! Who else carries pods' packets on this node, or would like to.

use std::process::Command;

use super::Options;
use super::report::Finding;
use super::system::System;
use crate::install::{PLUGIN, conflist, runtime_files};

/// Link, whose it is, and what it does here.
const LINKS: [(&str, &str, &str); 8] = [
    ("flannel.1", "flannel", "it has UDP port 8472, and routes to other nodes' pods"),
    ("cni0", "flannel's bridge plugin", "it has a route to this node's pods"),
    ("cilium_vxlan", "Cilium", "it has UDP port 8472"),
    ("cilium_host", "Cilium", "it has routes to pods"),
    ("vxlan.calico", "Calico", "it has routes to other nodes' pods"),
    ("tunl0", "Calico's IP-in-IP", "it may have routes to other nodes' pods"),
    ("kube-ipvs0", "kube-proxy in IPVS mode", "it holds all Service addresses"),
    ("antrea-gw0", "Antrea", "it has routes to pods"),
];

pub(super) fn check(system: &System, options: &Options) -> Vec<Finding> {
    let mut findings = links(system);
    findings.push(kube_proxy(system));
    findings.extend(plugins(system, options));
    findings.extend(configurations(system, options));
    findings
}

fn links(system: &System) -> Vec<Finding> {
    const FEATURE: &str = "other networks";
    let present = system.links();
    let found: Vec<_> = LINKS.iter().filter(|(name, ..)| present.iter().any(|link| link == name)).collect();
    if found.is_empty() {
        return vec![Finding::ok(FEATURE, "none has links here")];
    }
    let say = |(name, owner, effect): &&(&str, &str, &str)| {
        let remedy = format!("remove {owner} from this node, then: ip link del {name}");
        Finding::warning(FEATURE, format!("link {name} of {owner}: {effect}"), remedy)
    };
    found.iter().map(say).collect()
}

/// Its rules would translate the node's own connections to Services before Headrace sees them.
fn kube_proxy(system: &System) -> Finding {
    const FEATURE: &str = "kube-proxy";
    let remedy = "remove kube-proxy from this node, then: kube-proxy --cleanup (or restart the node)";
    // Also shows what iptables has made, unless that is the legacy one.
    let Some(chains) = output("nft", &["list", "chains"]) else {
        return Finding::note(FEATURE, "cannot tell: nft does not work here", "install nftables");
    };
    if chains.contains("table ip kube-proxy") {
        return Finding::warning(FEATURE, "its nftables rules are here", remedy);
    }
    if chains.contains("chain KUBE-SERVICES") || has_legacy_rules(system) {
        return Finding::warning(FEATURE, "its iptables rules are here", remedy);
    }
    Finding::ok(FEATURE, "no rules of it")
}

/// Asked only where the table is there: asking would make it, and switch connection tracking on.
fn has_legacy_rules(system: &System) -> bool {
    let tables = system.read("/proc/net/ip_tables_names").unwrap_or_default();
    tables.lines().any(|table| table == "nat")
        && output("iptables-legacy-save", &["-t", "nat"]).is_some_and(|rules| rules.contains("KUBE-SERVICES"))
}

fn plugins(system: &System, options: &Options) -> Vec<Finding> {
    const FEATURE: &str = "CNI plugins";
    let folder = system.path(&options.bin_dir);
    let install = "headrace-agent install-cni puts it there; the DaemonSet does by itself";
    let ours = match folder.join(PLUGIN).is_file() {
        true => Finding::ok(FEATURE, format!("{PLUGIN} is in {}", options.bin_dir.display())),
        false => {
            Finding::note(FEATURE, format!("{PLUGIN} is not in {} yet", options.bin_dir.display()), install)
        }
    };
    let loopback = match folder.join("loopback").is_file() {
        true => Finding::ok(FEATURE, "loopback is there"),
        false => Finding::warning(
            FEATURE,
            format!(
                "loopback is not in {}: containerd needs it, unless use_internal_loopback is set",
                options.bin_dir.display()
            ),
            "install the package kubernetes-cni or containernetworking-plugins",
        ),
    };
    vec![ours, loopback]
}

fn configurations(system: &System, options: &Options) -> Vec<Finding> {
    const FEATURE: &str = "CNI configuration";
    let folder = system.path(&options.conf_dir);
    let names = runtime_files::configurations(&folder);
    let first = names.first().map(String::as_str);
    let state = match first {
        Some(conflist::FILE) => Finding::ok(FEATURE, format!("{} is the first", conflist::FILE)),
        Some(other) if names.iter().any(|name| name == conflist::FILE) => Finding::warning(
            FEATURE,
            format!("{other} is read before {}: the runtime uses that network", conflist::FILE),
            format!("remove {}", options.conf_dir.join(other).display()),
        ),
        _ => Finding::note(
            FEATURE,
            format!("{} is not in {} yet", conflist::FILE, options.conf_dir.display()),
            "headrace-agent install-cni puts it there, last of all",
        ),
    };
    let others = runtime_files::others(&folder, conflist::FILE);
    let others = others.into_iter().filter(|line| line.contains("is not used while"));
    std::iter::once(state).chain(others.map(|line| Finding::note(FEATURE, line, ""))).collect()
}

/// What a program prints; `None` when it is not there or fails.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
