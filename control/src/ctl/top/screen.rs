//! The screen: cores above, ports in the middle, drops below. Arrows scroll the ports, p stops the picture, q quits.

use ratatui::Frame;
use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Row, Table};

use super::rates::{Drop, Port, Rates, Worker};
use crate::ctl::text::{seconds, short};

/// Cells of a load bar.
const BAR: usize = 20;

/// What a key means for the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Go on.
    Stay,
    /// End.
    Quit,
}

/// What is shown.
pub(super) struct Screen {
    rates: Rates,
    /// The dataplane does not answer.
    problem: Option<String>,
    paused: bool,
    /// Ports above the first that is shown.
    skipped: usize,
}

impl Screen {
    pub(super) fn new(rates: Rates) -> Self {
        Self { rates, problem: None, paused: false, skipped: 0 }
    }

    pub(super) fn update(&mut self, rates: Rates) {
        self.problem = None;
        if !self.paused {
            self.rates = rates;
        }
    }

    pub(super) fn lost(&mut self, problem: String) {
        self.problem = Some(problem);
    }

    pub(super) fn handle(&mut self, event: &Event) -> Answer {
        let Event::Key(key) = event else { return Answer::Stay };
        if key.kind == KeyEventKind::Release {
            return Answer::Stay;
        }
        let last = self.rates.ports.len().saturating_sub(1);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Answer::Quit,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Answer::Quit,
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Down => self.skipped = (self.skipped + 1).min(last),
            KeyCode::Up => self.skipped = self.skipped.saturating_sub(1),
            KeyCode::PageDown => self.skipped = (self.skipped + 10).min(last),
            KeyCode::PageUp => self.skipped = self.skipped.saturating_sub(10),
            _ => {}
        }
        Answer::Stay
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let workers = self.rates.workers.len() as u16 + 3;
        let drops = self.rates.drops.len().clamp(1, 6) as u16 + 2;
        let [head, cores, ports, below, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(workers),
            Constraint::Min(4),
            Constraint::Length(drops),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(self.head(), head);
        frame.render_widget(self.cores(), cores);
        frame.render_widget(self.ports(ports), ports);
        frame.render_widget(self.drops(), below);
        let hint =
            if self.paused { "paused; p goes on, q quits" } else { "q quits, p pauses, arrows scroll ports" };
        frame.render_widget(Line::styled(hint, Style::new().add_modifier(Modifier::DIM)), keys);
    }

    fn head(&self) -> Line<'_> {
        if let Some(problem) = &self.problem {
            return Line::styled(format!("no answer: {problem}"), Style::new().fg(Color::Red));
        }
        let r = &self.rates;
        let warnings = match r.warnings.len() {
            0 => String::new(),
            n => format!("   {n} warnings, see headracectl status"),
        };
        let state = match r.state_source.as_str() {
            "controller" => "fed by the agent",
            "saved" => "no agent, state of an earlier run",
            "file" => "by its state file",
            _ => "no agent yet",
        };
        Line::raw(format!(
            "headrace {}   up {}   {state}   {} flow entries{warnings}",
            r.version,
            seconds(r.uptime_seconds),
            r.flow_entries
        ))
    }

    fn cores(&self) -> Table<'_> {
        let header = ["worker", "core", "load", "", "Mpps", "Gbit/s", "per burst", "drops/s", "new flows/s"];
        let widths = [7, 5, 6, BAR as u16, 8, 8, 10, 9, 12].map(Constraint::Length);
        table("Cores", header, self.rates.workers.iter().map(core), widths)
    }

    fn ports(&self, area: Rect) -> Table<'_> {
        let header = ["port", "for", "in pps", "in bit/s", "out pps", "out bit/s", "lost/s"];
        let widths = [
            Constraint::Length(16),
            Constraint::Fill(1),
            Constraint::Length(9),
            Constraint::Length(9),
            Constraint::Length(9),
            Constraint::Length(9),
            Constraint::Length(8),
        ];
        let room = usize::from(area.height.saturating_sub(3));
        let all = self.rates.ports.len();
        let skipped = self.skipped.min(all.saturating_sub(room));
        let title = match all > room {
            true => format!("Ports {} to {} of {all}", skipped + 1, (skipped + room).min(all)),
            false => "Ports".into(),
        };
        table(title, header, self.rates.ports.iter().skip(skipped).map(port), widths)
    }

    fn drops(&self) -> Table<'_> {
        let widths = [Constraint::Length(22), Constraint::Length(10), Constraint::Fill(1)];
        let rows = self.rates.drops.iter().map(dropped);
        let nothing = self.rates.drops.is_empty().then(|| Row::new(["nothing", "", ""]));
        Table::new(rows.chain(nothing), widths).block(Block::bordered().title("Drops, frames/s"))
    }
}

fn table<'a, const N: usize>(
    title: impl Into<Line<'a>>,
    header: [&'static str; N],
    rows: impl Iterator<Item = Row<'a>>,
    widths: [Constraint; N],
) -> Table<'a> {
    Table::new(rows, widths)
        .header(Row::new(header).style(Style::new().add_modifier(Modifier::BOLD)))
        .block(Block::bordered().title(title))
}

fn core(w: &Worker) -> Row<'_> {
    let color = match w.load {
        0.9.. => Color::Red,
        0.7.. => Color::Yellow,
        _ => Color::Green,
    };
    let filled = ((w.load * BAR as f64).round() as usize).min(BAR);
    let bar = if w.stands {
        Line::styled("stands still", Style::new().fg(Color::Red).add_modifier(Modifier::BOLD))
    } else {
        Line::styled("█".repeat(filled) + &"░".repeat(BAR - filled), Style::new().fg(color))
    };
    Row::new([
        Line::raw(w.id.to_string()),
        Line::raw(if w.pinned { w.core.to_string() } else { "any".into() }),
        Line::raw(format!("{:3.0} %", w.load * 100.0)),
        bar,
        Line::raw(format!("{:.3}", w.frames / 1e6)),
        Line::raw(format!("{:.3}", w.bits / 1e9)),
        Line::raw(format!("{:.1}", w.per_burst)),
        Line::raw(format!("{:.0}", w.drops)),
        Line::raw(format!("{:.0}", w.new_flows)),
    ])
}

fn port(p: &Port) -> Row<'_> {
    let label = if p.ready { p.label.clone() } else { format!("{} (not ready)", p.label) };
    Row::new([
        p.interface.clone(),
        label,
        short(p.rx_frames),
        short(p.rx_bits),
        short(p.tx_frames),
        short(p.tx_bits),
        short(p.lost),
    ])
}

fn dropped(d: &Drop) -> Row<'_> {
    Row::new([d.reason.clone(), short(d.frames), d.meaning.clone()])
}
