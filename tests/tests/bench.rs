//! The benchmark works from end to end, in its smallest form. Its figures are worth nothing and nobody looks at them.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use headrace_lab::bench::Report;

use crate::support;

const LOADS: [&str; 7] = [
    "TCP, 1 stream",
    "TCP, 4 streams",
    "TCP, both directions at once",
    "UDP 64 B, loss < 0.1 %",
    "request/response, idle",
    "request/response, under load",
    "new connections",
];

#[test]
fn every_kind_of_measurement_gives_figures_for_each_driver_and_the_kernel() -> Result<()> {
    let Some(_) = support::lab_name()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let output =
        bench()?.args(["wire", "cost", "--scope", "smoke", "--output"]).arg(folder.path()).output()?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text}");
    let report = Report::load(&folder.path().join("result.json"))?;
    for load in LOADS {
        for subject in ["auto", "af_xdp", "kernel"] {
            let case = format!("same node, {load}");
            let figure = report.figures.iter().find(|f| f.case == case && f.subject == subject);
            let figure = figure.with_context(|| format!("nothing about {case} by {subject}: {text}"))?;
            // A busy machine may lose some datagrams at every rate.
            if !load.starts_with("UDP") {
                ensure!(figure.value.median > 0.0, "{figure:?}");
                ensure!(figure.ratio.is_some() == (subject != "kernel"), "{figure:?}");
            }
        }
    }
    for unit in ["core s/Gbit", "cores", "MB resident"] {
        ensure!(report.figures.iter().any(|figure| figure.metric.unit == unit), "nothing in {unit}: {text}");
    }
    let page = fs::read_to_string(folder.path().join("report.html"))?;
    ensure!(page.contains("same node, TCP, 1 stream") && page.contains("<svg"), "{page}");
    Ok(())
}

#[test]
fn a_file_that_is_no_result_is_refused_before_anything_is_measured() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("old.json");
    fs::write(&file, "[]")?;
    let output = bench()?.arg("--compare").arg(&file).arg("--output").arg(folder.path()).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && text.contains("old.json") && text.contains("make bench"), "{text}");
    Ok(())
}

fn bench() -> Result<Command> {
    let mut command = Command::new(headrace_lab::daemon::binary("headrace-lab")?);
    command.arg("bench");
    Ok(command)
}
