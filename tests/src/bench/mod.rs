//! `make bench`: how fast Headrace is, beside the kernel in the same run, and how sure that is.
//!
//! [`run`] takes the parts that were asked for and makes one [`Report`] of them: figures with their spread, the machine, its
//! noise. Everything that is shown (tables, the HTML page, a comparison, README's figures) is made of that report alone,
//! so it can be made again from the JSON file.

mod compare;
mod cost;
mod error;
mod figure;
mod forwarder;
mod host;
mod html;
mod load;
mod noise;
mod pipeline;
mod plot;
pub mod readme;
mod services;
mod table;
mod turns;
mod wire;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use error::BenchError;
pub use figure::{Against, Better, Figure, Metric, Part, Report};
use host::Host;
use load::{Effort, Load};
use noise::Noise;
use turns::Rounds;

use crate::interrupt;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scope {
    /// Everything, about twenty minutes.
    Full,
    /// Less often and fewer cases, about three minutes.
    Quick,
    /// Each kind of measurement once, to see that it works; its figures are worth nothing.
    Smoke,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which parts.
    pub parts: Vec<Part>,
    /// How much.
    pub scope: Scope,
    /// Folder for `result.json` and `report.html`.
    pub output: PathBuf,
    /// An earlier result to compare with.
    pub compare: Option<PathBuf>,
}

/// Measures, prints progress and tables, writes the JSON file and the HTML page. `false` when something could not be
/// measured or was not sound.
///
/// # Errors
/// Any [`BenchError`].
pub fn run(options: &Options) -> Result<bool, BenchError> {
    let host = Host::look();
    host.check()?;
    // A file that cannot be compared with is better known now than in twenty minutes.
    let old = options.compare.as_deref().map(Report::load).transpose()?;
    std::fs::create_dir_all(&options.output)
        .map_err(|cause| BenchError::Write { file: options.output.clone(), cause })?;
    let mut run = Run::start(options, &host);
    println!("{}", host.summary());
    run.noise.warnings().iter().for_each(|warning| println!("WARNING: {warning}"));
    for part in Part::ALL.into_iter().filter(|part| options.parts.contains(part)) {
        run.say(part.title());
        let done = match part {
            Part::Pipeline => pipeline::run(&mut run),
            Part::Wire => wire::run(&mut run),
            Part::Cost => cost::run(&mut run),
            Part::Services => services::run(&mut run),
        };
        // What the other parts have measured is worth keeping.
        if let Err(error) = done {
            eprintln!("FAILED: {error}");
            run.faults.push(format!("{}: {error}", part.title()));
        }
    }
    let report = run.report(host);
    show(&report, &options.output)?;
    if let Some(old) = old {
        print!("{}", compare::text(&old, &report));
    }
    Ok(report.faults.is_empty())
}

/// Prints the tables and writes both files.
fn show(report: &Report, folder: &Path) -> Result<(), BenchError> {
    println!("\n{}", table::text(report));
    let (json, page) = (folder.join("result.json"), folder.join("report.html"));
    report.save(&json)?;
    readme::write_pages(report, folder)?;
    println!("written: {} and {}", json.display(), page.display());
    Ok(())
}

/// A run that is under way.
pub(crate) struct Run<'a> {
    scope: Scope,
    effort: Effort,
    /// Every lab of this run has this name, one after another: an interruption removes whichever is there.
    lab_name: String,
    start: Instant,
    noise: Noise,
    figures: Vec<Figure>,
    remarks: Vec<String>,
    faults: Vec<String>,
    options: &'a Options,
}

impl<'a> Run<'a> {
    fn start(options: &'a Options, host: &Host) -> Self {
        let lab_name = format!("bench-{}", std::process::id());
        interrupt::remove_when_interrupted(&lab_name);
        let noise = Noise::measure(options.scope.listening(), host.cores);
        Self {
            scope: options.scope,
            effort: options.scope.effort(),
            lab_name,
            start: Instant::now(),
            noise,
            figures: Vec::new(),
            remarks: Vec::new(),
            faults: Vec::new(),
            options,
        }
    }

    /// Progress.
    fn say(&self, step: &str) {
        eprintln!("[{:4} s] {step}", self.start.elapsed().as_secs());
    }

    /// What a reader must know.
    fn remark(&mut self, remark: &str) {
        self.say(remark);
        self.remarks.push(remark.to_owned());
    }

    /// Takes what was measured and shows it shortly.
    fn take(&mut self, part: Part, case: &str, rounds: &Rounds) {
        self.faults.extend(rounds.faults.iter().map(|fault| format!("{case}: {fault}")));
        let figures = rounds.figures(part, case);
        eprintln!("         {}", table::line(&figures));
        rounds.faults.iter().for_each(|fault| eprintln!("         FAILED: {fault}"));
        self.figures.extend(figures);
    }

    fn report(self, host: Host) -> Report {
        let mut remarks = self.noise.warnings();
        remarks.extend(self.remarks);
        Report {
            format: figure::FORMAT,
            quick: self.options.scope != Scope::Full,
            host,
            noise: self.noise,
            remarks,
            faults: self.faults,
            figures: self.figures,
        }
    }
}

impl Scope {
    fn effort(self) -> Effort {
        let effort = |rounds, short, step| Effort {
            rounds,
            bulk: 1,
            short: Duration::from_millis(short),
            step: Duration::from_millis(step),
        };
        match self {
            Self::Full => effort(5, 500, 100),
            Self::Quick => effort(2, 300, 60),
            Self::Smoke => effort(1, 100, 20),
        }
    }

    /// How long to listen to the machine before anything is measured.
    fn listening(self) -> Duration {
        Duration::from_millis(if self == Self::Full { 3000 } else { 500 })
    }

    /// What of the loads is measured.
    fn of(self, loads: &[Load]) -> Vec<Load> {
        let quick =
            [Load::Tcp { streams: 1 }, Load::Udp { length: 1400 }, Load::RoundTrips, Load::Connections];
        loads.iter().copied().filter(|load| self != Self::Quick || quick.contains(load)).collect()
    }

    /// What of the paths is measured.
    fn of_paths<T>(self, mut paths: Vec<T>) -> Vec<T> {
        if self == Self::Smoke {
            paths.truncate(1);
        }
        paths
    }
}
