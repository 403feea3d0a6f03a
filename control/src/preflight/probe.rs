//! What the kernel can do with pods' veths: tried on a pair in a network namespace that goes with its thread.

use std::process::Command;

use headrace_xsk::program::PodProgram;
use headrace_xsk::{Area, AreaConfig, Granted, Mode, Socket, SocketConfig, device};
use rustix::thread::UnshareFlags;

use super::report::Finding;

const VETH: &str = "headrace-try0";
const SMALL: u32 = 64;

/// What the trial brought out.
struct Trial {
    frags: bool,
    why: String,
    granted: Granted,
}

pub(super) fn check() -> Vec<Finding> {
    match std::thread::spawn(attempt).join() {
        Ok(Ok(trial)) => findings(&trial),
        Ok(Err(problem)) => vec![Finding::error(
            "AF_XDP on pods",
            problem,
            "want CONFIG_XDP_SOCKETS and CONFIG_BPF_SYSCALL in the kernel, and the capabilities above",
        )],
        Err(_) => vec![Finding::error("AF_XDP on pods", "the trial ended unexpectedly", "report it")],
    }
}

fn attempt() -> Result<Trial, String> {
    #[allow(deprecated, reason = "the safe form; no descriptor table is unshared here")]
    rustix::thread::unshare(UnshareFlags::NEWNET)
        .map_err(|e| format!("no network namespace for a trial: {e}"))?;
    ip(&["link", "add", VETH, "type", "veth", "peer", "name", "headrace-try1"])?;
    let ifindex = device::index(VETH).map_err(|e| e.to_string())?;
    let mut program = PodProgram::load(1).map_err(|e| e.to_string())?;
    let attached = program.attach(ifindex).map_err(|e| e.to_string())?;
    let area = Area::new(AreaConfig { chunks: SMALL, ..AreaConfig::default() }).map_err(|e| e.to_string())?;
    let rings = SocketConfig {
        mode: Mode::Copy,
        rx_ring: SMALL,
        tx_ring: SMALL,
        fill_ring: SMALL,
        completion_ring: SMALL,
        tx_budget: SMALL,
        ..SocketConfig::default()
    };
    let socket = Socket::open(&area.handle(), ifindex, 0, &rings).map_err(|e| e.to_string())?;
    let granted = socket.granted().clone();
    Ok(Trial { frags: attached.frags && granted.multi_buffer, why: attached.why, granted })
}

fn findings(trial: &Trial) -> Vec<Finding> {
    let note = trial.granted.note.clone().unwrap_or_default();
    let why = [trial.why.as_str(), note.as_str()]
        .into_iter()
        .filter(|w| !w.is_empty())
        .collect::<Vec<_>>()
        .join("; ");
    let superframes = match trial.frags {
        true => Finding::ok("superframes", "AF_XDP takes frames of up to 64 KiB from pods"),
        false => Finding::warning(
            "superframes",
            format!("AF_XDP takes no frames in several buffers, so pods send plain ones: {why}"),
            "Linux 6.6 or later brings several times the throughput",
        ),
    };
    let checksums = match trial.granted.tx_metadata {
        true => Finding::ok("checksums", "those of frames between pods are left to the receiver"),
        false => Finding::note(
            "checksums",
            "completed by the dataplane: no TX metadata",
            "Linux 6.8 or later saves that",
        ),
    };
    let budget = match trial.granted.tx_budget >= SMALL {
        true => Finding::ok("transmit budget", "can be raised"),
        false => Finding::note(
            "transmit budget",
            "32 frames a system call",
            "Linux 6.18 or later takes more at once",
        ),
    };
    vec![Finding::ok("AF_XDP on pods", "programs load, sockets open"), superframes, checksums, budget]
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.map_err(|e| format!("running ip(8) for a trial: {e}; install iproute2"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
