//! A node of the cluster: a machine of the lab that runs a containerd and a kubelet.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::DNS;
use super::image::Image;
use crate::control_plane::ControlPlane;
use crate::machine::Machine;
use crate::process::{Process, wait_until};
use crate::state::Node;
use crate::{LabError, cgroup, command};

/// Makes mounts and control groups.
const SET_UP: &str = include_str!("node.sh");
/// Starts a daemon in them.
const START: &str = include_str!("daemon.sh");
/// Where containerd listens, in the node's /run.
const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// Time for containerd to serve, or to read an image.
const LIMIT: Duration = Duration::from_secs(60);

/// A node that was started.
#[derive(Clone, Debug)]
pub struct ClusterNode {
    /// Its namespaces and directory.
    pub machine: Machine,
    /// On the LAN.
    pub address: Ipv4Addr,
    program: PathBuf,
    kubelet: Process,
}

/// Whether this machine has what nodes are made of.
///
/// # Errors
/// [`LabError::MissingProgram`].
pub fn check_machine() -> Result<(), LabError> {
    let programs = ["containerd", "containerd-shim-runc-v2", "ctr", "runc", "busybox"];
    let missing = programs.into_iter().find(|program| command::find_program(program).is_none());
    let plugin = "/usr/lib/cni/loopback";
    let missing = missing.or_else(|| (!Path::new(plugin).exists()).then_some(plugin));
    missing.map_or(Ok(()), |program| Err(LabError::MissingProgram(program.to_owned())))
}

impl ClusterNode {
    /// Makes `node`'s machine a node of `plane`'s cluster, with the images of `archives`.
    ///
    /// # Errors
    /// [`LabError`] with what did not start.
    pub(super) fn start(plane: &ControlPlane, node: &Node, archives: &[PathBuf]) -> Result<Self, LabError> {
        let machine = node.machine.clone();
        let lab = &machine.space.lab;
        let group = cgroup::of_lab(lab).join(&machine.space.name).display().to_string();
        machine.space.succeed(&["sh", "-euc", SET_UP, "node.sh", &group], LIMIT)?;
        start_containerd(&machine)?;
        archives.iter().try_for_each(|archive| import(&machine, archive))?;
        let name = &machine.space.name;
        let address = node.plan.address;
        let names = [name.as_str(), &address.to_string()];
        plane.certificate(&machine.directory, "kubelet", &names)?;
        let user = format!("system:node:{name}");
        let kubeconfig = plane.kubeconfig(&machine.directory, &user, Some("system:nodes"))?;
        fs::rename(machine.directory.join(kubeconfig), machine.directory.join("kubelet.kubeconfig"))
            .map_err(LabError::io("rename a kubeconfig"))?;
        write(&machine, "kubelet.yaml", &kubelet_config(&machine))?;
        let program = plane.program().to_owned();
        let kubelet = start_kubelet(&machine, address, &program)?;
        Ok(Self { machine, address, program, kubelet })
    }

    /// `worker1`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.machine.space.name
    }

    /// A path of the node's files as this process sees it.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.machine.holder.pid))
    }

    /// Ends the kubelet and starts it again, which registers a node that was deleted.
    ///
    /// # Errors
    /// [`LabError::Io`].
    pub fn restart_kubelet(&mut self) -> Result<(), LabError> {
        self.kubelet.signal(Signal::KILL).map_err(LabError::io("kill the kubelet"))?;
        if !self.kubelet.wait_gone(LIMIT) {
            return Err(LabError::io("kill the kubelet")(std::io::Error::other("it does not end")));
        }
        self.kubelet = start_kubelet(&self.machine, self.address, &self.program)?;
        Ok(())
    }
}

fn start_containerd(machine: &Machine) -> Result<(), LabError> {
    write(machine, "containerd.toml", &containerd_config())?;
    let config = machine.directory.join("containerd.toml").display().to_string();
    daemon(machine, "containerd", &["containerd", "--config", &config])?;
    let serves = || {
        let answer = machine.space.try_run(&["ctr", "version"], LIMIT);
        answer.is_ok_and(|answer| answer.status.success())
    };
    if wait_until(LIMIT, serves) {
        return Ok(());
    }
    let log = machine.log("containerd");
    Err(LabError::Daemon {
        daemon: "containerd",
        node: machine.space.name.clone(),
        problem: format!("did not serve in {LIMIT:?}"),
        tail: fs::read_to_string(&log).unwrap_or_default(),
        log,
    })
}

/// By a copy in the machine's directory, since its /run is another.
fn import(machine: &Machine, archive: &Path) -> Result<(), LabError> {
    let copy = machine.directory.join("image.tar");
    fs::copy(archive, &copy).map_err(LabError::io(format!("copy {}", archive.display())))?;
    let file = copy.display().to_string();
    machine.space.succeed(&["ctr", "-n", "k8s.io", "images", "import", &file], LIMIT)?;
    fs::remove_file(&copy).map_err(LabError::io(format!("remove {file}")))
}

fn start_kubelet(machine: &Machine, address: Ipv4Addr, program: &Path) -> Result<Process, LabError> {
    let file = |name: &str| machine.directory.join(name).display().to_string();
    let flags = [
        program.display().to_string(),
        "kubelet".to_owned(),
        format!("--kubeconfig={}", file("kubelet.kubeconfig")),
        format!("--config={}", file("kubelet.yaml")),
        format!("--hostname-override={}", machine.space.name),
        format!("--node-ip={address}"),
        format!("--tls-cert-file={}", file("kubelet.crt")),
        format!("--tls-private-key-file={}", file("kubelet.key")),
        format!("--node-labels=topology.kubernetes.io/zone={}", machine.space.name),
    ];
    daemon(machine, "kubelet", &flags.each_ref().map(String::as_str))
}

fn daemon(machine: &Machine, name: &str, argv: &[&str]) -> Result<Process, LabError> {
    machine.launch(name, ["sh", "-euc", START, "daemon.sh"].iter().chain(argv))
}

/// Without CAP_SYS_RESOURCE nothing may be spared more than its parent when memory runs out.
fn containerd_config() -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
"#,
        Image::PAUSE
    )
}

/// As kubeadm's, but for control groups of either version, swap, a disk that may be nearly full, and no registry.
fn kubelet_config(machine: &Machine) -> String {
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://{CONTAINERD}
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {ca}}}}}
authorization: {{mode: Webhook}}
clusterDNS: [{DNS}]
clusterDomain: cluster.local
resolvConf: ''
evictionHard: {{imagefs.available: 0%, nodefs.available: 0%}}
imageGCHighThresholdPercent: 100
imagePullCredentialsVerificationPolicy: NeverVerify
maxPods: 200
registryPullQPS: 0
eventRecordQPS: 0
",
        ca = machine.directory.join("kubelet-ca.crt").display(),
    )
}

fn write(machine: &Machine, file: &str, text: &str) -> Result<(), LabError> {
    let path = machine.directory.join(file);
    fs::write(&path, text).map_err(LabError::io(format!("write {}", path.display())))
}
