//! The controller's end of the socket.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use tonic::transport::{Channel, Endpoint};

use crate::proto::dataplane_client::DataplaneClient;
use crate::proto::observe_client::ObserveClient;

/// The socket's name in the run directory.
pub const SOCKET: &str = "dataplane.sock";

/// No connection to the dataplane.
#[derive(Debug, thiserror::Error)]
#[error("no dataplane at {}: {}; {}", path.display(), cause(source), self.remedy())]
pub struct ConnectError {
    path: PathBuf,
    source: tonic::transport::Error,
}

impl ConnectError {
    /// Whether there may be a dataplane, which this user may not talk to.
    pub fn is_denied(&self) -> bool {
        self.kind() == Some(ErrorKind::PermissionDenied)
    }

    fn remedy(&self) -> &'static str {
        match self.kind() {
            Some(ErrorKind::PermissionDenied) => "only root may look into it: try sudo",
            Some(ErrorKind::ConnectionRefused) => {
                "one has run here and ended: start headrace-dataplane again"
            }
            _ => "is headrace-dataplane running with this run directory (--run-dir)?",
        }
    }

    fn kind(&self) -> Option<ErrorKind> {
        causes(&self.source).find_map(|cause| Some(cause.downcast_ref::<io::Error>()?.kind()))
    }
}

/// What the system said, the innermost cause; those around it say no more than that there was an error.
fn cause(error: &tonic::transport::Error) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

fn causes(error: &tonic::transport::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source())
}

/// Connects to the dataplane that serves `run_dir`.
///
/// # Errors
/// [`ConnectError`] names the socket.
pub async fn connect(run_dir: &Path) -> Result<DataplaneClient<Channel>, ConnectError> {
    // A node with a hundred thousand endpoints fills more than the default of 4 MiB.
    Ok(DataplaneClient::new(channel(run_dir).await?).max_decoding_message_size(usize::MAX))
}

/// Connects to the same dataplane, to look into it.
///
/// # Errors
/// [`ConnectError`] names the socket.
pub async fn observe(run_dir: &Path) -> Result<ObserveClient<Channel>, ConnectError> {
    Ok(ObserveClient::new(channel(run_dir).await?).max_decoding_message_size(usize::MAX))
}

async fn channel(run_dir: &Path) -> Result<Channel, ConnectError> {
    let path = run_dir.join(SOCKET);
    let connected = match Endpoint::from_shared(format!("unix://{}", path.display())) {
        Ok(endpoint) => endpoint.connect().await,
        Err(source) => Err(source),
    };
    connected.map_err(|source| ConnectError { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_says_what_the_system_said() {
        let error = connect(Path::new("/no/such/run/dir")).await.map(drop).unwrap_err().to_string();
        assert!(
            error.contains("/no/such/run/dir/dataplane.sock") && error.contains("No such file"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_no_wrong_directory() {
        let directory = std::env::temp_dir().join(format!("headrace-left-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        drop(std::os::unix::net::UnixListener::bind(directory.join(SOCKET)).unwrap());
        let error = connect(&directory).await.map(drop).unwrap_err();
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(error.to_string().contains("start headrace-dataplane again"), "{error}");
        assert!(!error.is_denied());
    }
}
