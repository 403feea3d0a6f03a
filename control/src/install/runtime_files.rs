//! What else lies in the runtime's configuration directory.
//!
//! Runtimes read `*.conf`, `*.conflist` and `*.json` there and take the first in the order of names (go-cni, `loadFromConfDir`).

use std::fs;
use std::path::Path;

/// Network configurations of a directory, in the order in which a runtime reads them. None where it cannot be read.
pub fn configurations(conf_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(conf_dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter(|entry| !entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| [".conf", ".conflist", ".json"].iter().any(|ending| name.ends_with(ending)))
        .collect();
    names.sort();
    names
}

/// A sentence for each configuration of others: what it means and what to do about it.
pub fn others(conf_dir: &Path, ours: &str) -> Vec<String> {
    let say = |name: &String| {
        let path = conf_dir.join(name);
        match name.as_str() < ours {
            true => format!(
                "{} is read before {ours}: the runtime uses that network; remove it, or give --conf-name a name that sorts before it",
                path.display()
            ),
            false => format!(
                "{} is not used while {ours} is there; remove it when it is no longer wanted",
                path.display()
            ),
        }
    };
    configurations(conf_dir).iter().filter(|name| *name != ours).map(say).collect()
}
