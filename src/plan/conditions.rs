//! What is said of a policy by yes or no, and the one line for a person.

use crate::{
    domain::{
        bootstrap::{Bootstrap, BootstrapPhase},
        policy::Policy,
        run::{Attempt, Outcome, Run},
        status::{Condition, ConditionType, Status, Truth, Waiting, WaitingReason},
        verdict::Verdict,
    },
    plan::{
        claim::{bootstrap_fix, held_fix},
        observed::{Declared, Drill, Observed, Spec, Task, TaskState},
        slots::Slots,
    },
};
use jiff::Timestamp;

/// One condition before its transition time is known.
pub(super) struct Said {
    status: Truth,
    reason: String,
    message: String,
    generation: i64,
}

impl Said {
    fn new(status: Truth, reason: &str, message: impl Into<String>, generation: i64) -> Self {
        Self { status, reason: reason.to_owned(), message: message.into(), generation }
    }

    /// Neither yes nor no.
    pub(super) fn says_nothing(&self) -> bool {
        self.status == Truth::Unknown
    }
}

/// Sets a condition. Its transition time moves only when its truth does.
pub(super) fn set(status: &mut Status, kind: ConditionType, said: Said, now: Timestamp) {
    let old = status.condition(kind);
    let since = old.filter(|c| c.status == said.status).map_or(now, |c| c.last_transition_time);
    let new = Condition {
        kind,
        status: said.status,
        reason: said.reason,
        message: said.message,
        last_transition_time: since,
        observed_generation: said.generation,
    };
    if old == Some(&new) {
        return;
    }
    let conditions = status.conditions.edit();
    conditions.retain(|c| c.kind != kind);
    conditions.push(new);
    conditions.sort_by_key(|c| c.kind);
}

/// Accepted, and runs will start.
pub(super) fn ready(
    spec: &Spec,
    refusal: Option<&String>,
    slots: Option<&Slots>,
    held: Option<&Waiting>,
    generation: i64,
) -> Said {
    let no = |reason: &str, message: String| Said::new(Truth::False, reason, message, generation);
    let policy = match spec {
        Spec::Wrong(error) => return no("InvalidSpec", error.to_string()),
        Spec::Gone => return no("Removed", "nobody declares the policy any more".to_owned()),
        Spec::Valid(policy) => policy,
    };
    if let Some(refusal) = refusal {
        return no("Refused", refusal.clone());
    }
    if let Some(held) = held.filter(|h| h.reason == WaitingReason::RestoreIncomplete) {
        return no("RestoreIncomplete", held.message.clone());
    }
    if let Some(slot) = slots.and_then(|s| s.skewed) {
        let message = format!("slot {slot} is on record and lies in the future: a clock was or is wrong");
        return no("ClockSkew", message);
    }
    if policy.suspend {
        return Said::new(Truth::True, "Suspended", "accepted; no scheduled run starts", generation);
    }
    Said::new(Truth::True, "Accepted", "accepted; runs start as scheduled", generation)
}

/// The newest complete snapshot is young enough.
pub(super) fn fresh(
    policy: &Policy,
    status: &Status,
    young_until: Option<Timestamp>,
    generation: i64,
    now: Timestamp,
) -> Said {
    let Some(until) = status.fresh_until_time.filter(|_| !policy.suspend) else {
        return Said::new(Truth::Unknown, "Suspended", "no scheduled run starts", generation);
    };
    let last = last_success(status);
    let is_young = young_until.is_some_and(|until| now < until);
    match (&status.last_success, now < until) {
        (Some(_), true) if is_young => Said::new(Truth::True, "InTime", last, generation),
        (Some(_), true) => Said::new(
            Truth::Unknown,
            "ScheduleChanged",
            format!("{last}; slots count anew since, and the next one is due by {until}"),
            generation,
        ),
        (None, true) => Said::new(Truth::Unknown, "NeverRan", last, generation),
        (_, false) => stale(status, generation, until),
    }
}

/// No complete snapshot came until `until`.
pub(super) fn stale(status: &Status, generation: i64, until: Timestamp) -> Said {
    let message = format!("{}; a new one was due by {until}", last_success(status));
    Said::new(Truth::False, "DeadlinePassed", message, generation)
}

fn last_success(status: &Status) -> String {
    match &status.last_success {
        Some(run) => format!("the last good run is {}", run.slot),
        None => "no run has succeeded yet".to_owned(),
    }
}

/// The newest run made a complete snapshot.
pub(super) fn last_run_succeeded(status: &Status, generation: i64) -> Said {
    let Some(run) = &status.last_run else {
        return Said::new(Truth::Unknown, "NeverRan", "no run has ended yet", generation);
    };
    let truth = if run.outcome == Outcome::Succeeded { Truth::True } else { Truth::False };
    Said::new(truth, &run.reason, format!("run {}: {}", run.slot, run.message), generation)
}

/// A snapshot was restored and compared.
pub(super) fn restore_tested(drill: Option<&Drill>, generation: i64) -> Said {
    let Some(drill) = drill else {
        let message = "no snapshot has been restored and compared yet";
        return Said::new(Truth::Unknown, "NeverTested", message, generation);
    };
    let message = format!("{} at {}: {}", drill.snapshot, drill.at, drill.message);
    if drill.passed {
        return Said::new(Truth::True, "Compared", message, generation);
    }
    Said::new(Truth::False, "DrillFailed", message, generation)
}

/// What a run that has just ended says about credentials: that they work, or that one was refused.
pub(super) fn credentials_from_run(run: &Run) -> Option<Said> {
    let generation = run.plan.generation;
    if let Some(refused) = run.state.attempts.iter().rev().find(|a| a.verdict == Verdict::Credentials) {
        return refused.failure.as_ref().map(|f| Said::new(Truth::False, &f.reason, &f.message, generation));
    }
    run.state.attempts.iter().any(Attempt::is_success).then(|| {
        let message = format!("run {} reached the remote and its sources", run.slot);
        Said::new(Truth::True, "RunSucceeded", message, generation)
    })
}

/// What a preflight says about credentials.
pub(super) fn credentials_from_preflight(task: &Task, generation: i64) -> Option<Said> {
    let TaskState::Ended { report, detail, .. } = &task.state else { return None };
    let Some(report) = report else {
        let message = format!("the preflight ended without a report: {detail}");
        return Some(Said::new(Truth::Unknown, "TaskLost", message, generation));
    };
    Some(match &report.failure {
        None => Said::new(Truth::True, "PreflightPassed", "remote and sources can be reached", generation),
        Some(failure) => {
            let truth = if failure.verdict == Verdict::Temporary { Truth::Unknown } else { Truth::False };
            let fix = failure.fix.as_ref().map(|fix| format!("; {fix}")).unwrap_or_default();
            Said::new(truth, &failure.reason, format!("{}{fix}", failure.message), generation)
        }
    })
}

/// How far the filling of an empty site is.
pub(super) fn bootstrapped(state: &Bootstrap, generation: i64) -> Said {
    let (truth, reason) = match state.phase {
        BootstrapPhase::Looking | BootstrapPhase::Filling if state.failures == 0 => {
            (Truth::Unknown, "InProgress")
        }
        BootstrapPhase::Looking | BootstrapPhase::Filling => (Truth::False, "Failing"),
        BootstrapPhase::Incomplete => (Truth::False, "Incomplete"),
        BootstrapPhase::Restored => (Truth::True, "Restored"),
        BootstrapPhase::HadData => (Truth::True, "HadData"),
    };
    Said::new(truth, reason, state.message.clone(), generation)
}

/// Nobody has looked yet; the number is no specification's.
pub(super) fn credentials_unknown() -> Said {
    Said::new(Truth::Unknown, "NotChecked", "remote and sources were not looked at yet", 0)
}

/// A preflight that took too long.
pub(super) fn credentials_timed_out(generation: i64) -> Said {
    Said::new(Truth::Unknown, "PreflightTimedOut", "the preflight did not end in time", generation)
}

/// The line for a person and its fix: the worst that is known.
pub(super) fn message(
    declared: &Declared,
    observed: &Observed,
    status: &Status,
    due_waits: Option<&Waiting>,
) -> (Option<String>, Option<String>) {
    let says_no = |kind| status.condition(kind).filter(|c| c.status == Truth::False);
    if let Some(ready) = says_no(ConditionType::Ready) {
        let fix = match ready.reason.as_str() {
            "RestoreIncomplete" => held_fix(&declared.id, observed),
            "ClockSkew" => Some("set the clock of the controller's machine".to_owned()),
            _ => None,
        };
        return (Some(ready.message.clone()), fix);
    }
    if let Some(run) = status.last_run.as_ref().filter(|r| !r.outcome.is_fine()) {
        return (Some(format!("{:?}: {}", run.outcome, run.message)), run.fix.clone());
    }
    if let (Some(bootstrap), Spec::Valid(policy)) = (says_no(ConditionType::Bootstrapped), &declared.spec) {
        let fix = (bootstrap.reason == "Incomplete").then(|| bootstrap_fix(policy));
        return (Some(format!("the site is not filled: {}", bootstrap.message)), fix);
    }
    if let Some(credentials) = says_no(ConditionType::CredentialsValid) {
        return (Some(credentials.message.clone()), None);
    }
    if let Some(fresh) = says_no(ConditionType::Fresh) {
        return (Some(fresh.message.clone()), None);
    }
    if let Some(drill) = says_no(ConditionType::RestoreTested) {
        let fix = format!("mend what differs, then: backstay verify {} --level drill", declared.id);
        return (Some(format!("the newest restore drill failed: {}", drill.message)), Some(fix));
    }
    if let Some(waits) = due_waits {
        return (Some(format!("a run is due and waits: {}", waits.message)), None);
    }
    if let (Some(former), Some(place), true) =
        (status.former_locations.first(), &status.location, status.snapshots.is_empty())
    {
        let text = format!(
            "LocationChanged: snapshots now go to {place}; those in {former} stay there and are not pruned"
        );
        return (Some(text), None);
    }
    let moved_on = matches!(&declared.spec, Spec::Valid(policy) if policy.suspend);
    (moved_on.then(|| "suspended".to_owned()), None)
}
