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
    Refused(tonic::Status),
    /// The dataplane does not know the call.
    #[error(
        "the dataplane does not know this command: it is of another version than this headracectl; headracectl version tells \
         both"
    )]
    Version,
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
    /// 1 an error, 2 wrong use or an unknown name, 3 the daemon is away.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Away(error) if error.is_denied() => 1,
            Self::Away(_) => 3,
            Self::Usage(_) => 2,
            Self::Refused(status) => match status.code() {
                Code::InvalidArgument | Code::NotFound => 2,
                Code::Unavailable => 3,
                _ => 1,
            },
            Self::Io { .. } | Self::Pcap { .. } | Self::Version => 1,
        }
    }
}

impl From<tonic::Status> for CtlError {
    fn from(status: tonic::Status) -> Self {
        match status.code() {
            Code::Unimplemented => Self::Version,
            _ => Self::Refused(status),
        }
    }
}

impl From<StatusError> for CtlError {
    fn from(error: StatusError) -> Self {
        match error {
            StatusError::Away(error) => Self::Away(error),
            StatusError::Refused(status) => status.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_as_the_help_says() {
        let code = |code| CtlError::from(tonic::Status::new(code, "so")).exit_code();
        assert_eq!(
            [Code::InvalidArgument, Code::NotFound, Code::Unavailable, Code::Internal].map(code),
            [2, 2, 3, 1]
        );
        assert_eq!(CtlError::Usage("so".into()).exit_code(), 2);
    }

    #[test]
    fn a_dataplane_that_does_not_know_the_call_is_of_another_version() {
        let error = CtlError::from(tonic::Status::unimplemented(""));
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains("headracectl version"), "{error}");
    }
}
