//! The controller's end of the socket.

use std::path::{Path, PathBuf};

use tonic::transport::{Channel, Endpoint};

use crate::proto::dataplane_client::DataplaneClient;
use crate::proto::observe_client::ObserveClient;

/// The socket's name in the run directory.
pub const SOCKET: &str = "dataplane.sock";

/// No connection to the dataplane.
#[derive(Debug, thiserror::Error)]
#[error("no dataplane at {path}: {}; is headrace-dataplane running with this run directory?", chain(source))]
pub struct ConnectError {
    path: PathBuf,
    source: tonic::transport::Error,
}

/// The error and its causes: the outermost says "transport error" alone.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let mut text = error.to_string();
    for cause in causes.map(ToString::to_string) {
        if !text.contains(&cause) {
            text += &format!(": {cause}");
        }
    }
    text
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
}
