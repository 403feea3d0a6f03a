//! kube-proxy's own code behind a pipe: tests/k8s/oracle.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

/// build.sh's exit status when Go is not installed.
const NO_GO: i32 = 3;

/// A running oracle.
pub(crate) struct Oracle {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What kube-proxy derives from one case.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    /// By "namespace/name:port/PROTOCOL".
    pub(crate) ports: BTreeMap<String, Port>,
    /// By "namespace/name".
    pub(crate) health_checks: BTreeMap<String, HealthCheck>,
}

/// One port of one Service.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Port {
    #[serde(rename = "clusterIP")]
    pub(crate) cluster_ip: String,
    #[serde(rename = "externalIPs")]
    pub(crate) external_ips: Vec<String>,
    #[serde(rename = "loadBalancerIPs")]
    pub(crate) load_balancer_ips: Vec<String>,
    pub(crate) port: u16,
    pub(crate) node_port: u16,
    pub(crate) source_ranges: Vec<String>,
    pub(crate) affinity_seconds: u32,
    pub(crate) internal_local: bool,
    pub(crate) external_local: bool,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) cluster: Vec<String>,
    pub(crate) local: Vec<String>,
    pub(crate) any: bool,
}

/// One endpoint, merged over the slices.
#[derive(Debug, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) address: String,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
}

/// What a Service's health check port tells.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct HealthCheck {
    pub(crate) port: u16,
    pub(crate) endpoints: usize,
}

impl Oracle {
    /// Builds the oracle when that has not been done yet. `None`, said loudly, without Go; an error then when CI=true.
    pub(crate) fn start() -> Result<Option<Self>, Box<dyn Error>> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/k8s/build.sh");
        let built = Command::new(&script).arg("oracle").stderr(Stdio::inherit()).output()?;
        if built.status.code() == Some(NO_GO) && std::env::var("CI").as_deref() != Ok("true") {
            eprintln!("SKIPPED: nothing is compared with kube-proxy, because Go is missing");
            return Ok(None);
        }
        if !built.status.success() {
            return Err(format!("{} oracle: {}", script.display(), built.status).into());
        }
        let program = String::from_utf8(built.stdout)?;
        let mut child = Command::new(program.trim()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().ok_or("the oracle has no standard output")?);
        Ok(Some(Self { child, input, output }))
    }

    /// The answer to one case.
    pub(crate) fn ask_one(&mut self, case: &[Value]) -> Result<Answer, Box<dyn Error>> {
        let mut answers = self.ask(&[case.to_vec()])?;
        answers.pop().ok_or_else(|| "no answer".into())
    }

    /// One answer for every case.
    pub(crate) fn ask(&mut self, cases: &[Vec<Value>]) -> Result<Vec<Answer>, Box<dyn Error>> {
        let mut question = serde_json::to_vec(cases)?;
        question.push(b'\n');
        self.input.as_mut().ok_or("the oracle has no standard input")?.write_all(&question)?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let answers: Vec<Answer> = serde_json::from_str(&line)?;
        if answers.len() != cases.len() {
            return Err(format!("{} answers to {} cases", answers.len(), cases.len()).into());
        }
        Ok(answers)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
