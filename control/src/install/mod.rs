//! Puts the CNI plugin and its network configuration in place, and takes them away.
//!
//! The plugin appears by rename: a running runtime may execute it at any moment, and a file that is being written cannot be
//! executed (ETXTBSY). The configuration appears by rename as well, from a temporary file of the same directory: containerd's
//! watcher does not look at files that are created, only at what is written, renamed or removed there
//! (go-cni, `cniNetConfSyncer`). The plugin comes first and goes last, so that no configuration ever names one that is not there.
//! An agent with `--install-cni true` does it by itself ([`keep`]).

mod cli;
pub mod conflist;
mod keep;
pub mod runtime_files;

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub use cli::{CniArgs, InstallArgs, Task, UninstallArgs};
pub(crate) use keep::keep;

/// Name of the plugin's file, as in the network configuration's `type`.
pub const PLUGIN: &str = "headrace-cni";

/// Something could not be put in place or taken away.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source}", path.display())]
pub struct InstallError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Installs plugin and configuration; what is in place already stays as it is. Returns what was done, and what is in the
/// way, in sentences.
///
/// # Errors
/// [`InstallError`]: the file and the cause. What was done before stays; the next attempt goes on.
pub fn install(args: &InstallArgs) -> Result<Vec<String>, InstallError> {
    let plugin = args.plugin_file();
    let content = fs::read(&plugin).map_err(failed("read", &plugin))?;
    let mut report = Vec::new();
    for (folder, name, mode, content) in [
        (&args.bin_dir, PLUGIN, 0o755, content),
        (&args.conf_dir, args.conf_name.as_str(), 0o644, conflist::text(&args.run_dir).into_bytes()),
    ] {
        let path = folder.join(name);
        let changed = put(folder, name, mode, &content)?;
        let done = if changed { "written" } else { "is in place" };
        report.push(format!("{}: {done}", path.display()));
    }
    report.extend(runtime_files::others(&args.conf_dir, &args.conf_name));
    Ok(report)
}

/// Removes configuration and plugin; that they are gone already is fine. Returns what was done.
///
/// # Errors
/// [`InstallError`].
pub fn uninstall(args: &UninstallArgs) -> Result<Vec<String>, InstallError> {
    let mut report = Vec::new();
    for path in [args.conf_dir.join(&args.conf_name), args.bin_dir.join(PLUGIN)] {
        let done = match fs::remove_file(&path) {
            Ok(()) => "removed",
            Err(e) if e.kind() == io::ErrorKind::NotFound => "was not there",
            Err(e) => return Err(failed("remove", &path)(e)),
        };
        report.push(format!("{}: {done}", path.display()));
    }
    Ok(report)
}

/// Puts a file in place by rename within `folder`; `false` when it is there already, with this content and mode.
fn put(folder: &Path, name: &str, mode: u32, content: &[u8]) -> Result<bool, InstallError> {
    let path = folder.join(name);
    if is_there(&path, mode, content) {
        return Ok(false);
    }
    fs::create_dir_all(folder).map_err(failed("make directory", folder))?;
    // Without an ending that a runtime takes for a configuration's.
    let new = folder.join(format!(".{name}.new"));
    write_new(&new, mode, content).map_err(failed("write", &new))?;
    fs::rename(&new, &path).map_err(failed("put in place", &path))?;
    Ok(true)
}

fn is_there(path: &Path, mode: u32, content: &[u8]) -> bool {
    let same_mode = fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o777 == mode);
    same_mode && fs::read(path).is_ok_and(|there| there == content)
}

fn write_new(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    // What a killed attempt left may be open for writing still: never written to again.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = File::create_new(path)?;
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

impl InstallError {
    /// The thread that did it has ended.
    fn interrupted(error: &tokio::task::JoinError) -> Self {
        let source = io::Error::other(error.to_string());
        Self { what: "install", path: PLUGIN.into(), source }
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    move |source| InstallError { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
