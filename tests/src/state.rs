//! What a lab is made of, kept in its state file, so that other processes can use and remove it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::daemon::Daemons;
use crate::machine::Machine;
use crate::plan::NodePlan;
use crate::process::Process;
use crate::{LabConfig, LabError, Service, Space};

/// All labs have their directories here.
pub const ROOT: &str = "/run/headrace-lab";

/// A lab that is up or coming up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabState {
    /// What was asked for.
    pub config: LabConfig,
    /// The lab's directory, with one folder per machine.
    pub directory: PathBuf,
    /// The process whose end is the lab's end; none for a lab that stays until `down`.
    pub owner: Option<Process>,
    /// The switch.
    pub lan: Option<Machine>,
    /// The outside host.
    pub outside: Option<Machine>,
    /// Headrace nodes, then kernel nodes.
    pub nodes: Vec<Node>,
    /// Services in force.
    pub services: Vec<Service>,
}

/// A node that is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Its fixed facts.
    #[serde(flatten)]
    pub plan: NodePlan,
    /// Its namespaces and directory.
    pub machine: Machine,
    /// Its daemons; none on a kernel node.
    pub daemons: Option<Daemons>,
    /// Its pods.
    pub pods: Vec<Pod>,
}

impl Node {
    /// `--run-dir` of the node's daemons; the same path inside and outside.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.machine.directory.join("run")
    }
}

/// A pod that is attached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pod {
    /// `node1-pod1`; also the name of its namespace in the node's /run/netns and its CNI container id.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its namespace.
    pub space: Space,
}

impl LabState {
    /// The directory of the lab `name`.
    #[must_use]
    pub fn directory_of(name: &str) -> PathBuf {
        Path::new(ROOT).join(name)
    }

    /// Reads the state of the lab `name`.
    ///
    /// # Errors
    /// [`LabError::NoSuchLab`], or [`LabError::State`] for a file that cannot be read.
    pub fn load(name: &str) -> Result<Self, LabError> {
        let path = file_of(name);
        if !Self::directory_of(name).exists() {
            let labs = lab_names();
            let known = if labs.is_empty() {
                "no lab is up".to_owned()
            } else {
                format!("there is {}", labs.join(", "))
            };
            return Err(LabError::NoSuchLab { name: name.to_owned(), known });
        }
        let failed = |problem: String| LabError::State { path: path.clone(), problem };
        let text = fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
    }

    /// Writes the state file.
    ///
    /// # Errors
    /// [`LabError::Io`].
    pub fn save(&self) -> Result<(), LabError> {
        let path = file_of(&self.config.name);
        let text = serde_json::to_string_pretty(self).map_err(|error| LabError::Io {
            what: format!("write {}", path.display()),
            cause: error.into(),
        })?;
        write_whole(&path, &text)
    }
}

/// Names of the labs that have a directory.
#[must_use]
pub fn lab_names() -> Vec<String> {
    let Ok(entries) = fs::read_dir(ROOT) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Replaces a file in one step: readers see the old or the new text.
///
/// # Errors
/// [`LabError::Io`].
pub fn write_whole(path: &Path, text: &str) -> Result<(), LabError> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let new = path.with_file_name(name);
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .map_err(LabError::io(format!("write {}", path.display())))
}

fn file_of(name: &str) -> PathBuf {
    LabState::directory_of(name).join("lab.json")
}
