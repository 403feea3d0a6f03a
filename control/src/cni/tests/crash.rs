//! Addresses and attachments of an agent that is killed, at every single step of its work on files.
//!
//! A child process attaches and detaches as the server does; strace(1) kills it when it begins its n-th system call of a
//! kind, for every kind that changes files and every n. What lies on disk then is what the next agent finds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use headrace_cni::options::Bandwidth;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::cni::attachment::{Attachment, mac_of};
use crate::cni::ipam::{Choice, Pool, Range};
use crate::cni::owner::Owner;
use crate::cni::store::Store;

const DIRECTORY: &str = "HEADRACE_CNI_CRASH_DIR";
/// System calls that change what is on disk; glibc's names for them.
const CALLS: [&str; 6] = ["openat", "write", "rename", "linkat", "unlink", "mkdir"];
const IDS: [&str; 4] = ["a", "b", "c", "d"];

fn owner(id: &str) -> Owner {
    Owner { container_id: id.to_owned(), ifname: "eth0".to_owned() }
}

/// Room for five pods.
fn range() -> Choice {
    Choice::any(Range::of("10.244.3.0/29".parse().unwrap()).unwrap())
}

fn open(dir: &Path) -> (Store, Pool) {
    (Store::open(dir, watch::channel(None).0).unwrap(), Pool::new(&dir.join("ipam"), "headrace"))
}

/// In the order of `attach.rs`.
fn attach(store: &mut Store, pool: &Pool, id: &str) -> Ipv4Addr {
    let owner = owner(id);
    let address = pool.allocate(&range(), &owner).unwrap();
    let attachment = Attachment {
        host_link: owner.host_link(),
        owner,
        network: "headrace".to_owned(),
        port: store.new_port().unwrap(),
        mac: mac_of(address),
        address,
        superframes: true,
        path_mtu: 1450,
        label: id.to_owned(),
        host_ports: Vec::new(),
        bandwidth: Bandwidth::default(),
        ipam: None,
    };
    store.insert(attachment).unwrap();
    address
}

/// In the order of `detach.rs`.
fn detach(store: &mut Store, pool: &Pool, id: &str) {
    let owner = owner(id);
    store.withdraw(&owner);
    store.forget(&owner).unwrap();
    pool.release(&owner).unwrap();
}

/// Not a test by itself: the process that the test below starts and strace kills.
#[test]
#[ignore = "run as a child process by another test"]
fn child() {
    let dir = PathBuf::from(std::env::var_os(DIRECTORY).expect("the parent names the directory"));
    let (mut store, pool) = open(&dir);
    for id in ["a", "b", "c"] {
        println!("\nadded {id} {}", attach(&mut store, &pool, id));
    }
    println!("\nremoving b");
    detach(&mut store, &pool, "b");
    println!("\nadded d {}", attach(&mut store, &pool, "d"));
    println!("\nfinished");
}

/// Lets the child begin its `n`-th `call`; what it said before.
fn run_until(call: &str, n: usize, dir: &Path) -> Vec<String> {
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:signal=KILL:when={n}")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "cni::tests::crash::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, dir)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn no_step_of_attaching_and_detaching_loses_an_address_or_gives_it_twice() {
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is missing");
        println!("SKIPPED: there is no strace");
        return;
    }
    let (mut kills, mut states) = (0, BTreeSet::new());
    for call in CALLS {
        for n in 1.. {
            let dir = TempDir::new().unwrap();
            let said = run_until(call, n, dir.path());
            states.insert(check(dir.path(), &said));
            if said.iter().any(|line| line == "finished") {
                break;
            }
            kills += 1;
            assert!(n < 2000, "the child never ends");
        }
    }
    println!("{kills} kills left {states:?}");
    // With a reservation and without its attachment, for each pod.
    assert!(states.len() >= 7, "{states:?}");
}

/// What must hold whatever was left; gives what was left.
fn check(dir: &Path, said: &[String]) -> (usize, usize) {
    let (mut store, pool) = open(dir);
    let attached: BTreeMap<_, _> = store.all().map(|a| (a.owner.container_id.clone(), a.address)).collect();
    let addresses: BTreeSet<_> = attached.values().collect();
    assert_eq!(addresses.len(), attached.len(), "given twice: {attached:?}");
    for (id, address) in &attached {
        assert_eq!(
            pool.find(&owner(id)).unwrap(),
            Some(*address),
            "{id} has an address that is not reserved"
        );
    }
    let removing = said.iter().any(|line| line == "removing b");
    for line in said {
        let Some((id, address)) = line.strip_prefix("added ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        if !(id == "b" && removing) {
            assert_eq!(attached.get(id).map(ToString::to_string).as_deref(), Some(address), "{id} was lost");
        }
    }
    let reserved = IDS.iter().filter(|id| pool.find(&owner(id)).unwrap().is_some()).count();
    // The runtime deletes what it has asked for, whether it got an answer or not.
    IDS.iter().for_each(|id| detach(&mut store, &pool, id));
    assert_eq!(store.all().count(), 0);
    let all: BTreeSet<_> = (0..5).map(|n| attach(&mut store, &pool, &format!("new{n}"))).collect();
    assert_eq!(all.len(), 5, "an address was lost");
    (attached.len(), reserved)
}
