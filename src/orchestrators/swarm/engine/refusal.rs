//! What a call of the engine met, and what the controller does about it.

use crate::{
    controller::port::PortError,
    domain::verdict::Failure,
    orchestrators::site::{UNAVAILABLE, UNREACHABLE},
};
use reqwest::StatusCode;
use serde::Deserialize;

/// What a call met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status; 0 without an answer.
    pub status: u16,
    /// The engine's words, or why there is no answer.
    pub message: String,
    /// It may have been done all the same.
    pub maybe_done: bool,
    /// There is no engine at the socket, or it may not be used.
    pub unreachable: bool,
}

/// The engine's answer to a call that it did not do.
pub(super) fn refused(status: StatusCode, body: &[u8], is_write: bool) -> Refusal {
    #[derive(Default, Deserialize)]
    struct Said {
        message: String,
    }
    let said: Said = serde_json::from_slice(body).unwrap_or_default();
    let message = if said.message.is_empty() { format!("HTTP {status}") } else { said.message };
    let lost =
        ["context deadline exceeded", "node lost leader status", "context canceled", "transport is closing"];
    let maybe_done = is_write && lost.iter().any(|words| message.contains(words));
    Refusal { status: status.as_u16(), message, maybe_done, unreachable: false }
}

impl Refusal {
    /// The object is not there.
    pub fn is_absent(&self) -> bool {
        self.status == 404
    }

    /// The name is taken.
    pub fn is_taken(&self) -> bool {
        self.status == 409
    }

    /// No answer that can be understood.
    pub(super) fn unanswered(message: String, maybe_done: bool) -> Self {
        Self { status: 0, message, maybe_done, unreachable: false }
    }

    /// The engine knows nothing of a Swarm's objects.
    fn is_no_manager(&self) -> bool {
        ["not a swarm manager", "not part of a swarm"].iter().any(|words| self.message.contains(words))
    }

    /// The object was changed since it was read.
    pub fn is_stale(&self) -> bool {
        self.message.contains("update out of sequence")
    }
}

/// Removing what is not there is done.
///
/// # Errors
/// Every other refusal.
pub fn absent_is_fine(result: Result<(), Refusal>) -> Result<(), PortError> {
    match result {
        Err(refusal) if !refusal.is_absent() => Err(refusal.into()),
        _ => Ok(()),
    }
}

/// What a call met, for the person who asked.
pub fn refused_to_people(refusal: Refusal) -> Failure {
    let (is_no_manager, unreachable) = (refusal.is_no_manager(), refusal.unreachable);
    let elsewhere = "run this on a manager, or name its engine with DOCKER_HOST=unix:///path/to/docker.sock";
    match PortError::from(refusal) {
        PortError::Rejected(message) => Failure::permanent("EngineRefused", message),
        PortError::Conflict(message) => Failure::temporary("ChangedMeanwhile", message).fix("try again"),
        PortError::Unavailable(message) if is_no_manager => {
            Failure::permanent("NoManager", message).fix(elsewhere)
        }
        PortError::Unavailable(message) if unreachable => {
            Failure::temporary(UNREACHABLE, message).fix(elsewhere)
        }
        PortError::Unavailable(message) | PortError::MaybeDone(message) => {
            Failure::temporary(UNAVAILABLE, message)
                .fix("try again; docker node ls tells which managers are reachable")
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Refusal> for PortError {
    fn from(refusal: Refusal) -> Self {
        let Refusal { status, ref message, maybe_done, .. } = refusal;
        let text = message.clone();
        if refusal.is_stale() || refusal.is_taken() || refusal.is_absent() {
            return Self::Conflict(text);
        }
        if maybe_done {
            return Self::MaybeDone(text);
        }
        if refusal.is_no_manager() {
            return Self::Unavailable(format!(
                "{text} (run Backstay on a manager: docker node ls shows which nodes are)"
            ));
        }
        // A network that is not there is a 500 as well; it does not come by waiting.
        let is_wrong =
            status == 400 || (status == 500 && message.contains("network") && message.contains("not found"));
        if is_wrong { Self::Rejected(text) } else { Self::Unavailable(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn refusals_become_what_the_controller_does_about_them() {
        let error = |status: u16, message: &str, is_write| {
            let body = json!({"message": message}).to_string();
            let refusal = refused(StatusCode::from_u16(status).unwrap(), body.as_bytes(), is_write);
            format!("{:?}", PortError::from(refusal)).split('(').next().unwrap_or_default().to_owned()
        };
        for (status, message, is_write, expected) in [
            (409, "name conflicts with an existing object", true, "Conflict"),
            (500, "rpc error: code = Unknown desc = update out of sequence", true, "Conflict"),
            (404, "config x not found", true, "Conflict"),
            (400, "invalid version ''", true, "Rejected"),
            (500, "network wt_mongo not found", true, "Rejected"),
            (503, "This node is not a swarm manager.", false, "Unavailable"),
            (500, "rpc error: The swarm does not have a leader.", true, "Unavailable"),
            (500, "rpc error: code = DeadlineExceeded desc = context deadline exceeded", true, "MaybeDone"),
            (
                500,
                "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
                false,
                "Unavailable",
            ),
            (500, "node lost leader status", true, "MaybeDone"),
        ] {
            assert_eq!(error(status, message, is_write), expected, "{status} {message}");
        }
    }
}
