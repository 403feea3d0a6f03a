use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use headrace_api::proto::{Count, FrameLedger, PeerStatus, PortStatus, StageCost, StatusReply, WorkerStatus};
use openmetrics_parser::openmetrics::parse_openmetrics;

use super::*;
use crate::observe::testing::seen;
use crate::observe::tests::status;

#[test]
fn a_real_parser_reads_every_metric_and_names_follow_the_conventions() {
    let text = text(Ok(full()));
    let exposition = parse_openmetrics(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert!(exposition.families.len() > 30, "{}", exposition.families.len());
    for (name, family) in &exposition.families {
        assert!(name.starts_with("headrace_"), "{name}");
        assert!(!family.help.is_empty() && family.help.ends_with('.'), "{name}: {}", family.help);
        assert!(!name.ends_with("_total") && !name.contains("__"), "{name}");
        assert!(!family.unit.is_empty() || !name.ends_with("_bytes"), "{name} has no unit");
    }
    assert!(text.contains("headrace_port_received_bytes_total{node=\"a\",interface=\"hr1\""), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_dataplane_that_is_away_is_a_metric() {
    let text = text(Err("away".into()));
    assert!(parse_openmetrics(&text).is_ok(), "{text}");
    assert!(text.contains("headrace_dataplane_up{node=\"a\"} 0"), "{text}");
    assert!(!text.contains("headrace_port_"), "{text}");
}

#[test]
fn ten_thousand_services_make_no_series_more() {
    let few = StatusReply { services: 1, endpoints: 1, ..full() };
    let many = StatusReply { services: 10_000, endpoints: 100_000, ..full() };
    assert_eq!(series(&text(Ok(few))).len(), series(&text(Ok(many))).len());
}

#[test]
fn a_node_with_a_hundred_and_ten_pods_has_a_bounded_number_of_series() {
    let ports = (0..112).map(|i| PortStatus { interface: format!("hr{i}"), ..PortStatus::default() });
    let text = text(Ok(StatusReply { ports: ports.collect(), services: 10_000, ..full() }));
    let series = series(&text);
    assert!(series.len() < 112 * 14 + 150, "{}", series.len());
    assert!(text.len() < 400_000, "{}", text.len());
}

#[test]
fn hostile_names_stay_within_their_label() {
    let name = "a\"} 1\nheadrace_forged 7\n#\\".to_owned();
    let ports = vec![PortStatus { label: name, ..PortStatus::default() }];
    let text = text(Ok(StatusReply { ports, ..full() }));
    assert!(parse_openmetrics(&text).is_ok(), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("headrace_forged")), "{text}");
}

/// What deploy/ shows and alerts on must be what is really there.
#[test]
fn rules_and_dashboard_name_only_metrics_that_exist() {
    let text = text(Ok(full()));
    let exposed: BTreeSet<&str> = series(&text).iter().filter_map(|s| s.split(['{', ' ']).next()).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring");
    for file in ["alerts.yaml", "grafana-dashboard.json"] {
        let content = fs::read_to_string(folder.join(file)).unwrap();
        let words = content.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named: BTreeSet<&str> = words.filter(|word| word.starts_with("headrace_")).collect();
        assert!(named.len() > 5, "{file} names {named:?}");
        let unknown: Vec<_> = named.difference(&exposed).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}, which no agent exposes");
    }
}

fn text(status: Result<StatusReply, String>) -> String {
    let (_, observations) = seen(status);
    Exporter::new("a", observations).text().unwrap()
}

fn series(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

/// At least one of everything.
fn full() -> StatusReply {
    let base = status(1000, 10);
    let ledger = FrameLedger { area: "pods".into(), total: 10, free: 10, ..FrameLedger::default() };
    let drops = vec![Count { name: "no_route".into(), count: 7, ..Count::default() }];
    let stages = vec![StageCost { stage: "ingress".into(), ns: 700, packets: 10 }];
    let worker = WorkerStatus { drops, stages, frames_ledger: vec![ledger], ..base.workers[0].clone() };
    let peers = vec![PeerStatus { name: "b".into(), path: "vxlan".into(), ..PeerStatus::default() }];
    StatusReply { workers: vec![worker], peers, ..base }
}
