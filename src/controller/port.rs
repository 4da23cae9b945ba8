//! The port between the controller's shell and an orchestrator: as small as it can be.
//!
//! No call retries inside; the shell gives each a deadline and drops the future when it passes, so every effect must be
//! whole or harmless when it is cut off, and harmless when it is repeated.

use crate::{
    domain::{
        identity::PolicyId,
        names::Slot,
        run::{Run, RunState},
        status::Status,
    },
    plan::{
        action::{Answer, NewTask},
        observed::{Declared, Observed},
    },
};
use async_trait::async_trait;
use tokio::sync::mpsc;

/// What an orchestrator can do for the controller.
#[async_trait]
pub trait Orchestrator: Send + Sync + 'static {
    /// Hints that something may have changed. Lossy: a hint may be missing, late or without a cause. Taken once.
    fn wakes(&self) -> mpsc::Receiver<Wake>;

    /// All policies, complete; also those that are declared no more and have a run that is not over.
    ///
    /// # Errors
    /// When not everything could be read: absence must never be an accident.
    async fn list(&self) -> Result<Vec<Declared>, PortError>;

    /// Everything about one policy.
    ///
    /// # Errors
    /// When not everything could be read.
    async fn observe(&self, policy: &PolicyId) -> Result<Observed, PortError>;

    /// Makes a run record or a task.
    ///
    /// # Errors
    /// As [`PortError`] says.
    async fn create(&self, policy: &PolicyId, what: Create<'_>) -> Result<Created, PortError>;

    /// Writes by compare-and-set.
    ///
    /// # Errors
    /// [`PortError::Conflict`] when what is there is not what was observed.
    async fn record(&self, policy: &PolicyId, what: Record<'_>) -> Result<(), PortError>;

    /// Removes; what is absent is fine.
    ///
    /// # Errors
    /// As [`PortError`] says.
    async fn delete(&self, policy: &PolicyId, what: Delete<'_>) -> Result<(), PortError>;
}

/// A hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// The set of policies, or what one of them says.
    Policies,
    /// Something about one policy: a task, a request.
    Policy(PolicyId),
}

/// What is made.
#[derive(Debug, Clone, Copy)]
pub enum Create<'a> {
    /// A run record: the claim of its slot.
    Run(&'a Run),
    /// A task.
    Task(&'a NewTask),
}

/// How a creation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It was made now.
    Fresh,
    /// It was there, made by us before.
    Ours,
    /// Its name is taken by something that is not ours, described here: it is left alone.
    Foreign(String),
}

/// What is written.
#[derive(Debug, Clone, Copy)]
pub enum Record<'a> {
    /// How far a run is.
    Run {
        /// Which.
        slot: Slot,
        /// The revision that was observed.
        revision: &'a str,
        /// The new state.
        state: &'a RunState,
    },
    /// The answer to a person's request, which is thereby over.
    Answer {
        /// Which.
        id: &'a str,
        /// The answer.
        answer: &'a Answer,
    },
    /// The policy's status.
    Status {
        /// The revision that was observed; none when there was no status.
        revision: Option<&'a str>,
        /// The new status.
        status: &'a Status,
    },
}

/// What is removed.
#[derive(Debug, Clone, Copy)]
pub enum Delete<'a> {
    /// A task: stopped if it runs. Gone only when it has ended; asking again is how one waits.
    Task {
        /// Which.
        uid: &'a str,
        /// It was seen to have ended. One that has ended unseen is left, with a conflict: how it ended is not recorded.
        ended: bool,
    },
    /// The record of a run, with what its tasks left.
    Run {
        /// Which.
        slot: Slot,
    },
}

/// Why a call did not do what it was for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// What is there is not what was observed: observe again.
    #[error("changed meanwhile: {0}")]
    Conflict(String),
    /// The orchestrator cannot be reached or cannot do it now: try later.
    #[error("{0}")]
    Unavailable(String),
    /// It may have been done: observe to see.
    #[error("no answer: {0}")]
    MaybeDone(String),
    /// It will not be done until something is changed; shown in the status.
    #[error("{0}")]
    Rejected(String),
}
