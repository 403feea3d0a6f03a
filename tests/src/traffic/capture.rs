//! Looking at frames with tcpdump.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::process::Process;
use crate::state::LabState;
use crate::{LabError, Space};

/// A running capture; ended when dropped. Its file stays in the lab's directory as long as the lab.
pub struct Capture {
    child: Child,
    file: PathBuf,
}

impl Capture {
    /// Captures frames on `link` of `space` that match `filter` (pcap-filter(7)).
    ///
    /// # Errors
    /// [`LabError::Io`] when tcpdump does not start, for example because of the filter.
    pub fn start(space: &Space, link: &str, filter: &str) -> Result<Self, LabError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let what = format!("capture on {link} in {}", space.name);
        let name = format!("capture-{}-{}.pcap", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let file = LabState::directory_of(&space.lab).join(name);
        let frames = File::create(&file).map_err(LabError::io(what.clone()))?;
        let mut command = space.command();
        command.args(["tcpdump", "-i", link, "-U", "-n", "-w", "-", filter]);
        command.stdin(Stdio::null()).stdout(frames).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(LabError::io(what.clone()))?;
        // "listening on eth0, ..." comes when frames are being captured.
        let mut said = String::new();
        if let Some(errors) = child.stderr.take() {
            let mut lines = BufReader::new(errors);
            while !said.contains("listening on") && lines.read_line(&mut said).is_ok_and(|bytes| bytes > 0) {}
        }
        if said.contains("listening on") {
            return Ok(Self { child, file });
        }
        // It has said why; how it ended adds nothing.
        let _ = child.wait();
        Err(LabError::Io { what, cause: std::io::Error::other(said) })
    }

    /// Ends the capture and gives one text per frame, with link header and details (`tcpdump -e -v`).
    ///
    /// # Errors
    /// [`LabError::Io`] when tcpdump cannot read its own file.
    pub fn stop(mut self) -> Result<Vec<String>, LabError> {
        // Frames wait in the kernel for a moment before tcpdump gets them.
        std::thread::sleep(Duration::from_millis(300));
        self.end();
        let failed = || LabError::io(format!("read {}", self.file.display()));
        let frames = File::open(&self.file).map_err(failed())?;
        let output = Command::new("tcpdump").args(["-r", "-", "-n", "-e", "-v"]).stdin(frames).output();
        let output = output.map_err(failed())?;
        if !output.status.success() {
            return Err(failed()(std::io::Error::other(String::from_utf8_lossy(&output.stderr))));
        }
        Ok(split_frames(&String::from_utf8_lossy(&output.stdout)))
    }

    fn end(&mut self) {
        if let Ok(process) = Process::of(self.child.id()) {
            // SIGINT lets it write what it has.
            let _ = process.signal(rustix::process::Signal::INT);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

/// Details of a frame stand on indented lines.
fn split_frames(text: &str) -> Vec<String> {
    let mut frames: Vec<String> = Vec::new();
    for line in text.lines() {
        match frames.last_mut() {
            Some(frame) if line.starts_with(char::is_whitespace) => *frame += line,
            _ => frames.push(line.to_owned()),
        }
    }
    frames
}
