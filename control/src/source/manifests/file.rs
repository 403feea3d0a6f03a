//! One file as it was last read: its documents, what they held, and what is wrong with it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{fs, io, thread};

use tracing::info;

use super::parse::{Document, Key, Object, Parsed, documents, text_of};

/// A file that was changed so shortly before it was read may have been changed again at the same time by the clock of
/// the file system.
const SETTLED: Duration = Duration::from_secs(2);
/// From so many documents on, parsing is shared among threads.
const MANY: usize = 256;

/// One manifest file.
#[derive(Default)]
pub(super) struct File {
    stamp: Option<Stamp>,
    pieces: Vec<Piece>,
    /// Objects of earlier readings that stay because the file has a fault.
    kept: Vec<Named>,
    /// What is wrong with it.
    pub(super) problems: Vec<String>,
}

/// An object and its name, which is looked at on every reading.
pub(super) type Named = (Arc<Key>, Object);

/// What a document holds.
struct Piece {
    hash: u64,
    /// Where it begins in the file.
    line: usize,
    objects: Vec<Named>,
    /// With a fault, it is read anew every time: the line changes.
    faulty: bool,
}

/// By what an unchanged file is known.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl File {
    /// Reads the file if it has changed. `skipped` gets the kinds of objects that are of no use. `Ok(false)` = no change.
    ///
    /// # Errors
    /// The file is not there.
    pub(super) fn read(
        &mut self,
        path: &Path,
        hasher: &RandomState,
        skipped: &mut dyn FnMut(String),
    ) -> io::Result<bool> {
        let stamp = stamp(path);
        if stamp.is_some() && stamp == self.stamp {
            return Ok(false);
        }
        match fs::read(path) {
            Ok(content) => {
                self.stamp = stamp.filter(Stamp::is_settled);
                self.take(path, &content, hasher, skipped);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(e),
            Err(e) => {
                self.stamp = None;
                self.problems = vec![format!("{}: {e}; its last good objects stay", path.display())];
            }
        }
        Ok(true)
    }

    /// What is in force of the file, in its order.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Named> {
        self.kept.iter().chain(self.pieces.iter().flat_map(|p| &p.objects))
    }

    fn take(&mut self, path: &Path, content: &[u8], hasher: &RandomState, skipped: &mut dyn FnMut(String)) {
        self.problems.clear();
        let text = match text_of(path, content) {
            Ok(text) => text,
            Err(e) => return self.problems.push(format!("{e}; its last good objects stay")),
        };
        if text.is_empty() && self.objects().next().is_some() {
            let stay = "is empty; its last good objects stay until it is deleted";
            return self.problems.push(format!("{}: {stay}", path.display()));
        }
        let documents = documents(text);
        let hashes: Vec<u64> = documents.iter().map(|d| hasher.hash_one(d.text)).collect();
        let former: Vec<Named> = self.objects().cloned().collect();
        let mut known = self.known();
        let new: Vec<usize> = (0..documents.len()).filter(|i| !known.contains_key(&hashes[*i])).collect();
        let mut parsed: HashMap<usize, _> =
            new.iter().copied().zip(parse_all(path, &documents, &new)).collect();
        self.pieces.clear();
        for (i, hash) in hashes.into_iter().enumerate() {
            let line = documents[i].line();
            let piece = match parsed.remove(&i) {
                None => {
                    let (before, mut objects) = known.remove(&hash).unwrap_or_default();
                    if before != line {
                        let place = documents[i].place(path);
                        objects.iter_mut().for_each(|(_, object)| object.stands_at(&place));
                    }
                    Piece { hash, line, objects, faulty: false }
                }
                Some(Ok(Parsed { objects, skipped: kinds })) => {
                    kinds.into_iter().for_each(&mut *skipped);
                    let named = |o: Object| (Arc::new(o.key()), o);
                    Piece { hash, line, objects: objects.into_iter().map(named).collect(), faulty: false }
                }
                Some(Err(e)) => {
                    self.problems.push(format!(
                        "{e}; the file's other objects are in force, and its former ones stay"
                    ));
                    Piece { hash, line, objects: Vec::new(), faulty: true }
                }
            };
            self.pieces.push(piece);
        }
        self.keep(former);
        info!(
            "manifests: {}: {} objects, {} documents read",
            path.display(),
            self.objects().count(),
            new.len()
        );
    }

    /// What the documents of the last reading held and their lines, by their text. One that stands there twice counts once
    /// from now on.
    fn known(&mut self) -> HashMap<u64, (usize, Vec<Named>)> {
        let good = self.pieces.drain(..).filter(|p| !p.faulty);
        good.map(|p| (p.hash, (p.line, p.objects))).collect()
    }

    /// With a fault in the file, former objects that are not in it any more stay.
    fn keep(&mut self, former: Vec<Named>) {
        self.kept.clear();
        if self.problems.is_empty() {
            return;
        }
        let there: HashSet<&Key> =
            self.pieces.iter().flat_map(|p| &p.objects).map(|(key, _)| &**key).collect();
        let missing = former.into_iter().filter(|(key, _)| !there.contains(&**key));
        // The last of a name is the one that counts.
        let kept: BTreeMap<Arc<Key>, Object> = missing.collect();
        self.kept = kept.into_iter().collect();
    }
}

impl Stamp {
    /// Whether a later change would show.
    fn is_settled(&self) -> bool {
        let age = |(seconds, _): (i64, i64)| {
            let then = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            SystemTime::now().duration_since(then).unwrap_or_default()
        };
        age(self.modified) > SETTLED && age(self.changed) > SETTLED
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let m = fs::metadata(path).ok()?;
    Some(Stamp {
        inode: (m.dev(), m.ino()),
        size: m.size(),
        modified: (m.mtime(), m.mtime_nsec()),
        changed: (m.ctime(), m.ctime_nsec()),
    })
}

/// Parses the documents at these positions, in their order.
fn parse_all<'a>(
    path: &Path,
    documents: &[Document<'a>],
    which: &[usize],
) -> Vec<Result<Parsed, super::ManifestError>> {
    let parse = |part: &[usize]| part.iter().map(|i| documents[*i].parse(path)).collect::<Vec<_>>();
    if which.len() < MANY {
        return parse(which);
    }
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4);
    thread::scope(|scope| {
        let parts = which.chunks(which.len().div_ceil(threads));
        let running: Vec<_> = parts.map(|part| (part, scope.spawn(move || parse(part)))).collect();
        running.into_iter().flat_map(|(part, run)| run.join().unwrap_or_else(|_| parse(part))).collect()
    })
}
