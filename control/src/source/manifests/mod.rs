//! Objects from a directory of Kubernetes YAML.
//!
//! Every `.yaml`, `.yml` and `.json` file of the directory is read (no subdirectories, no hidden files); changes are
//! followed within 100 ms, and of a file that changes only the documents that do are parsed again. What always holds:
//! one wrong document never keeps another from being in force; while a file has a fault, none of its former objects goes
//! away; an empty file keeps them too (an editor truncates before it writes; delete the file to delete its objects), and
//! a directory that is missing keeps everything. When two files hold the same object, the file whose name sorts last
//! wins, as it would with `kubectl apply -f DIRECTORY`. Faults are told in the log and in the agent's reports.

mod directory;
mod file;
mod parse;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::directory::Directory;
use self::watch::{DirectoryWatch, Notice};
use super::ObjectsPublisher;
use crate::objects::Objects;
use crate::report::Reports;

pub use self::parse::{ManifestError, Object, Parsed, parse};

/// How soon a directory is looked for again while it is missing.
const SEARCH: Duration = Duration::from_millis(50);
/// How often everything is read again without a notice: symbolic links lead to files whose changes give none.
const RESCAN: Duration = Duration::from_secs(5);

/// Publishes the directory's objects now and after every change. It blocks, so give it a thread of its own; it ends
/// within seconds after nobody listens any more.
pub fn follow(path: &Path, objects: &ObjectsPublisher, reports: &Reports) {
    let mut directory = Directory::new(path.to_owned(), reports.clone());
    while !objects.is_closed() {
        // The watch stands before the reading: a change in between is read twice, never missed.
        let watch = DirectoryWatch::open(path);
        publish(directory.read(), objects);
        let Ok(watch) = watch else {
            std::thread::sleep(SEARCH);
            continue;
        };
        while watch.settled(RESCAN) != Notice::Gone && !objects.is_closed() {
            publish(directory.read(), objects);
        }
    }
}

fn publish(news: Option<Objects>, objects: &ObjectsPublisher) {
    let Some(news) = news else { return };
    objects.send_if_modified(|old| {
        let differs = old.as_deref() != Some(&news);
        if differs {
            *old = Some(Arc::new(news));
        }
        differs
    });
}

#[cfg(test)]
mod tests;
