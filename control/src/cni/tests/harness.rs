//! A node that is a network namespace: the CNI server in it, a dataplane of which only the answers are made up, and the real
//! plugin as the client.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use headrace_api::state::Encapsulation;
use headrace_cni::{Environment, plugin};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

use crate::cni::{Options, serve_with};
use crate::node::testns::TestNetns;
use crate::push::gate::PortAnswer;
use crate::seam::{Directories, FactsWatch, NodeFacts, PortBoard, PortGate, Ports, PortsWatch};

/// What the dataplane says to a new port.
#[derive(Clone, Copy)]
pub(super) enum Policy {
    Ready,
    NotReady,
    Silent,
}

/// A node with an uplink, on which the server can be started and stopped.
pub(super) struct Node {
    pub(super) netns: Arc<TestNetns>,
    pub(super) options: Options,
    dir: TempDir,
    facts: watch::Sender<Option<Arc<NodeFacts>>>,
    policy: watch::Sender<Policy>,
}

/// The server at work; stopped when dropped.
pub(super) struct Running {
    pub(super) ports: PortsWatch,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// One call of the plugin.
pub(super) struct Call<'a> {
    pub(super) verb: &'a str,
    pub(super) id: &'a str,
    pub(super) netns: String,
    pub(super) args: &'a str,
    pub(super) config: Value,
}

impl Node {
    /// `None` where namespaces cannot be made.
    pub(super) fn new(pod_cidr: &str) -> Option<Self> {
        let netns = TestNetns::new()?;
        netns.command("ip", "link add uplink type veth peer name wire");
        netns.command("ip", "addr add 192.0.2.1/24 dev uplink");
        netns.command("ip", "link set uplink up");
        let facts = NodeFacts {
            name: "node-a".to_owned(),
            node_addresses: vec!["192.0.2.1".parse().unwrap()],
            pod_cidrs: vec![pod_cidr.parse().unwrap()],
            cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
            encapsulation: Encapsulation::Vxlan,
            masquerade: true,
            non_masquerade_cidrs: Vec::new(),
        };
        Some(Self {
            netns: Arc::new(netns),
            options: Options { queues: NonZeroU32::new(2), port_patience: Duration::from_millis(500) },
            dir: TempDir::new().unwrap(),
            facts: watch::channel(Some(Arc::new(facts))).0,
            policy: watch::channel(Policy::Ready).0,
        })
    }

    pub(super) fn answer_with(&self, policy: Policy) {
        self.policy.send_replace(policy);
    }

    pub(super) fn state(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Starts the server and waits until it listens.
    pub(super) fn start(&self) -> Running {
        let (publisher, ports) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let (netns, facts, policy) =
            (Arc::clone(&self.netns), self.facts.subscribe(), self.policy.subscribe());
        let directories = Directories { run: self.dir.path().into(), state: self.dir.path().into() };
        let (published, options) = (ports.clone(), self.options);
        let thread = std::thread::spawn(move || {
            netns
                .block_on(|| serve_until(stopped, directories, facts, publisher, published, policy, options));
        });
        let socket = self.dir.path().join("cni.sock");
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(!thread.is_finished(), "the server has ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        Running { ports, stop: Some(stop), thread: Some(thread) }
    }

    pub(super) fn config(&self) -> Value {
        json!({"cniVersion": "1.1.0", "name": "headrace", "type": "headrace-cni", "runDir": self.dir.path()})
    }

    /// Runs the plugin; an error is the JSON it printed.
    pub(super) fn call(&self, call: &Call<'_>) -> Result<Value, Value> {
        let variables = [
            ("CNI_COMMAND", call.verb),
            ("CNI_CONTAINERID", call.id),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", &call.netns),
            ("CNI_PATH", "/opt/cni/bin:/usr/lib/cni"),
            ("CNI_ARGS", call.args),
        ];
        let environment: Environment =
            variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let stdin = call.config.to_string();
        let run = || plugin::run(&environment, &mut stdin.as_bytes(), &mut stdout, &mut stderr);
        let status = self.netns.run(run);
        let printed = if stdout.is_empty() { Value::Null } else { serde_json::from_slice(&stdout).unwrap() };
        if status == 0 { Ok(printed) } else { Err(printed) }
    }

    pub(super) fn simple(&self, verb: &str, id: &str, netns: &str) -> Result<Value, Value> {
        self.call(&Call { verb, id, netns: netns.to_owned(), args: "", config: self.config() })
    }

    pub(super) fn add(&self, id: &str, pod: &TestNetns) -> Result<Value, Value> {
        self.simple("ADD", id, &pod.path())
    }

    pub(super) fn del(&self, id: &str, pod: &TestNetns) -> Result<Value, Value> {
        self.simple("DEL", id, &pod.path())
    }

    pub(super) fn check(&self, id: &str, pod: &TestNetns, previous: &Value) -> Result<Value, Value> {
        let mut config = self.config();
        config["prevResult"] = previous.clone();
        self.call(&Call { verb: "CHECK", id, netns: pod.path(), args: "", config })
    }

    /// Addresses in use, as the files say.
    pub(super) fn reserved(&self) -> Vec<String> {
        names(&self.state("ipam/headrace"), |name| name.parse::<std::net::Ipv4Addr>().is_ok())
    }

    /// Fails when anything of any pod is left on the node.
    pub(super) fn assert_clean(&self, running: &Running) {
        let links = self.netns.command("ip", "-o link show");
        assert!(!links.contains(": hr"), "{links}");
        assert_eq!(self.reserved(), Vec::<String>::new());
        assert_eq!(names(&self.state("attachments"), |name| name.ends_with(".json")), Vec::<String>::new());
        assert!(running.published().is_empty());
    }
}

impl Running {
    pub(super) fn published(&self) -> Ports {
        self.ports.borrow().clone().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the server panicked");
        }
    }
}

async fn serve_until(
    stopped: oneshot::Receiver<()>,
    directories: Directories,
    facts: FactsWatch,
    publisher: crate::seam::PortsPublisher,
    published: PortsWatch,
    policy: watch::Receiver<Policy>,
    options: Options,
) {
    let (board, answers) = watch::channel(PortBoard::default());
    tokio::select! {
        end = serve_with(directories, facts, PortGate::new(answers), publisher, options) => panic!("ended: {end:?}"),
        () = dataplane(published, board, policy) => {}
        _ = stopped => {}
    }
}

async fn dataplane(mut ports: PortsWatch, board: watch::Sender<PortBoard>, policy: watch::Receiver<Policy>) {
    while ports.changed().await.is_ok() {
        let wanted = ports.borrow_and_update().clone().unwrap();
        let answer = match *policy.borrow() {
            Policy::Ready => PortAnswer::Ready,
            Policy::NotReady => PortAnswer::NotReady("no queue 0".to_owned()),
            Policy::Silent => PortAnswer::Sent,
        };
        board.send_modify(|board| {
            board.synced = true;
            board.ports.retain(|id, _| wanted.contains_key(id));
            for id in wanted.keys() {
                board.ports.entry(*id).or_insert_with(|| answer.clone());
            }
        });
    }
}

fn names(dir: &std::path::Path, select: impl Fn(&str) -> bool) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).filter(|n| select(n)).collect();
    names.sort();
    names
}
