//! Files in place, as a runtime's watcher sees them come.

use std::ffi::OsString;
use std::mem::MaybeUninit;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use serde_json::Value;
use tempfile::TempDir;

use super::*;

struct Host {
    root: TempDir,
    args: InstallArgs,
}

fn host() -> Host {
    let root = TempDir::new().unwrap();
    let plugin = root.path().join("new-plugin");
    fs::write(&plugin, "first").unwrap();
    let flags = |name: &str| format!("--{name}={}", root.path().join(name).display());
    let words = ["headrace-agent".to_owned(), "install-cni".to_owned(), flags("bin-dir"), flags("conf-dir")];
    let words = words.into_iter().chain([format!("--plugin={}", plugin.display())]).map(OsString::from);
    let Ok(Task::Install(args)) = Task::read(words, |_| None) else { panic!("not read as an installation") };
    Host { root, args }
}

impl Host {
    fn uninstall(&self) -> UninstallArgs {
        let InstallArgs { bin_dir, conf_dir, conf_name, .. } = self.args.clone();
        UninstallArgs { bin_dir, conf_dir, conf_name, wait: false }
    }

    fn conflist(&self) -> PathBuf {
        self.args.conf_dir.join("00-headrace.conflist")
    }
}

#[test]
fn plugin_and_configuration_are_put_in_place_and_taken_away() {
    let host = host();
    install(&host.args).unwrap();
    let plugin = host.args.bin_dir.join("headrace-cni");
    assert_eq!(fs::read(&plugin).unwrap(), b"first");
    assert_eq!(fs::metadata(&plugin).unwrap().permissions().mode() & 0o777, 0o755);
    let list: Value = serde_json::from_slice(&fs::read(host.conflist()).unwrap()).unwrap();
    assert_eq!((&list["cniVersion"], &list["cniVersions"][2]), (&"1.0.0".into(), &"1.1.0".into()));
    assert_eq!(list["plugins"][0]["capabilities"]["portMappings"], true);
    assert_eq!(list["plugins"][0].get("runDir"), None);
    for folder in [&host.args.bin_dir, &host.args.conf_dir] {
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "{}", folder.display());
    }

    let report = uninstall(&host.uninstall()).unwrap();
    assert!(report[0].ends_with("00-headrace.conflist: removed"), "the configuration goes first: {report:?}");
    assert!(!plugin.exists() && !host.conflist().exists());
    assert!(uninstall(&host.uninstall()).unwrap().iter().all(|line| line.ends_with("was not there")));
}

#[test]
fn the_example_is_what_is_installed() {
    let example = include_str!("../../../deploy/cni/00-headrace.conflist");
    assert_eq!(example, conflist::text("/run/headrace".as_ref()));
}

#[test]
fn an_upgrade_replaces_the_plugin_while_the_old_one_is_in_use() {
    let host = host();
    install(&host.args).unwrap();
    let plugin = host.args.bin_dir.join("headrace-cni");
    let in_use = File::open(&plugin).unwrap();
    fs::write(host.root.path().join("new-plugin"), "second").unwrap();
    install(&host.args).unwrap();
    assert_eq!(fs::read(&plugin).unwrap(), b"second");
    assert_eq!(io::read_to_string(in_use).unwrap(), "first", "the old file was not written to");
}

/// containerd's watcher does not look at IN_CREATE (go-cni and its users ignore fsnotify's Create and Chmod).
#[test]
fn the_configuration_comes_by_a_rename_within_its_directory() {
    let mut host = host();
    fs::create_dir(&host.args.conf_dir).unwrap();
    let watcher = inotify::init(CreateFlags::NONBLOCK).unwrap();
    let all = WatchFlags::CREATE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
    inotify::add_watch(&watcher, &host.args.conf_dir, all).unwrap();
    install(&host.args).unwrap();
    host.args.run_dir = "/run/other".into();
    install(&host.args).unwrap();
    install(&host.args).unwrap();

    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&watcher, &mut buffer);
    let mut seen = Vec::new();
    while let Ok(event) = reader.next() {
        let name = event.file_name().unwrap().to_string_lossy().into_owned();
        seen.push((name, event.events().contains(ReadFlags::MOVED_TO)));
    }
    let arrived: Vec<_> = seen.iter().filter(|(name, _)| name == "00-headrace.conflist").collect();
    assert_eq!(arrived.len(), 2, "one for each content: {seen:?}");
    assert!(arrived.iter().all(|(_, by_rename)| *by_rename), "{seen:?}");
    assert!(seen.iter().any(|(name, moved)| name == ".00-headrace.conflist.new" && !moved), "{seen:?}");
    let list: Value = serde_json::from_slice(&fs::read(host.conflist()).unwrap()).unwrap();
    assert_eq!(list["plugins"][0]["runDir"], "/run/other");
}

#[test]
fn configurations_of_others_are_named_with_what_they_mean() {
    let host = host();
    fs::create_dir(&host.args.conf_dir).unwrap();
    for name in ["00-a.conf", "10-flannel.conflist", "README", "05-cilium.conflist.cilium_bak"] {
        fs::write(host.args.conf_dir.join(name), "{}").unwrap();
    }
    let report = install(&host.args).unwrap().join("\n");
    assert!(report.contains("00-a.conf is read before 00-headrace.conflist"), "{report}");
    assert!(report.contains("10-flannel.conflist is not used while"), "{report}");
    assert_eq!(report.lines().count(), 4, "{report}");
}

#[test]
fn what_fails_is_named() {
    let mut host = host();
    fs::write(&host.args.bin_dir, "a file").unwrap();
    let error = install(&host.args).unwrap_err().to_string();
    assert!(error.contains("bin-dir"), "{error}");
    assert!(!host.conflist().exists(), "no configuration without its plugin");
    host.args.plugin = Some("/no/such/plugin".into());
    let error = install(&host.args).unwrap_err().to_string();
    assert!(error.contains("cannot read /no/such/plugin"), "{error}");
    let words = ["headrace-agent", "install-cni", "--conf-name=headrace.json"].map(OsString::from);
    assert!(Task::read(words, |_| None).unwrap_err().to_string().contains("00-headrace.conflist"));
}
