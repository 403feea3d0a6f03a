//! Control groups of a lab: one per Kubernetes node, in every hierarchy of this machine, below `headrace-lab/NAME`.
//!
//! Containers are no children of the lab and do not carry its mark, but whatever they do, they stay in their node's groups:
//! so these are how a lab's end finds them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::LabError;
use crate::process::Process;

/// Time for killed processes to be gone and groups with them.
const LIMIT: Duration = Duration::from_secs(20);

/// The group of all groups of lab `name`, below the root of each hierarchy.
pub(crate) fn of_lab(name: &str) -> PathBuf {
    Path::new("headrace-lab").join(name)
}

/// Kills what is in the groups of lab `name` and removes them.
///
/// # Errors
/// [`LabError::Io`] with the group that cannot be removed.
pub(crate) fn remove(name: &str) -> Result<(), LabError> {
    let end = Instant::now() + LIMIT;
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(of_lab(name));
        while group.exists() {
            kill(&group);
            match remove_empty(&group) {
                Err(error) if Instant::now() > end => {
                    return Err(LabError::io(format!("remove {}", group.display()))(error));
                }
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        // The group of all labs goes with the last one; while it is not empty, this fails as it should.
        let _ = group.parent().map(fs::remove_dir);
    }
    Ok(())
}

/// Where hierarchies of control groups are mounted, of either version (proc_pid_mounts(5)).
fn hierarchies() -> Result<Vec<PathBuf>, LabError> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(LabError::io("read /proc/self/mounts"))?;
    let group = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        matches!(fields.next()?, "cgroup" | "cgroup2").then(|| path.into())
    };
    Ok(mounts.lines().filter_map(group).collect())
}

fn kill(group: &Path) {
    each_below(group, &mut |group| {
        let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines().filter_map(|line| Process::of(line.parse().ok()?).ok()) {
            // What cannot be killed keeps its group, which is told.
            let _ = process.signal(Signal::KILL);
        }
    });
}

fn remove_empty(group: &Path) -> io::Result<()> {
    let mut result = Ok(());
    each_below(group, &mut |group| {
        if let Err(error) = fs::remove_dir(group) {
            result = Err(error);
        }
    });
    result
}

/// Calls `action` with all groups below `group`, the innermost first, and with itself.
fn each_below(group: &Path, action: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            each_below(&entry.path(), action);
        }
    }
    action(group);
}
