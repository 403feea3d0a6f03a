//! What each failure is to a container runtime: which code, and so whether it tries again.

use headrace_cni::{CniError, ErrorCode};

use super::ipam::IpamError;
use super::netns::NetnsError;
use super::pod::PodError;
use super::store::StoreError;
use crate::node::PathMtuError;
use crate::node::rtnl::RtnlError;
use crate::seam::PortProblem;

impl From<IpamError> for CniError {
    fn from(error: IpamError) -> Self {
        let code = match error {
            IpamError::Exhausted { .. } => ErrorCode::POOL_EXHAUSTED,
            IpamError::Io { .. } => ErrorCode::IO_FAILURE,
            IpamError::NotInRange { .. } => ErrorCode::INVALID_CONFIG,
            IpamError::Duplicate { .. } | IpamError::TooSmall(_) | IpamError::Taken { .. } => {
                ErrorCode::ATTACH_FAILED
            }
        };
        Self::new(code, error.to_string())
    }
}

impl From<StoreError> for CniError {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Io { .. } => ErrorCode::IO_FAILURE,
            StoreError::HostPortTaken { .. } => ErrorCode::HOST_PORT_TAKEN,
            StoreError::LinkTaken { .. } => ErrorCode::ATTACH_FAILED,
            StoreError::AddressTaken { .. } => ErrorCode::TRY_AGAIN_LATER,
        };
        Self::new(code, error.to_string())
    }
}

impl From<RtnlError> for CniError {
    fn from(error: RtnlError) -> Self {
        Self::new(ErrorCode::ATTACH_FAILED, error.to_string())
    }
}

impl From<PodError> for CniError {
    fn from(error: PodError) -> Self {
        Self::new(ErrorCode::ATTACH_FAILED, error.to_string())
    }
}

impl From<NetnsError> for CniError {
    fn from(error: NetnsError) -> Self {
        let code = match error {
            NetnsError::NotANamespace | NetnsError::OwnNamespace | NetnsError::Enter(_) => {
                ErrorCode::INVALID_NETNS
            }
            NetnsError::Rtnl(_) | NetnsError::Thread(_) => ErrorCode::ATTACH_FAILED,
        };
        Self::new(code, error.to_string())
    }
}

/// The uplink may get its address yet.
impl From<PathMtuError> for CniError {
    fn from(error: PathMtuError) -> Self {
        Self::new(ErrorCode::TRY_AGAIN_LATER, error.to_string())
    }
}

impl From<PortProblem> for CniError {
    fn from(problem: PortProblem) -> Self {
        let code = match problem {
            PortProblem::Away { .. } | PortProblem::NoAnswer { .. } => ErrorCode::TRY_AGAIN_LATER,
            PortProblem::NotReady { .. } | PortProblem::Refused { .. } => ErrorCode::ATTACH_FAILED,
        };
        Self::new(code, problem.to_string())
    }
}
