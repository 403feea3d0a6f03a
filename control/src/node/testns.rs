//! Network namespaces for tests: nameless, gone with their last descriptor.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// A network namespace of its own.
pub(crate) struct TestNetns(File);

impl TestNetns {
    /// A new one with `lo` up; `None` when this process may not make one, which fails where `CI` is set.
    pub(crate) fn new() -> Option<Self> {
        let made = std::thread::spawn(|| {
            #[allow(deprecated, reason = "the safe form; no descriptor table is unshared here")]
            rustix::thread::unshare(UnshareFlags::NEWNET)?;
            rustix::io::Result::Ok(File::open("/proc/thread-self/ns/net"))
        });
        match made.join().unwrap() {
            Ok(file) => {
                let netns = Self(file.unwrap());
                netns.command("ip", "link set lo up");
                Some(netns)
            }
            Err(e) => {
                assert!(std::env::var_os("CI").is_none(), "making a network namespace: {e}");
                println!("SKIPPED: making a network namespace needs root: {e}");
                None
            }
        }
    }

    /// A path under which this process can open it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Runs `job` on a thread inside, and waits for it.
    pub(crate) fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            move_into_link_name_space(self.fd(), Some(LinkNameSpaceType::Network)).unwrap();
            job()
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }

    /// Runs a future on a runtime of its own inside, and waits for it.
    pub(crate) fn block_on<F: Future<Output = T>, T: Send>(&self, future: impl FnOnce() -> F + Send) -> T {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(future())
        })
    }

    /// Runs a command inside and returns what it printed.
    pub(crate) fn command(&self, program: &str, arguments: &str) -> String {
        self.run(|| {
            let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} {arguments}: {errors}");
            String::from_utf8(output.stdout).unwrap()
        })
    }
}
