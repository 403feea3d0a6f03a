//! The agent's derivation and its stream to the dataplane, in this process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use headrace_api::state::{Change, Resource};
use headrace_api::{check, proto};
use headrace_control::config::AgentConfig;
use headrace_control::desired::{Derivation, NodeConfig};
use headrace_control::objects::Objects;
use headrace_control::push::{self, Pusher, SyncWatch};
use headrace_control::seam::Ports;
use headrace_control::source::manifests::parse;
use prost::Message as _;
use tokio::runtime::Runtime;

use super::cluster::{self, Version};

pub(super) struct Feeder {
    runtime: Runtime,
    folder: PathBuf,
    objects: Objects,
    derivation: Derivation,
    pusher: Pusher,
    sync: SyncWatch,
    /// Of the pods that the agent has attached.
    ports: Ports,
}

impl Feeder {
    pub(super) fn start(run_dir: &Path, node: &str, folder: &Path) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let args = ["agent", "--node-name", node, "--manifests", "/unused"].map(Into::into);
        let config = AgentConfig::parse_from_layers(args, |_| None).unwrap();
        let vtep_mac = headrace_control::identity::derive_vtep_mac(node);
        let config = NodeConfig { name: node.into(), vtep_mac, cluster: config.cluster() };
        let (pusher, feed) = push::new(run_dir.into());
        let sync = pusher.sync();
        runtime.spawn(feed.run());
        let derivation = Derivation::new(config);
        Self {
            runtime,
            folder: folder.into(),
            objects: Objects::default(),
            derivation,
            pusher,
            sync,
            ports: ports(run_dir),
        }
    }

    /// Times of parsing, of deriving, and from objects to the dataplane's answer.
    pub(super) fn build(&mut self) -> (Duration, Duration, Duration) {
        let texts: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(&self.folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        let begin = Instant::now();
        let parsed: Vec<_> = texts.iter().map(|(path, text)| parse(path, text).unwrap()).collect();
        let parsing = begin.elapsed();
        for file in parsed {
            let objects = file.objects();
            self.objects.nodes = self.objects.nodes.clone().union(objects.nodes);
            self.objects.services = self.objects.services.clone().union(objects.services);
            self.objects.slices = self.objects.slices.clone().union(objects.slices);
        }
        let begin = Instant::now();
        self.derivation.update(&self.objects);
        let deriving = begin.elapsed();
        self.push();
        (parsing, deriving, begin.elapsed())
    }

    /// Changes one endpoint of a Service. How long until the dataplane has it in force.
    pub(super) fn change(&mut self, service: usize, version: Version) -> Duration {
        let text = cluster::service(service, version);
        let parsed = parse(Path::new("change.yaml"), text.as_bytes()).unwrap().objects();
        let begin = Instant::now();
        for (name, slice) in &parsed.slices {
            self.objects.slices.insert(name.clone(), Arc::clone(slice));
        }
        self.derivation.update(&self.objects);
        self.push();
        begin.elapsed()
    }

    /// Hands the state on and waits until the dataplane has it.
    fn push(&mut self) {
        let before: Option<SystemTime> = self.sync.borrow().updated;
        self.pusher.update(self.derivation.desired(&self.ports));
        let arrives = self.sync.wait_for(|s| s.lacking_since.is_none() && s.updated != before);
        let arrived = self.runtime.block_on(async { tokio::time::timeout(super::LIMIT, arrives).await });
        assert!(arrived.is_ok_and(|end| end.is_ok()), "the dataplane does not take the state");
    }
}

/// The ports in the state that the dataplane has saved.
fn ports(run_dir: &Path) -> Ports {
    let saved = fs::read(run_dir.join("state.pb")).unwrap();
    let (_, change) = check::request(proto::SyncRequest::decode(saved.as_slice()).unwrap()).unwrap();
    let Change::Snapshot(resources) = change else { panic!("the saved state is no snapshot") };
    let port = |resource| match resource {
        Resource::Port(port) => Some((port.id, port)),
        _ => None,
    };
    Arc::new(resources.into_iter().filter_map(port).collect())
}
