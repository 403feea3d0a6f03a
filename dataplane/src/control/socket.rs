//! The Unix socket: one live server per run directory, and no leftover in a new one's way.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use headrace_api::client::SOCKET;
use tokio::net::UnixListener;

/// Only root may tell the dataplane what to do.
const MODE: u32 = 0o600;

/// The socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A live process serves it.
    #[error(
        "{0} is served by a live process: stop that headrace-dataplane first, or choose another directory with --run-dir"
    )]
    InUse(PathBuf),
    /// A system call failed.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A listening socket whose file goes when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: File,
}

/// Removes the socket's file when dropped.
#[derive(Debug)]
pub struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        // It may be gone with the whole directory.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Listens in a run directory. The socket of a dead process is replaced. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`SocketError::InUse`] when somebody answers there, otherwise the call that failed.
    pub fn listen(run_dir: &Path) -> Result<Self, SocketError> {
        let path = run_dir.join(SOCKET);
        if is_served(run_dir) {
            return Err(SocketError::InUse(path));
        }
        // Made under another name, so that nobody ever sees it with other permissions, or none in between.
        let fresh = path.with_extension("new");
        let failed = |action| {
            let path = path.clone();
            move |source| SocketError::Io { action, path, source }
        };
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("replace")(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&fresh).map_err(failed("listen on"))?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(MODE)).map_err(failed("protect"))?;
        std::fs::rename(&fresh, &path).map_err(failed("name"))?;
        Ok(Self { listener, file: File(path) })
    }

    /// The listener, and what removes its file.
    pub fn into_parts(self) -> (UnixListener, File) {
        (self.listener, self.file)
    }
}

/// Whether a live process serves the socket of a run directory.
pub fn is_served(run_dir: &Path) -> bool {
    UnixStream::connect(run_dir.join(SOCKET)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists() && !is_served(dir.path()), "a leftover that nobody serves");
        let first = Socket::listen(dir.path()).unwrap();
        assert!(is_served(dir.path()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        let second = Socket::listen(dir.path()).unwrap_err().to_string();
        assert!(second.contains("live process") && second.contains("--run-dir"), "{second}");
        drop(first);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing stays behind");
    }

    #[tokio::test]
    async fn a_missing_directory_is_named() {
        let error = Socket::listen(Path::new("/no/such/dir")).unwrap_err().to_string();
        assert!(error.contains("/no/such/dir"), "{error}");
    }
}
