//! Who the node is to its peers: the VTEP MAC address and the annotations that tell it.
//!
//! Annotations are flannel's, byte for byte (flannel, pkg/subnet/kube/annotations.go and pkg/backend/vxlan), so that
//! flannel nodes and ours read each other's. The MAC address is made of the node's name and kept in a file: it stays the
//! same when the state is lost, and also when a later release makes it in another way.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::Vni;
use serde_json::json;

use crate::files::write_atomically;

/// Keys of flannel's node annotations.
pub mod annotation {
    /// "vxlan".
    pub const BACKEND_TYPE: &str = "flannel.alpha.coreos.com/backend-type";
    /// `{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}`.
    pub const BACKEND_DATA: &str = "flannel.alpha.coreos.com/backend-data";
    /// Where the tunnel ends.
    pub const PUBLIC_IP: &str = "flannel.alpha.coreos.com/public-ip";
    /// Set by the operator, goes before [`PUBLIC_IP`].
    pub const PUBLIC_IP_OVERWRITE: &str = "flannel.alpha.coreos.com/public-ip-overwrite";
    /// "true"; flannel looks at no node without it.
    pub const KUBE_SUBNET_MANAGER: &str = "flannel.alpha.coreos.com/kube-subnet-manager";
}

/// File in the state directory with the node's VTEP MAC address.
const VTEP_MAC_FILE: &str = "vtep-mac";
/// File in the run directory that shows the annotations.
const NODE_FILE: &str = "node.json";

/// The node's identity cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file is there but holds something else.
    #[error("{}: {text:?} is no address of one station; delete the file to have one made", path.display())]
    NoMac {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
    /// The file cannot be read or written.
    #[error("{}: {source}; the agent must be able to write its run and state directories", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The VTEP MAC address kept in `state_dir`, or the one made of `node_name`, which is then kept.
///
/// # Errors
/// [`IdentityError`] when the file can be neither used nor written.
pub fn vtep_mac(state_dir: &Path, node_name: &str) -> Result<MacAddr, IdentityError> {
    let path = state_dir.join(VTEP_MAC_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let mac = text.trim().parse().ok().filter(|m: &MacAddr| !m.is_multicast() && *m != MacAddr::ZERO);
            mac.ok_or(IdentityError::NoMac { path, text })
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let mac = derive_vtep_mac(node_name);
            write_atomically(&path, format!("{mac}\n").as_bytes())
                .map_err(|source| IdentityError::Io { path, source })?;
            Ok(mac)
        }
        Err(source) => Err(IdentityError::Io { path, source }),
    }
}

/// A locally administered unicast address made of the node's name: 46 bits of its 64-bit FNV-1a hash.
pub fn derive_vtep_mac(node_name: &str) -> MacAddr {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in node_name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // FNV's high bits depend on all bytes only after a few more; fold them into the low ones, which do.
    let [_, _, a, b, c, d, e, f] = (hash ^ (hash >> 48)).to_be_bytes();
    MacAddr([(a & 0xfc) | 0x02, b, c, d, e, f])
}

/// flannel's backend data. It reads its own by splitting the text, so order and spacing are fixed.
pub fn backend_data(vni: Vni, mac: MacAddr) -> String {
    format!(r#"{{"VNI":{},"VtepMAC":"{mac}"}}"#, vni.get())
}

/// The annotations by which peers find this node.
pub fn annotations(vni: Vni, mac: MacAddr, public: IpAddr) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        (annotation::BACKEND_TYPE, "vxlan".into()),
        (annotation::BACKEND_DATA, backend_data(vni, mac)),
        (annotation::PUBLIC_IP, public.to_string()),
        (annotation::KUBE_SUBNET_MANAGER, "true".into()),
    ])
}

/// Writes the annotations as a patch of the Node object to `node.json` in `run_dir`, for operators to copy.
///
/// # Errors
/// [`IdentityError::Io`].
pub fn show(
    run_dir: &Path,
    node_name: &str,
    annotations: &BTreeMap<&'static str, String>,
) -> Result<(), IdentityError> {
    let path = run_dir.join(NODE_FILE);
    let patch = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": node_name, "annotations": annotations },
    });
    write_atomically(&path, format!("{patch:#}\n").as_bytes())
        .map_err(|source| IdentityError::Io { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_mac_is_local_unicast_and_differs_between_similar_names() {
        let mut seen = std::collections::BTreeSet::new();
        for i in 0..20_000 {
            let mac = derive_vtep_mac(&format!("node-{i}"));
            assert_eq!(mac.0[0] & 0b11, 0b10, "{mac}");
            assert!(seen.insert(mac), "{mac} twice");
        }
    }

    #[test]
    fn a_made_mac_never_changes_between_releases() {
        assert_eq!(derive_vtep_mac("node-a").to_string(), "1e:c2:20:78:2d:c4");
    }

    #[test]
    fn the_kept_mac_goes_before_the_made_one() {
        let dir = tempfile::tempdir().unwrap();
        let made = vtep_mac(dir.path(), "a").unwrap();
        assert_eq!(made, derive_vtep_mac("a"));
        assert_eq!(vtep_mac(dir.path(), "renamed").unwrap(), made);
        std::fs::write(dir.path().join(VTEP_MAC_FILE), "01:00:00:00:00:01\n").unwrap();
        let error = vtep_mac(dir.path(), "a").unwrap_err().to_string();
        assert!(error.contains("vtep-mac") && error.contains("delete the file"), "{error}");
    }

    #[test]
    fn backend_data_is_written_as_flannel_writes_it() {
        let mac = "12:c6:65:89:b4:e3".parse().unwrap();
        let text = backend_data(Vni::new(1).unwrap(), mac);
        assert_eq!(text, r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}"#);
    }
}
