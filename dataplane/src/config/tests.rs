//! The matrix of sources, and every key's wrong values.

use std::path::Path;

use super::*;

/// Reads arguments and variables given as words.
fn read(flags: &[&str], variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let arguments = std::iter::once("headrace-dataplane").chain(flags.iter().copied());
    let matches = command().try_get_matches_from(arguments).expect("known flags");
    let environment =
        |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
    match Task::of(&matches, &environment)? {
        Task::Run(config) | Task::Cleanup(config) | Task::Prepare(config) => Ok(config),
    }
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

#[test]
fn nothing_given_means_the_defaults() {
    let config = read(&[], &[]).unwrap();
    assert_eq!(config.run_dir, PathBuf::from("/run/headrace"));
    assert_eq!((config.uplink, config.flow_capacity), (None, 262_144));
    assert_eq!((config.pod_chunks, config.uplink_chunks, config.shortcut), (12_288, 4096, false));
    assert_eq!(
        (config.host_link.kernel.as_str(), config.host_link.dataplane.as_str()),
        ("headrace0", "headrace1")
    );
    assert_eq!((config.log, config.log_level), (LogFormat::Human, tracing::Level::INFO));
    assert_eq!(config.cores.workers(), 1);
    assert!(config.cores.iter().all(|core| core.is_some()), "the default worker is pinned");
}

#[test]
fn flags_precede_the_environment_and_that_the_file() {
    let file = file("pod-chunks = 600\nuplink_chunks = 700\nflow-capacity = 8000\nlog = \"json\"\n");
    let path = file.path().to_str().unwrap();
    let variables = [("HEADRACE_UPLINK_CHUNKS", "701"), ("HEADRACE_FLOW_CAPACITY", "8001")];
    let config = read(&["--config", path, "--flow-capacity", "8002"], &variables).unwrap();
    assert_eq!((config.pod_chunks, config.uplink_chunks, config.flow_capacity), (600, 701, 8002));
    assert_eq!(config.log, LogFormat::Json);
    let by_variable = read(&[], &[("HEADRACE_CONFIG", path)]).unwrap();
    assert_eq!(by_variable.pod_chunks, 600);
}

#[test]
fn every_key_can_be_given_in_every_way() {
    let values = |key| match key {
        "run-dir" => "/run/x",
        "uplink" => "eth9",
        "driver" => "af_xdp",
        "flow-log" => "/var/log/flows.json",
        "shortcut" => "on",
        "uplink-queues" => "match",
        "state" => "state.yaml",
        "poll" => "always",
        "huge-pages" => "on",
        "cores" => "0",
        "workers" => "3",
        "host-link-name" => "hr0",
        "log" => "json",
        "log-level" => "debug",
        _ => "2048",
    };
    for row in KEYS.iter().filter(|row| row.key != "config") {
        let value = values(row.key);
        let by_flag = read(&[&format!("--{}", row.key), value], &[]).unwrap();
        let by_variable = read(&[], &[(&sources::variable(row.key), value)]).unwrap();
        let quoted = if value.parse::<u32>().is_ok() { value.to_owned() } else { format!("{value:?}") };
        let file = file(&format!("{} = {quoted}\n", row.key));
        let by_file = read(&["--config", file.path().to_str().unwrap()], &[]).unwrap();
        assert_eq!(by_flag, by_variable, "{}", row.key);
        assert_eq!(by_flag, by_file, "{}", row.key);
        // Core 0 is the default where it is the only one.
        if row.key != "cores" {
            assert_ne!(by_flag, read(&[], &[]).unwrap(), "{} has no effect", row.key);
        }
    }
}

#[test]
fn cores_and_workers_exclude_each_other_within_a_source() {
    assert_eq!(read(&["--workers", "2"], &[]).unwrap().cores.iter().collect::<Vec<_>>(), [None, None]);
    let both = read(&["--workers", "2", "--cores", "0"], &[]).unwrap_err().to_string();
    assert!(both.contains("not both"), "{both}");
    let stronger = read(&["--workers", "2"], &[("HEADRACE_CORES", "0")]).unwrap();
    assert_eq!(stronger.cores.workers(), 2);
    let stronger = read(&["--cores", "0"], &[("HEADRACE_WORKERS", "2")]).unwrap();
    assert_eq!(stronger.cores.iter().collect::<Vec<_>>(), [Some(0)]);
}

#[test]
fn drivers_are_chosen_for_all_or_by_kind() {
    let drivers = |text| read(&["--driver", text], &[]).unwrap().drivers;
    assert_eq!(drivers("auto"), Drivers::default());
    assert_eq!(drivers("af_xdp"), Drivers { pods: PodDriver::AfXdp, tunnel: TunnelDriver::AfXdp });
    assert_eq!(drivers("tunnel=udp"), Drivers { pods: PodDriver::Auto, tunnel: TunnelDriver::Udp });
    let mixed = Drivers { pods: PodDriver::AfPacket, tunnel: TunnelDriver::AfXdp };
    assert_eq!(drivers("pods=af_packet, tunnel=af_xdp"), mixed);
    assert_eq!(drivers("af_xdp,pods=af_packet"), mixed);
}

#[test]
fn a_wrong_value_names_key_value_source_and_remedy() {
    let wrong = [
        ("run-dir", "relative/dir", "absolute"),
        ("run-dir", "/", "absolute"),
        ("uplink", "a-name-that-is-too-long", "1 to 15"),
        ("uplink", "", "1 to 15"),
        ("driver", "dpdk", "auto, af_xdp"),
        ("shortcut", "maybe", "on or off"),
        ("uplink-queues", "8", "keep or match"),
        ("state", "", "a file"),
        ("poll", "never", "adaptive or always"),
        ("huge-pages", "1", "on or off"),
        ("driver", "pods=udp", "auto, af_xdp"),
        ("driver", "", "auto, af_xdp"),
        ("cores", "0,0", "each once"),
        ("cores", "4000", "may use"),
        ("cores", "1-", "may use"),
        ("cores", "", "may use"),
        ("workers", "0", "from 1 to 64"),
        ("flow-capacity", "12", "from 1024"),
        ("pod-chunks", "-5", "from 512"),
        ("uplink-chunks", "9999999", "from 512"),
        ("host-link-name", "headrace", "end in 0"),
        ("host-link-name", "0", "end in 0"),
        ("log", "xml", "human or json"),
        ("log-level", "loud", "error, warn"),
    ];
    for (key, value, remedy) in wrong {
        let by_flag = read(&[&format!("--{key}={value}")], &[]).unwrap_err().to_string();
        for part in [key, &format!("{value:?}"), &format!("--{key}"), remedy] {
            assert!(by_flag.contains(part), "{by_flag:?} lacks {part:?}");
        }
        let name = sources::variable(key);
        let by_variable = read(&[], &[(&name, value)]).unwrap_err().to_string();
        assert!(by_variable.contains(&name) && by_variable.contains(remedy), "{by_variable}");
    }
}

#[test]
fn a_wrong_file_is_named() {
    let unknown = file("cors = [0]\n");
    let error = read(&["--config", unknown.path().to_str().unwrap()], &[]).unwrap_err().to_string();
    assert!(error.contains("\"cors\"") && error.contains("cores, workers"), "{error}");
    let broken = file("cores = [0\n");
    let error = read(&["--config", broken.path().to_str().unwrap()], &[]).unwrap_err().to_string();
    assert!(error.contains("cannot be read") && error.contains("line 1"), "{error}");
    let error = read(&[], &[("HEADRACE_CONFIG", "/no/such/file")]).unwrap_err().to_string();
    assert!(error.contains("/no/such/file") && error.contains("HEADRACE_CONFIG"), "{error}");
    let wrong = file("workers = \"many\"\n");
    let error = read(&["--config", wrong.path().to_str().unwrap()], &[]).unwrap_err().to_string();
    assert!(error.contains(wrong.path().to_str().unwrap()) && error.contains("\"many\""), "{error}");
}

#[test]
fn cleanup_takes_the_same_keys_on_either_side() {
    for arguments in [["x", "cleanup", "--run-dir", "/run/y"], ["x", "--run-dir", "/run/y", "cleanup"]] {
        let matches = command().try_get_matches_from(arguments).unwrap();
        let task = Task::of(&matches, &|_| None).unwrap();
        assert!(matches!(task, Task::Cleanup(config) if config.run_dir.as_path() == Path::new("/run/y")));
    }
}

#[test]
fn help_shows_every_key_and_examples() {
    let help = command().render_long_help().to_string();
    for row in &KEYS {
        assert!(help.contains(&format!("--{} ", row.key)), "{} is not in the help", row.key);
    }
    assert!(help.contains("Examples:") && help.contains("HEADRACE_RUN_DIR"));
    command().debug_assert();
}
