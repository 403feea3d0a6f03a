//! Settings of a link under /proc/sys/net, which show the network namespace of the thread that looks.

use std::io;
use std::path::PathBuf;

/// Writes `net.FAMILY.conf.LINK.KEY`, unless it has the value. A kernel without the family has nothing to set.
///
/// # Errors
/// The path and the cause, as when /proc/sys is read-only in a container.
pub(crate) fn set(family: &str, link: &str, key: &str, value: &str) -> io::Result<()> {
    let path = PathBuf::from(format!("/proc/sys/net/{family}/conf/{link}/{key}"));
    let named =
        |e: io::Error| io::Error::new(e.kind(), format!("setting {} to {value}: {e}", path.display()));
    match std::fs::read_to_string(&path) {
        Ok(now) if now.trim() == value => Ok(()),
        Ok(_) => std::fs::write(&path, value).map_err(named),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(named(e)),
    }
}
