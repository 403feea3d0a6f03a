//! XDP programs on real devices: taken over by another process, foreign ones left alone, stale pins removed.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use aya::programs::Xdp;
use aya::programs::xdp::XdpLinkId;
use headrace_xsk::device;
use headrace_xsk::program::{
    PodProgram, Preference, ProgramError, UplinkConfig, UplinkProgram, XdpMode, pass_object, program_on,
};
use support::{Netns, kernel, private_bpffs};

/// A namespace with devices `pod0` and `pod1`, with this thread inside.
fn node() -> (Netns, Netns, [u32; 2]) {
    let (node, pod) = (Netns::new("node"), Netns::new("pod"));
    for name in ["pod0", "pod1"] {
        node.ip(&format!("link add {name} type veth peer name {name} netns {}", pod.name));
    }
    node.enter();
    (node, pod, ["pod0", "pod1"].map(|name| device::index(name).unwrap()))
}

#[test]
fn another_process_takes_over_without_a_moment_detached() {
    if !kernel() {
        return;
    }
    let dir = private_bpffs();
    let (node, _pod, [pod0, pod1]) = node();
    attach_in_another_process(&node, &dir, &[pod0, pod1]);
    let old = program_on(pod0).unwrap().expect("attached when its process has ended");
    assert_eq!((old.name.as_str(), old.mode), ("pod", XdpMode::Generic));

    let (stop, gaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let watcher = {
        let (stop, gaps) = (Arc::clone(&stop), Arc::clone(&gaps));
        node.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if program_on(pod0).unwrap().is_none() {
                    gaps.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };
    let mut program = PodProgram::load_or_take_over(&dir, 2).unwrap();
    assert_eq!(program.devices().collect::<Vec<_>>(), [pod0, pod1]);
    assert_eq!(program_on(pod0).unwrap().unwrap().id, old.id, "the old program runs until renewed");
    let attached = program.attach(pod0).unwrap();
    assert!(attached.taken_over && attached.frags && attached.why.is_empty());
    stop.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
    assert_eq!(gaps.load(Ordering::Relaxed), 0);
    assert_ne!(program_on(pod0).unwrap().unwrap().id, old.id, "this process's program runs now");

    program.detach(pod1);
    assert_eq!(program_on(pod1).unwrap(), None);
    drop(program);
    assert!(program_on(pod0).unwrap().is_some(), "stays when its process lets go");
    let left = PodProgram::load_or_take_over(&dir, 2).unwrap().devices().collect::<Vec<_>>();
    assert_eq!(left, [pod0]);
}

/// Runs `the_other_process` below, which attaches and exits without a destructor run.
fn attach_in_another_process(node: &Netns, dir: &Path, devices: &[u32]) {
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "the_other_process", "--nocapture"])
        .env("XSK_TEST_NETNS", &node.name)
        .env("XSK_TEST_DIR", dir)
        .env("XSK_TEST_DEVICES", devices.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
        .status()
        .unwrap();
    assert_eq!(done.code(), Some(77), "the other process did its part");
}

#[test]
#[ignore = "a part of the takeover test, which starts it as a process"]
fn the_other_process() {
    let Ok(netns) = std::env::var("XSK_TEST_NETNS") else { return };
    support::enter(&netns);
    let dir = PathBuf::from(std::env::var("XSK_TEST_DIR").unwrap());
    let mut program = PodProgram::load_or_take_over(&dir, 2).unwrap();
    for device in std::env::var("XSK_TEST_DEVICES").unwrap().split(',') {
        assert!(!program.attach(device.parse().unwrap()).unwrap().taken_over);
    }
    std::process::exit(77);
}

#[test]
fn pins_of_devices_that_are_gone_are_removed_and_other_queue_counts_accepted() {
    if !kernel() {
        return;
    }
    let dir = private_bpffs();
    let (node, _pod, [pod0, pod1]) = node();
    let mut first = PodProgram::load_or_take_over(&dir, 2).unwrap();
    first.attach(pod0).unwrap();
    first.attach(pod1).unwrap();
    drop(first);
    node.ip("link del pod0");
    node.ip(&format!("link add other index {pod0} type bridge"));
    let mut second = PodProgram::load_or_take_over(&dir, 3).unwrap();
    assert_eq!(second.devices().collect::<Vec<_>>(), [pod1]);
    assert!(!dir.join(format!("pod-link-{pod0}")).exists());
    assert!(second.attach(pod1).unwrap().taken_over);
    assert!(!second.attach(pod0).unwrap().taken_over, "another device with the same index");
}

#[test]
fn maps_of_another_shape_are_replaced() {
    if !kernel() {
        return;
    }
    let dir = private_bpffs();
    let (_node, _pod, [pod0, _]) = node();
    // The configuration map of the uplink stands in for a `ports` map of an older version.
    drop(UplinkProgram::load_or_take_over(&dir).unwrap());
    std::fs::rename(dir.join("uplink-config"), dir.join("pod-ports")).unwrap();
    let mut program = PodProgram::load_or_take_over(&dir, 1).unwrap();
    program.attach(pod0).unwrap();
}

#[test]
fn a_foreign_program_is_refused_by_name_and_stays() {
    if !kernel() {
        return;
    }
    let (_node, _pod, [pod0, _]) = node();
    let mut foreign = aya::Ebpf::load(pass_object()).unwrap();
    let foreign: &mut Xdp = foreign.program_mut("pass").unwrap().try_into().unwrap();
    foreign.load().unwrap();
    for mode in [aya::programs::XdpMode::Skb, aya::programs::XdpMode::Driver] {
        let link = attach_when_free(foreign, pod0, mode);
        let there = program_on(pod0).unwrap().unwrap();
        let refused = PodProgram::load(1).unwrap().attach(pod0).unwrap_err();
        assert!(
            matches!(&refused, ProgramError::Foreign { id, name, .. } if *id == there.id && name == "pass")
        );
        assert!(refused.to_string().contains("ip link set dev pod0 xdp off"), "{refused}");
        let refused = UplinkProgram::load().unwrap().attach(pod0, Preference::Auto).unwrap_err();
        assert!(matches!(refused, ProgramError::Foreign { .. }));
        assert_eq!(program_on(pod0).unwrap(), Some(there));
        foreign.detach(link).unwrap();
    }
}

/// A command that another test is just about to run holds a copy of every descriptor until it does, and with it the link
/// that was detached by closing it.
fn attach_when_free(program: &mut Xdp, ifindex: u32, mode: aya::programs::XdpMode) -> XdpLinkId {
    loop {
        match program.attach_to_if_index(ifindex, mode) {
            Err(aya::programs::ProgramError::SyscallError(error))
                if error.io_error.kind() == std::io::ErrorKind::AlreadyExists =>
            {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            link => return link.unwrap(),
        }
    }
}

#[test]
fn the_uplink_goes_down_the_ladder_and_says_why() {
    if !kernel() {
        return;
    }
    let dir = private_bpffs();
    let (node, _pod, [pod0, _]) = node();
    node.ip("link add br0 type bridge");
    let bridge = device::index("br0").unwrap();
    let mut uplink = UplinkProgram::load_or_take_over(&dir).unwrap();
    let native = uplink.attach(pod0, Preference::Auto).unwrap();
    assert_eq!((native.mode, native.frags, native.why.as_str()), (XdpMode::Native, true, ""));
    let generic = uplink.attach(bridge, Preference::Auto).unwrap();
    assert_eq!((generic.mode, generic.frags), (XdpMode::Generic, true));
    assert!(generic.why.contains("native XDP with multi-buffer"), "{}", generic.why);
    assert!(matches!(uplink.attach(bridge, Preference::Native), Err(ProgramError::Attach { .. })));
    // Another mode than before: detached and attached anew.
    let switched = uplink.attach(pod0, Preference::Generic).unwrap();
    assert_eq!((switched.mode, switched.taken_over), (XdpMode::Generic, false));
    // Auto keeps what is there rather than interrupt it.
    let kept = uplink.attach(pod0, Preference::Auto).unwrap();
    assert!(kept.mode == XdpMode::Generic && kept.taken_over && kept.why.contains("kept"), "{kept:?}");
}

#[test]
fn a_configuration_survives_its_process() {
    if !kernel() {
        return;
    }
    let dir = private_bpffs();
    let mut uplink = UplinkProgram::load_or_take_over(&dir).unwrap();
    let many = |count: u32| UplinkConfig {
        addresses: (0..count).map(|n| (0x0a00_0000 + n).into()).collect(),
        ..UplinkConfig::default()
    };
    uplink.configure(&many(4096)).unwrap();
    drop(uplink);
    let mut uplink = UplinkProgram::load_or_take_over(&dir).unwrap();
    let full = uplink.configure(&many(4097)).unwrap_err();
    assert!(matches!(full, ProgramError::Map { map: "own_addresses", .. }), "{full}");
    uplink.configure(&many(1)).unwrap();
    uplink.configure(&many(4096)).unwrap();
}

#[test]
fn a_pod_port_without_socket_drops() {
    if !kernel() {
        return;
    }
    let (node, pod) = (Netns::new("closed"), Netns::new("pod"));
    node.veth("pod0", &pod, 2, 1500);
    node.ip("addr add 10.9.0.1/24 dev pod0");
    node.enter();
    let receiver = UdpSocket::bind("10.9.0.1:9000").unwrap();
    let arrives = || {
        let sent = pod.spawn(|| UdpSocket::bind("10.9.0.2:0").unwrap().send_to(b"x", "10.9.0.1:9000"));
        let _ = sent.join().unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        receiver.recv_from(&mut [0; 8]).is_ok()
    };
    assert!(arrives(), "the way is open without a program");
    let ifindex = device::index("pod0").unwrap();
    let mut program = PodProgram::load(1).unwrap();
    program.attach(ifindex).unwrap();
    assert!(!arrives());
    program.detach(ifindex);
    assert!(arrives());
}

#[test]
fn a_bpffs_is_mounted_once() {
    if !kernel() {
        return;
    }
    let path = private_bpffs();
    assert!(!headrace_xsk::bpffs::ensure(&path).unwrap());
    assert!(headrace_xsk::bpffs::ensure(Path::new("/proc/nothing")).is_err());
    let elsewhere = PodProgram::load_or_take_over(Path::new("/mnt/not-bpf"), 1);
    let refused = elsewhere.err().unwrap().to_string();
    assert!(refused.contains("pod"), "{refused}");
}
