//! The kernel's version, this process' rights, limits, and what is mounted.

use headrace_xsk::sysctl;

use super::report::Finding;
use super::system::System;

/// The programs use BPF_MAP_TYPE_XSKMAP redirects and links as 5.18 has them.
const LEAST_KERNEL: (u32, u32) = (5, 18);

/// Number (linux/capability.h), name, and what it is needed for.
const CAPABILITIES: [(u32, &str, &str); 6] = [
    (12, "CAP_NET_ADMIN", "links, routes and XDP programs"),
    (13, "CAP_NET_RAW", "AF_XDP sockets"),
    (14, "CAP_IPC_LOCK", "frame memory that stays in RAM"),
    (21, "CAP_SYS_ADMIN", "the agent's way into pods' network namespaces"),
    (38, "CAP_PERFMON", "loading XDP programs that compare pointers"),
    (39, "CAP_BPF", "loading XDP programs"),
];

pub(super) fn check(system: &System) -> Vec<Finding> {
    vec![version(system), bpffs(system), sysctls(system)]
}

/// Of this process.
pub(super) fn rights(system: &System) -> Vec<Finding> {
    vec![capabilities(system), memory(system)]
}

fn version(system: &System) -> Finding {
    const FEATURE: &str = "kernel";
    let text = system.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = text.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    match numbers.next().zip(numbers.next()) {
        Some(version) if version >= LEAST_KERNEL => Finding::ok(FEATURE, text),
        Some(_) => Finding::error(
            FEATURE,
            format!("Linux {text}"),
            "install Linux 5.18 or later; 6.8 has all that is used",
        ),
        None => Finding::warning(
            FEATURE,
            format!("version {text:?} is not understood"),
            "want Linux 5.18 or later",
        ),
    }
}

fn capabilities(system: &System) -> Finding {
    const FEATURE: &str = "capabilities";
    let Some(held) = status_word(system, "CapEff:").and_then(|word| u64::from_str_radix(&word, 16).ok())
    else {
        return Finding::warning(FEATURE, "/proc/self/status does not tell them", "run as root on the node");
    };
    let missing: Vec<_> = CAPABILITIES.iter().filter(|(bit, ..)| held & (1 << bit) == 0).collect();
    if missing.is_empty() {
        return Finding::ok(FEATURE, "all that both daemons need");
    }
    let named = missing.iter().map(|(_, name, reason)| format!("{name} ({reason})")).collect::<Vec<_>>();
    Finding::error(
        FEATURE,
        format!("missing: {}", named.join(", ")),
        "run as root, or add them to the container's securityContext",
    )
}

fn memory(system: &System) -> Finding {
    const FEATURE: &str = "locked memory";
    let limits = system.read("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    let soft = line.and_then(|line| line.split_whitespace().next()).unwrap_or("unknown");
    let may_lock = status_word(system, "CapEff:")
        .and_then(|word| u64::from_str_radix(&word, 16).ok())
        .is_some_and(|held| held & (1 << 14) != 0);
    match (soft, may_lock) {
        ("unlimited", _) => Finding::ok(FEATURE, "unlimited"),
        (_, true) => Finding::ok(FEATURE, format!("{soft} bytes, which CAP_IPC_LOCK overrides")),
        _ => Finding::error(
            FEATURE,
            format!("{soft} bytes; each worker locks some hundred MiB"),
            "set LimitMEMLOCK=infinity in the service, or give CAP_IPC_LOCK",
        ),
    }
}

fn bpffs(system: &System) -> Finding {
    const FEATURE: &str = "BPF file system";
    let mounts = system.read("/proc/self/mounts").unwrap_or_default();
    let mounted = mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some("/sys/fs/bpf") && words.next() == Some("bpf")
    });
    match mounted {
        true => Finding::ok(FEATURE, "mounted on /sys/fs/bpf"),
        false => Finding::note(
            FEATURE,
            "not mounted on /sys/fs/bpf; the dataplane mounts it where it may",
            "in a container, let a privileged init container do it: headrace-dataplane prepare",
        ),
    }
}

fn sysctls(system: &System) -> Finding {
    const FEATURE: &str = "sysctls";
    if !system.names(&format!("{}/ipv4", sysctl::OF_NODE)).is_empty() {
        return Finding::ok(FEATURE, format!("can be written at {}", sysctl::OF_NODE));
    }
    let read_only = system.read("/proc/self/mounts").unwrap_or_default().lines().any(|line| {
        let words: Vec<_> = line.split(' ').collect();
        matches!(words[..], [_, "/proc/sys", _, options, ..] if options.split(',').any(|o| o == "ro"))
    });
    match read_only {
        false => Finding::ok(FEATURE, "can be written"),
        true => Finding::warning(
            FEATURE,
            "/proc/sys is read-only here: the source port range is not reserved, rp_filter of headrace0 stays",
            "mount the node's /proc/sys/net at /host/proc/sys/net, as deploy/kustomize/base does",
        ),
    }
}

/// The first word behind a key of /proc/self/status.
fn status_word(system: &System, key: &str) -> Option<String> {
    let status = system.read("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next().map(str::to_owned)
}
