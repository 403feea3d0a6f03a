//! The binary as a container runtime starts it: variables, stdin, stdout, exit status.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn run(variables: &[(&str, &str)], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headrace-cni"));
    command.env_clear().envs(variables.iter().copied());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A plugin that reads no stdin may be gone by now.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn a_person_gets_the_about_text_on_stderr() {
    let output = run(&[], "");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("CNI plugin"));
}

#[test]
fn errors_are_json_on_stdout_and_the_exit_status_says_so() {
    let variables = [
        ("CNI_COMMAND", "DEL"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", ""),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    let config = r#"{"cniVersion":"1.0.0","name":"n","type":"headrace-cni","runDir":"/nonexistent"}"#;
    let output = run(&variables, config);
    assert_eq!(output.status.code(), Some(1));
    let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&error["cniVersion"], &error["code"]), (&"1.0.0".into(), &11.into()));
}

#[test]
fn the_versions_are_listed() {
    let output = run(&[("CNI_COMMAND", "VERSION")], "not even json");
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["supportedVersions"].as_array().unwrap().len(), 7);
}
