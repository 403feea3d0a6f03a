//! Hands flows over to the shortcut and takes them back: some times a second, and when tables change.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use headrace_wire::Header;
use headrace_wire::ethernet::EthernetHeader;
use headrace_xsk::program::{MAX_WAYS, Passed, RecordIndex, Way, Ways};

use super::judge::{Passage, passage};
use super::{Places, Shortcut};
use crate::flows::{FlowKey, Seconds};
use crate::tables::Tables;
use crate::worker::{Shared, uptime};

/// How often offers are counted, and what was carried.
const PERIOD: Duration = Duration::from_millis(50);
/// Tables that change faster are looked at together.
const PAUSE: Duration = Duration::from_millis(5);
/// Bursts of a period in which a flow must have been seen: fewer packets are not worth an entry.
const OFFERS: u32 = 4;
/// Looks without a packet after which a direction is given back.
const IDLE: u32 = 60;

/// All that is in the shortcut. It belongs to one thread.
pub(super) struct Keeper {
    shortcut: Arc<Shortcut>,
    shared: Arc<Shared>,
    ways: Ways,
    carried: HashMap<FlowKey, Carriage>,
    offers: HashMap<FlowKey, u32>,
    free: Vec<RecordIndex>,
    /// Taken back: what was on its way then is counted with the next look.
    leaving: Vec<(FlowKey, Carriage)>,
}

/// A direction of a flow in the shortcut.
struct Carriage {
    passage: Passage,
    record: RecordIndex,
    counted: Passed,
    idle: u32,
}

impl Keeper {
    pub(super) fn new(shortcut: Arc<Shortcut>, shared: Arc<Shared>, ways: Ways) -> Self {
        let free = (0..MAX_WAYS).rev().map(RecordIndex).collect();
        let (carried, offers, leaving) = Default::default();
        Self { shortcut, shared, ways, carried, offers, free, leaving }
    }

    /// Looks once at everything. At the end of a period flows that were offered often enough are handed over.
    fn look(&mut self, period_ends: bool) {
        // Ports after tables: those that tables name are there, or their generation is over.
        let tables = self.shared.tables.load_full();
        let places = self.shortcut.places.load_full();
        let now = uptime().as_secs() as Seconds;
        for (key, carriage) in std::mem::take(&mut self.leaving) {
            self.count(&key, carriage, &places, now);
        }
        self.keep(&tables, &places, now, period_ends);
        for key in self.shared.flows.offered() {
            *self.offers.entry(key).or_default() += 1;
        }
        if period_ends {
            let offers = std::mem::take(&mut self.offers);
            let often = offers.into_iter().filter(|(_, n)| *n >= OFFERS).map(|(key, _)| key);
            often.for_each(|key| self.hand_over(key, &tables, &places));
        }
        self.shortcut.carried.ways.store(self.carried.len() as u64, Ordering::Relaxed);
    }

    /// Counts what was carried; renews ways that still hold, and takes the others back.
    fn keep(&mut self, tables: &Tables, places: &Places, now: Seconds, period_ends: bool) {
        for (key, carriage) in std::mem::take(&mut self.carried) {
            let before = carriage.counted.frames;
            let ended = self.ways.passed(carriage.record).ended;
            let mut carriage = self.tally(&key, carriage, places, now);
            carriage.idle = match carriage.counted.frames == before {
                true => carriage.idle + u32::from(period_ends),
                false => 0,
            };
            let passage = passage(&key, &self.shared.flows, tables, places)
                .filter(|passage| !ended && carriage.idle < IDLE && passage.key == carriage.passage.key);
            match passage {
                Some(passage) if self.renew(&carriage, &passage) => {
                    self.carried.insert(key, Carriage { passage, ..carriage });
                }
                _ => {
                    self.ways.remove(&carriage.passage.key);
                    self.leaving.push((key, carriage));
                }
            }
        }
    }

    /// Whether a direction's way is that of `passage` now.
    fn renew(&mut self, carriage: &Carriage, passage: &Passage) -> bool {
        let stands = |way: &Way| *way == carriage.passage.way;
        stands(&passage.way) || self.ways.set(&passage.key, &passage.way, carriage.record).is_ok()
    }

    fn hand_over(&mut self, key: FlowKey, tables: &Tables, places: &Places) {
        if self.carried.contains_key(&key) || self.shortcut.control.is_paused() {
            return;
        }
        let Some(passage) = passage(&key, &self.shared.flows, tables, places) else { return };
        let Some(record) = self.free.pop() else { return };
        self.ways.clear(record);
        self.shared.flows.begin_elsewhere(&key);
        if self.ways.set(&passage.key, &passage.way, record).is_err() {
            self.free.push(record);
            return;
        }
        let carriage = Carriage { passage, record, counted: Passed::default(), idle: 0 };
        self.carried.insert(key, carriage);
    }

    /// Counts the last of a direction that was taken back.
    fn count(&mut self, key: &FlowKey, carriage: Carriage, places: &Places, now: Seconds) {
        let record = carriage.record;
        self.tally(key, carriage, places, now);
        self.free.push(record);
    }

    /// Counts what a direction has carried since the last look, in its flow, its ports and the sums.
    fn tally(&self, key: &FlowKey, carriage: Carriage, places: &Places, now: Seconds) -> Carriage {
        let (before, passed) = (carriage.counted, self.ways.passed(carriage.record));
        let frames = passed.frames.wrapping_sub(before.frames);
        if frames == 0 {
            return carriage;
        }
        let bytes = passed.bytes.wrapping_sub(before.bytes);
        let superframes = passed.superframes.wrapping_sub(before.superframes);
        self.shared.flows.carried_elsewhere(key, frames, bytes, now);
        let on_port = bytes + frames * ETHERNET;
        if let Some(from) = places.get(&carriage.passage.from) {
            from.counters.rx_frames.add(frames);
            from.counters.rx_bytes.add(on_port);
            from.counters.rx_superframes.add(superframes);
        }
        if let Some(to) = places.get(&carriage.passage.to) {
            to.counters.tx_frames.add(frames);
            to.counters.tx_bytes.add(on_port);
            to.counters.tx_superframes.add(superframes);
        }
        self.shortcut.carried.frames.fetch_add(frames, Ordering::Relaxed);
        self.shortcut.carried.bytes.fetch_add(bytes, Ordering::Relaxed);
        Carriage { counted: passed, ..carriage }
    }

    /// Looks until told to stop.
    fn run(mut self, stop: &AtomicBool) {
        let mut due = Instant::now() + PERIOD;
        while !stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
            let period_ends = Instant::now() >= due;
            if period_ends {
                due = Instant::now() + PERIOD;
            }
            self.look(period_ends);
            std::thread::sleep(PAUSE);
        }
    }
}

/// Bytes of an Ethernet header.
const ETHERNET: u64 = EthernetHeader::LEN as u64;

/// The keeper's thread; it ends when this is dropped, and the shortcut with it.
pub struct KeeperThread {
    stop: Arc<AtomicBool>,
    join: Option<JoinHandle<()>>,
    thread: Thread,
}

impl KeeperThread {
    pub(super) fn start(keeper: Keeper) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let join = std::thread::Builder::new().name("shortcut".into()).spawn(move || keeper.run(&stopped))?;
        Ok(Self { stop, thread: join.thread().clone(), join: Some(join) })
    }

    pub(super) fn thread(&self) -> &Thread {
        &self.thread
    }
}

impl Drop for KeeperThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.unpark();
        if let Some(join) = self.join.take() {
            // A panic was told when it happened.
            let _ = join.join();
        }
    }
}
