//! Images without a registry: archives as `docker save` writes them, which `ctr images import` takes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{LabError, command};

/// Debian's busybox-static.
const BUSYBOX: &str = "/bin/busybox";

/// An image of one layer, or an archive that is there already.
#[derive(Clone, Debug)]
pub enum Image {
    /// To be made.
    Made {
        /// With a tag other than `latest`, which a kubelet would pull.
        name: &'static str,
        /// What a container runs when it says nothing.
        entrypoint: Vec<&'static str>,
        /// Programs: from where, to where in the image.
        programs: Vec<(PathBuf, &'static str)>,
    },
    /// An archive that `ctr images import` takes.
    Archive(PathBuf),
}

impl Image {
    /// What holds a pod's namespaces.
    pub const PAUSE: &'static str = "lab.local/pause:1";
    /// A shell and the usual tools.
    pub const BUSYBOX: &'static str = "lab.local/busybox:1";

    /// The image that holds a pod's namespaces.
    #[must_use]
    pub fn pause() -> Self {
        let entrypoint = vec!["/sleep", "2147483647"];
        Self::Made { name: Self::PAUSE, entrypoint, programs: vec![(BUSYBOX.into(), "sleep")] }
    }

    /// busybox with links for all that it can be.
    #[must_use]
    pub fn busybox() -> Self {
        let programs = vec![(BUSYBOX.into(), "bin/busybox")];
        Self::Made { name: Self::BUSYBOX, entrypoint: vec![], programs }
    }

    /// CoreDNS, the program `coredns`.
    #[must_use]
    pub fn dns(coredns: PathBuf) -> Self {
        let programs = vec![(coredns, "coredns")];
        Self::Made { name: "lab.local/dns:1", entrypoint: vec!["/coredns"], programs }
    }

    /// Writes the archive to `folder`, unless it is one; its path.
    ///
    /// # Errors
    /// [`LabError::Io`] or [`LabError::Command`].
    pub fn save(&self, folder: &Path) -> Result<PathBuf, LabError> {
        let Self::Made { name, entrypoint, programs } = self else {
            let Self::Archive(path) = self else { unreachable!("there are two kinds") };
            return Ok(path.clone());
        };
        let file = name.replace(['/', ':'], "-");
        let archive = folder.join(format!("{file}.tar"));
        let folder = folder.join(file);
        let root = folder.join("root");
        fill(&root, programs).map_err(LabError::io(format!("make image {name}")))?;
        let layer = folder.join("layer.tar");
        tar(&layer, &root)?;
        let failed = || LabError::io(format!("make image {name}"));
        let digest = hex(&Sha256::digest(fs::read(&layer).map_err(failed())?));
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Entrypoint": entrypoint, "Env": ["PATH=/bin"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        });
        let manifest = json!([{ "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }]);
        fs::write(folder.join("config.json"), config.to_string()).map_err(failed())?;
        fs::write(folder.join("manifest.json"), manifest.to_string()).map_err(failed())?;
        fs::remove_dir_all(&root).map_err(failed())?;
        tar(&archive, &folder)?;
        fs::remove_dir_all(&folder).map_err(failed())?;
        Ok(archive)
    }
}

fn fill(root: &Path, programs: &[(PathBuf, &str)]) -> std::io::Result<()> {
    for folder in ["bin", "etc", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for (from, to) in programs {
        let to = root.join(to);
        to.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::copy(from, &to)?;
        if to.ends_with("bin/busybox") {
            let list = Command::new(from).arg("--list").output()?.stdout;
            for applet in String::from_utf8_lossy(&list).lines().filter(|applet| *applet != "busybox") {
                symlink("busybox", to.with_file_name(applet))?;
            }
        }
    }
    Ok(())
}

fn tar(archive: &Path, folder: &Path) -> Result<(), LabError> {
    let archive = archive.display().to_string();
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "--numeric-owner", "-C"]).arg(folder);
    let argv = ["-cf", &archive, "."];
    let output = command::run("this machine", tar, &argv, None, std::time::Duration::from_secs(60))?;
    if output.status.success() {
        return Ok(());
    }
    Err(LabError::Command {
        space: "this machine".to_owned(),
        command: format!("tar {}", argv.join(" ")),
        status: output.status.to_string(),
        output: output.text(),
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
