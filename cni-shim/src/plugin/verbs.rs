//! One verb: the checks it needs, the IPAM plugin if there is one, the agent.

use std::os::fd::{AsFd, BorrowedFd};

use serde_json::Value;

use super::{netns, versions};
use crate::agent;
use crate::conf::NetworkConfig;
use crate::delegate::Delegate;
use crate::env::{Attachment, Command, Environment};
use crate::error::{CniError, ErrorCode};
use crate::protocol::{Request, Verb};
use crate::result::CniResult;
use crate::version::SpecVersion;

/// A request with a configuration that has been checked.
pub(super) struct Call<'a> {
    pub(super) environment: &'a Environment,
    pub(super) config: &'a NetworkConfig,
    /// `config` as it came.
    pub(super) json: &'a Value,
}

impl Call<'_> {
    /// Carries it out; `Some` is to be printed.
    pub(super) fn execute(&self, command: Command) -> Result<Option<Value>, CniError> {
        match command {
            Command::Add(attachment) => self.add(&attachment).map(Some),
            Command::Del(attachment) => self.del(&attachment).map(|()| None),
            Command::Check(attachment) => self.check(&attachment).map(|()| None),
            Command::Gc => self.collect().map(|()| None),
            Command::Status => self.status().map(|()| None),
            Command::Version => Ok(Some(versions())),
        }
    }

    fn add(&self, attachment: &Attachment) -> Result<Value, CniError> {
        let previous = self.config.prev_result()?;
        self.config.pod_options(&attachment.args)?;
        let netns = netns::open(attachment)?;
        let delegate = self.delegate()?;
        let mut request = self.request(Verb::Add, Some(attachment));
        request.ipam = delegate.as_ref().map(Delegate::add).transpose()?;
        let attached = self.ask(&request, Some(netns.as_fd())).and_then(|result| {
            result.ok_or_else(|| {
                CniError::new(ErrorCode::INTERNAL, "headrace-agent answered ADD without a result")
            })
        });
        match (attached, delegate) {
            (Ok(result), _) => Ok(result.after(previous).to_json(self.config.version)),
            (Err(error), Some(delegate)) => Err(and(error, delegate.call("DEL"))),
            (Err(error), None) => Err(error),
        }
    }

    /// The address is given back last: until the agent has let go of it, nobody else may have it. An IPAM plugin that is not
    /// there keeps the agent from nothing.
    fn del(&self, attachment: &Attachment) -> Result<(), CniError> {
        let netns = netns::open_for_del(attachment)?;
        self.ask(&self.request(Verb::Del, Some(attachment)), netns.as_ref().map(AsFd::as_fd))?;
        forward(self.delegate()?.as_ref(), "DEL")
    }

    fn check(&self, attachment: &Attachment) -> Result<(), CniError> {
        self.require_version("CHECK", SpecVersion::V0_4_0)?;
        if self.config.prev_result()?.is_none() {
            let msg = "CHECK needs prevResult in the network configuration";
            return Err(CniError::new(ErrorCode::INVALID_CONFIG, msg));
        }
        let netns = netns::open(attachment)?;
        forward(self.delegate()?.as_ref(), "CHECK")?;
        self.ask(&self.request(Verb::Check, Some(attachment)), Some(netns.as_fd())).map(drop)
    }

    /// Goes on after an error, and tells all.
    fn collect(&self) -> Result<(), CniError> {
        self.require_version("GC", SpecVersion::V1_1_0)?;
        let collected = self.ask(&self.request(Verb::Gc, None), None);
        let forwarded = self.delegate().and_then(|delegate| forward(delegate.as_ref(), "GC"));
        match collected {
            Ok(_) => forwarded,
            Err(error) => Err(and(error, forwarded)),
        }
    }

    /// The IPAM plugin's answer counts only while the agent could serve a pod.
    fn status(&self) -> Result<(), CniError> {
        self.require_version("STATUS", SpecVersion::V1_1_0)?;
        self.ask(&self.request(Verb::Status, None), None).map_err(not_available)?;
        forward(self.delegate()?.as_ref(), "STATUS")
    }

    fn delegate(&self) -> Result<Option<Delegate<'_>>, CniError> {
        Delegate::find(self.config, self.environment, self.json)
    }

    fn ask(&self, request: &Request, netns: Option<BorrowedFd<'_>>) -> Result<Option<CniResult>, CniError> {
        agent::ask(&self.config.run_dir, request, netns)
    }

    fn request(&self, verb: Verb, attachment: Option<&Attachment>) -> Request {
        Request {
            verb,
            container_id: attachment.map(|a| a.container_id.clone()).unwrap_or_default(),
            ifname: attachment.map(|a| a.ifname.clone()).unwrap_or_default(),
            netns: attachment.and_then(|a| a.netns.clone()),
            args: attachment.map(|a| a.args.clone()).unwrap_or_default(),
            ipam: None,
            config: self.json.clone(),
        }
    }

    fn require_version(&self, verb: &str, since: SpecVersion) -> Result<(), CniError> {
        let given = self.config.version;
        if given >= since {
            return Ok(());
        }
        Err(CniError::new(ErrorCode::INCOMPATIBLE_VERSION, format!("config version does not allow {verb}"))
            .details(format!("{verb} needs cniVersion {since}, the network configuration has {given}")))
    }
}

fn forward(delegate: Option<&Delegate<'_>>, verb: &str) -> Result<(), CniError> {
    delegate.map_or(Ok(()), |delegate| delegate.call(verb).map(drop))
}

/// The first error, with what else went wrong in its details.
fn and<T>(error: CniError, other: Result<T, CniError>) -> CniError {
    let Err(other) = other else { return error };
    let details = [error.details.as_str(), other.msg.as_str(), other.details.as_str()];
    let details = details.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    error.details(details)
}

/// STATUS has codes of its own (specification 1.1.0, section "STATUS").
fn not_available(error: CniError) -> CniError {
    match error.code {
        ErrorCode::TRY_AGAIN_LATER => CniError { code: ErrorCode::NOT_AVAILABLE, ..error },
        _ => error,
    }
}
