//! Where a run is, derived from its record and the tasks that are seen; nothing else is remembered.

use crate::{
    domain::{
        names::{SnapshotName, SourceName},
        run::{Attempt, Outcome, Run, RunEnd, Step, StepName},
        verdict::{Failure, Verdict},
    },
    plan::{
        deadline::{NODE_LOST, after},
        observed::{Task, TaskName, TaskState},
    },
};
use jiff::Timestamp;
use std::time::Duration;

/// The pause after the first failed attempt; four times as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 60);
/// A run may take twice what its attempts may, and this much more, before it is given up for good.
const RUN_SLACK: Duration = Duration::from_secs(3600);

/// What a run needs next. The variants are in the order of the rules; the first that matches is the phase.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase<'a> {
    /// The outcome is recorded: the tasks that remain are to be deleted.
    Over,
    /// Tasks have ended whose attempts are not recorded.
    Harvest(Vec<Attempt>),
    /// A person wants it to stop, and tasks remain.
    Cancelling,
    /// A task was given up and is still there: it is to be deleted.
    Stopping(&'a Task),
    /// A task goes on, until the deadline at the latest.
    Waiting(&'a Task, Timestamp),
    /// A task is past its deadline: to be recorded and deleted.
    GivenUp(&'a Task, Box<Attempt>),
    /// The next attempt is to be made.
    Attempt(Step, u32),
    /// The next attempt is to be made later.
    Backoff(Step, u32, Timestamp),
    /// The outcome is known and to be recorded.
    End(RunEnd),
}

/// The phase of `run`; `tasks` are those of this run.
pub(super) fn phase<'a>(run: &Run, tasks: &[&'a Task], now: Timestamp) -> Phase<'a> {
    if run.state.end.is_some() {
        return Phase::Over;
    }
    let ended: Vec<Attempt> =
        tasks.iter().filter(|t| !is_recorded(run, &t.name)).filter_map(|t| harvest(t)).collect();
    if !ended.is_empty() {
        return Phase::Harvest(ended);
    }
    if run.state.cancel.is_some() {
        return if tasks.is_empty() { Phase::End(cancelled(run, now)) } else { Phase::Cancelling };
    }
    let live = tasks.iter().find_map(|task| live(run, task, now));
    live.unwrap_or_else(|| next_step(run, now))
}

fn is_recorded(run: &Run, name: &TaskName) -> bool {
    run.state.attempts.iter().any(|a| a.step == name.step && i64::from(a.number) == name.attempt)
}

/// The attempt that an ended task was.
fn harvest(task: &Task) -> Option<Attempt> {
    let TaskState::Ended { started_at, at, report, detail } = &task.state else { return None };
    let mut attempt = attempt_of(&task.name, *started_at, *at);
    // A lost report is never a success: the retry finds what was stored, and reports it.
    let Some(report) = report else {
        let message = format!("the task ended without a report: {detail}");
        attempt.failure = Some(Failure::temporary("TaskLost", message));
        return Some(attempt);
    };
    attempt.reported = true;
    attempt.verdict = report.verdict;
    attempt.failure.clone_from(&report.failure);
    attempt.sources.clone_from(&report.sources);
    attempt.snapshot.clone_from(&report.snapshot);
    attempt.warnings.clone_from(&report.warnings);
    attempt.pruned.clone_from(&report.pruned);
    Some(attempt)
}

fn attempt_of(name: &TaskName, started_at: Option<Timestamp>, ended_at: Timestamp) -> Attempt {
    Attempt {
        step: name.step.clone(),
        number: u32::try_from(name.attempt).unwrap_or(u32::MAX),
        started_at,
        ended_at,
        verdict: Verdict::Temporary,
        failure: None,
        reported: false,
        sources: Vec::new(),
        snapshot: None,
        warnings: Vec::new(),
        pruned: Vec::new(),
    }
}

/// The phase that a task which has not ended puts its run into.
fn live<'a>(run: &Run, task: &'a Task, now: Timestamp) -> Option<Phase<'a>> {
    let limits = run.plan.limits;
    let (since, allowed) = match &task.state {
        TaskState::Pending { since, .. } => (*since, Duration::from_secs(limits.pending_seconds)),
        TaskState::Running { since } => (*since, Duration::from_secs(limits.timeout_seconds)),
        TaskState::Unreachable { since } => (*since, NODE_LOST),
        TaskState::Ended { .. } => return None,
    };
    if is_recorded(run, &task.name) {
        // The twin on a node that does not answer does no harm: attempts never share objects.
        let unreachable = matches!(task.state, TaskState::Unreachable { .. });
        return (!unreachable).then_some(Phase::Stopping(task));
    }
    let deadline = after(since, allowed);
    if now < deadline {
        return Some(Phase::Waiting(task, deadline));
    }
    let started_at = (!matches!(task.state, TaskState::Pending { .. })).then_some(since);
    let mut attempt = attempt_of(&task.name, started_at, now);
    attempt.failure = Some(overdue(&task.state, allowed));
    Some(Phase::GivenUp(task, Box::new(attempt)))
}

fn overdue(state: &TaskState, allowed: Duration) -> Failure {
    let seconds = allowed.as_secs();
    match state {
        TaskState::Pending { why, .. } => {
            Failure::temporary("PendingTooLong", format!("the task did not start within {seconds} s: {why}"))
        }
        TaskState::Unreachable { .. } => {
            Failure::temporary("NodeLost", format!("the node of the task has not answered for {seconds} s"))
        }
        TaskState::Running { .. } | TaskState::Ended { .. } => {
            Failure::temporary("TimedOut", format!("the task was stopped after {seconds} s"))
                .fix("find out what is slow with `backstay logs`, or raise task.timeoutSeconds")
        }
    }
}

/// What can be said of a step from its attempts.
enum StepState {
    Good,
    Try(u32),
    Pause(u32, Timestamp),
    GivenUp,
}

fn step_state(run: &Run, step: &StepName, now: Timestamp) -> StepState {
    if run.state.is_good(step) {
        return StepState::Good;
    }
    let Some(last) = run.state.attempts_of(step).max_by_key(|a| a.number) else {
        return if is_expired(run, now) { StepState::GivenUp } else { StepState::Try(1) };
    };
    let next = last.number.saturating_add(1);
    if !last.verdict.may_retry() || last.number > u32::from(run.plan.limits.retries) || is_expired(run, now) {
        return StepState::GivenUp;
    }
    let at = after(last.ended_at, pause(last.number));
    if now < at { StepState::Pause(next, at) } else { StepState::Try(next) }
}

/// How long to wait after `failed` attempts, at least 1.
pub(super) fn pause(failed: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(4u32.saturating_pow(failed.saturating_sub(1))).min(LONGEST_PAUSE)
}

/// True when the run has had so much time that something eats its tasks.
fn is_expired(run: &Run, now: Timestamp) -> bool {
    let allowed = run.plan.longest().saturating_mul(2).saturating_add(RUN_SLACK);
    now >= after(run.plan.claimed_at, allowed)
}

/// The first step without a good attempt, else the finish, else the outcome.
fn next_step<'a>(run: &Run, now: Timestamp) -> Phase<'a> {
    for step in run.plan.steps.iter().filter(|s| !s.sources.is_empty()) {
        match step_state(run, &step.name, now) {
            StepState::Good => {}
            StepState::Try(number) => return Phase::Attempt(step.clone(), number),
            StepState::Pause(number, until) => return Phase::Backoff(step.clone(), number, until),
            StepState::GivenUp if step.finish || !missing(run, step).is_empty() => {
                return finish(run, Some(step), now);
            }
            StepState::GivenUp => {}
        }
    }
    finish(run, None, now)
}

/// The end of a run: the manifest for what there is, when there is anything. `broken` is the step that was given up.
fn finish<'a>(run: &Run, broken: Option<&Step>, now: Timestamp) -> Phase<'a> {
    if run.plan.steps.iter().any(|s| s.finish && run.state.is_good(&s.name)) {
        return Phase::End(made(run, now));
    }
    if !run.state.attempts.iter().any(Attempt::may_have_stored) {
        return Phase::End(failed(run, broken.map(|s| &s.name), now));
    }
    let step = Step::finish();
    match step_state(run, &step.name, now) {
        StepState::Good => Phase::End(made(run, now)),
        StepState::Try(number) => Phase::Attempt(step, number),
        StepState::Pause(number, until) => Phase::Backoff(step, number, until),
        StepState::GivenUp => {
            Phase::End(failed(run, broken.map_or(Some(&step.name), |s| Some(&s.name)), now))
        }
    }
}

/// Required sources of `step` that no attempt stored.
fn missing(run: &Run, step: &Step) -> Vec<SourceName> {
    let stored = |name: &SourceName| run.state.attempts.iter().any(|a| a.stored(name));
    let required = step.sources.iter().filter(|s| !s.is_optional());
    required.map(crate::domain::policy::Source::name).filter(|name| !stored(name)).collect()
}

/// The end of a run whose manifest exists.
fn made(run: &Run, now: Timestamp) -> RunEnd {
    let name = SnapshotName::new(run.plan.policy.clone(), run.slot);
    let absent = match run.state.snapshot() {
        Some(snapshot) if !snapshot.complete => &snapshot.missing,
        _ => {
            return RunEnd {
                outcome: Outcome::Succeeded,
                reason: "Succeeded".to_owned(),
                message: format!("snapshot {name} is complete"),
                fix: None,
                at: now,
            };
        }
    };
    let absent: Vec<&str> = absent.iter().map(SourceName::as_str).collect();
    let what = match absent.as_slice() {
        [] => "something in it could not be read".to_owned(),
        names => format!("without {}", names.join(", ")),
    };
    let failure = last_failure(run, None);
    let why = failure.map(|f| format!(": {}", f.message)).unwrap_or_default();
    RunEnd {
        outcome: Outcome::Partial,
        reason: failure.map_or_else(|| "Incomplete".to_owned(), |f| f.reason.clone()),
        message: format!("snapshot {name} is incomplete, {what}{why}"),
        fix: Some(fix(run, failure)),
        at: now,
    }
}

/// The end of a run without a manifest, for the reason that `step` failed.
fn failed(run: &Run, step: Option<&StepName>, now: Timestamp) -> RunEnd {
    let attempts = run.state.attempts.len();
    let failure = last_failure(run, step).cloned().unwrap_or_else(|| {
        Failure::temporary("RunExpired", "the run could not be carried out in the time that it has")
    });
    let times = if attempts > 1 { format!(" ({attempts} attempts)") } else { String::new() };
    RunEnd {
        outcome: Outcome::Failed,
        fix: Some(fix(run, Some(&failure))),
        reason: failure.reason,
        message: format!("{}{times}", failure.message),
        at: now,
    }
}

/// What to do next: what the failure says, else where there is more to read.
fn fix(run: &Run, failure: Option<&Failure>) -> String {
    failure.and_then(|f| f.fix.clone()).unwrap_or_else(|| format!("backstay logs {}", run.plan.policy))
}

/// Why the newest failed attempt failed, of `step` when one is given and has any.
fn last_failure<'a>(run: &'a Run, step: Option<&StepName>) -> Option<&'a Failure> {
    let of = |wanted: Option<&StepName>| {
        let fits = move |a: &&Attempt| wanted.is_none_or(|s| a.step == *s);
        run.state.attempts.iter().rev().filter(fits).find_map(|a| a.failure.as_ref())
    };
    step.and_then(|s| of(Some(s))).or_else(|| of(None))
}

/// The end of a run that a person stopped; one that had made its manifest by then succeeded.
fn cancelled(run: &Run, now: Timestamp) -> RunEnd {
    if run.state.snapshot().is_some() {
        return made(run, now);
    }
    RunEnd {
        outcome: Outcome::Cancelled,
        reason: "Cancelled".to_owned(),
        message: "stopped by a person; what it had stored is swept later".to_owned(),
        fix: None,
        at: now,
    }
}
