//! The directory as it was last read: its files, and which of their objects are in force.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::hash::RandomState;
use std::path::{Path, PathBuf};
use std::{fs, io};

use tracing::{error, info};

use super::file::File;
use super::parse::{Key, Object};
use crate::objects::{ObjectMap, Objects};
use crate::report::Reports;

pub(super) struct Directory {
    path: PathBuf,
    files: BTreeMap<OsString, File>,
    hasher: RandomState,
    /// What was last in force; the next set is made from it, so that what has not changed stays the same.
    objects: Objects,
    /// Said in the log already, and not to be said again while it stays so.
    said: BTreeSet<String>,
    skipped: BTreeSet<String>,
    reports: Reports,
}

impl Directory {
    pub(super) fn new(path: PathBuf, reports: Reports) -> Self {
        Self {
            path,
            files: BTreeMap::new(),
            hasher: RandomState::new(),
            objects: Objects::default(),
            said: BTreeSet::new(),
            skipped: BTreeSet::new(),
            reports,
        }
    }

    /// Reads what has changed. `None` when the directory cannot be read.
    pub(super) fn read(&mut self) -> Option<Objects> {
        let names = match list(&self.path) {
            Ok(names) => names,
            Err(source) => {
                let text = format!("{}: {source}; waiting for it", self.path.display());
                self.say(BTreeSet::from([text]));
                return None;
            }
        };
        let before = self.files.len();
        self.files.retain(|name, _| {
            let stays = names.contains(name);
            if !stays {
                info!("manifests: {} is gone, and its objects with it", name.display());
            }
            stays
        });
        let mut changed = self.files.len() != before;
        for name in names {
            changed |= self.read_file(&name);
        }
        if changed {
            let mut news: BTreeSet<String> = self.files.values().flat_map(|f| f.problems.clone()).collect();
            self.objects = self.in_force(&mut news);
            self.say(news);
        }
        Some(self.objects.clone())
    }

    fn read_file(&mut self, name: &OsString) -> bool {
        let path = self.path.join(name);
        let skipped = &mut self.skipped;
        let mut skip = |kind: String| {
            if !skipped.contains(&kind) {
                info!("manifests: objects of kind {kind} are skipped (first in {})", path.display());
                skipped.insert(kind);
            }
        };
        let file = self.files.entry(name.clone()).or_default();
        file.read(&path, &self.hasher, &mut skip).unwrap_or_else(|_| self.files.remove(name).is_some())
    }

    /// Later files win over earlier ones, later documents over earlier ones.
    fn in_force(&self, news: &mut BTreeSet<String>) -> Objects {
        let mut holders: HashMap<&Key, (&OsString, &Object)> = HashMap::new();
        for (name, file) in &self.files {
            for (key, object) in file.objects() {
                if let Some((former, _)) = holders.insert(key, (name, object)) {
                    news.insert(format!(
                        "{key} stands in {} and again in {}; the last one counts, delete the other",
                        former.display(),
                        name.display()
                    ));
                }
            }
        }
        let mut objects = self.objects.clone();
        drop_missing(&mut objects.nodes, |name| holders.contains_key(&Key("Node", name.clone())));
        drop_missing(&mut objects.services, |name| holders.contains_key(&Key("Service", name.to_string())));
        drop_missing(&mut objects.slices, |name| {
            holders.contains_key(&Key("EndpointSlice", name.to_string()))
        });
        drop_missing(&mut objects.service_cidrs, |name| {
            holders.contains_key(&Key("ServiceCIDR", name.clone()))
        });
        for (_, object) in holders.into_values() {
            object.put(&mut objects);
        }
        objects
    }

    fn say(&mut self, news: BTreeSet<String>) {
        for line in news.difference(&self.said) {
            error!("manifests: {line}");
        }
        for line in self.said.difference(&news) {
            info!("manifests: no longer so: {line}");
        }
        if news != self.said {
            self.reports.set("manifests", news.iter());
        }
        self.said = news;
    }
}

fn drop_missing<K: Ord + Clone, V>(map: &mut ObjectMap<K, V>, is_there: impl Fn(&K) -> bool) {
    let gone: Vec<K> = map.keys().filter(|name| !is_there(name)).cloned().collect();
    for name in gone {
        map.remove(&name);
    }
}

/// Names of the manifests in the directory.
fn list(path: &Path) -> io::Result<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let path = path.join(&name);
        let hidden = name.as_encoded_bytes().starts_with(b".");
        let manifest = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        // Opening a FIFO would wait for a writer for ever.
        if manifest && !hidden && fs::metadata(&path).is_ok_and(|m| m.is_file()) {
            names.insert(name);
        }
    }
    Ok(names)
}
