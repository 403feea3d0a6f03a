//! The NIC that carries pods' packets.

use std::path::Path;

use headrace_xsk::program::program_on;
use headrace_xsk::spread::{self, UdpSpread};

use super::Options;
use super::report::Finding;
use super::system::System;

/// Bytes that VXLAN over IPv4 adds, and the smallest path MTU of pods (RFC 791: every host accepts 576 bytes).
const TUNNEL_OVERHEAD: u32 = 50;
const LEAST_PATH_MTU: u32 = 576;

/// Drivers whose kernel source has zero-copy AF_XDP (`XDP_SETUP_XSK_POOL`, Linux 6.12).
const ZERO_COPY: [&str; 13] = [
    "bnxt_en",
    "fec",
    "gve",
    "i40e",
    "ice",
    "idpf",
    "igb",
    "igc",
    "ixgbe",
    "mlx5_core",
    "stmmac",
    "virtio_net",
    "am65-cpsw-nuss",
];

pub(super) fn check(system: &System, options: &Options) -> Vec<Finding> {
    const FEATURE: &str = "uplink";
    let Some(name) = options.uplink.clone().or_else(|| default_route(system)) else {
        return vec![Finding::error(FEATURE, "there is no default route", "name the NIC with --uplink")];
    };
    if !system.links().contains(&name) {
        let remedy = format!("give one of {} as --uplink", system.links().join(", "));
        return vec![Finding::error(FEATURE, format!("there is no link {name}"), remedy)];
    }
    let state = system.read(&format!("/sys/class/net/{name}/operstate")).unwrap_or_default();
    let up = match state.as_str() {
        "down" => Finding::error(FEATURE, format!("{name} is down"), format!("ip link set {name} up")),
        _ => Finding::ok(
            FEATURE,
            format!("{name}, {}", driver(system, &name).unwrap_or_else(|| "virtual".to_owned())),
        ),
    };
    let queues = receive_queues(system, &name);
    let mut findings = vec![up, mtu(system, &name), modes(system, &name), foreign_program(&name)];
    findings.push(spread_over_workers(&name, queues, options.workers));
    if queues > 1 {
        findings.push(udp_spread(&name));
    }
    findings
}

/// The link of the route to 0.0.0.0/0 with the lowest metric.
fn default_route(system: &System) -> Option<String> {
    let table = system.read("/proc/net/route").ok()?;
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [name, "00000000", _, _, _, _, metric, "00000000", ..] = fields[..] else { return None };
        Some((metric.parse::<u32>().ok()?, name.to_owned()))
    });
    routes.min().map(|(_, name)| name)
}

fn driver(system: &System, name: &str) -> Option<String> {
    let link = std::fs::read_link(system.path(format!("/sys/class/net/{name}/device/driver"))).ok()?;
    link.file_name().map(|driver| format!("driver {}", driver.to_string_lossy()))
}

fn mtu(system: &System, name: &str) -> Finding {
    const FEATURE: &str = "MTU";
    let text = system.read(&format!("/sys/class/net/{name}/mtu")).unwrap_or_default();
    match text.parse::<u32>().ok().map(|mtu| (mtu, mtu.saturating_sub(TUNNEL_OVERHEAD))) {
        Some((mtu, path)) if path < LEAST_PATH_MTU => Finding::error(
            FEATURE,
            format!("{name} has {mtu} bytes"),
            format!("want {} or more", LEAST_PATH_MTU + TUNNEL_OVERHEAD),
        ),
        Some((mtu, path)) if mtu < 1500 => Finding::note(
            FEATURE,
            format!("{name} has {mtu} bytes, pods {path}"),
            "where the network carries 1550 or more, raising it leaves pods the usual 1500",
        ),
        Some((mtu, path)) => Finding::ok(FEATURE, format!("{name} has {mtu} bytes, pods {path}")),
        None => Finding::warning(FEATURE, format!("{name} does not tell"), ""),
    }
}

fn modes(system: &System, name: &str) -> Finding {
    const FEATURE: &str = "NIC modes";
    let is_physical = Path::exists(&system.path(format!("/sys/class/net/{name}/device")));
    let driver = driver(system, name).unwrap_or_default();
    let driver = driver.trim_start_matches("driver ");
    match (is_physical, ZERO_COPY.contains(&driver)) {
        (true, true) => Finding::ok(
            FEATURE,
            format!("{driver} may do zero-copy; `headracectl status` tells what was had"),
        ),
        (true, false) => Finding::warning(
            FEATURE,
            format!("{driver} is not known to do zero-copy: the kernel copies each frame"),
            "a NIC with one of the drivers ice, i40e, mlx5_core, ixgbe, igc, bnxt_en is several times as fast",
        ),
        (false, _) => Finding::note(FEATURE, format!("{name} is virtual: the kernel copies each frame"), ""),
    }
}

fn foreign_program(name: &str) -> Finding {
    const FEATURE: &str = "XDP program";
    let index = headrace_xsk::device::index(name);
    match index.map_err(|e| e.to_string()).and_then(|index| program_on(index).map_err(|e| e.to_string())) {
        Ok(None) => Finding::ok(FEATURE, format!("none is on {name} yet")),
        Ok(Some(found)) if found.name.starts_with("uplink") => {
            Finding::ok(FEATURE, format!("Headrace's is on {name} ({})", found.mode))
        }
        Ok(Some(found)) => Finding::error(
            FEATURE,
            format!("{name} has one of somebody else: {} (id {}, {})", found.name, found.id, found.mode),
            format!(
                "find its owner with `bpftool net` and `bpftool prog show id {}`; Headrace replaces none",
                found.id
            ),
        ),
        Err(problem) => Finding::note(FEATURE, format!("cannot tell: {problem}"), ""),
    }
}

fn receive_queues(system: &System, name: &str) -> u32 {
    let names = system.names(&format!("/sys/class/net/{name}/queues"));
    names.iter().filter(|queue| queue.starts_with("rx-")).count() as u32
}

fn spread_over_workers(name: &str, count: u32, workers: u32) -> Finding {
    const FEATURE: &str = "queues";
    let seen = format!("{name} has {count} receive queues for {workers} workers");
    match count.cmp(&workers) {
        std::cmp::Ordering::Equal => Finding::ok(FEATURE, seen),
        std::cmp::Ordering::Less => Finding::warning(
            FEATURE,
            format!("{seen}: some workers get nothing from the wire"),
            "start the dataplane with --uplink-queues match, or fewer --cores",
        ),
        std::cmp::Ordering::Greater => Finding::note(
            FEATURE,
            format!("{seen}: workers serve several queues each"),
            "the dataplane's --uplink-queues match saves them that",
        ),
    }
}

/// Tunnel packets differ in their UDP source port: a NIC that does not look at it puts all of a peer's on one queue.
fn udp_spread(name: &str) -> Finding {
    const FEATURE: &str = "UDP spread";
    match spread::udp(name) {
        Ok(UdpSpread::Ports) => Finding::ok(FEATURE, "by addresses and ports"),
        Ok(UdpSpread::Addresses) => Finding::warning(
            FEATURE,
            format!("{name} spreads UDP by addresses only: the tunnel of each peer comes by one queue"),
            "start the dataplane with --uplink-queues match",
        ),
        Err(e) => Finding::note(FEATURE, format!("{name} does not tell how it spreads UDP: {e}"), ""),
    }
}
