//! A capture of all frames of a walk, written when it fails: pcapng, an interface for each port.

use std::io;
use std::path::{Path, PathBuf};

use super::place::At;

/// Frames in their order: port, whether it went in, bytes.
#[derive(Default)]
pub(crate) struct Capture(pub(crate) Vec<(At, bool, Vec<u8>)>);

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const ETHERNET: u16 = 1;
const OPTION_IF_NAME: u16 = 2;
const OPTION_EPB_FLAGS: u16 = 2;

impl Capture {
    /// Writes `target/walks/TEST.pcapng` and returns where it is.
    pub(crate) fn write(&self, test: &str) -> io::Result<PathBuf> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("walks");
        std::fs::create_dir_all(&target)?;
        let path = target.join(format!("{}.pcapng", test.replace("::", "-")));
        std::fs::write(&path, self.pcapng())?;
        Ok(path)
    }

    fn pcapng(&self) -> Vec<u8> {
        let magic = 0x1a2b_3c4d_u32.to_ne_bytes();
        let version = [1u16.to_ne_bytes(), 0u16.to_ne_bytes()].concat();
        let mut file = block(SECTION_HEADER, &[magic.to_vec(), version, vec![0xff; 8]].concat());
        for port in At::PORTS {
            let link = [ETHERNET.to_ne_bytes(), [0; 2]].concat();
            let name = option(OPTION_IF_NAME, format!("{port:?}").as_bytes());
            file.extend(block(INTERFACE, &[link, vec![0; 4], name].concat()));
        }
        for (time, (at, inward, frame)) in self.0.iter().enumerate() {
            let interface = At::PORTS.iter().position(|p| p.port() == at.port()).unwrap() as u32;
            let len = frame.len() as u32;
            let head = [interface, 0, time as u32, len, len].map(u32::to_ne_bytes).concat();
            let flags = option(OPTION_EPB_FLAGS, &(if *inward { 1u32 } else { 2 }).to_ne_bytes());
            file.extend(block(PACKET, &[head, padded(frame), flags].concat()));
        }
        file
    }
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32 + 12).to_ne_bytes();
    [&kind.to_ne_bytes(), &len, body, &len].concat()
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let head = [code.to_ne_bytes(), (value.len() as u16).to_ne_bytes()].concat();
    [head, padded(value), vec![0; 4]].concat()
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
