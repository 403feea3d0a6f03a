//! Pod to pod through the `forward` example: superframes stay whole and bytes arrive unharmed; and, on demand,
//! how fast that is beside a kernel bridge.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use support::{Netns, kernel, run};

/// Two pods on one node, joined by the forwarder.
struct Forwarded {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// A node with devices pod0 and pod1 towards two pods at 10.9.0.1 and 10.9.0.2; routes carry MTU 1450.
fn node(tag: &str, mtu: u32) -> (Netns, [Netns; 2]) {
    let node = Netns::new(tag);
    let pods = [1, 2].map(|n| Netns::new(&format!("{tag}{n}")));
    for (n, pod) in pods.iter().enumerate() {
        node.veth(&format!("pod{n}"), pod, n as u8 + 1, mtu);
        if mtu > 1500 {
            pod.ip("route change 10.9.0.0/24 dev eth0 mtu 1450");
            run(&format!("ip netns exec {} ethtool -K eth0 tx-udp-segmentation off", pod.name));
        }
    }
    (node, pods)
}

fn forward(node: &Netns, options: &[&str]) -> Forwarded {
    let tests = std::env::current_exe().unwrap();
    let example = tests.parent().unwrap().parent().unwrap().join("examples/forward");
    let mut child = node
        .command(example.to_str().unwrap())
        .args(["pod0", "pod1"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
    let mut forwarded = Forwarded { child, input, output };
    while forwarded.line() != "ready" {}
    forwarded
}

impl Forwarded {
    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.output.read_line(&mut line).unwrap() > 0, "the forwarder has ended");
        line.trim_end().to_string()
    }

    /// Stops it and returns its counters: (frames, mean length, checksums completed, dropped).
    fn stop(mut self) -> [u64; 4] {
        drop(self.input.take());
        let line = self.line();
        let number = |n: usize| line.split(' ').nth(2 * n + 1).unwrap().parse().unwrap();
        [0, 1, 2, 3].map(number)
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Bytes no frame repeats.
fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len / 8).flat_map(|_| next()).collect()
}

#[test]
fn a_tcp_stream_crosses_in_superframes_and_unharmed() {
    if !kernel() {
        return;
    }
    for (tag, options) in [("sfm", &[][..]), ("sfc", &["--no-metadata"])] {
        let (node, pods) = node(tag, 65000);
        let forwarder = forward(&node, options);
        let listener = pods[1].spawn(|| TcpListener::bind("10.9.0.2:5000").unwrap()).join().unwrap();
        let sender = pods[0].spawn(|| {
            let mut stream = TcpStream::connect("10.9.0.2:5000").unwrap();
            stream.write_all(&pattern(100 << 20)).unwrap();
        });
        let mut received = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
        sender.join().unwrap();
        assert!(received == pattern(100 << 20), "{options:?}: bytes differ");
        let [frames, mean, completed, _] = forwarder.stop();
        println!("{options:?}: {frames} frames of {mean} bytes, {completed} checksums");
        // 100 MiB in 1400-byte frames would be 75 000, and as many acknowledgements on top.
        assert!(frames < 40_000, "{frames} frames");
        assert!(completed * 10 > frames * 9, "{completed} of {frames} checksums were left to us");
    }
}

#[test]
#[ignore = "a measurement; run it with --release --nocapture"]
fn measure_beside_a_kernel_bridge() {
    if !kernel() {
        return;
    }
    let (bridged, bridged_pods) = node("brg", 1500);
    bridged.ip("link add br0 type bridge");
    bridged.ip("link set br0 up");
    bridged.ip("link set pod0 master br0");
    bridged.ip("link set pod1 master br0");
    let (node, pods) = node("fwd", 65000);
    for round in 1..=3 {
        let (kernel, _) = iperf(&bridged_pods);
        let variant = |options: &[&str]| {
            let forwarder = forward(&node, options);
            let measured = iperf(&pods);
            (measured, forwarder.stop())
        };
        let ((with, retransmits), [_, mean, ..]) = variant(&[]);
        let ((without, _), _) = variant(&["--no-metadata"]);
        println!(
            "round {round}: kernel bridge {kernel:.2} Gbit/s; TX metadata {with:.2} (ratio {:.2}, \
             {retransmits} retransmits, mean frame {mean}); completed here {without:.2} (ratio {:.2})",
            with / kernel,
            without / kernel
        );
    }
}

/// One TCP stream from the first pod to the second: (Gbit/s, retransmits).
fn iperf(pods: &[Netns; 2]) -> (f64, u64) {
    let mut server = pods[1].command("iperf3").args(["-s", "-1"]).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let client = pods[0].command("iperf3").args(["-c", "10.9.0.2", "-t", "4", "-J"]).output().unwrap();
    server.wait().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&client.stdout).unwrap();
    let end = &report["end"];
    let gbit = end["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e9;
    (gbit, end["sum_sent"]["retransmits"].as_u64().unwrap())
}
