//! Each check against files of our own, and all of them on this machine.

use std::fs;

use tempfile::TempDir;

use super::*;

/// A node as its files tell it: everything is well.
struct Fixture(TempDir);

impl Fixture {
    fn new() -> Self {
        let fixture = Self(TempDir::new().unwrap());
        for (path, text) in [
            ("proc/sys/kernel/osrelease", "6.18.0-1-amd64\n"),
            ("proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n"),
            (
                "proc/self/limits",
                "Limit   Soft Limit  Hard Limit  Units\nMax locked memory  unlimited  unlimited  bytes\n",
            ),
            ("proc/self/mounts", "bpf /sys/fs/bpf bpf rw,nosuid 0 0\nproc /proc proc rw 0 0\n"),
            (
                "proc/net/route",
                "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n\
                 slow0\t00000000\t0107A8C0\t0003\t0\t0\t600\t00000000\t0\n\
                 nic0\t00000000\t0107A8C0\t0003\t0\t0\t100\t00000000\t0\n",
            ),
            ("sys/class/net/nic0/mtu", "1500\n"),
            ("sys/class/net/nic0/operstate", "up\n"),
            ("sys/class/net/nic0/queues/rx-0/x", ""),
            ("sys/class/net/nic0/queues/tx-0/x", ""),
            ("opt/cni/bin/headrace-cni", ""),
            ("opt/cni/bin/loopback", ""),
            ("etc/cni/net.d/00-headrace.conflist", "{}"),
        ] {
            fixture.write(path, text);
        }
        fixture
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.0.path().join(path)).unwrap();
    }

    /// All that files tell.
    fn findings(&self) -> Vec<Finding> {
        let options = Options { root: self.0.path().into(), ..Options::default() };
        let system = System::new(&options.root);
        let mut findings = kernel::rights(&system);
        findings.extend(of_node(&options).findings);
        findings
    }

    fn find(&self, feature: &str) -> Finding {
        let found = self.findings().into_iter().filter(|finding| finding.feature == feature);
        found.max_by_key(|finding| finding.severity).unwrap()
    }
}

#[test]
fn what_is_well_is_said_to_be() {
    let fixture = Fixture::new();
    // These ask programs and the kernel of the machine the test runs on.
    let foreign = ["kube-proxy", "XDP program", "UDP spread", "NIC modes"];
    for finding in fixture.findings().iter().filter(|finding| !foreign.contains(&finding.feature)) {
        assert_eq!((finding.severity, finding.remedy.as_str()), (Severity::Ok, ""), "{}", finding.sentence());
    }
    assert!(fixture.find("uplink").seen.starts_with("nic0"), "the default route with the lowest metric");
}

#[test]
fn what_is_not_well_is_named_with_a_remedy() {
    type Damage = (&'static str, fn(&Fixture), Severity, &'static str);
    let table: [Damage; 17] = [
        (
            "kernel",
            |f| f.write("proc/sys/kernel/osrelease", "5.15.0-91-generic\n"),
            Severity::Error,
            "5.15.0-91",
        ),
        ("kernel", |f| f.write("proc/sys/kernel/osrelease", "new"), Severity::Warning, "\"new\""),
        (
            "capabilities",
            |f| f.write("proc/self/status", "CapEff:\t0000000000003000\n"),
            Severity::Error,
            "CAP_BPF",
        ),
        (
            "locked memory",
            |f| {
                f.write("proc/self/status", "CapEff:\t0000000000003000\n");
                f.write("proc/self/limits", "Max locked memory  8388608  8388608  bytes\n");
            },
            Severity::Error,
            "LimitMEMLOCK",
        ),
        (
            "BPF file system",
            |f| f.write("proc/self/mounts", "proc /proc proc rw 0 0\n"),
            Severity::Note,
            "headrace-dataplane prepare",
        ),
        (
            "sysctls",
            |f| f.write("proc/self/mounts", "proc /proc/sys proc ro,nosuid 0 0\n"),
            Severity::Warning,
            "/host/proc/sys/net",
        ),
        ("uplink", |f| f.write("proc/net/route", "Iface\n"), Severity::Error, "--uplink"),
        (
            "uplink",
            |f| f.write("sys/class/net/nic0/operstate", "down"),
            Severity::Error,
            "ip link set nic0 up",
        ),
        ("MTU", |f| f.write("sys/class/net/nic0/mtu", "600"), Severity::Error, "want 626"),
        ("MTU", |f| f.write("sys/class/net/nic0/mtu", "1400"), Severity::Note, "pods 1350"),
        ("queues", |f| f.write("sys/class/net/nic0/queues/rx-1/x", ""), Severity::Note, "--uplink-queues"),
        (
            "other networks",
            |f| f.write("sys/class/net/flannel.1/mtu", ""),
            Severity::Warning,
            "ip link del flannel.1",
        ),
        ("other networks", |f| f.write("sys/class/net/cilium_vxlan/mtu", ""), Severity::Warning, "8472"),
        (
            "CNI plugins",
            |f| f.remove("opt/cni/bin/loopback"),
            Severity::Warning,
            "containernetworking-plugins",
        ),
        ("CNI plugins", |f| f.remove("opt/cni/bin/headrace-cni"), Severity::Note, "install-cni"),
        (
            "CNI configuration",
            |f| f.write("etc/cni/net.d/00-a.conf", ""),
            Severity::Warning,
            "remove /etc/cni/net.d/00-a.conf",
        ),
        (
            "CNI configuration",
            |f| f.write("etc/cni/net.d/10-flannel.conflist", ""),
            Severity::Note,
            "10-flannel.conflist",
        ),
    ];
    for (feature, damage, severity, words) in table {
        let fixture = Fixture::new();
        damage(&fixture);
        let finding = fixture.find(feature);
        assert_eq!(finding.severity, severity, "{}", finding.sentence());
        assert!(finding.sentence().contains(words), "{words:?} is not in {:?}", finding.sentence());
    }
}

#[test]
fn the_exit_code_follows_the_worst_finding() {
    let report = |findings: &[Finding]| Report { findings: findings.to_vec() };
    let (ok, note) = (Finding::ok("a", "x"), Finding::note("b", "x", "y"));
    let (warning, error) = (Finding::warning("c", "x", "y"), Finding::error("d", "x", "y"));
    assert_eq!(report(&[]).exit_code(), 0);
    assert_eq!(report(&[ok.clone(), note.clone()]).exit_code(), 0);
    assert_eq!(report(&[ok.clone(), warning.clone()]).exit_code(), 4);
    assert_eq!(report(&[error.clone(), warning.clone()]).exit_code(), 5);
    let text = report(&[ok, note, warning, error]).text();
    assert!(text.contains("FAIL  d  x\n") && text.contains("-> y\n") && text.ends_with("mended."), "{text}");
    let json = serde_json::to_value(report(&[Finding::note("b", "x", "y")])).unwrap();
    assert_eq!(json["findings"][0]["severity"], "note");
}

#[test]
fn on_this_machine_the_trial_leaves_nothing_behind() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "the trial needs root");
        println!("SKIPPED: the trial needs root");
        return;
    }
    let links = || System::new("/".as_ref()).links();
    let before = links();
    let findings = probe::check();
    assert_eq!(findings[0].severity, Severity::Ok, "{}", findings[0].sentence());
    assert!(findings.iter().any(|finding| finding.feature == "superframes"), "{findings:?}");
    assert_eq!(links(), before);
}
