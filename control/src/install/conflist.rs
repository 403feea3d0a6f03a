//! The network configuration list as it is installed.
//!
//! `cniVersion` is 1.0.0, since runtimes with libcni before 1.2 read that key alone and know no 1.1.0; newer ones choose the
//! highest of `cniVersions` that they know, and with 1.1.0 they ask for STATUS.

use std::path::Path;

use headrace_cni::conf::DEFAULT_RUN_DIR;
use serde_json::json;

/// Name of the file. Runtimes take the first one in the order of names: "00-headrace" stands before flannel's "10-flannel",
/// Cilium's "05-cilium" and Multus' "00-multus".
pub const FILE: &str = "00-headrace.conflist";

/// Capabilities that the plugin serves; a runtime hands on what is asked for a pod only where they are named.
pub const CAPABILITIES: [&str; 7] =
    ["portMappings", "bandwidth", "mac", "ips", "ipRanges", "dns", "io.kubernetes.cri.pod-annotations"];

/// The list for an agent that serves `run_dir`, as text.
pub fn text(run_dir: &Path) -> String {
    let capabilities: serde_json::Map<_, _> =
        CAPABILITIES.iter().map(|name| ((*name).to_owned(), true.into())).collect();
    let mut plugin = json!({ "type": super::PLUGIN, "capabilities": capabilities });
    if run_dir != Path::new(DEFAULT_RUN_DIR) {
        plugin["runDir"] = json!(run_dir);
    }
    let list = json!({
        "cniVersion": "1.0.0",
        "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
        "name": "headrace",
        "plugins": [plugin],
    });
    format!("{list:#}\n")
}
