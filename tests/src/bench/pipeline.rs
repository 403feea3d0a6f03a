//! The pipeline: criterion's benchmark of `benches/`, read from the files that it writes, and what callgrind counts beside it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use super::figure::{Against, Figure, Metric, Part};
use super::{BenchError, Run, Scope};
use crate::space::MARK;
use crate::statistics::{Spread, median, percentile};
use crate::{command, daemon};

/// The name that figures of ours carry where nobody else is measured.
const SUBJECT: &str = "headrace";
/// Turns that callgrind counts, each of them a burst.
const COUNTED_TURNS: &str = "150";
/// callgrind's events and what they are called here; every miss is one of the last level unless said.
const EVENTS: [(&[&str], &str); 3] = [
    (&["Ir"], "instructions/packet"),
    (&["D1mr", "D1mw"], "L1 data misses/packet"),
    (&["DLmr", "DLmw"], "last-level misses/packet"),
];

/// Runs criterion, then callgrind where it is installed.
pub(super) fn run(run: &mut Run<'_>) -> Result<(), BenchError> {
    let folder = run.options.output.join("criterion");
    // Cases of an earlier run must not look like those of this one.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|cause| BenchError::Write { file: folder.clone(), cause })?;
    let folder = folder.canonicalize().map_err(|cause| BenchError::Write { file: folder.clone(), cause })?;
    criterion(run, &folder)?;
    let mut figures = Vec::new();
    collect(&folder, &mut figures)?;
    run.figures.extend(figures);
    if command::find_program("valgrind").is_none() {
        run.remark("instructions and cache misses are not counted: valgrind is not installed (`make deps`)");
        return Ok(());
    }
    callgrind(run)
}

fn criterion(run: &Run<'_>, folder: &Path) -> Result<(), BenchError> {
    let arguments =
        ["bench", "--locked", "--quiet", "-p", "headrace-bench", "--bench", "pipeline", "--", "--noplot"];
    let scope = match run.scope {
        Scope::Full => "full",
        Scope::Quick => "quick",
        Scope::Smoke => "smoke",
    };
    let line = format!("cargo {}", arguments.join(" "));
    let failed =
        |status: String, output: String| BenchError::Program { program: line.clone(), status, output };
    let mut child = Command::new("cargo")
        .args(arguments)
        // With the lab's mark it ends with this run when that is interrupted.
        .envs([("HEADRACE_BENCH_SCOPE", scope), (MARK, &run.lab_name)])
        .env("CRITERION_HOME", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string(), String::new()))?;
    let mut last = String::new();
    for line in child
        .stdout
        .take()
        .into_iter()
        .flat_map(|stdout| BufReader::new(stdout).lines())
        .map_while(Result::ok)
    {
        // `NAME   time:   [LOW MIDDLE HIGH]`; a long name stands on a line of its own.
        if line.contains("time:") {
            let name = if line.starts_with(' ') { last.as_str() } else { "" };
            run.say(&format!(
                "{name}{}",
                line.split_whitespace().collect::<Vec<_>>().join(" ").replace("time:", " ")
            ));
        }
        last = line;
    }
    let status = child.wait().map_err(|error| failed(error.to_string(), String::new()))?;
    if status.success() { Ok(()) } else { Err(failed(status.to_string(), last)) }
}

/// Reads every case below `folder`: `.../new/benchmark.json` says what it is, `sample.json` beside it what was measured.
fn collect(folder: &Path, figures: &mut Vec<Figure>) -> Result<(), BenchError> {
    let odd = |file: &Path, problem: String| BenchError::NoResult { file: file.to_owned(), problem };
    let entries = fs::read_dir(folder).map_err(|error| odd(folder, error.to_string()))?;
    let mut folders: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    // In the order in which they were written, which is that of the cases.
    folders.sort_by_key(|path| fs::metadata(path).and_then(|data| data.modified()).ok());
    for folder in folders {
        let file = folder.join("benchmark.json");
        if !folder.ends_with("new") || !file.is_file() {
            collect(&folder, figures)?;
            continue;
        }
        let read = |file: &Path| fs::read_to_string(file).map_err(|error| odd(file, error.to_string()));
        let case: CriterionCase =
            serde_json::from_str(&read(&file)?).map_err(|error| odd(&file, error.to_string()))?;
        let file = folder.join("sample.json");
        let sample: Sample =
            serde_json::from_str(&read(&file)?).map_err(|error| odd(&file, error.to_string()))?;
        figures.extend(case.figures(&sample));
    }
    Ok(())
}

/// criterion's benchmark.json.
#[derive(Deserialize)]
struct CriterionCase {
    group_id: String,
    function_id: Option<String>,
    value_str: Option<String>,
    throughput: Option<Value>,
}

/// criterion's sample.json: how many iterations each sample had, and how many nanoseconds they took.
#[derive(Deserialize)]
struct Sample {
    iters: Vec<f64>,
    times: Vec<f64>,
}

impl CriterionCase {
    /// ns per packet, and the same as packets per second.
    fn figures(&self, sample: &Sample) -> Vec<Figure> {
        let packets = self.throughput.as_ref().and_then(|t| t.get("Elements")?.as_f64()).unwrap_or(1.0);
        let mut nanoseconds: Vec<f64> = sample
            .iters
            .iter()
            .zip(&sample.times)
            .map(|(iterations, time)| time / iterations / packets)
            .collect();
        nanoseconds.sort_by(f64::total_cmp);
        // A scheduler's moods lie in the last tenth.
        let quiet = |share| percentile(&nanoseconds, share);
        let (Some(median), Some(low), Some(high)) =
            (median(nanoseconds.iter().copied()), quiet(0.1), quiet(0.9))
        else {
            return Vec::new();
        };
        let rounds = nanoseconds.len();
        let ns = Spread { median, low, high, rounds };
        let mpps = Spread { median: 1e3 / median, low: 1e3 / high, high: 1e3 / low, rounds };
        let against = self.against();
        let case = match &against {
            Some(_) => self.function_id.clone().unwrap_or_default(),
            None => self.value_str.clone().unwrap_or_default(),
        };
        let figure = |metric, value| Figure {
            part: Part::Pipeline,
            case: case.clone(),
            subject: SUBJECT.to_owned(),
            metric,
            against: against.clone(),
            value,
            ratio: None,
        };
        vec![figure(Metric::lower("ns/packet"), ns), figure(Metric::higher("Mpps"), mpps)]
    }

    /// Groups `against pods` are series.
    fn against(&self) -> Option<Against> {
        let what = self.group_id.strip_prefix("against ")?.to_owned();
        Some(Against { what, count: self.value_str.as_ref()?.parse().ok()? })
    }
}

/// Instructions and misses, which do not waver.
fn callgrind(run: &mut Run<'_>) -> Result<(), BenchError> {
    let program = daemon::binary("headrace-bench-count")?;
    let names = output(Command::new(&program))?;
    let few = if run.scope == Scope::Full { usize::MAX } else { 1 };
    // Service and VXLAN out, which stands fourth, is the case that all targets name.
    let wanted = names.lines().enumerate().skip(if few == 1 { 3 } else { 0 }).take(few);
    for (number, name) in wanted {
        run.say(&format!("counting instructions: {name}"));
        let file = run.options.output.join("callgrind.out");
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--cache-sim=yes", "--toggle-collect=*measured*"]);
        command.arg(format!("--callgrind-out-file={}", file.display())).arg(&program);
        command.args([&number.to_string(), COUNTED_TURNS]).env(MARK, &run.lab_name);
        let packets: f64 = output(command)?.trim().parse().unwrap_or(0.0);
        let text = fs::read_to_string(&file)
            .map_err(|error| BenchError::NoResult { file: file.clone(), problem: error.to_string() })?;
        let _ = fs::remove_file(&file);
        let figures = counted(name, &text, packets);
        if figures.is_empty() {
            run.remark(&format!("callgrind counted nothing for {name}"));
        }
        run.figures.extend(figures);
    }
    Ok(())
}

/// callgrind's file has a line `events: NAME ...` and one `totals: COUNT ...` or `summary: COUNT ...`.
fn counted(case: &str, text: &str, packets: f64) -> Vec<Figure> {
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let (Some(events), Some(totals)) = (line("events: "), line("totals: ").or_else(|| line("summary: ")))
    else {
        return Vec::new();
    };
    let counts: Vec<(&str, f64)> = events
        .split_whitespace()
        .zip(totals.split_whitespace().map(|count| count.parse().unwrap_or(0.0)))
        .collect();
    let sum = |names: &[&str]| {
        counts.iter().filter(|(name, _)| names.contains(name)).map(|(_, count)| count).sum::<f64>()
    };
    if packets == 0.0 || sum(&["Ir"]) == 0.0 {
        return Vec::new();
    }
    let figure = |(names, unit): &(&[&str], &str)| {
        Some(Figure {
            part: Part::Pipeline,
            case: format!("counted: {case}"),
            subject: SUBJECT.to_owned(),
            metric: Metric::lower(unit),
            against: None,
            value: Spread::of(&[sum(names) / packets])?,
            ratio: None,
        })
    };
    EVENTS.iter().filter_map(figure).collect()
}

/// What a program prints when it succeeds.
pub(super) fn output(mut command: Command) -> Result<String, BenchError> {
    let program = format!("{command:?}");
    let failed =
        |status: String, output: String| BenchError::Program { program: program.clone(), status, output };
    let done = command.output().map_err(|error| failed(error.to_string(), String::new()))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(failed(done.status.to_string(), String::from_utf8_lossy(&done.stderr).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criterions_samples_become_ns_per_packet() {
        let case: CriterionCase = serde_json::from_str(
            r#"{"group_id":"against pods","function_id":"x","value_str":"110","throughput":{"Elements":64}}"#,
        )
        .unwrap();
        let sample = Sample { iters: vec![1.0, 2.0, 3.0], times: vec![6400.0, 12_800.0, 19_200.0] };
        let figures = case.figures(&sample);
        assert_eq!((figures[0].value.median, figures[1].value.median), (100.0, 10.0));
        assert_eq!(figures[0].against.as_ref().unwrap().count, 110);
    }

    #[test]
    fn callgrinds_totals_are_shared_among_packets() {
        let text = "events: Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw\nfn=...\ntotals: 2000 1 1 1 30 10 0 4 0\n";
        let figures = counted("x", text, 10.0);
        assert_eq!(figures.iter().map(|f| f.value.median).collect::<Vec<_>>(), [200.0, 4.0, 0.4]);
        assert!(counted("x", "events: Ir\n", 10.0).is_empty());
    }
}
