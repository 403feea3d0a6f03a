//! The directory as it was last read: the good objects of every file, and which of them are in force.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use tracing::{error, info};

use super::parse::{Object, Parsed, parse};
use crate::objects::Objects;

pub(super) struct Directory {
    path: PathBuf,
    files: BTreeMap<OsString, File>,
    /// Said in the log already, and not to be said again while it stays so.
    said: BTreeSet<String>,
    skipped: BTreeSet<String>,
}

#[derive(Default)]
struct File {
    /// What the file held when it was last read, good or not.
    text: Option<Vec<u8>>,
    objects: Vec<Object>,
    problem: Option<String>,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, files: BTreeMap::new(), said: BTreeSet::new(), skipped: BTreeSet::new() }
    }

    /// Reads what has changed. `None` when the directory cannot be read.
    pub(super) fn read(&mut self) -> Option<Objects> {
        let names = match list(&self.path) {
            Ok(names) => names,
            Err(source) => {
                let text = format!("manifests: {}: {source}; waiting for it", self.path.display());
                self.say(BTreeSet::from([text]));
                return None;
            }
        };
        self.files.retain(|name, _| {
            let stays = names.contains(name);
            if !stays {
                info!("manifests: {} is gone, and its objects with it", name.display());
            }
            stays
        });
        for name in names {
            self.read_file(name);
        }
        let mut news: BTreeSet<String> = self.files.values().filter_map(|f| f.problem.clone()).collect();
        let objects = self.in_force(&mut news);
        self.say(news);
        Some(objects)
    }

    fn read_file(&mut self, name: OsString) {
        let path = self.path.join(&name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.files.remove(&name);
                return;
            }
            Err(e) => {
                let file = self.files.entry(name).or_default();
                file.text = None;
                file.problem = Some(format!("{}: {e}; its last good objects stay", path.display()));
                return;
            }
        };
        let file = self.files.entry(name).or_default();
        if file.text.as_ref() == Some(&text) {
            return;
        }
        file.problem = None;
        match parse(&path, &text) {
            Ok(_) if text.is_empty() => {
                if !file.objects.is_empty() {
                    let stay = "is empty; its last good objects stay until it is deleted";
                    file.problem = Some(format!("{}: {stay}", path.display()));
                }
            }
            Ok(Parsed { objects, skipped }) => {
                info!("manifests: {}: {} objects", path.display(), objects.len());
                file.objects = objects;
                for kind in skipped {
                    if self.skipped.insert(kind.clone()) {
                        info!("manifests: objects of kind {kind} are skipped (first in {})", path.display());
                    }
                }
            }
            Err(e) => file.problem = Some(format!("{e}; its last good objects stay")),
        }
        file.text = Some(text);
    }

    /// Later files win over earlier ones, later documents over earlier ones.
    fn in_force(&self, news: &mut BTreeSet<String>) -> Objects {
        let mut objects = Objects::default();
        let mut holders: BTreeMap<String, &OsString> = BTreeMap::new();
        for (name, file) in &self.files {
            for object in &file.objects {
                let title = object.title();
                if let Some(former) = holders.insert(title.clone(), name) {
                    news.insert(format!(
                        "{title} stands in {} and again in {}; the last one counts, delete the other",
                        former.display(),
                        name.display()
                    ));
                }
                match object {
                    Object::Node(n) => drop(objects.nodes.insert(n.metadata.name.clone(), Arc::clone(n))),
                    Object::Service(s) => {
                        drop(objects.services.insert(s.metadata.object_name(), Arc::clone(s)));
                    }
                    Object::EndpointSlice(s) => {
                        drop(objects.slices.insert(s.metadata.object_name(), Arc::clone(s)));
                    }
                }
            }
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
        self.said = news;
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
