//! Forwards frames between two devices: `forward DEVICE DEVICE [--no-metadata]`, until standard input ends.
//!
//! The smallest user of this crate: two ports on one area, superframes handed over without a copy, checksums
//! left to the kernel by TX metadata (or, with `--no-metadata`, completed here). Prints its counters at the end.

use std::error::Error;
use std::os::fd::{AsFd, AsRawFd};

use headrace_xsk::program::PodProgram;
use headrace_xsk::{
    Area, AreaConfig, Desc, Kick, MAX_CHAIN, Mode, Socket, SocketConfig, TxMetadata, device, limits,
};

const FILL_LEVEL: u32 = 1024;
const BURST: u32 = 256;

#[derive(Default)]
struct Counters {
    frames: u64,
    bytes: u64,
    completed: u64,
    dropped: u64,
}

struct Forwarder {
    area: Area,
    free: Vec<u64>,
    ports: [Socket; 2],
    burst: Vec<Desc>,
    counters: Counters,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [first, second, options @ ..] = arguments.as_slice() else {
        return Err("usage: forward DEVICE DEVICE [--no-metadata]".into());
    };
    // Refused where the limit may not be raised; CAP_IPC_LOCK then does as well.
    let _ = limits::unlock_memory();
    let tx_metadata = !options.contains(&"--no-metadata".into());
    let area = Area::new(AreaConfig { tx_metadata, ..AreaConfig::default() })?;
    let mut program = PodProgram::load(1)?;
    let config = SocketConfig { mode: Mode::Copy, ..SocketConfig::default() };
    let mut open = |name: &str| -> Result<Socket, Box<dyn Error>> {
        let ifindex = device::index(name)?;
        let socket = Socket::open(&area.handle(), ifindex, 0, &config)?;
        let attached = program.attach(ifindex)?;
        program.set_socket(ifindex, 0, &socket)?;
        println!("{name}: {attached:?} {:?}", socket.granted());
        Ok(socket)
    };
    let ports = [open(first)?, open(second)?];
    let free = (0..area.config().chunks).map(|chunk| area.chunk_start(chunk)).collect();
    let mut forwarder = Forwarder { area, free, ports, burst: Vec::new(), counters: Counters::default() };
    println!("ready");
    while forwarder.wait()? {
        while forwarder.pump(0) + forwarder.pump(1) > 0 {}
    }
    let Counters { frames, bytes, completed, dropped } = forwarder.counters;
    println!("frames {frames} mean {} completed {completed} dropped {dropped}", bytes / frames.max(1));
    for port in &forwarder.ports {
        println!("{:?}", port.statistics());
    }
    Ok(())
}

impl Forwarder {
    /// Moves one burst from port `from` to the other; returns how many descriptors.
    fn pump(&mut self, from: usize) -> u32 {
        let Self { area, free, ports, burst, counters } = self;
        let [one, two] = ports;
        let (from, to) = if from == 0 { (one, two) } else { (two, one) };
        to.reap(&mut |addr| free.push(addr));
        burst.clear();
        let received = from.receive(BURST, &mut |desc| burst.push(desc));
        let wanted = FILL_LEVEL.saturating_sub(from.fill_level()).min(free.len() as u32);
        from.fill(free.drain(free.len() - wanted as usize..));
        let mut rest = burst.as_mut_slice();
        while let Some(end) = rest.iter().position(|desc| !desc.more()) {
            let (frame, after) = rest.split_at_mut(end + 1);
            counters.completed += u64::from(complete_checksum(area, frame));
            if to.tx_free() < MAX_CHAIN {
                flush(to, free);
            }
            if to.transmit(frame).is_ok() {
                counters.frames += 1;
                counters.bytes += frame.iter().map(|desc| u64::from(desc.len)).sum::<u64>();
            } else {
                counters.dropped += 1;
                free.extend(frame.iter().map(|desc| desc.addr));
            }
            rest = after;
        }
        flush(to, free);
        received
    }

    /// Sleeps until a port has frames; false when standard input has ended.
    fn wait(&mut self) -> std::io::Result<bool> {
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let [one, two] = &self.ports;
        let mut fds = [poll(0), poll(one.as_fd().as_raw_fd()), poll(two.as_fd().as_raw_fd())];
        // SAFETY: an array of three and its length.
        if unsafe { libc::poll(fds.as_mut_ptr(), 3, 1000) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(fds[0].revents == 0)
    }
}

/// Kicks until the ring is empty, a bounded number of times.
fn flush(to: &mut Socket, free: &mut Vec<u64>) {
    for _ in 0..64 {
        if !to.needs_kick() || matches!(to.kick(), Kick::Error(_)) {
            return;
        }
        to.reap(&mut |addr| free.push(addr));
    }
}

/// Completes a TCP or UDP checksum that a pod left to its device, which shows in that the field holds the pseudo
/// header's sum. Says whether there was something to do.
fn complete_checksum(area: &mut Area, frame: &mut [Desc]) -> bool {
    let head = area.bytes(frame[0].addr, frame[0].len);
    let Some(&[kind_high, kind_low, version, ..]) = head.get(12..) else { return false };
    if head.len() < 54 || [kind_high, kind_low] != [8, 0] || version >> 4 != 4 {
        return false;
    }
    let start = 14 + usize::from(version & 15) * 4;
    let total = 14 + usize::from(u16::from_be_bytes([head[16], head[17]]));
    let offset = match head[23] {
        6 => 16,
        17 => 6,
        _ => return false,
    };
    let fragment = u16::from_be_bytes([head[20], head[21]]) & 0x3fff != 0;
    if fragment || total < start || head.len() < start + offset + 2 {
        return false;
    }
    let pseudo = sum(&head[26..34]) + u64::from(head[23]) + (total - start) as u64;
    if head[start + offset..start + offset + 2] != fold(pseudo).to_be_bytes() {
        return false;
    }
    let metadata = TxMetadata { csum_start: start as u16, csum_offset: offset as u16 };
    if metadata.attach(area, &mut frame[0]) {
        return true;
    }
    let payload = |desc: &Desc, from: usize| {
        (area.bytes(desc.addr, desc.len).get(from..).map_or(0, sum), desc.len as usize - from)
    };
    let (mut all, mut odd) = (0, false);
    for (n, desc) in frame.iter().enumerate() {
        let (part, len) = payload(desc, if n == 0 { start } else { 0 });
        all += if odd { u64::from(fold(part).swap_bytes()) } else { part };
        odd ^= len % 2 == 1;
    }
    let checksum = !fold(all);
    let at = frame[0].addr + (start + offset) as u64;
    area.bytes_mut(at, 2).copy_from_slice(&checksum.to_be_bytes());
    true
}

/// Sum of the 16-bit big-endian words, an odd last byte padded with zero.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    let tail = words.remainder();
    let (mut low, mut high) = (0u64, 0u64);
    for word in words {
        let word = u64::from_ne_bytes(word.try_into().unwrap_or_default());
        low += word & 0xffff_ffff;
        high += word >> 32;
    }
    let native = fold(low) as u64 + u64::from(fold(high));
    let body = u64::from(u16::from_be(fold(native)));
    let pair = |p: &[u8]| u64::from(u16::from_be_bytes([p[0], p.get(1).copied().unwrap_or(0)]));
    body + tail.chunks(2).map(pair).sum::<u64>()
}

fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
