//! A static state in a file, for a dataplane that runs alone: the resources of the contract as YAML.
//!
//! It is checked like a controller's snapshot. The file is read again when it has changed, and at SIGHUP; what cannot be used
//! is told and changes nothing. Keys that are not given have the values that an agent would choose.
//!
//! ```yaml
//! settings: {node-addresses: [192.0.2.1], pod-cidrs: [10.9.1.0/24], cluster-cidrs: [10.9.0.0/16]}
//! ports:
//!   - {id: 1, interface: left, mac: "02:00:00:00:00:01", addresses: [10.9.1.2]}
//! peers:
//!   - {name: b, address: 192.0.2.2, pod-cidrs: [10.9.2.0/24], vtep-mac: "02:00:00:00:00:0b"}
//! ```

use std::fmt::Display;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use headrace_api::state::{
    Bandwidth, Change, Encapsulation, Generation, Peer, Port, PortId, Resource, Settings,
};
use headrace_api::{API_VERSION, check, proto};
use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::Vni;
use ipnetwork::IpNetwork;
use serde::Deserialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Source ports of masqueraded traffic, as the agent asks for them.
const SNAT_PORTS: std::ops::RangeInclusive<u16> = 50_000..=59_999;
/// flannel's port, and its VNI.
const VXLAN_PORT: u16 = 8472;
const VNI: u32 = 1;
/// Inner MAC address of a node that no other one sends to.
const VTEP_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
/// A larger file is none of ours.
const LARGEST: u64 = 16 << 20;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the state file {file} cannot be used: {problem}; correct it, docs/nfv.md has an example")]
pub struct StateFileError {
    file: String,
    problem: String,
}

/// A file that is followed.
pub struct StateFile {
    path: PathBuf,
    /// By which a change shows: time of modification, size, inode.
    seen: Option<(i64, i64, u64, u64)>,
    hangup: Signal,
}

impl StateFile {
    /// Begins to follow `path`, which need not be read yet.
    ///
    /// # Errors
    /// SIGHUP cannot be had.
    pub fn follow(path: &Path) -> std::io::Result<Self> {
        Ok(Self { path: path.into(), seen: None, hangup: signal(SignalKind::hangup())? })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it; changes until then are known.
    ///
    /// # Errors
    /// [`StateFileError`].
    pub fn load(&mut self) -> Result<(Generation, Change), StateFileError> {
        self.seen = stamp(&self.path);
        load(&self.path)
    }

    /// Whether it has changed since it was read.
    pub fn has_changed(&self) -> bool {
        stamp(&self.path) != self.seen
    }

    /// Done when the operator asks for it to be read (SIGHUP); never without a file.
    pub async fn asked(file: Option<&mut Self>) {
        match file {
            Some(file) => drop(file.hangup.recv().await),
            None => std::future::pending().await,
        }
    }
}

/// Reads the state in `file`.
///
/// # Errors
/// [`StateFileError`] names the file, the place and what is wrong there.
pub fn load(file: &Path) -> Result<(Generation, Change), StateFileError> {
    let wrong = |problem: String| StateFileError { file: file.display().to_string(), problem };
    let size = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if size > LARGEST {
        return Err(wrong(format!("it has {size} bytes, more than {LARGEST}")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    parse(&text).map_err(wrong)
}

fn stamp(file: &Path) -> Option<(i64, i64, u64, u64)> {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.mtime(), meta.mtime_nsec(), meta.size(), meta.ino()))
}

fn parse(text: &str) -> Result<(Generation, Change), String> {
    let state: StateText = serde_norway::from_str(text).map_err(|error| error.to_string())?;
    let mut resources = vec![Resource::Settings(state.settings.checked()?)];
    for port in &state.ports {
        resources.push(Resource::Port(port.checked()?));
    }
    for peer in &state.peers {
        resources.push(Resource::Peer(peer.checked()?));
    }
    // What holds for a controller's snapshot holds for a file's.
    let request = proto::SyncRequest {
        api_version: API_VERSION,
        generation: 1,
        change: Some(proto::sync_request::Change::Snapshot(proto::Snapshot {
            resources: resources.iter().map(Into::into).collect(),
        })),
    };
    check::request(request)
        .map_err(|refusals| refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct StateText {
    settings: SettingsText,
    #[serde(default)]
    ports: Vec<PortText>,
    #[serde(default)]
    peers: Vec<PeerText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SettingsText {
    node_addresses: Vec<String>,
    pod_cidrs: Vec<String>,
    #[serde(default)]
    cluster_cidrs: Vec<String>,
    vxlan_port: Option<NonZeroU16>,
    vni: Option<u32>,
    vtep_mac: Option<String>,
    #[serde(default)]
    direct: bool,
    #[serde(default)]
    masquerade: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PortText {
    id: u32,
    interface: String,
    mac: String,
    addresses: Vec<String>,
    path_mtu: Option<u16>,
    #[serde(default = "yes")]
    superframes: bool,
    #[serde(default)]
    label: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PeerText {
    name: String,
    address: String,
    pod_cidrs: Vec<String>,
    vtep_mac: String,
}

fn yes() -> bool {
    true
}

impl SettingsText {
    fn checked(&self) -> Result<Settings, String> {
        let place = "settings";
        let vni = self.vni.unwrap_or(VNI);
        let vxlan_port = self.vxlan_port.map_or(VXLAN_PORT, NonZeroU16::get);
        Ok(Settings {
            node_addresses: all::<IpAddr>(place, "node-addresses", &self.node_addresses)?,
            pod_cidrs: all::<IpNetwork>(place, "pod-cidrs", &self.pod_cidrs)?,
            cluster_cidrs: all::<IpNetwork>(place, "cluster-cidrs", &self.cluster_cidrs)?,
            service_cidrs: Vec::new(),
            vxlan_port: NonZeroU16::new(vxlan_port).ok_or("settings: vxlan-port is 0")?,
            vni: Vni::new(vni).ok_or_else(|| format!("settings: vni {vni} does not fit into 24 bits"))?,
            vtep_mac: self.vtep_mac.as_deref().map_or(Ok(VTEP_MAC), |mac| one(place, "vtep-mac", mac))?,
            encapsulation: if self.direct { Encapsulation::Direct } else { Encapsulation::Vxlan },
            masquerade: self.masquerade,
            non_masquerade_cidrs: Vec::new(),
            snat_ports: SNAT_PORTS,
            node_port_ranges: Vec::new(),
            node_port_loopback: false,
            masquerade_all: false,
            local_sources: Vec::new(),
        })
    }
}

impl PortText {
    fn checked(&self) -> Result<Port, String> {
        let place = format!("port {}", self.id);
        Ok(Port {
            id: PortId::new(self.id).ok_or("port 0: choose an id of 1 or more")?,
            interface: self.interface.clone(),
            mac: one(&place, "mac", &self.mac)?,
            addresses: all(&place, "addresses", &self.addresses)?,
            path_mtu: self.path_mtu,
            superframes: self.superframes,
            label: self.label.clone(),
            host_ports: Vec::new(),
            bandwidth: Bandwidth::default(),
        })
    }
}

impl PeerText {
    fn checked(&self) -> Result<Peer, String> {
        let place = format!("peer {}", self.name);
        Ok(Peer {
            name: self.name.clone(),
            address: one(&place, "address", &self.address)?,
            other_addresses: Vec::new(),
            pod_cidrs: all(&place, "pod-cidrs", &self.pod_cidrs)?,
            vtep_mac: one(&place, "vtep-mac", &self.vtep_mac)?,
        })
    }
}

fn all<T: FromStr<Err: Display>>(place: &str, key: &str, texts: &[String]) -> Result<Vec<T>, String> {
    texts.iter().map(|text| one(place, key, text)).collect()
}

fn one<T: FromStr<Err: Display>>(place: &str, key: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{place}: {key} {text:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = r#"
settings: {node-addresses: [192.0.2.1], pod-cidrs: [10.9.1.0/24], cluster-cidrs: [10.9.0.0/16]}
ports:
  - {id: 1, interface: left, mac: "02:00:00:00:00:01", addresses: [10.9.1.2]}
peers:
  - {name: b, address: 192.0.2.2, pod-cidrs: [10.9.2.0/24], vtep-mac: "02:00:00:00:00:0b"}
"#;

    #[test]
    fn a_file_becomes_a_snapshot_of_the_contract() {
        let (_, change) = parse(STATE).unwrap();
        let Change::Snapshot(resources) = change else { panic!("{change:?}") };
        assert_eq!(resources.len(), 3);
        let port =
            resources.iter().find_map(|r| if let Resource::Port(port) = r { Some(port) } else { None });
        assert!(port.unwrap().superframes);
    }

    #[test]
    fn the_example_that_is_shipped_can_be_used() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/nfv/two-ports.yaml");
        let (_, change) = load(file.as_ref()).unwrap();
        assert!(matches!(change, Change::Snapshot(resources) if resources.len() >= 3));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (from, to, words) in [
            ("10.9.1.2", "10.9.1", "port 1: addresses \"10.9.1\""),
            ("id: 1", "id: 0", "id of 1 or more"),
            ("interface: left", "interfase: left", "line 4"),
            ("10.9.2.0/24", "10.9.2.0/40", "peer b: pod-cidrs"),
            ("settings:", "setting:", "setting"),
            ("interface: left", "interface: a-name-that-is-too-long", "port 1"),
            ("id: 1", "id: one", "ports[0].id"),
        ] {
            let error = parse(&STATE.replace(from, to)).unwrap_err();
            assert!(error.contains(words), "{to}: {error}");
        }
    }

    #[tokio::test]
    async fn a_change_of_the_file_is_seen_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.yaml");
        let mut file = StateFile::follow(&path).unwrap();
        let error = file.load().unwrap_err().to_string();
        assert!(error.contains("state.yaml") && error.contains("docs/nfv.md"), "{error}");
        std::fs::write(&path, STATE).unwrap();
        assert!(file.has_changed());
        file.load().unwrap();
        assert!(!file.has_changed());
        std::fs::write(&path, "settings: {}").unwrap();
        assert!(file.has_changed() && file.load().is_err() && !file.has_changed());
    }
}
