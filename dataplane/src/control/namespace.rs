//! Network namespaces for tests that speak to a real kernel; removed when dropped.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A named network namespace.
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one with its loopback device up; `None`, said loudly, when that takes more rights than there are.
    pub(super) fn new() -> Option<Self> {
        let name = format!("hrt{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        if !run(&format!("ip netns add {name}")) {
            println!("SKIPPED: cannot make network namespaces; run as root with iproute2 installed");
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "must not be skipped in CI");
            return None;
        }
        let namespace = Self { name };
        namespace.ip("link set lo up");
        Some(namespace)
    }

    /// The name under which `ip netns` knows it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Runs an `ip` command in it.
    pub(super) fn ip(&self, arguments: &str) {
        let command = format!("ip -n {} {arguments}", self.name);
        assert!(run(&command), "{command}");
    }

    /// Runs a command (words separated by blanks) in it; gives what it printed.
    pub(super) fn exec(&self, command: &str) -> String {
        let output = Command::new("ip").args(["netns", "exec", &self.name]).args(command.split(' ')).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a future on a thread of its own inside the namespace.
    pub(super) fn block_on<F: Future<Output = ()>>(&self, future: impl FnOnce() -> F + Send) {
        let inside = || {
            let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(future());
        };
        std::thread::scope(|scope| scope.spawn(inside).join()).unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        run(&format!("ip netns del {}", self.name));
    }
}

fn run(command: &str) -> bool {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    Command::new(program).args(words).status().is_ok_and(|status| status.success())
}
