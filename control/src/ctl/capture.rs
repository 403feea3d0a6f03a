//! `capture`: frames as they cross ports, as pcapng for Wireshark and tshark.
//!
//! Each port is an interface of the file. Frames say whether they came in or left (epb_flags, pcapng 4.3.1); a dropped one
//! carries the reason as a comment. Both sides of a translation are in it, since a filter holds for either.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use headrace_api::client;
use headrace_api::proto::{self, Direction};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};
use serde_json::{Value, json};

use super::{CtlError, Printer, filter, text};

/// What to capture.
#[derive(Args)]
pub(super) struct CaptureArgs {
    /// Which frames [default: all]
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// File to write; - = standard output. Without it, a line for each frame
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Only this port, by device or pod; may be given again
    #[arg(short = 'i', long = "port", value_name = "NAME")]
    ports: Vec<String>,
    /// Most bytes of a frame; 0 = all
    #[arg(short, long, default_value = "0", value_name = "BYTES")]
    snap_length: u32,
    /// End after so many frames; 0 = when interrupted
    #[arg(short = 'n', long, default_value = "0", value_name = "N")]
    count: u64,
    /// Most MiB of frames to copy in a second. Frames beyond are lost and counted: taking more slows what is looked at
    #[arg(long, default_value = "32", value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

/// Captures until there are enough frames, or until it is interrupted.
pub(super) async fn run(run_dir: &Path, args: CaptureArgs, printer: &Printer) -> Result<(), CtlError> {
    let request = proto::CaptureRequest {
        filter: filter(&args.filter)?,
        ports: args.ports,
        snap_length: args.snap_length,
        count: args.count,
        rate: u64::from(args.rate) << 20,
    };
    // Under full load frames are lost and counted rather than traffic slowed: this takes time that nobody else wants.
    let _ = rustix::process::nice(19);
    let mut client = client::observe(run_dir).await?;
    let mut stream = client.capture(request).await?.into_inner();
    let mut file = args.write.map(|path| Pcapng::create(&path)).transpose()?;
    let (mut frames, mut lost) = (0_u64, 0);
    let mut flush = tokio::time::interval(Duration::from_millis(500));
    // One for all turns: a signal between two would reach neither.
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let record = tokio::select! {
            biased;
            _ = &mut interrupted => None,
            record = stream.message() => record?,
            _ = flush.tick() => {
                file.as_mut().map_or(Ok(()), Pcapng::flush)?;
                continue;
            }
        };
        let Some(record) = record else { break };
        frames += 1;
        lost = record.lost;
        match &mut file {
            Some(file) => file.put(&record)?,
            None => printer.next(&json(&record), || told(&record))?,
        }
    }
    if let Some(mut file) = file {
        file.flush()?;
        eprintln!("{frames} frames captured, {lost} lost because they came too fast{}", remedy(lost));
    }
    Ok(())
}

/// What to do about losses.
fn remedy(lost: u64) -> &'static str {
    if lost > 0 { " (a filter, --snap-length or --rate lose fewer)" } else { "" }
}

/// A file in the making.
struct Pcapng {
    name: String,
    writer: PcapNgWriter<BufWriter<Box<dyn Write>>>,
    /// Interfaces by the names of ports.
    interfaces: HashMap<String, u32>,
}

impl Pcapng {
    fn create(path: &Path) -> Result<Self, CtlError> {
        let (name, out): (String, Box<dyn Write>) = if path == Path::new("-") {
            ("standard output".into(), Box::new(std::io::stdout()))
        } else {
            let name = path.display().to_string();
            let file = File::create(path).map_err(|source| CtlError::Io { what: name.clone(), source })?;
            (name, Box::new(file))
        };
        let writer = PcapNgWriter::new(BufWriter::new(out)).map_err(|e| failed(&name, e))?;
        Ok(Self { name, writer, interfaces: HashMap::new() })
    }

    fn put(&mut self, record: &proto::CaptureRecord) -> Result<(), CtlError> {
        let interface_id = self.interface(&record.port)?;
        let mut options = Vec::new();
        match record.direction() {
            Direction::In => options.push(EnhancedPacketOption::Flags(1)),
            Direction::Out => options.push(EnhancedPacketOption::Flags(2)),
            Direction::Dropped => {
                let comment = format!("dropped: {}: {}", record.reason, record.meaning);
                options.push(EnhancedPacketOption::Comment(Cow::Owned(comment)));
            }
            Direction::Unspecified => {}
        }
        let block = EnhancedPacketBlock {
            interface_id,
            timestamp: Duration::from_nanos(record.time_ns),
            original_len: record.length,
            data: Cow::Borrowed(&record.frame),
            options,
        };
        self.writer.write_pcapng_block(block).map(drop).map_err(|e| failed(&self.name, e))
    }

    /// The number of a port's interface; a new one is described first.
    fn interface(&mut self, port: &str) -> Result<u32, CtlError> {
        if let Some(id) = self.interfaces.get(port) {
            return Ok(*id);
        }
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 0,
            // Times are in nanoseconds.
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(port)),
                InterfaceDescriptionOption::IfTsResol(9),
            ],
        };
        self.writer.write_pcapng_block(block).map_err(|e| failed(&self.name, e))?;
        let id = self.interfaces.len() as u32;
        self.interfaces.insert(port.to_owned(), id);
        Ok(id)
    }

    fn flush(&mut self) -> Result<(), CtlError> {
        self.writer.get_mut().flush().map_err(|e| failed(&self.name, PcapError::IoError(e)))
    }
}

/// A reader of standard output that has seen enough ends the process without an error.
fn failed(what: &str, source: PcapError) -> CtlError {
    match source {
        PcapError::IoError(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        PcapError::IoError(source) => CtlError::Io { what: what.into(), source },
        source => CtlError::Pcap { what: what.into(), source },
    }
}

fn direction(record: &proto::CaptureRecord) -> &'static str {
    match record.direction() {
        Direction::In => "in",
        Direction::Out => "out",
        Direction::Dropped => "dropped",
        Direction::Unspecified => "",
    }
}

fn told(r: &proto::CaptureRecord) -> String {
    let time = text::time_of_day(r.time_ns);
    let reason = if r.reason.is_empty() { String::new() } else { format!(" {}", r.reason) };
    format!("{time} {:12} {:7}{reason} {}", r.port, direction(r), r.summary)
}

fn json(r: &proto::CaptureRecord) -> Value {
    json!({
        "time_ns": r.time_ns, "worker": r.worker, "port": r.port, "direction": direction(r),
        "length": r.length, "summary": r.summary, "frame": text::hex(&r.frame),
        "reason": r.reason, "meaning": r.meaning, "lost": r.lost,
    })
}

#[cfg(test)]
mod tests;
