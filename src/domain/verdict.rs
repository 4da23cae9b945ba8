//! The one table of how a task can end: exit code, what the controller does next.

use serde::{Deserialize, Serialize};

/// How a task ended. The exit code carries it, the report details it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// What the task was for exists on the remote (or on the target). Exit code 0.
    Committed,
    /// Trying again cannot help; a person must change something. Exit code 10.
    Permanent,
    /// Trying again may help. Exit code 11, and every other end: signals, panics, lost reports.
    Temporary,
    /// The source looks wrong (empty, collapsed, vanished): nothing was committed, a person decides. Exit code 12.
    Guard,
    /// A credential was refused. Exit code 13.
    Credentials,
}

impl Verdict {
    /// The process exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Committed => 0,
            Self::Permanent => 10,
            Self::Temporary => 11,
            Self::Guard => 12,
            Self::Credentials => 13,
        }
    }

    /// The verdict of a task that ended with `code`. What is not in the table may go better next time.
    pub fn from_exit_code(code: i32) -> Self {
        match code {
            0 => Self::Committed,
            10 => Self::Permanent,
            12 => Self::Guard,
            13 => Self::Credentials,
            _ => Self::Temporary,
        }
    }

    /// True when another attempt may be made.
    pub fn may_retry(self) -> bool {
        self == Self::Temporary
    }
}

/// The reason of a task that was told to end before it was done.
pub const INTERRUPTED: &str = "Interrupted";
/// The reason of a failure that is no failure: this process was told to end.
pub const STOPPED: &str = "Stopped";

/// Why something failed, in words for a person and in a form the controller can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// What the controller does about it.
    pub verdict: Verdict,
    /// CamelCase word for conditions and metrics, such as `AuthenticationFailed`.
    pub reason: String,
    /// What happened, to what. Never a secret.
    pub message: String,
    /// What to do next, as a command or an edit where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Failure {
    /// A failure with this verdict; `reason` is CamelCase.
    pub fn new(verdict: Verdict, reason: &str, message: impl Into<String>) -> Self {
        Self { verdict, reason: reason.to_owned(), message: message.into(), fix: None }
    }

    /// Trying again may help.
    pub fn temporary(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Verdict::Temporary, reason, message)
    }

    /// Trying again cannot help.
    pub fn permanent(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Verdict::Permanent, reason, message)
    }

    /// Adds the next step.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Says where it happened, in front of the message: `volume homes: …`.
    #[must_use]
    pub fn within(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_round_trip_and_the_unknown_is_temporary() {
        for verdict in
            [Verdict::Committed, Verdict::Permanent, Verdict::Temporary, Verdict::Guard, Verdict::Credentials]
        {
            assert_eq!(Verdict::from_exit_code(i32::from(verdict.exit_code())), verdict);
        }
        for code in [1, 2, 101, 137, -9] {
            assert_eq!(Verdict::from_exit_code(code), Verdict::Temporary);
        }
    }
}
