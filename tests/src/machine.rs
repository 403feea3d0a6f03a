//! A machine of the lab: a network namespace and a mount namespace, held open by one sleeping process.
//!
//! Inside, /run, /var/lib and /sys are the machine's own, so that daemons find their usual paths: /run/netns, host-local's
//! /var/lib/cni, bpffs on /sys/fs/bpf, /sys/class/net. The machine's directory of the lab has the same path inside and
//! outside. Nothing is mounted or bound in the host's namespaces: when the last process is gone, the kernel takes
//! namespaces, links and mounts away.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::LabError;
use crate::process::Process;
use crate::space::{MARK, Space};

/// What the holder does before it sleeps. `$1` is the machine's directory. It is kept on /mnt while /run is replaced.
const SET_UP: &str = r#"
mount --bind "$1" /mnt
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p "$1" /run/netns
mount --move /mnt "$1"
mount --bind "$1/state" /var/lib
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1
test ! -e /proc/sys/net/bridge || sysctl -qw net.bridge.bridge-nf-call-iptables=0
ip link set lo up
echo ready
exec sleep infinity
"#;

/// Folders of every machine's directory.
const FOLDERS: [&str; 4] = ["run", "state", "manifests", "logs"];

/// A machine that is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The machine's own namespaces.
    pub space: Space,
    /// Its directory below the lab's.
    pub directory: PathBuf,
    /// Keeps the namespaces open.
    pub holder: Process,
}

impl Machine {
    /// Makes a machine named `name` of lab `lab` with its directory below `lab_directory`.
    ///
    /// # Errors
    /// [`LabError::Io`] or [`LabError::Command`] with what could not be made.
    pub fn start(lab: &str, lab_directory: &Path, name: &str) -> Result<Self, LabError> {
        let directory = lab_directory.join(name);
        for folder in FOLDERS {
            let path = directory.join(folder);
            fs::create_dir_all(&path).map_err(LabError::io(format!("make {}", path.display())))?;
        }
        let holder = start_holder(lab, name, &directory)?;
        let file = |kind| PathBuf::from(format!("/proc/{}/ns/{kind}", holder.pid));
        let space =
            Space { name: name.to_owned(), lab: lab.to_owned(), mount: file("mnt"), net: file("net") };
        Ok(Self { space, directory, holder })
    }

    /// Makes the network namespace /run/netns/`name` inside the machine, as a container runtime does, with `lo` up.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn add_namespace(&self, name: &str) -> Result<Space, LabError> {
        self.space.run(&format!("ip netns add {name}"))?;
        let space = self.namespace(name);
        space.script(
            "ip link set lo up
             sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1",
        )?;
        Ok(space)
    }

    /// The namespace /run/netns/`name` inside the machine, which need not exist.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Space {
        let net = format!("/proc/{}/root/run/netns/{name}", self.holder.pid);
        Space { name: name.to_owned(), net: net.into(), ..self.space.clone() }
    }

    /// Removes the namespace /run/netns/`name`.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn delete_namespace(&self, name: &str) -> Result<(), LabError> {
        self.space.run(&format!("ip netns del {name}")).map(drop)
    }

    /// Starts a daemon that writes to [`log`](Self::log)`(name)`. Its process is the one given, whatever enters the
    /// machine before it.
    ///
    /// # Errors
    /// [`LabError::Io`].
    pub fn launch<A: AsRef<OsStr>>(
        &self,
        name: &str,
        argv: impl IntoIterator<Item = A>,
    ) -> Result<Process, LabError> {
        let failed = || LabError::io(format!("start {name} on {}", self.space.name));
        let output = OpenOptions::new().create(true).append(true).open(self.log(name)).map_err(failed())?;
        let errors = output.try_clone().map_err(failed())?;
        let mut command = self.space.command();
        command.args(argv).stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child = command.spawn().map_err(failed())?;
        // nsenter turns into the daemon, so the process id stays the same.
        let process = Process::of(child.id()).map_err(failed())?;
        reap(child);
        Ok(process)
    }

    /// An error about a program that [`launch`](Self::launch) started as `name`, with the end of its log.
    #[must_use]
    pub fn failure(&self, name: &'static str, problem: String) -> LabError {
        let log = self.log(name);
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(25)..].join("\n");
        LabError::Daemon { daemon: name, node: self.space.name.clone(), problem, log, tail }
    }

    /// A file in the machine's log folder.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.directory.join("logs").join(format!("{name}.log"))
    }
}

fn start_holder(lab: &str, name: &str, directory: &Path) -> Result<Process, LabError> {
    let log = directory.join("logs/machine.log");
    let failed = || LabError::io(format!("start machine {name}"));
    let errors = File::create(&log).map_err(failed())?;
    let mut child = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "sh", "-euc", SET_UP, "set-up"])
        .arg(directory)
        .env(MARK, lab)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(failed())?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).map_err(failed())?;
    }
    if line.trim() != "ready" {
        let status = child.wait().map_err(failed())?.to_string();
        let output = fs::read_to_string(&log).unwrap_or_default();
        return Err(LabError::Command {
            space: name.to_owned(),
            command: "set up".to_owned(),
            status,
            output,
        });
    }
    let holder = Process::of(child.id()).map_err(failed())?;
    reap(child);
    Ok(holder)
}

/// Waits for a child in the background, so that it does not stay a zombie when it ends before this process does.
pub(crate) fn reap(mut child: std::process::Child) {
    std::thread::spawn(move || child.wait());
}
