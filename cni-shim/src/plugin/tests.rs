//! The whole plugin against a fake agent: variables and stdin in, stdout, exit status and the agent's view out.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

use tempfile::TempDir;

use super::*;
use crate::protocol::{self, Reply, Request, Verb};
use crate::result::{CniResult, Interface, IpConfig};

struct Outcome {
    status: u8,
    stdout: Value,
    stderr: String,
}

/// An ordinary file stands for the namespace: the plugin only hands it on.
fn variables(dir: &Path, verb: &str) -> Vec<(String, String)> {
    let netns = dir.join("netns");
    std::fs::write(&netns, "a namespace").unwrap();
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    vec![
        set("CNI_COMMAND", verb),
        set("CNI_CONTAINERID", "c1"),
        set("CNI_IFNAME", "eth0"),
        set("CNI_NETNS", netns.to_str().unwrap()),
        set("CNI_PATH", "/opt/cni/bin"),
        set("CNI_ARGS", "K8S_POD_NAME=web"),
    ]
}

fn config(dir: &Path, version: &str) -> Value {
    json!({"cniVersion": version, "name": "headrace", "type": "headrace-cni", "runDir": dir, "unknown": {"a": 1}})
}

fn run_with(variables: Vec<(String, String)>, stdin: &str) -> Outcome {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let environment = variables.into_iter().collect();
    let status = run(&environment, &mut stdin.as_bytes(), &mut stdout, &mut stderr);
    let stdout = if stdout.is_empty() { Value::Null } else { serde_json::from_slice(&stdout).unwrap() };
    Outcome { status, stdout, stderr: String::from_utf8(stderr).unwrap() }
}

/// Answers one connection; the thread returns what it was asked.
fn agent(dir: &Path, reply: Reply) -> JoinHandle<(Request, Option<OwnedFd>)> {
    let listener = UnixListener::bind(protocol::socket_path(dir)).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let asked = protocol::receive_request(&stream).unwrap();
        protocol::send_reply(&stream, &reply).unwrap();
        asked
    })
}

fn result() -> CniResult {
    let interface = Interface { name: "eth0".to_owned(), ..Interface::default() };
    let ip = IpConfig {
        address: "10.244.1.2/32".parse().unwrap(),
        gateway: None,
        interface: Some(0),
        other: serde_json::Map::new(),
    };
    CniResult { interfaces: vec![interface], ips: vec![ip], ..CniResult::default() }
}

#[test]
fn add_hands_request_and_namespace_to_the_agent_and_prints_its_result() {
    let dir = TempDir::new().unwrap();
    let agent = agent(dir.path(), Reply::Ok(Some(result())));
    let outcome = run_with(variables(dir.path(), "ADD"), &config(dir.path(), "0.4.0").to_string());
    assert_eq!((outcome.status, &outcome.stdout["cniVersion"]), (0, &json!("0.4.0")));
    assert_eq!(outcome.stdout["ips"], json!([{"address": "10.244.1.2/32", "interface": 0, "version": "4"}]));

    let (request, netns) = agent.join().unwrap();
    assert_eq!(
        (request.verb, request.container_id.as_str(), request.ifname.as_str()),
        (Verb::Add, "c1", "eth0")
    );
    assert_eq!(request.args["K8S_POD_NAME"], "web");
    assert_eq!(request.config, config(dir.path(), "0.4.0"));
    let mut text = String::new();
    File::from(netns.unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "a namespace");
}

#[test]
fn the_agents_error_is_printed_as_it_came() {
    let dir = TempDir::new().unwrap();
    let error = CniError::new(ErrorCode::POOL_EXHAUSTED, "no address").details("delete pods");
    let agent = agent(dir.path(), Reply::Error(error));
    let outcome = run_with(variables(dir.path(), "ADD"), &config(dir.path(), "1.0.0").to_string());
    assert_eq!(outcome.status, 1);
    let expected = json!({"cniVersion": "1.0.0", "code": 102, "msg": "no address", "details": "delete pods"});
    assert_eq!(outcome.stdout, expected);
    agent.join().unwrap();
}

#[test]
fn del_without_a_namespace_asks_the_agent_and_prints_nothing() {
    for netns in ["", "/no/such/namespace"] {
        let dir = TempDir::new().unwrap();
        let agent = agent(dir.path(), Reply::Ok(None));
        let mut variables = variables(dir.path(), "DEL");
        variables.push(("CNI_NETNS".to_owned(), netns.to_owned()));
        let outcome = run_with(variables, &config(dir.path(), "1.0.0").to_string());
        assert_eq!((outcome.status, outcome.stdout), (0, Value::Null), "{netns:?}");
        let (request, netns) = agent.join().unwrap();
        assert_eq!((request.verb, netns.is_none()), (Verb::Del, true));
    }
}

#[test]
fn an_agent_that_is_away_is_a_matter_of_trying_again() {
    for (verb, code) in [("ADD", 11), ("DEL", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)] {
        let dir = TempDir::new().unwrap();
        let mut config = config(dir.path(), "1.1.0");
        config["prevResult"] = result().to_json(SpecVersion::V1_1_0);
        let outcome = run_with(variables(dir.path(), verb), &config.to_string());
        assert_eq!((outcome.status, &outcome.stdout["code"]), (1, &json!(code)), "{verb}");
        let remedy = outcome.stdout["details"].as_str().unwrap();
        assert!(remedy.contains("--run-dir") && remedy.contains(dir.path().to_str().unwrap()), "{remedy}");
    }
}

#[test]
fn an_agent_that_dies_meanwhile_is_a_matter_of_trying_again() {
    let dir = TempDir::new().unwrap();
    let listener = UnixListener::bind(protocol::socket_path(dir.path())).unwrap();
    let agent = std::thread::spawn(move || protocol::receive_request(&listener.accept().unwrap().0).unwrap());
    let outcome = run_with(variables(dir.path(), "ADD"), &config(dir.path(), "1.0.0").to_string());
    assert_eq!(outcome.stdout["code"], 11);
    agent.join().unwrap();
}

#[test]
fn requests_that_cannot_be_served_fail_with_the_code_of_the_specification() {
    let dir = TempDir::new().unwrap();
    let with = |version, extra: Value| {
        let mut config = config(dir.path(), version);
        for (key, value) in extra.as_object().unwrap() {
            config[key] = value.clone();
        }
        config.to_string()
    };
    let previous = json!({"prevResult": result().to_json(SpecVersion::V0_4_0)});
    let table = [
        ("ADD", "not json".to_owned(), 6),
        ("ADD", String::new(), 6),
        ("ADD", "[]".to_owned(), 6),
        ("ADD", "{}".to_owned(), 7),
        ("ADD", with("0.1.1", json!({})), 1),
        ("DEL", with("9.9.9", json!({})), 1),
        ("CHECK", with("0.3.1", previous), 1),
        ("CHECK", with("0.4.0", json!({"prevResult": {"ips": 3}})), 6),
        ("ADD", with("1.0.0", json!({"prevResult": []})), 6),
        ("ADD", with("1.0.0", json!({"runtimeConfig": {"mac": "x"}})), 7),
        ("ADD", with("1.0.0", json!({"ipam": {"type": "nowhere"}})), 7),
        ("CHECK", with("1.0.0", json!({})), 7),
        ("GC", with("1.0.0", json!({})), 1),
        ("STATUS", with("1.0.0", json!({})), 1),
        ("FLY", with("1.0.0", json!({})), 4),
    ];
    for (verb, stdin, code) in table {
        let outcome = run_with(variables(dir.path(), verb), &stdin);
        assert_eq!((outcome.status, &outcome.stdout["code"]), (1, &json!(code)), "{verb} {stdin}");
        assert!(outcome.stdout["cniVersion"].is_string());
    }
}

#[test]
fn the_plugins_own_namespace_is_refused() {
    let dir = TempDir::new().unwrap();
    for verb in ["ADD", "DEL"] {
        let mut variables = variables(dir.path(), verb);
        variables.push(("CNI_NETNS".to_owned(), "/proc/self/ns/net".to_owned()));
        let outcome = run_with(variables.clone(), &config(dir.path(), "1.0.0").to_string());
        assert_eq!(outcome.stdout["code"], 8, "{verb}");
        variables.push(("CNI_NETNS_OVERRIDE".to_owned(), "true".to_owned()));
        let outcome = run_with(variables, &config(dir.path(), "1.0.0").to_string());
        assert_eq!(outcome.stdout["code"], 11, "{verb}");
    }
}

#[test]
fn add_needs_a_namespace_that_opens() {
    let dir = TempDir::new().unwrap();
    let mut variables = variables(dir.path(), "ADD");
    variables.push(("CNI_NETNS".to_owned(), "/no/such/namespace".to_owned()));
    let outcome = run_with(variables, &config(dir.path(), "1.0.0").to_string());
    assert_eq!(outcome.stdout["code"], 8);
    assert!(outcome.stdout["msg"].as_str().unwrap().contains("/no/such/namespace"));
}

#[test]
fn version_needs_nothing_else() {
    let outcome = run_with(vec![("CNI_COMMAND".to_owned(), "VERSION".to_owned())], "");
    let expected = json!({"cniVersion": "1.1.0", "supportedVersions": ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]});
    assert_eq!((outcome.status, outcome.stdout), (0, expected));
}

#[test]
fn a_person_gets_the_about_text() {
    let outcome = run_with(Vec::new(), "");
    assert_eq!((outcome.status, outcome.stdout), (0, Value::Null));
    assert!(outcome.stderr.starts_with("headrace-cni "));
}

/// An IPAM plugin that writes down what it is called with and prints what its script says.
fn ipam_plugin(dir: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let plugin = dir.join("ipam-plugin");
    let calls = dir.join("calls");
    let text = format!(
        "#!/bin/sh\necho \"$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS\" >> {0}\ncat >> {0}\necho >> {0}\n{script}\n",
        calls.display()
    );
    std::fs::write(&plugin, text).unwrap();
    std::fs::set_permissions(&plugin, PermissionsExt::from_mode(0o755)).unwrap();
}

fn delegating(dir: &Path, verb: &str) -> (Vec<(String, String)>, Value) {
    let mut variables = variables(dir, verb);
    variables.push(("CNI_PATH".to_owned(), format!("/no/such/folder:{}", dir.display())));
    let mut config = config(dir, "1.1.0");
    config["ipam"] = json!({"type": "ipam-plugin", "subnet": "10.0.0.0/24"});
    config["prevResult"] = result().to_json(SpecVersion::V1_1_0);
    (variables, config)
}

/// The verbs that the IPAM plugin was called with.
fn calls(dir: &Path) -> Vec<String> {
    let Ok(text) = std::fs::read_to_string(dir.join("calls")) else { return Vec::new() };
    let verbs = ["ADD ", "DEL ", "CHECK ", "GC ", "STATUS "];
    let lines = text.lines().filter(|line| verbs.iter().any(|verb| line.starts_with(verb)));
    lines.map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

const GIVES: &str =
    r#"test $CNI_COMMAND = ADD && echo '{"ips":[{"address":"10.0.0.7/24"}],"dns":{"domain":"x"}}'; exit 0"#;

#[test]
fn addresses_of_an_ipam_plugin_are_handed_to_the_agent() {
    let dir = TempDir::new().unwrap();
    ipam_plugin(dir.path(), GIVES);
    let agent = agent(dir.path(), Reply::Ok(Some(result())));
    let (variables, mut config) = delegating(dir.path(), "ADD");
    config.as_object_mut().unwrap().remove("prevResult");
    let outcome = run_with(variables, &config.to_string());
    assert_eq!((outcome.status, &outcome.stdout["ips"][0]["address"]), (0, &json!("10.244.1.2/32")));
    let given = agent.join().unwrap().0.ipam.unwrap();
    assert_eq!(
        (given.ips[0].address.to_string(), &given.other["dns"]),
        ("10.0.0.7/24".to_owned(), &json!({"domain": "x"}))
    );
    let told = std::fs::read_to_string(dir.path().join("calls")).unwrap();
    assert_eq!(told, format!("ADD c1 eth0 K8S_POD_NAME=web\n{config}\n"));
}

#[test]
fn an_address_is_given_back_when_the_agent_refuses() {
    let dir = TempDir::new().unwrap();
    ipam_plugin(dir.path(), GIVES);
    let error = CniError::new(ErrorCode::ATTACH_FAILED, "no").details("remedy");
    let agent = agent(dir.path(), Reply::Error(error));
    let (variables, config) = delegating(dir.path(), "ADD");
    let outcome = run_with(variables, &config.to_string());
    assert_eq!((&outcome.stdout["code"], &outcome.stdout["details"]), (&json!(101), &json!("remedy")));
    assert_eq!(calls(dir.path()), ["ADD", "DEL"]);
    agent.join().unwrap();
}

#[test]
fn an_ipam_plugin_that_is_being_written_is_waited_for() {
    let dir = TempDir::new().unwrap();
    ipam_plugin(dir.path(), GIVES);
    let agent = agent(dir.path(), Reply::Ok(None));
    let writer = std::fs::OpenOptions::new().append(true).open(dir.path().join("ipam-plugin")).unwrap();
    let writing = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        drop(writer);
    });
    let (variables, config) = delegating(dir.path(), "DEL");
    let outcome = run_with(variables, &config.to_string());
    assert_eq!((outcome.status, calls(dir.path())), (0, vec!["DEL".to_owned()]));
    writing.join().unwrap();
    agent.join().unwrap();
}

#[test]
fn other_verbs_reach_the_ipam_plugin_too() {
    for verb in ["DEL", "CHECK", "GC", "STATUS"] {
        let dir = TempDir::new().unwrap();
        ipam_plugin(dir.path(), GIVES);
        let agent = agent(dir.path(), Reply::Ok(None));
        let (variables, config) = delegating(dir.path(), verb);
        let outcome = run_with(variables, &config.to_string());
        assert_eq!((outcome.status, outcome.stdout), (0, Value::Null), "{verb}");
        assert_eq!(calls(dir.path()), [verb]);
        agent.join().unwrap();
    }
}

#[test]
fn errors_of_an_ipam_plugin_keep_their_code() {
    let table = [
        (
            r#"echo '{"code": 11, "msg": "full", "details": "wait"}'; exit 1"#,
            11,
            "IPAM plugin ipam-plugin: full",
            1,
        ),
        ("echo nonsense; exit 3", 999, "exit status: 3", 1),
        ("echo nonsense", 999, "no JSON", 1),
        ("echo '{\"ips\": []}'", 999, "gave no address", 2),
    ];
    for (script, code, words, called) in table {
        let dir = TempDir::new().unwrap();
        ipam_plugin(dir.path(), script);
        let (variables, config) = delegating(dir.path(), "ADD");
        let outcome = run_with(variables, &config.to_string());
        let msg = outcome.stdout["msg"].as_str().unwrap();
        assert_eq!(outcome.stdout["code"], code, "{script}: {msg}");
        assert!(msg.contains(words), "{script}: {msg}");
        assert_eq!(calls(dir.path()).len(), called, "{script}");
    }
}

#[test]
fn del_and_gc_try_everything_they_can() {
    let dir = TempDir::new().unwrap();
    ipam_plugin(dir.path(), "echo '{\"code\": 5, \"msg\": \"disk\"}'; exit 1");
    let error = CniError::new(ErrorCode::ATTACH_FAILED, "a link stays");
    let agent = agent(dir.path(), Reply::Error(error));
    let (variables, config) = delegating(dir.path(), "GC");
    let outcome = run_with(variables, &config.to_string());
    assert_eq!(outcome.stdout["msg"], "a link stays");
    assert!(outcome.stdout["details"].as_str().unwrap().contains("disk"), "{}", outcome.stdout);
    agent.join().unwrap();
}

#[test]
fn del_is_not_kept_from_its_work_by_what_add_refuses() {
    let dir = TempDir::new().unwrap();
    let agent = agent(dir.path(), Reply::Ok(None));
    let mut config = config(dir.path(), "1.0.0");
    config["runtimeConfig"] = json!({"portMappings": [{"hostPort": 70000}]});
    config["prevResult"] = json!({"ips": 3});
    let outcome = run_with(variables(dir.path(), "DEL"), &config.to_string());
    assert_eq!((outcome.status, outcome.stdout), (0, Value::Null));
    agent.join().unwrap();
}

#[test]
fn an_ipam_plugin_that_is_gone_keeps_no_pod_attached() {
    for verb in ["DEL", "GC"] {
        let dir = TempDir::new().unwrap();
        let agent = agent(dir.path(), Reply::Ok(None));
        let (variables, config) = delegating(dir.path(), verb);
        let outcome = run_with(variables, &config.to_string());
        assert_eq!(outcome.stdout["code"], 7, "{verb}: {}", outcome.stdout);
        agent.join().unwrap();
    }
}
