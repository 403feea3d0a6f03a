//! Differential test against kube-proxy: for random Services, EndpointSlices and Nodes, its own code and ours have to
//! give the same addresses, policies, health checks and endpoints.
//!
//! kube-proxy answers from tests/k8s/oracle, which links `k8s.io/kubernetes/pkg/proxy`. A disagreement shrinks to a few
//! lines of YAML in `cases`, where it stays as a named case. `HEADRACE_CASES` and `HEADRACE_SEED` widen the search.

mod case;
mod oracle;
mod ours;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;
use sha2::{Digest, Sha256};

use self::case::Case;
use self::oracle::Oracle;

type Outcome = Result<(), Box<dyn Error>>;

const CASES: usize = 100_000;
const SEED: u64 = 1;
/// Cases that travel to the oracle together.
const BATCH: usize = 250;

#[test]
fn endpoints_are_chosen_as_kube_proxy_does() -> Outcome {
    let Some(mut oracle) = Oracle::start()? else { return Ok(()) };
    let cases = number("HEADRACE_CASES", CASES as u64)? as usize;
    let seed = number("HEADRACE_SEED", SEED)?;
    let mut runner = runner(seed);
    let strategy = case::any();
    for done in (0..cases).step_by(BATCH) {
        let trees = (0..BATCH.min(cases - done))
            .map(|_| strategy.new_tree(&mut runner))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|reason| reason.to_string())?;
        let objects: Vec<_> = trees.iter().map(|t| t.current().objects()).collect();
        let answers = oracle.ask(&objects)?;
        for ((tree, objects), answer) in trees.into_iter().zip(&objects).zip(answers) {
            if ours::disagreement(objects, answer)?.is_some() {
                let (path, what) = shrink(tree, &mut oracle)?;
                return Err(format!("seed {seed}: {what}; see {}", path.display()).into());
            }
        }
    }
    eprintln!("{cases} random cases, seed {seed}: no disagreement with kube-proxy");
    Ok(())
}

#[test]
fn named_cases_stay_agreed() -> Outcome {
    let Some(mut oracle) = Oracle::start()? else { return Ok(()) };
    let mut replayed = 0;
    for entry in fs::read_dir(directory())? {
        let path = entry?.path();
        let objects = read(&path)?;
        let answer = oracle.ask_one(&objects)?;
        if let Some(what) = ours::disagreement(&objects, answer)? {
            return Err(format!("{}: {what}", path.display()).into());
        }
        replayed += 1;
    }
    assert!(replayed > 0, "there is no case in {}", directory().display());
    Ok(())
}

/// Makes the case smaller for as long as both disagree, and keeps the smallest.
fn shrink(
    mut tree: impl ValueTree<Value = Case>,
    oracle: &mut Oracle,
) -> Result<(PathBuf, String), Box<dyn Error>> {
    let mut smallest = tree.current().objects();
    let mut what = String::from("disagreement");
    loop {
        let objects = tree.current().objects();
        let answer = oracle.ask_one(&objects)?;
        let goes_on = match ours::disagreement(&objects, answer)? {
            Some(found) => {
                (smallest, what) = (objects, found);
                tree.simplify()
            }
            None => tree.complicate(),
        };
        if !goes_on {
            return Ok((keep(&smallest, &what)?, what));
        }
    }
}

fn keep(objects: &[Value], what: &str) -> Result<PathBuf, Box<dyn Error>> {
    let stripped = objects.iter().cloned().map(without_nulls);
    let documents = stripped.map(|o| serde_norway::to_string(&o)).collect::<Result<Vec<_>, _>>()?;
    let text = documents.join("---\n");
    let name: String = Sha256::digest(&text).iter().take(4).map(|b| format!("{b:02x}")).collect();
    let path = directory().join(format!("found-{name}.yaml"));
    let comment: String = what.lines().map(|line| format!("# {line}\n")).collect();
    fs::write(&path, comment + &text)?;
    Ok(path)
}

/// Absent means the same and is less to read.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        Value::Array(list) => list.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

fn read(path: &Path) -> Result<Vec<Value>, Box<dyn Error>> {
    let text = fs::read_to_string(path)?;
    let documents = serde_norway::Deserializer::from_str(&text);
    let objects = documents.map(serde::Deserialize::deserialize).collect::<Result<_, _>>();
    Ok(objects.map_err(|e| format!("{}: {e}", path.display()))?)
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kube_proxy/cases")
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, rng)
}

fn number(variable: &str, default: u64) -> Result<u64, Box<dyn Error>> {
    match env::var(variable) {
        Ok(text) => text.parse().map_err(|e| format!("{variable}={text}: {e}").into()),
        Err(_) => Ok(default),
    }
}
