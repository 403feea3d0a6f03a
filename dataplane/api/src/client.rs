//! The controller's end of the socket.

use std::path::{Path, PathBuf};

use tonic::transport::{Channel, Endpoint};

use crate::proto::dataplane_client::DataplaneClient;

/// The socket's name in the run directory.
pub const SOCKET: &str = "dataplane.sock";

/// No connection to the dataplane.
#[derive(Debug, thiserror::Error)]
#[error("no dataplane at {path}: {source}; is headrace-dataplane running with this run directory?")]
pub struct ConnectError {
    path: PathBuf,
    source: tonic::transport::Error,
}

/// Connects to the dataplane that serves `run_dir`.
///
/// # Errors
/// [`ConnectError`] names the socket.
pub async fn connect(run_dir: &Path) -> Result<DataplaneClient<Channel>, ConnectError> {
    let path = run_dir.join(SOCKET);
    let connected = match Endpoint::from_shared(format!("unix://{}", path.display())) {
        Ok(endpoint) => endpoint.connect().await,
        Err(source) => Err(source),
    };
    match connected {
        // A node with a hundred thousand endpoints fills more than the default of 4 MiB.
        Ok(channel) => Ok(DataplaneClient::new(channel).max_decoding_message_size(usize::MAX)),
        Err(source) => Err(ConnectError { path, source }),
    }
}
