//! A real Kubernetes control plane in a lab: etcd, kube-apiserver and, where wanted, controllers and a scheduler.
//!
//! All are one program, tests/k8s/cluster, and run on a machine of the lab that every node reaches. Nodes, Services and
//! EndpointSlices are made by kubectl. The processes carry the lab's mark: whatever happens, they end with the lab.

mod certificates;
mod program;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;

use self::certificates::Authority;
use crate::LabError;
use crate::machine::Machine;
use crate::plan::{CLUSTER_CIDR, SERVICE_CIDR};
use crate::process::{Process, wait_until};

pub use self::program::{build, program};

/// Port of the API server.
pub const PORT: u16 = 6443;

/// Time for the API server to answer /readyz: seconds on a machine that is idle.
const LIMIT: Duration = Duration::from_secs(90);
/// Time for one kubectl: a minute is for a thousand objects on a machine that does other things.
const KUBECTL_LIMIT: Duration = Duration::from_secs(180);
/// Who may do everything.
const ADMIN: &str = "admin";
/// Every request is noted with who, what and the outcome.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
";

/// A control plane that runs. Dropping it ends it.
#[derive(Debug)]
pub struct ControlPlane {
    machine: Machine,
    address: Ipv4Addr,
    program: PathBuf,
    directory: PathBuf,
    authority: Authority,
    /// Besides those that every API server has.
    api_server_flags: Vec<String>,
    /// In the order of their start.
    running: Vec<(&'static str, Process)>,
}

/// One request that the API server has answered, from its audit log.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Audited {
    /// "list", "watch", "patch", ...
    pub verb: String,
    /// Who asked.
    pub user: AuditedUser,
    /// For what; absent for paths that are no objects.
    pub object_ref: Option<AuditedObject>,
    /// The outcome; absent while a watch is open.
    pub response_status: Option<AuditedStatus>,
}

/// The user of a request.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditedUser {
    /// Name, as RBAC knows it.
    pub username: String,
}

/// The object of a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditedObject {
    /// "nodes".
    pub resource: String,
    /// "" = core.
    #[serde(default)]
    pub api_group: String,
    /// "status", or empty.
    #[serde(default)]
    pub subresource: String,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct AuditedStatus {
    /// As in HTTP.
    pub code: u16,
}

impl ControlPlane {
    /// Starts etcd and the API server on `machine`, which has `address`, and waits until the server is ready. `program`
    /// is [`program`]'s.
    ///
    /// # Errors
    /// [`LabError::Daemon`] with the end of a log.
    pub fn start(machine: &Machine, address: Ipv4Addr, program: PathBuf) -> Result<Self, LabError> {
        let directory = machine.directory.join("control-plane");
        fs::create_dir_all(&directory).map_err(LabError::io(format!("make {}", directory.display())))?;
        let names = ["localhost", "kubernetes.default.svc", "127.0.0.1", "10.96.0.1", &address.to_string()];
        let authority = Authority::new(&directory, &names)?;
        let machine = machine.clone();
        let mut plane = Self {
            machine,
            address,
            program,
            directory,
            authority,
            api_server_flags: Vec::new(),
            running: Vec::new(),
        };
        write(&plane.directory, "audit.yaml", AUDIT_POLICY)?;
        plane.kubeconfig(&plane.directory, ADMIN, Some("system:masters"))?;
        plane.authority.issue(&plane.directory, "kubelets", "kube-apiserver", Some("system:masters"), &[])?;
        let data = plane.path("etcd");
        plane.launch("etcd", &["--data-dir", &data, "--unsafe-no-fsync", "--log-level", "warn"])?;
        plane.start_api_server()?;
        Ok(plane)
    }

    /// Starts the API server, after [`stop_api_server`](Self::stop_api_server) with the same objects, and waits until it
    /// is ready.
    ///
    /// # Errors
    /// [`LabError::Daemon`] with the end of its log.
    pub fn start_api_server(&mut self) -> Result<(), LabError> {
        let own = |flag: &str, file: &str| format!("--{flag}={}", self.path(file));
        let flags = [
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--secure-port={PORT}"),
            format!("--advertise-address={}", self.address),
            format!("--service-cluster-ip-range={SERVICE_CIDR}"),
            own("tls-cert-file", "server.crt"),
            own("tls-private-key-file", "server.key"),
            own("client-ca-file", "ca.crt"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            own("service-account-key-file", "accounts.pub"),
            own("service-account-signing-key-file", "accounts.key"),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            own("kubelet-client-certificate", "kubelets.crt"),
            own("kubelet-client-key", "kubelets.key"),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            own("audit-policy-file", "audit.yaml"),
            own("audit-log-path", "audit.log"),
        ];
        let more = self.api_server_flags.clone();
        let flags: Vec<&str> = flags.iter().chain(&more).map(String::as_str).collect();
        self.launch("kube-apiserver", &flags)?;
        let ready = || self.kubectl(&["get", "--raw", "/readyz"]).is_ok_and(|answer| answer == "ok");
        if wait_until(LIMIT, ready) {
            return Ok(());
        }
        Err(self.machine.failure("kube-apiserver", format!("was not ready after {LIMIT:?}")))
    }

    /// Flags that the next start of the API server has besides.
    pub fn api_server_flags(&mut self, flags: &[&str]) {
        self.api_server_flags = flags.iter().map(ToString::to_string).collect();
    }

    /// Starts these controllers of kube-controller-manager.
    ///
    /// # Errors
    /// [`LabError::Io`] when it cannot be started.
    pub fn start_controllers(&mut self, controllers: &[&str]) -> Result<(), LabError> {
        let user = "system:kube-controller-manager";
        let flags = [
            format!("--kubeconfig={}", self.path(&self.kubeconfig(&self.directory, user, None)?)),
            format!("--service-account-private-key-file={}", self.path("accounts.key")),
            format!("--root-ca-file={}", self.path("ca.crt")),
            "--use-service-account-credentials".to_owned(),
            "--leader-elect=false".to_owned(),
            "--allocate-node-cidrs=true".to_owned(),
            format!("--cluster-cidr={CLUSTER_CIDR}"),
            format!("--service-cluster-ip-range={SERVICE_CIDR}"),
            format!("--controllers={}", controllers.join(",")),
        ];
        self.launch("kube-controller-manager", &flags.each_ref().map(String::as_str))
    }

    /// Starts kube-scheduler.
    ///
    /// # Errors
    /// [`LabError::Io`] when it cannot be started.
    pub fn start_scheduler(&mut self) -> Result<(), LabError> {
        let config = self.path(&self.kubeconfig(&self.directory, "system:kube-scheduler", None)?);
        let flags = ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
            .map(|flag| format!("--{flag}={config}"));
        let [config, authentication, authorization] = flags.each_ref().map(String::as_str);
        self.launch("kube-scheduler", &[config, authentication, authorization, "--leader-elect=false"])
    }

    /// The program that all parts of Kubernetes are.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Ends the API server. Its objects stay in etcd.
    ///
    /// # Errors
    /// [`LabError::Daemon`] when it does not end.
    pub fn stop_api_server(&mut self) -> Result<(), LabError> {
        let at = self.running.iter().position(|(part, _)| *part == "kube-apiserver");
        at.map_or(Ok(()), |at| {
            let (part, process) = self.running.remove(at);
            self.end(part, process)
        })
    }

    /// kubectl as an administrator; its standard output.
    ///
    /// # Errors
    /// [`LabError::Command`] when it fails.
    pub fn kubectl(&self, args: &[&str]) -> Result<String, LabError> {
        self.kubectl_with(args, None)
    }

    /// `kubectl apply` of these objects.
    ///
    /// # Errors
    /// [`LabError::Command`] when the API server refuses them.
    pub fn apply(&self, yaml: &str) -> Result<String, LabError> {
        self.kubectl_with(&["apply", "-f", "-"], Some(yaml))
    }

    /// `kubectl create` of many objects, which asks for nothing before it writes.
    ///
    /// # Errors
    /// [`LabError::Command`] when the API server refuses them.
    pub fn create(&self, yaml: &str) -> Result<String, LabError> {
        self.kubectl_with(&["create", "--validate=false", "-f", "-"], Some(yaml))
    }

    /// Writes a kubeconfig for user `user` of group `group`, and the certificates that it names, to `directory`; the name
    /// of the file.
    ///
    /// # Errors
    /// [`LabError::Io`].
    pub fn kubeconfig(&self, directory: &Path, user: &str, group: Option<&str>) -> Result<String, LabError> {
        let file = user.replace(':', "-");
        self.authority.issue(directory, &file, user, group, &[])?;
        let path = |file: &str| directory.join(file).display().to_string();
        let text = format!(
            "apiVersion: v1
kind: Config
clusters: [{{name: lab, cluster: {{server: 'https://{}:{PORT}', certificate-authority: {}}}}}]
users: [{{name: user, user: {{client-certificate: {}, client-key: {}}}}}]
contexts: [{{name: lab, context: {{cluster: lab, user: user}}}}]
current-context: lab
",
            self.address,
            path(&format!("{file}-ca.crt")),
            path(&format!("{file}.crt")),
            path(&format!("{file}.key")),
        );
        let kubeconfig = format!("{file}.kubeconfig");
        write(directory, &kubeconfig, &text)?;
        Ok(kubeconfig)
    }

    /// Writes a certificate and its key for a server at `names`, and the authority's certificate, to `directory`:
    /// `file`.crt, `file`.key, `file`-ca.crt.
    ///
    /// # Errors
    /// [`LabError::Io`].
    pub fn certificate(&self, directory: &Path, file: &str, names: &[&str]) -> Result<(), LabError> {
        self.authority.issue(directory, file, file, None, names)
    }

    /// All requests that the API server has answered so far.
    ///
    /// # Errors
    /// [`LabError::Io`] without a log, [`LabError::Output`] when it cannot be read.
    pub fn audit(&self) -> Result<Vec<Audited>, LabError> {
        let path = self.directory.join("audit.log");
        let text = fs::read_to_string(&path).map_err(LabError::io(format!("read {}", path.display())))?;
        let read = |line: &str| {
            serde_json::from_str(line).map_err(|error| LabError::Output {
                tool: "kube-apiserver's audit log",
                problem: error.to_string(),
                output: line.to_owned(),
            })
        };
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(read).collect()
    }

    fn kubectl_with(&self, args: &[&str], input: Option<&str>) -> Result<String, LabError> {
        let kubeconfig = format!("--kubeconfig={}", self.path(&format!("{ADMIN}.kubeconfig")));
        let program = self.program.display().to_string();
        let argv: Vec<&str> =
            [program.as_str(), "kubectl", &kubeconfig].into_iter().chain(args.iter().copied()).collect();
        let output = self.machine.space.with_input(&argv, input, KUBECTL_LIMIT)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(LabError::Command {
            space: self.machine.space.name.clone(),
            command: format!("kubectl {}", args.join(" ")),
            status: output.status.to_string(),
            output: output.text(),
        })
    }

    fn launch(&mut self, part: &'static str, flags: &[&str]) -> Result<(), LabError> {
        let program = self.program.display().to_string();
        let argv = [program.as_str(), part].into_iter().chain(flags.iter().copied());
        self.running.push((part, self.machine.launch(part, argv)?));
        Ok(())
    }

    fn end(&self, part: &'static str, process: Process) -> Result<(), LabError> {
        process.signal(Signal::TERM).map_err(LabError::io(format!("end {part}")))?;
        // The API server lets requests finish for as long as a minute.
        if process.wait_gone(Duration::from_secs(5)) {
            return Ok(());
        }
        process.signal(Signal::KILL).map_err(LabError::io(format!("kill {part}")))?;
        if process.wait_gone(Duration::from_secs(5)) {
            return Ok(());
        }
        Err(self.machine.failure(part, "does not end".to_owned()))
    }

    fn path(&self, file: &str) -> String {
        self.directory.join(file).display().to_string()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        while let Some((part, process)) = self.running.pop() {
            if let Err(error) = self.end(part, process) {
                eprintln!("{error}");
            }
        }
    }
}

fn write(directory: &Path, file: &str, text: &str) -> Result<(), LabError> {
    let path = directory.join(file);
    fs::write(&path, text).map_err(LabError::io(format!("write {}", path.display())))
}
