//! What is asked for one pod, beyond being attached: `runtimeConfig` (the capabilities of CONVENTIONS.md), `args.cni`,
//! `CNI_ARGS` and the pod's annotations, checked.
//!
//! Keys match whatever the case of their letters, as in Go's decoder, which the reference plugins are written for:
//! containerd hands its own structures on without JSON names ("HostPort" for "hostPort").

mod bandwidth;
mod decode;
mod port_mapping;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};

pub use self::bandwidth::{Bandwidth, Limit};
use self::decode::{Object, invalid};
pub use self::port_mapping::{PortMapping, PortProtocol};
use crate::error::{CniError, ErrorCode};

/// Pod annotation that switches superframes off, if the runtime hands annotations on (capability
/// `io.kubernetes.cri.pod-annotations`, containerd).
pub const SUPERFRAMES_ANNOTATION: &str = "headrace.dev/superframes";

/// Key in `CNI_ARGS`: "on" or "off"; goes before the annotation and the network configuration.
pub const SUPERFRAMES_ARG: &str = "HEADRACE_SUPERFRAMES";

const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// What is asked for one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodOptions {
    /// Whether frames of up to 64 KiB may pass the pod's port; `None` when nobody says.
    pub superframes: Option<bool>,
    /// `mac`: the link-layer address of the pod's end; unicast.
    pub mac: Option<[u8; 6]>,
    /// `ips`: the addresses the pod shall have; without double ones.
    pub ips: Vec<IpAddr>,
    /// `ipRanges`: sets of ranges; the pod gets one address of each set.
    pub ranges: Vec<Vec<AddressRange>>,
    /// `portMappings`: ports of the node that lead to the pod.
    pub port_mappings: Vec<PortMapping>,
    /// `bandwidth`: how much the pod may send and receive.
    pub bandwidth: Bandwidth,
    /// `dns` of the result: that of the network configuration, in which the runtime's takes the place of what it names.
    pub dns: Option<Map<String, Value>>,
}

/// Part of a subnet from which addresses are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// `subnet`.
    pub subnet: IpNetwork,
    /// `rangeStart`: the first address; `None` = the subnet's first for hosts.
    pub first: Option<IpAddr>,
    /// `rangeEnd`: the last address; `None` = the subnet's last for hosts.
    pub last: Option<IpAddr>,
    /// `gateway`: an address that nobody gets.
    pub gateway: Option<IpAddr>,
}

impl PodOptions {
    /// Reads a network configuration as it came, and the pairs of `CNI_ARGS`. For the MAC address and superframes, what
    /// comes later in `network configuration, annotation, args.cni, CNI_ARGS, runtimeConfig` goes before; addresses add up.
    ///
    /// # Errors
    /// `DECODING_FAILURE` for a wrong shape, `INVALID_CONFIG` for a wrong value, `INVALID_ENVIRONMENT` for one in
    /// `CNI_ARGS`; each names the key, the value and what would be right.
    pub fn read(config: &Value, args: &BTreeMap<String, String>) -> Result<Self, CniError> {
        let config = Object::of("the network configuration", config)?;
        let runtime = config.object("runtimeConfig")?;
        let cni_args = config.object("args")?.object("cni")?;
        Ok(Self {
            superframes: superframes(&config, &runtime, args)?,
            mac: mac(&runtime, &cni_args, args)?,
            ips: ips(&runtime, &cni_args, args)?,
            ranges: ranges(&runtime)?,
            port_mappings: port_mapping::read(&runtime)?,
            bandwidth: bandwidth::read(&runtime.object("bandwidth")?)?,
            dns: dns(&config, &runtime)?,
        })
    }
}

fn superframes(
    config: &Object<'_>,
    runtime: &Object<'_>,
    args: &BTreeMap<String, String>,
) -> Result<Option<bool>, CniError> {
    let on_or_off = |key: &str, text: &str| match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("{key} is {text:?}; want \"on\" or \"off\"")),
    };
    if let Some(text) = args.get(SUPERFRAMES_ARG) {
        return on_or_off(SUPERFRAMES_ARG, text).map(Some).map_err(in_args);
    }
    let annotation = runtime.object(ANNOTATIONS)?.text(SUPERFRAMES_ANNOTATION)?;
    let asked = match (annotation, config.text("superframes")?) {
        (Some(text), _) => Some((SUPERFRAMES_ANNOTATION, text)),
        (None, Some(text)) => Some(("superframes", text)),
        (None, None) => None,
    };
    asked.map(|(key, text)| on_or_off(key, text)).transpose().map_err(invalid)
}

fn mac(
    runtime: &Object<'_>,
    cni_args: &Object<'_>,
    args: &BTreeMap<String, String>,
) -> Result<Option<[u8; 6]>, CniError> {
    if let Some(text) = runtime.text("mac")? {
        return parse_mac("runtimeConfig.mac", text).map(Some).map_err(invalid);
    }
    if let Some(text) = args.get("MAC") {
        return parse_mac("MAC in CNI_ARGS", text).map(Some).map_err(in_args);
    }
    cni_args.text("mac")?.map(|text| parse_mac("args.cni.mac", text)).transpose().map_err(invalid)
}

/// Six bytes in hexadecimal, separated by colons or hyphens; of one station, since a pod is one.
fn parse_mac(key: &str, text: &str) -> Result<[u8; 6], String> {
    let wrong =
        || format!("{key} is {text:?}; want the address of one station such as \"0a:58:0a:f4:01:02\"");
    let mut bytes = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut bytes {
        let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
        *byte = u8::from_str_radix(part.ok_or_else(wrong)?, 16).map_err(|_| wrong())?;
    }
    let one_station = bytes[0] & 1 == 0 && bytes != [0; 6];
    if parts.next().is_none() && one_station { Ok(bytes) } else { Err(wrong()) }
}

/// As `host-local` takes them: one in `CNI_ARGS`, lists in `args.cni` and in the runtime's configuration.
fn ips(
    runtime: &Object<'_>,
    cni_args: &Object<'_>,
    args: &BTreeMap<String, String>,
) -> Result<Vec<IpAddr>, CniError> {
    let mut ips = Vec::new();
    if let Some(text) = args.get("IP").filter(|text| !text.is_empty()) {
        ips.push(parse_ip("IP in CNI_ARGS", text).map_err(in_args)?);
    }
    for (object, key) in [(cni_args, "args.cni.ips"), (runtime, "runtimeConfig.ips")] {
        for text in object.texts("ips")? {
            ips.push(parse_ip(key, text).map_err(invalid)?);
        }
    }
    let mut seen = Vec::new();
    ips.retain(|ip| {
        !seen.contains(ip) && {
            seen.push(*ip);
            true
        }
    });
    Ok(ips)
}

/// With a prefix length or without.
fn parse_ip(key: &str, text: &str) -> Result<IpAddr, String> {
    let network = text.parse::<IpNetwork>().map(|n| n.ip());
    network.map_err(|_| {
        format!("{key} has {text:?}; want an address such as \"10.244.1.7\" or \"10.244.1.7/24\"")
    })
}

fn ranges(runtime: &Object<'_>) -> Result<Vec<Vec<AddressRange>>, CniError> {
    let mut sets = Vec::new();
    for (index, set) in runtime.list("ipRanges")?.iter().enumerate() {
        let place = format!("ipRanges[{index}]");
        let set = set.as_array().ok_or_else(|| decode::shape(&place, "a list of ranges"))?;
        let ranges = set.iter().map(|entry| range(&Object::of(&place, entry)?));
        sets.push(ranges.collect::<Result<_, _>>()?);
    }
    Ok(sets)
}

fn range(entry: &Object<'_>) -> Result<AddressRange, CniError> {
    let subnet = entry.text("subnet")?.unwrap_or_default();
    let network = subnet.parse::<IpNetwork>().ok().filter(|_| subnet.contains('/'));
    let wrong = || {
        invalid(format!("{} is {subnet:?}; want a range such as \"10.244.1.0/24\"", entry.place("subnet")))
    };
    let address = |key: &str| match entry.text(key)?.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text
            .parse::<IpAddr>()
            .map(Some)
            .map_err(|_| invalid(format!("{} is {text:?}; want an address", entry.place(key)))),
    };
    Ok(AddressRange {
        subnet: network.ok_or_else(wrong)?,
        first: address("rangeStart")?,
        last: address("rangeEnd")?,
        gateway: address("gateway")?,
    })
}

/// The runtime's capability speaks of servers and searches, the result of nameservers and search.
fn dns(config: &Object<'_>, runtime: &Object<'_>) -> Result<Option<Map<String, Value>>, CniError> {
    let mut dns = config.object("dns")?.to_map();
    let asked = runtime.object("dns")?;
    for (from, to) in [("servers", "nameservers"), ("searches", "search"), ("options", "options")] {
        let texts = asked.texts(from)?;
        if !texts.is_empty() {
            dns.insert(to.to_owned(), json!(texts));
        }
    }
    Ok(Some(dns).filter(|dns| !dns.is_empty()))
}

fn in_args(msg: String) -> CniError {
    CniError::new(ErrorCode::INVALID_ENVIRONMENT, msg)
}

#[cfg(test)]
mod tests;
