//! Settings under /proc/sys/net, which show the network namespace of the thread that looks.
//!
//! A container's /proc/sys is read-only unless the container is privileged. So our DaemonSets mount the node's /proc/sys/net at
//! [`OF_NODE`]: the network namespace in there is still that of the thread, and CAP_NET_ADMIN is enough to write.

use std::io;
use std::path::{Path, PathBuf};

/// Where a container has the node's /proc/sys/net, writable.
pub const OF_NODE: &str = "/host/proc/sys/net";
const OWN: &str = "/proc/sys/net";

/// The file of a setting, such as "ipv4/conf/eth0/rp_filter".
pub fn path(key: &str) -> PathBuf {
    // The image has the directory also where nothing is mounted.
    let mounted = Path::new(OF_NODE).join("ipv4").is_dir();
    Path::new(if mounted { OF_NODE } else { OWN }).join(key)
}

/// Writes a setting, unless it has the value. A kernel without it, as without IPv6, has nothing to set.
///
/// # Errors
/// The path and the cause.
pub fn set(key: &str, value: &str) -> io::Result<()> {
    let path = path(key);
    let named =
        |e: io::Error| io::Error::new(e.kind(), format!("cannot write {value} to {}: {e}", path.display()));
    match std::fs::read_to_string(&path) {
        Ok(now) if now.trim() == value => Ok(()),
        Ok(_) => std::fs::write(&path, value).map_err(named),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(named(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lacks_is_no_error_and_what_it_refuses_is_named() {
        assert!(set("ipv4/conf/headrace-none/rp_filter", "2").is_ok());
        let error = set("ipv4/ip_forward", "no number").unwrap_err().to_string();
        assert!(error.contains("net/ipv4/ip_forward") && error.contains("no number"), "{error}");
    }
}
