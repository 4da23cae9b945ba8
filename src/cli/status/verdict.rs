//! How bad it is.

use crate::{
    domain::status::{ConditionType, Status, Truth},
    orchestrators::site::Known,
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// How a policy is, in one word; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum State {
    /// The document is wrong.
    Invalid,
    /// No run can start: a half-finished restore, a wrong clock.
    Held,
    /// The controller that runs has not looked at it, or cannot.
    Unseen,
    /// The newest complete snapshot is too old.
    Stale,
    /// Remote or sources refuse the tasks, and nothing was ever backed up.
    Unprotected,
    /// The newest run made no complete snapshot.
    Failed,
    /// Remote or sources refuse the tasks; the newest snapshot is young enough still.
    Denied,
    /// The newest restore drill failed: nothing says that what is stored can be restored.
    Unproven,
    /// A run is due and waits.
    Waiting,
    /// A run is active.
    Running,
    /// No run has ended yet.
    New,
    /// All is well.
    Ok,
    /// Nobody declares it any more; its run goes on.
    Removed,
    /// Suspended.
    Paused,
}

impl State {
    /// The word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "INVALID",
            Self::Held => "HELD",
            Self::Unseen => "UNSEEN",
            Self::Stale => "STALE",
            Self::Unprotected => "UNPROTECTED",
            Self::Failed => "FAILED",
            Self::Denied => "DENIED",
            Self::Unproven => "UNPROVEN",
            Self::Waiting => "WAITING",
            Self::Running => "RUNNING",
            Self::New => "NEW",
            Self::Ok => "OK",
            Self::Removed => "REMOVED",
            Self::Paused => "PAUSED",
        }
    }

    /// What a monitoring system makes of it.
    pub(super) fn severity(self) -> Severity {
        match self {
            Self::Invalid | Self::Held | Self::Unseen | Self::Stale | Self::Unprotected => Severity::Critical,
            Self::Failed | Self::Denied | Self::Unproven => Severity::Warning,
            Self::Waiting | Self::Running | Self::New | Self::Ok | Self::Removed | Self::Paused => {
                Severity::Good
            }
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

/// A controller has looked at a policy within this time.
const SEEN: SignedDuration = SignedDuration::from_secs(60);

/// How a policy is, with what is known beside its status. `running_since`: of the controller, where one runs.
pub(super) fn of(known: &Known, running_since: Option<Timestamp>, is_stuck: bool, now: Timestamp) -> State {
    if known.generation.is_none() {
        return State::Removed;
    }
    let state = state(known.policy.is_err(), known.status.as_ref(), now);
    let chance = running_since.max(known.changed_at);
    let is_late = chance.is_some_and(|chance| now.duration_since(chance) > SEEN);
    let is_new = known.status.is_none() && running_since.is_some();
    if state != State::Invalid && (is_stuck || is_new && is_late) { State::Unseen } else { state }
}

/// How a policy is by its status. Freshness is judged by the deadline and the time, not by what a controller said long ago.
pub(super) fn state(invalid: bool, status: Option<&Status>, now: Timestamp) -> State {
    if invalid {
        return State::Invalid;
    }
    let Some(status) = status else { return State::New };
    let is_false = |kind| status.condition(kind).is_some_and(|c| c.status == Truth::False);
    let is_denied = is_false(ConditionType::CredentialsValid);
    let is_suspended = status.schedule.as_ref().is_some_and(|s| s.suspended);
    match () {
        () if is_false(ConditionType::Ready) => State::Held,
        () if status.fresh_until_time.is_some_and(|until| until <= now) => State::Stale,
        () if !status.active.is_empty() => State::Running,
        () if is_denied && status.last_success.is_none() => State::Unprotected,
        () if is_false(ConditionType::LastRunSucceeded) => State::Failed,
        () if is_denied => State::Denied,
        () if is_false(ConditionType::RestoreTested) => State::Unproven,
        () if !status.waiting.is_empty() => State::Waiting,
        () if is_suspended => State::Paused,
        () if status.last_run.is_none() => State::New,
        () => State::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::document::Defaults,
        domain::{
            error::Invalid,
            policy::Policy,
            status::{Condition, ScheduleStatus},
        },
        plan::{
            decide::is_bad,
            validate::{Facts, Orchestrator, load},
        },
    };
    use std::sync::Arc;

    fn no(kind: ConditionType) -> Condition {
        Condition {
            kind,
            status: Truth::False,
            reason: "UnknownRemote".to_owned(),
            message: "there is no remote \"box\"".to_owned(),
            last_transition_time: Timestamp::UNIX_EPOCH,
            observed_generation: 1,
        }
    }

    #[test]
    fn what_a_controller_does_not_look_at_is_not_good() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let new = |changed_at| Known {
            id: "nightly".parse().unwrap(),
            generation: Some(1),
            changed_at: Some(at(changed_at)),
            policy: Ok(policy()),
            status: None,
        };
        let seen = Known { status: Some(Status::default()), ..new(0) };
        let wrong = Known { policy: Err(Invalid::new("wrong")), ..new(0) };
        let gone = Known { generation: None, ..wrong.clone() };
        let table = [
            (&new(0), Some(0), false, State::Unseen),
            (&new(0), Some(50), false, State::New),
            (&new(50), Some(0), false, State::New),
            (&new(0), None, false, State::New),
            (&new(50), Some(50), true, State::Unseen),
            (&seen, Some(0), false, State::New),
            (&seen, Some(0), true, State::Unseen),
            (&wrong, Some(0), true, State::Invalid),
            (&gone, Some(0), false, State::Removed),
        ];
        for (known, running_since, is_stuck, expected) in table {
            assert_eq!(of(known, running_since.map(at), is_stuck, at(100)), expected, "{known:?}");
        }
        assert_eq!(State::Unseen.severity(), Severity::Critical);
    }

    fn policy() -> Arc<Policy> {
        let text = "apiVersion: backstay.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {name: nightly}\nspec:\n  \
                    instance: x\n  volumes: [{name: homes, hostPath: /homes}]\n  \
                    destination: {remote: box, configFrom: {file: /rclone.conf}}\n";
        let facts = Facts { orchestrator: Orchestrator::Local, defaults: Defaults::default() };
        Arc::new(load(text, &facts).unwrap().remove(0).policy.unwrap())
    }

    #[test]
    fn credentials_that_are_known_to_be_bad_are_not_good_whatever_else_is() {
        let good = serde_json::from_value(serde_json::json!({
            "slot": "20261124T080000Z", "outcome": "Succeeded", "reason": "x", "message": "x", "attempts": 1,
            "startTime": "2026-11-24T08:00:00Z", "completionTime": "2026-11-24T08:01:00Z",
        }));
        let schedule = ScheduleStatus {
            expression: "0 2 * * *".to_owned(),
            time_zone: "UTC".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            suspended: true,
            settled: None,
        };
        let (credentials, last_run) = (ConditionType::CredentialsValid, ConditionType::LastRunSucceeded);
        let drill = ConditionType::RestoreTested;
        let (never, once) = (None, Some(good.unwrap()));
        let table = [
            (&never, vec![credentials], false, State::Unprotected, Severity::Critical),
            (&never, vec![last_run, credentials], false, State::Unprotected, Severity::Critical),
            (&never, vec![credentials], true, State::Unprotected, Severity::Critical),
            (&never, vec![last_run], false, State::Failed, Severity::Warning),
            (&once, vec![credentials], false, State::Denied, Severity::Warning),
            (&once, vec![last_run, credentials], false, State::Failed, Severity::Warning),
            (&once, vec![credentials], true, State::Denied, Severity::Warning),
            (&once, vec![drill], false, State::Unproven, Severity::Warning),
            (&once, vec![drill, credentials], false, State::Denied, Severity::Warning),
            (&once, vec![drill], true, State::Unproven, Severity::Warning),
        ];
        for (last_success, kinds, suspended, expected, severity) in table {
            let mut status = Status {
                last_success: last_success.clone(),
                conditions: kinds.iter().map(|kind| no(*kind)).collect(),
                ..Status::default()
            };
            status.schedule = suspended.then(|| schedule.clone());
            let found = state(false, Some(&status), Timestamp::UNIX_EPOCH);
            assert_eq!((found, found.severity()), (expected, severity), "{kinds:?}");
            assert!(is_bad(&status), "{kinds:?}");
        }
    }
}
