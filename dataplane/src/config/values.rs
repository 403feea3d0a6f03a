//! Values of configuration keys: from text, with a remedy when it does not fit.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Kernel limit on a device's name, without its final zero (IFNAMSIZ).
const LONGEST_DEVICE_NAME: usize = 15;
/// Most workers: queue numbers and frame areas are sized for it.
const MOST_WORKERS: usize = 64;
/// Fewest chunks with which a port's rings can be filled and frames be built.
const FEWEST_CHUNKS: u32 = 512;
/// Most chunks of an area: the 4 GiB that a descriptor of ours counts.
const MOST_CHUNKS: u32 = 1 << 20;

/// Where workers run: one entry per worker, the core it is pinned to, or `None` for wherever the scheduler puts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(Vec<Option<usize>>);

impl Cores {
    /// One worker on the last core that this process may use: the first ones serve most interrupts.
    pub(super) fn last_available() -> Self {
        Self(vec![available().last().copied()])
    }

    /// How many workers there are, at least 1.
    pub fn workers(&self) -> usize {
        self.0.len()
    }

    /// The cores, in the order of the workers.
    pub fn iter(&self) -> impl Iterator<Item = Option<usize>> + '_ {
        self.0.iter().copied()
    }
}

/// Which driver serves which kind of port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drivers {
    /// Pods and the host link.
    pub pods: PodDriver,
    /// The tunnel to other nodes.
    pub tunnel: TunnelDriver,
}

/// A driver for veths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodDriver {
    /// The fastest that the kernel has.
    #[default]
    Auto,
    /// AF_XDP sockets.
    AfXdp,
    /// Packet sockets with virtio-net headers.
    AfPacket,
}

/// A driver for tunnelled packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunnelDriver {
    /// AF_XDP where the uplink has zero-copy, else UDP sockets.
    #[default]
    Auto,
    /// The uplink's AF_XDP sockets.
    AfXdp,
    /// UDP sockets with segmentation.
    Udp,
}

/// What a worker does without packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Poll {
    /// Spins a little, then sleeps until something comes.
    #[default]
    Adaptive,
    /// Looks again at once: a core of its own for the lowest latency.
    Always,
}

/// Names of both ends of the host link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLinkNames {
    /// The kernel's end, which holds addresses and routes.
    pub kernel: String,
    /// The dataplane's end.
    pub dataplane: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One object a line.
    Json,
}

pub(super) fn run_dir(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if path.is_absolute() && path != Path::new("/") {
        return Ok(path.into());
    }
    Err("an absolute path is needed, such as /run/headrace".into())
}

pub(super) fn device(text: &str) -> Result<String, String> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if text.is_empty() || text.len() > LONGEST_DEVICE_NAME || text.contains(bad) || matches!(text, "." | "..")
    {
        return Err(format!(
            "a device name has 1 to {LONGEST_DEVICE_NAME} bytes, no /, : or space; see `ip link`"
        ));
    }
    Ok(text.into())
}

pub(super) fn state_file(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("a file is needed".into()) } else { Ok(text.into()) }
}

pub(super) fn poll(text: &str) -> Result<Poll, String> {
    match text {
        "adaptive" => Ok(Poll::Adaptive),
        "always" => Ok(Poll::Always),
        _ => Err("adaptive or always".into()),
    }
}

pub(super) fn drivers(text: &str) -> Result<Drivers, String> {
    let wrong = || "auto, af_xdp, or a list such as pods=af_packet,tunnel=udp".to_owned();
    let mut drivers = Drivers::default();
    for part in text.split(',') {
        match part.trim() {
            "auto" => drivers = Drivers::default(),
            "af_xdp" => drivers = Drivers { pods: PodDriver::AfXdp, tunnel: TunnelDriver::AfXdp },
            "pods=auto" => drivers.pods = PodDriver::Auto,
            "pods=af_xdp" => drivers.pods = PodDriver::AfXdp,
            "pods=af_packet" => drivers.pods = PodDriver::AfPacket,
            "tunnel=auto" => drivers.tunnel = TunnelDriver::Auto,
            "tunnel=af_xdp" => drivers.tunnel = TunnelDriver::AfXdp,
            "tunnel=udp" => drivers.tunnel = TunnelDriver::Udp,
            _ => return Err(wrong()),
        }
    }
    Ok(drivers)
}

pub(super) fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        // TOML's own words too.
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("on or off".into()),
    }
}

pub(super) fn keep_or_match(text: &str) -> Result<bool, String> {
    match text {
        "match" => Ok(true),
        "keep" => Ok(false),
        _ => Err("keep or match".into()),
    }
}

pub(super) fn cores(text: &str) -> Result<Cores, String> {
    let available = available();
    let remedy = || format!("cores of this process, as in 0,1 or 2-5; it may use {available:?}");
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (usize::from_str(first.trim()), usize::from_str(last.trim())) {
            (Ok(first), Ok(last)) if first <= last && last - first < MOST_WORKERS => {
                list.extend(first..=last);
            }
            _ => return Err(remedy()),
        }
    }
    let known = list.iter().all(|core| available.contains(core));
    let distinct = list.iter().collect::<std::collections::BTreeSet<_>>().len() == list.len();
    if !known || !distinct || list.len() > MOST_WORKERS {
        return Err(remedy() + ", each once");
    }
    Ok(Cores(list.into_iter().map(Some).collect()))
}

pub(super) fn workers(text: &str) -> Result<Cores, String> {
    number(text, &(1..=MOST_WORKERS)).map(|n| Cores(vec![None; n]))
}

pub(super) fn flow_capacity(text: &str) -> Result<usize, String> {
    number(text, &(1024..=headrace_flowmap::MAX_CAPACITY))
}

pub(super) fn chunks(text: &str) -> Result<u32, String> {
    number(text, &(FEWEST_CHUNKS..=MOST_CHUNKS))
}

pub(super) fn host_link(text: &str) -> Result<HostLinkNames, String> {
    let kernel = device(text)?;
    match kernel.strip_suffix('0') {
        Some(stem) if !stem.is_empty() => Ok(HostLinkNames { dataplane: format!("{stem}1"), kernel }),
        _ => Err("the name must end in 0, as headrace0 does; the dataplane's end gets 1 in its place".into()),
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err("human or json".into()),
    }
}

pub(super) fn flow_log(text: &str) -> Result<PathBuf, String> {
    if text == "-" || Path::new(text).is_absolute() {
        return Ok(text.into());
    }
    Err("give an absolute path, or - for standard output".into())
}

pub(super) fn flow_log_sample(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(n @ 1..=1_000_000) => Ok(n),
        _ => Err("give a number from 1 to 1000000".into()),
    }
}

pub(super) fn log_level(text: &str) -> Result<tracing::Level, String> {
    tracing::Level::from_str(text).map_err(|_| "error, warn, info, debug or trace".into())
}

fn number<T: FromStr + PartialOrd + Debug>(text: &str, range: &RangeInclusive<T>) -> Result<T, String> {
    match text.trim().parse::<T>() {
        Ok(n) if range.contains(&n) => Ok(n),
        _ => Err(format!("a whole number from {:?} to {:?} is needed", range.start(), range.end())),
    }
}

/// Cores that this process may run on, ascending.
fn available() -> Vec<usize> {
    let mut ids: Vec<_> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|c| c.id).collect();
    ids.sort_unstable();
    ids
}
