//! Files that are never seen half-written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces the file's content in one step; it survives a crash at any moment with the old content or the new.
///
/// # Errors
/// Those of the file system; the old file then stays.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)
}
