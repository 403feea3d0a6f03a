use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;

fn status(uptime: u64, frames: u64, busy_ns: u64, drops: u64) -> proto::StatusReply {
    let counters = |n: u64| proto::PortCounters { rx_frames: n, rx_bytes: n * 125, ..Default::default() };
    let port = |id: u32, n: u64| proto::PortStatus {
        id,
        interface: format!("hr{id}"),
        label: format!("default/web-{id}"),
        ready: true,
        counters: Some(counters(n)),
        by_worker: vec![counters(n)],
        ..Default::default()
    };
    let drop = proto::Count { name: "no_route".into(), meaning: "Nothing leads there.".into(), count: drops };
    let worker = proto::WorkerStatus {
        core: 3,
        pinned: true,
        loops: frames,
        frames,
        bursts: frames / 8,
        busy_ns,
        alive_ns: uptime * 1_000_000_000,
        drops: vec![drop],
        ..Default::default()
    };
    proto::StatusReply {
        version: "0.1.0".into(),
        uptime_seconds: uptime,
        state_source: "controller".into(),
        workers: vec![worker],
        ports: (1..=30).map(|id| port(id, if id == 7 { frames } else { 0 })).collect(),
        ..Default::default()
    }
}

fn rates() -> Rates {
    let (before, now) = (status(10, 1_000_000, 0, 5), status(12, 3_000_000, 500_000_000, 25));
    Rates::between(&before, &now, Duration::from_secs(2))
}

/// What a terminal of that size shows.
fn shown(screen: &Screen, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>() + "\n";
    (0..height).map(line).collect()
}

fn key(code: KeyCode) -> Event {
    Event::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn rates_are_differences_over_time() {
    let rates = rates();
    let worker = &rates.workers[0];
    assert_eq!((worker.load, worker.frames, worker.bits), (0.25, 1e6, 1e9));
    assert_eq!((worker.per_burst, worker.drops), (8.0, 10.0));
    assert_eq!(rates.ports[0].interface, "hr7", "the busiest port comes first");
    assert_eq!((rates.drops[0].reason.as_str(), rates.drops[0].frames), ("no_route", 10.0));
}

#[test]
fn a_restarted_dataplane_has_no_negative_rates() {
    let rates =
        Rates::between(&status(100, 9_000_000, 7, 7), &status(1, 1_000, 0, 0), Duration::from_secs(1));
    assert_eq!(rates.workers[0].frames, 1000.0);
    assert!(rates.drops.is_empty());
}

#[test]
fn a_worker_that_makes_no_turn_stands_still() {
    let (before, now) = (status(10, 1_000_000, 0, 5), status(11, 1_000_000, 0, 5));
    let rates = Rates::between(&before, &now, Duration::from_secs(1));
    assert!(rates.workers[0].stands && rates.to_string().contains("core 3 stands still"), "{rates}");
    assert!(shown(&Screen::new(rates), 120, 30).contains("stands still"));
    // So short a time says nothing of an idle one.
    let rates = Rates::between(&before, &now, Duration::from_millis(200));
    assert!(!rates.workers[0].stands);
    assert!(!shown(&Screen::new(rates), 120, 30).contains("stands still"));
}

#[test]
fn the_screen_shows_load_rates_and_drops() {
    let text = shown(&Screen::new(rates()), 120, 30);
    for wanted in [
        "fed by the agent",
        "25 %",
        "1.000",
        "8.0",
        "hr7",
        "default/web-7",
        "1.0 M",
        "1.0 G",
        "no_route",
        "Nothing leads there.",
        "q quits",
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
    }
}

#[test]
fn any_size_is_drawn() {
    let screen = Screen::new(rates());
    for (width, height) in [(1, 1), (10, 3), (40, 8), (80, 24), (300, 100)] {
        shown(&screen, width, height);
    }
    assert!(shown(&screen, 80, 24).contains("Ports 1 to"), "{}", shown(&screen, 80, 24));
}

#[test]
fn keys_scroll_pause_and_quit() {
    let mut screen = Screen::new(rates());
    assert_eq!(screen.handle(&key(KeyCode::Down)), Answer::Stay);
    assert!(shown(&screen, 100, 24).contains("Ports 2 to"));
    screen.handle(&key(KeyCode::Char('p')));
    let before = shown(&screen, 100, 24);
    screen.update(Rates::default());
    assert_eq!(shown(&screen, 100, 24), before, "a paused picture stays");
    screen.lost("the dataplane is away".into());
    assert!(shown(&screen, 100, 24).contains("no answer: the dataplane is away"));
    assert_eq!(screen.handle(&key(KeyCode::Char('q'))), Answer::Quit);
    let interrupt = Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert_eq!(screen.handle(&interrupt), Answer::Quit);
    assert_eq!(screen.handle(&Event::Resize(10, 10)), Answer::Stay);
}
