//! The dataplane's answers about ports, for those who must not go on before it has taken or left one.
//!
//! [`super::Pusher`] writes a [`PortBoard`] after every reply; a [`PortGate`] waits on it.

use std::collections::BTreeMap;
use std::time::Duration;

use headrace_api::state::{PortId, Refusal};
use tokio::sync::watch;
use tokio::time::timeout;

/// What the dataplane has answered so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortBoard {
    /// Whether the dataplane has accepted a snapshot of this agent; before that it may hold ports of an earlier run.
    pub synced: bool,
    /// Why the dataplane cannot be reached; `None` while the stream is open.
    pub away: Option<String>,
    /// Ports that the dataplane has or may have.
    pub ports: BTreeMap<PortId, PortAnswer>,
    /// Why the last request was refused; empty when it was accepted.
    pub refusals: Vec<Refusal>,
}

/// Where one port stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortAnswer {
    /// Sent, no answer yet.
    Sent,
    /// Accepted and open.
    Ready,
    /// Accepted but not open, and why.
    NotReady(String),
    /// Not accepted, and why.
    Refused(Refusal),
}

/// A port is not as its owner wants it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortProblem {
    /// The dataplane took the port but cannot use it.
    #[error("the dataplane cannot open port {id}: {problem}")]
    NotReady {
        /// The port.
        id: PortId,
        /// The dataplane's words, with the remedy.
        problem: String,
    },
    /// The dataplane did not take the port.
    #[error("the dataplane refused port {id}: {refusal}")]
    Refused {
        /// The port.
        id: PortId,
        /// The dataplane's words.
        refusal: Refusal,
    },
    /// The dataplane is not there.
    #[error("port {id} waits for the dataplane: {reason}")]
    Away {
        /// The port.
        id: PortId,
        /// What the last attempt to reach it met.
        reason: String,
    },
    /// No answer in time, though the dataplane is there.
    #[error("the dataplane has not answered for port {id} within {} ms; see `headracectl status`", waited.as_millis())]
    NoAnswer {
        /// The port.
        id: PortId,
        /// How long the caller waited.
        waited: Duration,
    },
}

/// Waits for the dataplane's answer about a port.
#[derive(Clone, Debug)]
pub struct PortGate {
    board: watch::Receiver<PortBoard>,
}

impl PortGate {
    /// A gate on the board of a [`super::Pusher`]; tests hold the other end themselves.
    pub fn new(board: watch::Receiver<PortBoard>) -> Self {
        Self { board }
    }

    /// Returns once the dataplane has taken the agent's whole state and is there. Never, when the agent is ending.
    pub async fn confirmed(&self) {
        let mut board = self.board.clone();
        if board.wait_for(|b| b.synced && b.away.is_none()).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns once the dataplane has the port open. Publish the port before.
    ///
    /// # Errors
    /// [`PortProblem`]: at once when the dataplane refuses or cannot open the port, else after `patience`.
    pub async fn wait_port(&self, id: PortId, patience: Duration) -> Result<(), PortProblem> {
        let answered = |board: &PortBoard| match board.ports.get(&id)? {
            PortAnswer::Sent => None,
            PortAnswer::Ready => Some(Ok(())),
            PortAnswer::NotReady(problem) => {
                Some(Err(PortProblem::NotReady { id, problem: problem.clone() }))
            }
            PortAnswer::Refused(refusal) => Some(Err(PortProblem::Refused { id, refusal: refusal.clone() })),
        };
        self.wait(id, patience, answered).await
    }

    /// Returns once the dataplane no longer has the port. Publish its absence before.
    ///
    /// # Errors
    /// [`PortProblem::Away`] or [`PortProblem::NoAnswer`] after `patience`.
    pub async fn wait_port_gone(&self, id: PortId, patience: Duration) -> Result<(), PortProblem> {
        let gone = |board: &PortBoard| match board.ports.get(&id) {
            None if board.synced => Some(Ok(())),
            Some(PortAnswer::Refused(_)) => Some(Ok(())),
            _ => None,
        };
        self.wait(id, patience, gone).await
    }

    async fn wait<F>(&self, id: PortId, patience: Duration, mut verdict: F) -> Result<(), PortProblem>
    where
        F: FnMut(&PortBoard) -> Option<Result<(), PortProblem>>,
    {
        let mut board = self.board.clone();
        let mut result = None;
        let decided = board.wait_for(|b| {
            result = verdict(b);
            result.is_some()
        });
        // An error of the channel means that the agent is ending: the same answer as no answer.
        let _ = timeout(patience, decided).await.map(|end| end.is_ok());
        result.unwrap_or_else(|| {
            Err(match self.board.borrow().away.clone() {
                Some(reason) => PortProblem::Away { id, reason },
                None => PortProblem::NoAnswer { id, waited: patience },
            })
        })
    }
}
