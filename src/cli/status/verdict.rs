//! How bad it is.

use crate::domain::status::{ConditionType, Status, Truth};
use jiff::Timestamp;
use serde::Serialize;

/// How a policy is, in one word; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum State {
    /// The document is wrong.
    Invalid,
    /// No run can start: a half-finished restore, a wrong clock.
    Held,
    /// The newest complete snapshot is too old.
    Stale,
    /// The newest run made no complete snapshot.
    Failed,
    /// A run is due and waits.
    Waiting,
    /// A run is active.
    Running,
    /// No run has ended yet.
    New,
    /// All is well.
    Ok,
    /// Suspended.
    Paused,
}

impl State {
    /// The word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "INVALID",
            Self::Held => "HELD",
            Self::Stale => "STALE",
            Self::Failed => "FAILED",
            Self::Waiting => "WAITING",
            Self::Running => "RUNNING",
            Self::New => "NEW",
            Self::Ok => "OK",
            Self::Paused => "PAUSED",
        }
    }

    /// What a monitoring system makes of it.
    pub(super) fn severity(self) -> Severity {
        match self {
            Self::Invalid | Self::Held | Self::Stale => Severity::Critical,
            Self::Failed => Severity::Warning,
            Self::Waiting | Self::Running | Self::New | Self::Ok | Self::Paused => Severity::Good,
        }
    }
}

/// The exit codes of monitoring plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Good,
    Warning,
    Critical,
    Unknown,
}

impl Severity {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

/// How a policy is. Freshness is judged by the deadline and the time, not by what a controller said long ago.
pub(super) fn state(invalid: bool, status: Option<&Status>, now: Timestamp) -> State {
    if invalid {
        return State::Invalid;
    }
    let Some(status) = status else { return State::New };
    let is_false = |kind| status.condition(kind).is_some_and(|c| c.status == Truth::False);
    let is_suspended = status.schedule.as_ref().is_some_and(|s| s.suspended);
    match () {
        () if is_false(ConditionType::Ready) => State::Held,
        () if status.fresh_until_time.is_some_and(|until| until <= now) => State::Stale,
        () if !status.active.is_empty() => State::Running,
        () if is_false(ConditionType::LastRunSucceeded) => State::Failed,
        () if !status.waiting.is_empty() => State::Waiting,
        () if is_suspended => State::Paused,
        () if status.last_run.is_none() => State::New,
        () => State::Ok,
    }
}
