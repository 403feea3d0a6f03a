//! Golden derivation: Kubernetes YAML in, what the dataplane is asked to do out.
//!
//! Every `NAME.yaml` beside this file has a `NAME.txt`: what node `a` derives from it, line by line. After a change that
//! is meant, `BLESS=1 cargo test -p headrace-control --test derivation` writes the texts anew; read the difference.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use headrace_api::state::{Endpoint, Frontend, FrontendAddress, Service, Settings};
use headrace_api::{check, proto};
use headrace_control::config::AgentConfig;
use headrace_control::desired::{Derivation, NodeConfig};
use headrace_control::seam::Ports;
use headrace_control::source::manifests;

#[test]
fn every_cluster_is_derived_as_written_beside_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/derivation");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    assert!(cases.len() >= 4, "{cases:?}");
    for case in cases {
        let derived = derive(&case);
        let beside = case.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&beside, &derived).unwrap();
        }
        let expected = std::fs::read_to_string(&beside).unwrap_or_default();
        assert_eq!(derived, expected, "{} differs from what {} gives", beside.display(), case.display());
    }
}

fn derive(case: &Path) -> String {
    let parsed = manifests::parse(case, &std::fs::read(case).unwrap()).unwrap();
    let mut derivation = Derivation::new(node_config());
    derivation.update(&parsed.objects());
    let desired = derivation.desired(&Ports::default());
    let mut text = String::new();
    if let Some(settings) = &desired.settings {
        describe_settings(&mut text, settings);
    }
    for service in desired.services.values() {
        describe(&mut text, service);
        accepted(service);
    }
    for (name, check) in derivation.health_checks() {
        let _ = writeln!(text, "health check {name}: port {}, {} local", check.port, check.local_endpoints);
    }
    for problem in derivation.problems().iter() {
        let _ = writeln!(text, "problem: {problem}");
    }
    text
}

/// The contract's own check takes it.
fn accepted(service: &Service) {
    let resource = (&headrace_api::state::Resource::Service(service.clone())).into();
    let snapshot = proto::Snapshot { resources: vec![resource] };
    let change = Some(proto::sync_request::Change::Snapshot(snapshot));
    let request = proto::SyncRequest { api_version: headrace_api::API_VERSION, generation: 1, change };
    check::request(request).unwrap();
}

fn node_config() -> NodeConfig {
    let args = ["headrace-agent", "--node-name=a", "--manifests=/unused"].map(Into::into);
    let config = AgentConfig::parse_from_layers(args, |_| None).unwrap();
    NodeConfig { name: "a".into(), vtep_mac: "02:00:00:00:00:0a".parse().unwrap(), cluster: config.cluster() }
}

fn describe_settings(text: &mut String, settings: &Settings) {
    let _ = writeln!(
        text,
        "settings: node ports on {:?}, local sources {:?}, Services in {:?}",
        settings.node_port_ranges.iter().map(ToString::to_string).collect::<Vec<_>>(),
        settings.local_sources.iter().map(ToString::to_string).collect::<Vec<_>>(),
        settings.service_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>(),
    );
}

fn describe(text: &mut String, service: &Service) {
    let _ = write!(text, "service {}", service.name);
    let _ = write!(text, ": internal {:?}, external {:?}", service.internal_policy, service.external_policy);
    if let Some(seconds) = service.affinity_seconds {
        let _ = write!(text, ", affinity {seconds} s");
    }
    if !service.source_ranges.is_empty() {
        let ranges: Vec<String> = service.source_ranges.iter().map(ToString::to_string).collect();
        let _ = write!(text, ", from {}", ranges.join(" "));
    }
    text.push('\n');
    for frontend in &service.frontends {
        let _ = writeln!(text, "  {}", describe_frontend(frontend));
    }
    for endpoint in &service.endpoints {
        let _ = writeln!(text, "  -> {}", describe_endpoint(endpoint));
    }
}

fn describe_frontend(f: &Frontend) -> String {
    let kind = match f.address {
        FrontendAddress::ClusterIp(_) => "cluster",
        FrontendAddress::ExternalIp(_) => "external",
        FrontendAddress::LoadBalancer(_) => "load balancer",
        FrontendAddress::NodePort => "node port",
    };
    format!("{kind} {} {} {:?}", f.address, f.port, f.protocol)
}

fn describe_endpoint(e: &Endpoint) -> String {
    let mut marks = String::new();
    for (marked, word) in [(e.cluster, " cluster"), (e.local, " local"), (e.serving, " serving")] {
        if marked {
            marks += word;
        }
    }
    format!("{}:{}{marks}", e.address, e.port)
}
