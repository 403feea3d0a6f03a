//! `top`: load and traffic of each core and port, once a second.
//!
//! Rates are made here, of two answers ([`rates`]); [`screen`] draws them. Without a terminal, or as JSON, it is a line
//! for each second.

mod rates;
mod screen;

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use headrace_api::proto::dataplane_client::DataplaneClient;
use headrace_api::{client, proto};
use ratatui::crossterm::event::{self, Event};
use tokio::sync::mpsc;
use tonic::transport::Channel;

use super::{CtlError, Printer};
use rates::Rates;
use screen::{Answer, Screen};

/// How often, and how long.
#[derive(Args)]
pub(super) struct TopArgs {
    /// Seconds between two looks
    #[arg(short, long, default_value = "1", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// End after so many looks; 0 = never
    #[arg(short = 'n', long, default_value = "0", value_name = "N")]
    count: u64,
}

/// Shows rates until it is told to quit.
pub(super) async fn run(run_dir: &Path, args: TopArgs, printer: &Printer) -> Result<(), CtlError> {
    let mut source = Source { client: client::connect(run_dir).await?, before: None };
    let on_screen = !printer.is_json() && std::io::stdout().is_terminal();
    if on_screen { live(&mut source, &args).await } else { lines(&mut source, &args, printer).await }
}

/// Where rates come from.
struct Source {
    client: DataplaneClient<Channel>,
    before: Option<(proto::StatusReply, Instant)>,
}

impl Source {
    /// Rates since the last call; since the workers' start at the first.
    async fn next(&mut self) -> Result<Rates, CtlError> {
        let now = self.client.status(proto::StatusRequest {}).await?.into_inner();
        let at = Instant::now();
        let rates = match &self.before {
            Some((before, then)) => Rates::between(before, &now, at - *then),
            None => Rates::since_start(&now),
        };
        self.before = Some((now, at));
        Ok(rates)
    }
}

async fn lines(source: &mut Source, args: &TopArgs, printer: &Printer) -> Result<(), CtlError> {
    source.next().await?;
    let mut left = args.count;
    loop {
        tokio::time::sleep(Duration::from_secs(args.interval)).await;
        let rates = source.next().await?;
        printer.next(&rates, || rates.to_string())?;
        left = left.saturating_sub(1);
        if args.count > 0 && left == 0 {
            return Ok(());
        }
    }
}

async fn live(source: &mut Source, args: &TopArgs) -> Result<(), CtlError> {
    let mut screen = Screen::new(source.next().await?);
    let mut terminal = ratatui::init();
    let outcome = follow(source, args, &mut screen, &mut terminal).await;
    ratatui::restore();
    outcome
}

async fn follow(
    source: &mut Source,
    args: &TopArgs,
    screen: &mut Screen,
    terminal: &mut ratatui::DefaultTerminal,
) -> Result<(), CtlError> {
    let mut events = keys();
    let mut tick = tokio::time::interval(Duration::from_secs(args.interval));
    tick.tick().await;
    let mut looks = 1;
    loop {
        terminal.draw(|frame| screen.draw(frame)).map_err(broken)?;
        if args.count > 0 && looks > args.count {
            return Ok(());
        }
        tokio::select! {
            _ = tick.tick() => {
                // A dataplane that is started again is found again.
                match source.next().await {
                    Ok(rates) => screen.update(rates),
                    Err(error) => screen.lost(error.to_string()),
                }
                looks += 1;
            }
            event = events.recv() => match event {
                Some(event) if screen.handle(&event) == Answer::Stay => {}
                _ => return Ok(()),
            }
        }
    }
}

/// What happens at the terminal, read on a thread that ends with the receiver.
fn keys() -> mpsc::Receiver<Event> {
    let (to, events) = mpsc::channel(16);
    std::thread::spawn(move || {
        while !to.is_closed() {
            match event::poll(Duration::from_millis(200)) {
                Ok(true) => {
                    let Ok(event) = event::read() else { return };
                    if to.blocking_send(event).is_err() {
                        return;
                    }
                }
                Ok(false) => {}
                Err(_) => return,
            }
        }
    });
    events
}

fn broken(source: std::io::Error) -> CtlError {
    CtlError::Io { what: "the terminal".into(), source }
}

#[cfg(test)]
mod tests;
