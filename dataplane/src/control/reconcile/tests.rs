//! The whole control thread with real devices, sockets and XDP programs: a node, a pod and a LAN in namespaces.

use std::path::{Path, PathBuf};
use std::time::Duration;

use headrace_api::client::connect;
use headrace_api::proto::sync_request::Change;
use headrace_api::{API_VERSION, proto};
use rustix::mount::{UnmountFlags, unmount};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use crate::config::{Config, Task};
use crate::control::namespace::Namespace;
use crate::control::start::{FLOWS, serve_until};

/// Long enough for a slow machine; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A run directory and a BPF file system of the test's own.
struct Directories {
    run: tempfile::TempDir,
    pins: PathBuf,
}

impl Directories {
    fn new() -> Option<Self> {
        let run = tempfile::tempdir().unwrap();
        let pins = run.path().join("bpf");
        if let Err(error) = headrace_xsk::bpffs::ensure(&pins) {
            println!("SKIPPED: {error}");
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "must not be skipped in CI");
            return None;
        }
        Some(Self { run, pins })
    }

    fn config(&self, driver: &str) -> Config {
        let run_dir = self.run.path().to_str().unwrap();
        let words = [
            ["--run-dir", run_dir],
            ["--workers", "2"],
            ["--driver", driver],
            ["--pod-chunks", "2048"],
            ["--uplink-chunks", "2048"],
            ["--flow-capacity", "1024"],
        ];
        let arguments = std::iter::once("test").chain(words.into_iter().flatten()).map(Into::into);
        match Task::read(arguments, &|_| None).unwrap() {
            Task::Run(config) | Task::Cleanup(config) | Task::Prepare(config) => config,
        }
    }
}

impl Drop for Directories {
    fn drop(&mut self) {
        let _ = unmount(&self.pins, UnmountFlags::DETACH);
    }
}

/// A dataplane that runs until this is told to stop.
struct Running {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
    run_dir: PathBuf,
}

impl Running {
    async fn start(directories: &Directories) -> Self {
        Self::start_with("auto", directories).await
    }

    async fn start_with(driver: &str, directories: &Directories) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (config, pins) = (directories.config(driver), directories.pins.clone());
        let run_dir = config.run_dir.clone();
        let task = tokio::task::spawn_local(async move {
            let stopped = async { drop(stopped.await) };
            serve_until(stopped, config, &pins).await.unwrap();
        });
        let running = Self { stop, task, run_dir };
        while connect(&running.run_dir).await.is_err() {
            assert!(!running.task.is_finished(), "it did not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
        // A command that another test is just about to run holds a copy of every descriptor until it does, and with it
        // the lock on the flow table.
        let flows = std::fs::File::open(self.run_dir.join(FLOWS)).unwrap();
        while flows.try_lock().is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn status(&self) -> proto::StatusReply {
        connect(&self.run_dir).await.unwrap().status(proto::StatusRequest {}).await.unwrap().into_inner()
    }

    async fn until(&self, what: &str, holds: impl Fn(&proto::StatusReply) -> bool) -> proto::StatusReply {
        let wait = async {
            loop {
                let status = self.status().await;
                if holds(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(status) => status,
            Err(_) => panic!("never happened: {what}; {:#?}", self.status().await),
        }
    }

    /// Sends one request on a stream of its own.
    async fn send(&self, generation: u64, resources: Vec<proto::Resource>) -> proto::SyncReply {
        send(&self.run_dir, generation, resources).await
    }
}

async fn send(run_dir: &Path, generation: u64, resources: Vec<proto::Resource>) -> proto::SyncReply {
    let change = Some(Change::Snapshot(proto::Snapshot { resources }));
    let (requests, receiver) = mpsc::channel(1);
    requests.send(proto::SyncRequest { api_version: API_VERSION, generation, change }).await.unwrap();
    let mut client = connect(run_dir).await.unwrap();
    let mut replies = client.sync(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    replies.message().await.unwrap().unwrap()
}

fn address(octets: [u8; 4]) -> proto::Address {
    proto::Address { octets: octets.to_vec() }
}

fn prefix(octets: [u8; 4], length: u32) -> proto::Prefix {
    proto::Prefix { address: Some(address(octets)), length }
}

fn resource(kind: proto::resource::Kind) -> proto::Resource {
    proto::Resource { kind: Some(kind) }
}

fn settings() -> proto::Resource {
    resource(proto::resource::Kind::Settings(proto::Settings {
        node_addresses: vec![address([10, 0, 0, 2])],
        pod_cidrs: vec![prefix([10, 42, 1, 0], 24)],
        cluster_cidrs: vec![prefix([10, 42, 0, 0], 16)],
        vxlan_port: 8472,
        vni: 1,
        vtep_mac: vec![2; 6],
        encapsulation: proto::Encapsulation::Vxlan.into(),
        masquerade: true,
        snat_port_first: 20000,
        snat_port_last: 20009,
        ..proto::Settings::default()
    }))
}

fn pod(superframes: bool) -> proto::Resource {
    resource(proto::resource::Kind::Port(proto::Port {
        id: 1,
        interface: "pod0".into(),
        mac: vec![2, 0, 0, 0, 0, 1],
        addresses: vec![address([10, 42, 1, 2])],
        superframes,
        ..proto::Port::default()
    }))
}

fn peer() -> proto::Resource {
    resource(proto::resource::Kind::Peer(proto::Peer {
        name: "b".into(),
        address: Some(address([10, 0, 0, 3])),
        pod_cidrs: vec![prefix([10, 42, 3, 0], 24)],
        vtep_mac: vec![2; 6],
        ..proto::Peer::default()
    }))
}

fn make_pod(node: &Namespace, pod: &Namespace) {
    node.ip(&format!("link add pod0 numrxqueues 2 type veth peer name eth0 netns {}", pod.name()));
    node.ip("link set pod0 mtu 65535 up");
    pod.ip("link set eth0 mtu 65535 up");
}

fn make_uplink(node: &Namespace, lan: &Namespace) {
    node.ip(&format!(
        "link add up0 numrxqueues 2 numtxqueues 2 type veth peer name eth0 netns {} numtxqueues 2",
        lan.name()
    ));
    node.ip("addr add 10.0.0.2/24 dev up0");
    node.ip("link set up0 up");
    lan.ip("addr add 10.0.0.3/24 dev eth0");
    lan.ip("link set eth0 up");
}

fn port<'a>(status: &'a proto::StatusReply, role: &str) -> &'a proto::PortStatus {
    status.ports.iter().find(|port| port.role == role).unwrap()
}

fn all_ready(status: &proto::StatusReply) -> bool {
    status.ports.len() == 3 && status.ports.iter().all(|port| port.ready && port.queues == 2)
}

/// A node with a pod, and a LAN with another node.
struct Lab {
    node: Namespace,
    pod: Namespace,
    _lan: Namespace,
    directories: Directories,
}

/// Runs a test inside the node.
fn with_node(test: impl AsyncFnOnce(&Lab) + Send) {
    let (Some(node), Some(pod), Some(lan)) = (Namespace::new(), Namespace::new(), Namespace::new()) else {
        return;
    };
    let Some(directories) = Directories::new() else { return };
    make_pod(&node, &pod);
    make_uplink(&node, &lan);
    let lab = Lab { node, pod, _lan: lan, directories };
    lab.node.block_on(|| async { tokio::task::LocalSet::new().run_until(test(&lab)).await });
}

#[test]
fn ports_follow_the_controller_and_outlive_the_process() {
    with_node(async |lab| {
        let dataplane = Running::start(&lab.directories).await;
        let status = dataplane.status().await;
        assert_eq!((status.state_source.as_str(), status.generation), ("none", 0));

        let reply = dataplane.send(7, vec![settings(), pod(true), peer()]).await;
        assert!(reply.accepted && reply.ports.len() == 1 && reply.ports[0].ready, "{reply:?}");
        let status =
            dataplane.until("the peer answers", |s| s.peers[0].neighbor.starts_with("reachable")).await;
        assert!(all_ready(&status), "{status:#?}");
        assert_eq!(status.generation, 7);
        let status = dataplane.until("its stream has ended", |s| s.state_source == "kept").await;
        let pod0 = port(&status, "pod");
        assert_eq!((pod0.driver.as_str(), pod0.superframes, pod0.frags), ("af_packet", true, true));
        assert!(pod0.why.contains("auto"), "{}", pod0.why);
        assert_eq!(port(&status, "uplink").interface, "up0");
        for ledger in status.workers.iter().flat_map(|worker| &worker.frames_ledger) {
            let found = ledger.free + ledger.fill + ledger.tx + ledger.in_hand + ledger.quarantined;
            assert_eq!(found, ledger.total, "{ledger:?}");
        }

        let refused = dataplane.send(8, vec![settings(), pod(true), pod(true)]).await;
        assert!(!refused.accepted && refused.refusals[0].resource == "port 1", "{refused:?}");
        let status = dataplane.status().await;
        assert!(all_ready(&status) && status.generation == 7 && status.last_refusals.len() == 1);

        let reply = dataplane.send(9, vec![settings(), pod(false), peer()]).await;
        assert!(reply.ports[0].ready);
        let status = dataplane.status().await;
        assert!(!port(&status, "pod").superframes && status.last_refusals.is_empty());
        dataplane.stop().await;

        let again = Running::start(&lab.directories).await;
        let status = again.status().await;
        assert_eq!((status.state_source.as_str(), status.generation), ("saved", 9));
        assert!(all_ready(&status), "{status:#?}");
        assert_eq!(again.send(1, vec![settings()]).await.ports, vec![]);
        assert_eq!(again.status().await.ports.len(), 2, "host link and uplink");
        again.stop().await;
    });
}

#[test]
fn the_driver_may_change_with_every_start() {
    with_node(async |lab| {
        let (mut generation, mut programs) = (0, Vec::new());
        for driver in ["pods=af_packet", "af_xdp", "auto"] {
            let dataplane = Running::start_with(driver, &lab.directories).await;
            generation += 1;
            assert!(dataplane.send(generation, vec![settings(), pod(true)]).await.accepted);
            let status = dataplane.until("all is open", all_ready).await;
            let pod0 = port(&status, "pod");
            programs.push((pod0.driver.clone(), pod0.xdp_mode.clone()));
            dataplane.stop().await;
        }
        let packet = ("af_packet".to_owned(), String::new());
        assert_eq!(programs, [packet.clone(), ("af_xdp".into(), "generic".into()), packet]);
    });
}

#[test]
fn ports_follow_their_devices() {
    with_node(async |lab| {
        let dataplane = Running::start(&lab.directories).await;
        assert!(dataplane.send(1, vec![settings(), pod(true)]).await.accepted);
        dataplane.until("all is open", all_ready).await;

        lab.node.ip("link del pod0");
        let status = dataplane.until("the pod's device is missed", |s| !port(s, "pod").ready).await;
        assert!(port(&status, "pod").problem.contains("no device pod0"), "{status:#?}");
        make_pod(&lab.node, &lab.pod);
        dataplane.until("the pod is back", all_ready).await;

        lab.node.ip("link del headrace1");
        dataplane
            .until("the host link is back, and the pod with it", |s| {
                all_ready(s) && port(s, "host link").mtu == 65535
            })
            .await;

        lab.node.ip("link set up0 down");
        lab.node.ip("link set up0 name other0");
        let status = dataplane.status().await;
        assert!(port(&status, "pod").ready, "pods do not need the uplink");
        lab.node.ip("link del other0");
        let status = dataplane.until("the uplink is missed", |s| !port(s, "uplink").ready).await;
        assert!(status.warnings.iter().any(|w| w.contains("no uplink")), "{:?}", status.warnings);
        dataplane.stop().await;
    });
}
