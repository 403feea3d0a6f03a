//! Programs of tests/k8s: built when they are not in the cache.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::LabError;

/// build.sh's exit status when Go is not installed.
const NO_GO: i32 = 3;

/// Where the program is that is all parts of Kubernetes. `None` when it cannot be built because Go is missing. The first
/// build takes minutes.
///
/// # Errors
/// [`LabError::Command`] when it does not build.
pub fn program() -> Result<Option<PathBuf>, LabError> {
    build("cluster")
}

/// Where the program `part` of tests/k8s is; `None` without Go.
///
/// # Errors
/// [`LabError::Command`] when it does not build.
pub fn build(part: &str) -> Result<Option<PathBuf>, LabError> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s/build.sh");
    let built = Command::new(&script)
        .arg(part)
        .stderr(Stdio::inherit())
        .output()
        .map_err(LabError::io(format!("run {}", script.display())))?;
    if built.status.code() == Some(NO_GO) {
        return Ok(None);
    }
    if !built.status.success() {
        return Err(LabError::Command {
            space: "this machine".to_owned(),
            command: format!("{} {part}", script.display()),
            status: built.status.to_string(),
            output: String::new(),
        });
    }
    Ok(Some(String::from_utf8_lossy(&built.stdout).trim().into()))
}
