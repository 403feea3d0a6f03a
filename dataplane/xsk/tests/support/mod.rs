//! Network namespaces and veths for the tests, gone when dropped.

#![allow(dead_code, reason = "every test binary uses another part")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

/// Whether kernel tests can run here. Says loudly when not; in CI that fails.
pub(crate) fn kernel() -> bool {
    // SAFETY: takes no arguments.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "must run as root in CI");
        eprintln!("SKIPPED: needs root for network namespaces and AF_XDP");
    }
    root
}

/// Runs a command line, split at blanks, and panics when it fails.
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A network namespace, deleted with all its devices when dropped.
pub(crate) struct Netns {
    pub(crate) name: String,
}

impl Netns {
    pub(crate) fn new(tag: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hrx{}-{count}-{tag}", std::process::id());
        run(&format!("ip netns add {name}"));
        let netns = Self { name };
        netns.ip("link set lo up");
        netns
    }

    /// `ip -n NAMESPACE ...`
    pub(crate) fn ip(&self, arguments: &str) {
        run(&format!("ip -n {} {arguments}", self.name));
    }

    /// Moves the calling thread into the namespace, for good.
    pub(crate) fn enter(&self) {
        enter(&self.name);
    }

    /// Runs `work` on a thread inside the namespace.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let name = self.name.clone();
        std::thread::spawn(move || {
            enter(&name);
            work()
        })
    }

    /// A command inside the namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// A veth pair: `device` here, `eth0` in `pod`, with address 10.9.0.`host`/24 there. Both ends up.
    pub(crate) fn veth(&self, device: &str, pod: &Netns, host: u8, mtu: u32) {
        let Netns { name: pod_name } = pod;
        self.ip(&format!("link add {device} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {pod_name}"));
        run(&format!("ip netns exec {pod_name} sysctl -qw net.ipv6.conf.all.disable_ipv6=1"));
        self.ip(&format!("link set {device} up"));
        pod.ip(&format!("addr add 10.9.0.{host}/24 dev eth0"));
        pod.ip("link set eth0 up");
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

pub(crate) fn enter(name: &str) {
    let netns = File::open(format!("/var/run/netns/{name}")).unwrap();
    // SAFETY: takes a descriptor; moves this thread only.
    assert_eq!(unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
}

/// Gives the calling thread a mount namespace of its own with an empty bpffs; both end with the thread and the
/// processes it starts.
pub(crate) fn private_bpffs() -> std::path::PathBuf {
    // SAFETY: no pointers; this thread only.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
    run("mount --make-rprivate /");
    run("mount -t tmpfs tmpfs /mnt");
    let path = std::path::PathBuf::from("/mnt/bpf");
    assert!(headrace_xsk::bpffs::ensure(&path).unwrap());
    path
}
