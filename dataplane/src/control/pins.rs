//! Where XDP links and maps are pinned, so that they outlive the process: one directory per run directory.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use headrace_xsk::bpffs;

const BPFFS: &str = "/sys/fs/bpf";

/// Pins cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// No BPF file system.
    #[error(transparent)]
    Bpffs(#[from] bpffs::BpffsError),
    /// The directory cannot be made, or removed.
    #[error("cannot {action} {path}: {source}")]
    Directory {
        /// What was tried.
        action: &'static str,
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Mounts the BPF file system if need be. Returns whether it was mounted now.
///
/// # Errors
/// [`PinError::Bpffs`].
pub fn mount() -> Result<bool, PinError> {
    Ok(bpffs::ensure(Path::new(BPFFS))?)
}

/// Mounts the BPF file system if need be and makes the directory for this run directory.
///
/// # Errors
/// [`PinError`] names the path.
pub fn ensure(run_dir: &Path) -> Result<PathBuf, PinError> {
    mount()?;
    let path = directory(run_dir);
    std::fs::create_dir_all(&path).map_err(|source| PinError::Directory {
        action: "make",
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

/// Removes all pins. Programs that nobody else holds leave their devices with them. Returns whether there were any.
///
/// # Errors
/// [`PinError`] names the path.
pub fn remove(run_dir: &Path) -> Result<bool, PinError> {
    let path = directory(run_dir);
    match std::fs::remove_dir_all(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(PinError::Directory { action: "remove", path, source }),
    }
}

/// `/sys/fs/bpf/headrace-` and the run directory with `-` for `/`. Other bytes than letters, digits and `_` become `%xx`:
/// the file system takes no dots, and two run directories must never share a name.
fn directory(run_dir: &Path) -> PathBuf {
    let mut name = String::from("headrace");
    for part in run_dir.components() {
        if let std::path::Component::Normal(part) = part {
            name.push('-');
            for byte in part.as_encoded_bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => name.push(char::from(*byte)),
                    // Writing to a string cannot fail.
                    other => drop(write!(name, "%{other:02x}")),
                }
            }
        }
    }
    Path::new(BPFFS).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_directory_has_a_name_of_its_own_without_dots() {
        let name = |path: &str| directory(Path::new(path)).file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name("/run/headrace"), "headrace-run-headrace");
        assert_eq!(name("/run/headrace/"), "headrace-run-headrace");
        let names = ["/a/b", "/a-b", "/a/-b", "/a-/b", "/a.b", "/a%2db"].map(name);
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        assert!(names.iter().all(|n| !n.contains(['.', '/'])));
    }
}
