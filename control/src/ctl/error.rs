//! What can go wrong, and the exit codes that scripts may count on.

use headrace_api::client::ConnectError;
use tonic::Code;

use crate::status::StatusError;

/// A command that could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// Nobody serves the socket.
    #[error(transparent)]
    Away(#[from] ConnectError),
    /// The dataplane refused or broke off.
    #[error("{}", .0.message())]
    Refused(#[from] tonic::Status),
    /// What was asked makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A file or the terminal.
    #[error("{what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// A capture file that cannot be written.
    #[error("{what}: {source}")]
    Pcap {
        /// Which.
        what: String,
        /// Why.
        source: pcap_file::PcapError,
    },
}

impl CtlError {
    /// 1 an error, 2 wrong use, 3 the daemon is away.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Away(_) => 3,
            Self::Usage(_) => 2,
            Self::Refused(status) => match status.code() {
                Code::InvalidArgument | Code::NotFound => 2,
                Code::Unavailable => 3,
                _ => 1,
            },
            Self::Io { .. } | Self::Pcap { .. } => 1,
        }
    }
}

impl From<StatusError> for CtlError {
    fn from(error: StatusError) -> Self {
        match error {
            StatusError::Away(error) => Self::Away(error),
            StatusError::Refused(status) => Self::Refused(status),
        }
    }
}
