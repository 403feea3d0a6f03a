//! The flow log: connections that begin and end, and packets that are dropped, as JSON lines.
//!
//! A thread of its own writes; what it cannot write in time is lost, and the log says how much. Of a sampled connection
//! both lines are written or none: what is sampled is the connection's tuple, not the line.

use std::fs::OpenOptions;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{self, Receiver};
use headrace_api::filter::{Filter, Term};
use headrace_api::proto::{self, FlowEvent};
use serde_json::{Value, json};

use super::describe::{self, unix_ns};
use super::flows::{WallClock, message};
use super::watch::{Ear, Watch};
use super::{Sight, filters};
use crate::flows::{Event, Record};
use crate::observe::tap::{Crossing, Frames, Sighting, Sink};
use crate::port::PortIndex;

/// Time between two looks for news.
const PERIOD: Duration = Duration::from_millis(50);
/// Events that wait to be written.
const EVENTS: usize = 16_384;
/// Dropped packets that wait to be written, and bytes of each that are looked at.
const DROPS: (usize, usize) = (256, 128);

/// What is logged, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowLogConfig {
    /// The file, to which lines are added; "-" = standard output.
    pub path: PathBuf,
    /// One connection of so many, at least 1.
    pub sample: u64,
}

/// Starts to log; it goes on as long as the process.
///
/// # Errors
/// The file cannot be written.
pub fn start(sight: Sight, config: &FlowLogConfig) -> io::Result<()> {
    let out = open(&config.path)?;
    let sample = config.sample.max(1);
    std::thread::Builder::new()
        .name("flow-log".into())
        .spawn(move || FlowLog::new(sight, out, sample).run())?;
    Ok(())
}

fn open(path: &Path) -> io::Result<Box<dyn Write + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdout()));
    }
    Ok(Box::new(OpenOptions::new().create(true).append(true).open(path)?))
}

struct FlowLog {
    sight: Sight,
    out: BufWriter<Box<dyn Write + Send>>,
    sample: u64,
    events: Receiver<(Event, Record)>,
    drops: Receiver<Sighting>,
    empty: channel::Sender<Sighting>,
    lost: [Arc<AtomicU64>; 2],
    told_lost: u64,
    _ear: Ear,
    _watch: Watch,
}

impl FlowLog {
    fn new(sight: Sight, out: Box<dyn Write + Send>, sample: u64) -> Self {
        let lost = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
        let (to, events) = channel::bounded(EVENTS);
        let ear = Ear::listen(&sight, to, Arc::clone(&lost[0]));
        let (empty, free) = channel::bounded(DROPS.0);
        let (full, drops) = channel::bounded(DROPS.0);
        for _ in 0..DROPS.0 {
            let _ = empty.send(Sighting { bytes: Vec::with_capacity(DROPS.1), ..Sighting::default() });
        }
        let frames = Frames { ports: Vec::new(), snap: DROPS.1, free, full, lost: Arc::clone(&lost[1]) };
        let watch = Watch::begin(&sight, &Filter::Is(Term::Dropped, 1), &Sink::Frames(frames));
        let out = BufWriter::new(out);
        Self { sight, out, sample, events, drops, empty, lost, told_lost: 0, _ear: ear, _watch: watch }
    }

    fn run(mut self) {
        loop {
            std::thread::sleep(PERIOD);
            if let Err(error) = self.write_news() {
                // Said once: the next ones fail for the same reason.
                tracing::error!("the flow log ends: {error}");
                return;
            }
        }
    }

    fn write_news(&mut self) -> io::Result<()> {
        let clock = WallClock::now();
        let events: Vec<_> = self.events.try_iter().filter(|(_, r)| is_sampled(r, self.sample)).collect();
        for (event, record) in events {
            let line = connection(&message(&self.sight, &record, event.into(), &clock));
            self.line(&line)?;
        }
        for (number, sighting) in self.drops.try_iter().collect::<Vec<_>>().into_iter().enumerate() {
            if (number as u64).is_multiple_of(self.sample) {
                let line = self.dropped(&sighting);
                self.line(&line)?;
            }
            let _ = self.empty.try_send(sighting);
        }
        let lost: u64 = self.lost.iter().map(|lost| lost.load(Ordering::Relaxed)).sum();
        if lost > self.told_lost {
            self.line(&json!({ "event": "lost", "lines": lost - self.told_lost }))?;
            self.told_lost = lost;
        }
        self.out.flush()
    }

    fn dropped(&self, sighting: &Sighting) -> Value {
        let (reason, meaning) = match sighting.crossing {
            Crossing::Dropped(reason) => (reason.label(), reason.meaning()),
            Crossing::In | Crossing::Out => ("", ""),
        };
        json!({
            "event": "dropped", "verdict": "dropped", "reason": reason, "meaning": meaning,
            "time": unix_ns(&self.sight, sighting.at) / 1_000_000_000,
            "port": self.sight.directory.load().port(PortIndex(sighting.port)),
            "packet": describe::frame(&self.sight, &sighting.bytes, sighting.len as usize),
        })
    }

    fn line(&mut self, line: &Value) -> io::Result<()> {
        writeln!(self.out, "{line}")
    }
}

/// Whether a connection is one of the sampled ones; the same for its beginning and its end.
fn is_sampled(record: &Record, sample: u64) -> bool {
    let mut hasher = DefaultHasher::new();
    let t = &record.client;
    (t.src, t.src_port, t.dst, t.dst_port, record.protocol.0).hash(&mut hasher);
    hasher.finish().is_multiple_of(sample)
}

fn connection(flow: &proto::FlowRecord) -> Value {
    let ended = flow.event() == FlowEvent::Ended;
    let end = |address: &Option<proto::Address>| {
        address.as_ref().and_then(filters::ip).map(|a| a.to_string()).unwrap_or_default()
    };
    let tuple = |t: &Option<proto::Tuple>| {
        let t = t.clone().unwrap_or_default();
        json!({
            "source": end(&t.source), "source_port": t.source_port,
            "destination": end(&t.destination), "destination_port": t.destination_port,
        })
    };
    let (to_server, to_client) = (flow.to_server.unwrap_or_default(), flow.to_client.unwrap_or_default());
    json!({
        "event": if ended { "ended" } else { "began" },
        "verdict": "forwarded",
        "protocol": flow.protocol, "state": flow.state,
        "client": tuple(&flow.client), "server": tuple(&flow.server), "way": flow.way,
        "client_pod": flow.client_pod, "server_pod": flow.server_pod, "service": flow.service,
        "start": flow.began, "end": ended.then_some(flow.last_seen),
        "bytes_to_server": to_server.bytes, "bytes_to_client": to_client.bytes,
        "frames_to_server": to_server.frames, "frames_to_client": to_client.frames,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::test_node::{A, B, Node};
    use super::*;

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn connections_and_drops_are_lines() {
        let (node, dir) = (Node::new(), tempfile::tempdir().unwrap());
        let path = dir.path().join("flows.json");
        start(node.sight(), &FlowLogConfig { path: path.clone(), sample: 1 }).unwrap();
        // The thread begins to listen some time after it is started.
        let mut port = 1000;
        while lines(&path).len() < 2 {
            node.send(A, (B, port), b"x");
            node.send(B, (A, port), b"spoofed");
            port += 1;
            std::thread::sleep(Duration::from_millis(20));
            assert!(port < 2000, "no lines");
        }
        let lines = lines(&path);
        let began = lines.iter().find(|l| l["event"] == "began").unwrap();
        assert_eq!((&began["client_pod"], &began["server_pod"]), (&json!("default/a"), &json!("default/b")));
        assert_eq!(began["verdict"], "forwarded");
        assert!(began["start"].as_u64().unwrap() > 1_600_000_000 && began["end"].is_null());
        let dropped = lines.iter().find(|l| l["event"] == "dropped").unwrap();
        assert_eq!(
            (&dropped["reason"], &dropped["port"]),
            (&json!("spoofed_source"), &json!("pod default/a"))
        );
    }

    /// A log whose lines can be read while it is held back.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn of(&self, event: &str) -> Vec<Value> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            lines.filter(|line| line["event"] == event).collect()
        }
    }

    fn log(node: &Node, sample: u64) -> (FlowLog, Written) {
        let written = Written::default();
        let log = FlowLog::new(node.sight(), Box::new(written.clone()), sample);
        // What is sent from now on is seen.
        node.worker_rests();
        (log, written)
    }

    #[test]
    fn what_does_not_fit_into_the_queue_is_lost_and_told_once() {
        let node = Node::new();
        let (mut log, written) = log(&node, 1);
        for _ in 0..DROPS.0 + 44 {
            node.send(B, (A, 53), b"spoofed");
        }
        node.worker_rests();
        log.write_news().unwrap();
        assert_eq!(written.of("dropped").len(), DROPS.0);
        assert_eq!(written.of("lost"), [json!({ "event": "lost", "lines": 44 })]);
        node.send(B, (A, 53), b"spoofed");
        node.worker_rests();
        log.write_news().unwrap();
        assert_eq!((written.of("dropped").len(), written.of("lost").len()), (DROPS.0 + 1, 1));
    }

    #[test]
    fn one_connection_of_so_many_is_logged_and_always_the_same() {
        let node = Node::new();
        let logs = [log(&node, 4), log(&node, 4)];
        for port in 1000..1400 {
            node.send(A, (B, port), b"x");
        }
        node.worker_rests();
        let [one, other] = logs.map(|(mut log, written)| {
            log.write_news().unwrap();
            written.of("began").into_iter().map(|line| line["client"].clone()).collect::<Vec<_>>()
        });
        assert!((50..150).contains(&one.len()), "{} of 400", one.len());
        assert_eq!(one, other);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_said_at_the_start() {
        let node = Node::new();
        let config = FlowLogConfig { path: "/nonexistent/flows.json".into(), sample: 1 };
        assert!(start(node.sight(), &config).is_err());
    }
}
