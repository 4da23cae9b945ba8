//! Planted bugs: what a controller, a port or a task could do wrong. Each must be found.
//!
//! They sit around the product, in what it sees and what it says; the product itself is the same in every test.

use crate::faults::Class;
use backstay::{
    controller::machine::{Answer, Call, Decide},
    domain::{
        bootstrap::BootstrapPhase,
        names::Slot,
        run::{Outcome, Run},
        status::{ConditionType, Truth},
        verdict::Verdict,
    },
    plan::{
        action::{Action, Answer as Reply, Decision},
        decide::decide,
        observed::{Caps, Declared, Load, Observed, Spec, TaskState, Wish},
        task_spec::{TaskReport, Work},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    SlotClaimedUnderTwoNames,
    MissedSlotDropped,
    WakeForgotten,
    RequeueLeak,
    StatusEveryPass,
    StatusFlaps,
    StatusLies,
    DeleteBeforeHarvest,
    ForeignAdopted,
    ForeignDeleted,
    RetentionKeepsOne,
    RetentionByWallClock,
    PrunesOnFailedListing,
    HoldIgnored,
    CapIgnored,
    CapStarves,
    AdoptionDropped,
    DeadlineIgnored,
    RetriesWithoutEnd,
    RetryAfterSuccess,
    BackoffIgnored,
    CatchUpTwice,
    SuspendIgnored,
    CancelledRunRestarted,
    RequestAnsweredTwice,
    RequestNeverAnswered,
    LostReportIsSuccess,
    RecordsNeverForgotten,
    RecordForgottenEarly,
    TaskLeftBehind,
    RestoreIgnored,
    RevisionIgnored,
    RunningTaskKilled,
    HintsUnheard,
    FilledWithoutALook,
    FilledTwice,
    HalfFilledCalledFilled,
    RunBeforeFilled,
    LostPreflightHoldsRuns,
}

impl Bug {
    pub const ALL: [Self; 39] = [
        Self::SlotClaimedUnderTwoNames,
        Self::MissedSlotDropped,
        Self::WakeForgotten,
        Self::RequeueLeak,
        Self::StatusEveryPass,
        Self::StatusFlaps,
        Self::StatusLies,
        Self::DeleteBeforeHarvest,
        Self::ForeignAdopted,
        Self::ForeignDeleted,
        Self::RetentionKeepsOne,
        Self::RetentionByWallClock,
        Self::PrunesOnFailedListing,
        Self::HoldIgnored,
        Self::CapIgnored,
        Self::CapStarves,
        Self::AdoptionDropped,
        Self::DeadlineIgnored,
        Self::RetriesWithoutEnd,
        Self::RetryAfterSuccess,
        Self::BackoffIgnored,
        Self::CatchUpTwice,
        Self::SuspendIgnored,
        Self::CancelledRunRestarted,
        Self::RequestAnsweredTwice,
        Self::RequestNeverAnswered,
        Self::LostReportIsSuccess,
        Self::RecordsNeverForgotten,
        Self::RecordForgottenEarly,
        Self::TaskLeftBehind,
        Self::RestoreIgnored,
        Self::RevisionIgnored,
        Self::RunningTaskKilled,
        Self::HintsUnheard,
        Self::FilledWithoutALook,
        Self::FilledTwice,
        Self::HalfFilledCalledFilled,
        Self::RunBeforeFilled,
        Self::LostPreflightHoldsRuns,
    ];
}

impl Bug {
    /// The fault without which it can hardly show.
    pub fn needs(self) -> &'static [Class] {
        match self {
            Self::MissedSlotDropped | Self::CatchUpTwice => &[Class::Downtime],
            Self::ForeignAdopted | Self::ForeignDeleted => &[Class::Foreign],
            Self::HoldIgnored
            | Self::CancelledRunRestarted
            | Self::RequestAnsweredTwice
            | Self::RequestNeverAnswered
            | Self::RestoreIgnored => &[Class::Wishes],
            Self::PrunesOnFailedListing | Self::RetentionByWallClock => &[Class::Remote],
            Self::AdoptionDropped => &[Class::Crash],
            Self::DeadlineIgnored
            | Self::RetriesWithoutEnd
            | Self::RetryAfterSuccess
            | Self::BackoffIgnored
            | Self::LostReportIsSuccess
            | Self::StatusLies
            | Self::HalfFilledCalledFilled
            | Self::DeleteBeforeHarvest => &[Class::Tasks],
            Self::LostPreflightHoldsRuns => &[Class::Tasks, Class::Edits],
            Self::SuspendIgnored => &[Class::Edits],
            Self::RevisionIgnored => &[Class::Twin, Class::Slow],
            _ => &[],
        }
    }
}

/// The decision of a controller that was started at `started`, with its bug if it has one.
pub fn deciding(bug: Option<Bug>, started: Timestamp) -> Decide {
    let Some(bug) = bug else { return Box::new(decide) };
    Box::new(move |declared, observed, load, now| {
        let (mut declared, mut observed, mut load) = (declared.clone(), observed.clone(), load.clone());
        blind(bug, &mut declared, &mut observed, &mut load, started, now);
        let mut decision = decide(&declared, &observed, &load, now);
        if let (Bug::RunBeforeFilled, Spec::Valid(policy)) = (bug, &mut declared.spec)
            && observed
                .status
                .as_ref()
                .and_then(|s| s.value.bootstrap.as_ref())
                .is_some_and(|b| !b.phase.is_over())
        {
            Arc::make_mut(policy).restore_from = None;
            let others = decide(&declared, &observed, &load, now).actions.into_iter();
            decision.actions.splice(0..0, others.filter(|action| claimed(action).is_some()));
        }
        spoil(bug, &observed, &mut decision, now);
        decision
    })
}

/// Bugs in what a decision takes into account.
fn blind(
    bug: Bug,
    declared: &mut Declared,
    observed: &mut Observed,
    load: &mut Load,
    started: Timestamp,
    now: Timestamp,
) {
    match bug {
        Bug::CapIgnored => load.caps = Caps { total: 1000, per_remote: 1000 },
        Bug::AdoptionDropped => observed.tasks.retain(|t| match &t.state {
            TaskState::Pending { since, .. } | TaskState::Running { since } => *since >= started,
            TaskState::Ended { started_at, .. } => started_at.is_none_or(|at| at >= started),
            TaskState::Unreachable { .. } => true,
        }),
        Bug::DeadlineIgnored => {
            for task in &mut observed.tasks {
                if let TaskState::Running { since } = &mut task.state {
                    *since = now;
                }
            }
        }
        Bug::RetriesWithoutEnd => {
            observed.runs.iter_mut().for_each(|r| Arc::make_mut(&mut r.value).plan.limits.retries = 250)
        }
        Bug::RetryAfterSuccess => {
            let active = observed.runs.iter_mut().filter(|r| r.value.state.end.is_none());
            active.for_each(|r| {
                Arc::make_mut(&mut r.value).state.attempts.retain(|a| a.verdict != Verdict::Committed)
            });
        }
        Bug::BackoffIgnored => {
            let attempts =
                observed.runs.iter_mut().flat_map(|r| &mut Arc::make_mut(&mut r.value).state.attempts);
            attempts.for_each(|a| a.ended_at -= SignedDuration::from_hours(1));
        }
        Bug::SuspendIgnored => {
            if let Spec::Valid(policy) = &mut declared.spec {
                Arc::make_mut(policy).suspend = false;
            }
        }
        Bug::CancelledRunRestarted => {
            observed.requests.retain(|r| !matches!(r.wish, Wish::Cancel { .. }));
            for run in observed.runs.iter_mut().filter(|r| r.value.state.end.is_none()) {
                Arc::make_mut(&mut run.value).state.cancel = None;
            }
        }
        Bug::LostReportIsSuccess => {
            let runs = &observed.runs;
            for task in &mut observed.tasks {
                let run = runs.iter().find(|r| Some(r.value.slot) == task.name.slot);
                if let (TaskState::Ended { report: report @ None, .. }, Some(run)) = (&mut task.state, run) {
                    *report = Some(Box::new(success(&run.value)));
                }
            }
        }
        Bug::RestoreIgnored => observed.restores.clear(),
        Bug::LostPreflightHoldsRuns => {
            for task in observed.tasks.iter_mut().filter(|task| task.name.is_preflight()) {
                if let TaskState::Unreachable { since } = &mut task.state {
                    *since = now;
                }
            }
        }
        Bug::FilledTwice | Bug::HalfFilledCalledFilled => {
            let Some(status) = &mut observed.status else { return };
            let bootstrap = &mut Arc::make_mut(&mut status.value).bootstrap;
            match (bug, bootstrap.as_mut()) {
                (Bug::FilledTwice, Some(known)) if known.phase.is_over() => *bootstrap = None,
                (_, Some(known)) if known.phase == BootstrapPhase::Incomplete => {
                    known.phase = BootstrapPhase::Restored;
                }
                _ => {}
            }
        }
        Bug::HoldIgnored => {
            observed.holds.clear();
            observed.drill = None;
        }
        _ => {}
    }
}

fn success(run: &Run) -> TaskReport {
    TaskReport { snapshot: run.state.snapshot().cloned(), ..TaskReport::empty() }
}

/// Bugs in what a decision says.
fn spoil(bug: Bug, observed: &Observed, decision: &mut Decision, now: Timestamp) {
    let actions = &mut decision.actions;
    match bug {
        Bug::SlotClaimedUnderTwoNames => {
            let runs: Vec<Run> =
                actions.iter().filter_map(claimed).filter(|r| !r.slot.is_manual()).cloned().collect();
            for mut run in runs {
                run.slot = Slot::scheduled(run.slot.time() + SignedDuration::from_secs(1));
                actions.insert(0, Action::CreateRun(Box::new(run)));
            }
        }
        Bug::CatchUpTwice => {
            let missed = statuses(actions).next().and_then(|s| s.missed.first()).map(|m| m.last);
            let runs: Vec<Run> =
                actions.iter().filter_map(claimed).filter(|r| !r.slot.is_manual()).cloned().collect();
            for (mut run, missed) in runs.into_iter().zip(missed) {
                run.slot = missed;
                actions.insert(0, Action::CreateRun(Box::new(run)));
            }
        }
        Bug::MissedSlotDropped => statuses(actions).for_each(|status| {
            status.missed = Vec::new().into();
            // The newest stays: the mark up to which slots are settled.
            let newest = status.history.first().map(|h| h.slot);
            status.history.edit().retain(|h| h.outcome != Outcome::Missed || Some(h.slot) == newest);
        }),
        Bug::WakeForgotten => decision.wake_at = None,
        Bug::RequeueLeak => decision.wake_at = Some(now),
        Bug::StatusEveryPass => repeat_status(observed, actions),
        Bug::StatusFlaps => flap(observed, actions, now),
        Bug::StatusLies => statuses(actions).for_each(|status| {
            let said =
                status.conditions.edit().iter_mut().find(|c| c.kind == ConditionType::LastRunSucceeded);
            said.into_iter().for_each(|c| c.status = Truth::True);
        }),
        Bug::DeleteBeforeHarvest => {
            for task in &observed.tasks {
                let harvested = actions.iter().any(|a| matches!(a, Action::RecordRun { .. }));
                if matches!(task.state, TaskState::Ended { .. }) && harvested && task.name.slot.is_some() {
                    let (name, uid) = (task.name.clone(), task.uid.clone());
                    actions.insert(0, Action::DeleteTask { name, uid, why: "a bug".to_owned(), ended: true });
                }
            }
        }
        Bug::RunningTaskKilled => {
            let old = |since: Timestamp| now.duration_since(since) > SignedDuration::from_mins(30);
            for task in &observed.tasks {
                if matches!(task.state, TaskState::Running { since } if old(since)) {
                    let (name, uid) = (task.name.clone(), task.uid.clone());
                    actions.push(Action::DeleteTask { name, uid, why: "a bug".to_owned(), ended: true });
                }
            }
        }
        Bug::FilledWithoutALook => {
            for bootstrap in statuses(actions).filter_map(|status| status.bootstrap.as_mut()) {
                if bootstrap.phase == BootstrapPhase::Looking {
                    bootstrap.phase = BootstrapPhase::Filling;
                }
            }
        }
        Bug::CapStarves => decision.wants_room = None,
        Bug::RequestAnsweredTwice => {
            let answers: Vec<Action> =
                actions.iter().filter(|a| matches!(a, Action::AnswerRequest { .. })).cloned().collect();
            actions.extend(answers.into_iter().map(|action| match action {
                Action::AnswerRequest { id, .. } => {
                    Action::AnswerRequest { id, answer: Reply::Refused("on second thoughts".to_owned()) }
                }
                other => other,
            }));
        }
        Bug::RequestNeverAnswered => actions.retain(|a| !matches!(a, Action::AnswerRequest { .. })),
        Bug::RecordsNeverForgotten => actions.retain(|a| !matches!(a, Action::DeleteRun { .. })),
        Bug::RecordForgottenEarly => {
            let ends = |a: &Action| match a {
                Action::RecordRun { slot, state, .. } => state.end.as_ref().map(|_| *slot),
                _ => None,
            };
            let ended: Vec<Slot> = actions.iter().filter_map(ends).collect();
            let place = actions
                .iter()
                .position(|a| matches!(a, Action::RecordStatus { .. }))
                .unwrap_or(actions.len());
            actions.splice(place..place, ended.into_iter().map(|slot| Action::DeleteRun { slot }));
        }
        Bug::TaskLeftBehind => actions.retain(|a| !matches!(a, Action::DeleteTask { .. })),
        _ => {}
    }
}

fn claimed(action: &Action) -> Option<&Run> {
    match action {
        Action::CreateRun(run) => Some(run),
        _ => None,
    }
}

fn statuses(actions: &mut [Action]) -> impl Iterator<Item = &mut backstay::domain::status::Status> {
    actions.iter_mut().filter_map(|action| match action {
        Action::RecordStatus { status, .. } => Some(&mut **status),
        _ => None,
    })
}

fn repeat_status(observed: &Observed, actions: &mut Vec<Action>) {
    let Some(old) = &observed.status else { return };
    if !actions.iter().any(|a| matches!(a, Action::RecordStatus { .. })) {
        let (revision, status) = (Some(old.revision.clone()), Box::new((*old.value).clone()));
        actions.push(Action::RecordStatus { revision, status });
    }
}

/// Says something else about a condition each time it is looked at.
fn flap(observed: &Observed, actions: &mut Vec<Action>, now: Timestamp) {
    repeat_status(observed, actions);
    for status in statuses(actions) {
        if let Some(condition) =
            status.conditions.edit().iter_mut().find(|c| c.kind == ConditionType::RestoreTested)
        {
            condition.status = if condition.status == Truth::Unknown { Truth::False } else { Truth::Unknown };
            condition.last_transition_time = now;
        }
    }
}

/// Bugs of a port: what it answers. A deletion of what is not ours comes as a further call.
pub fn answered(bug: Option<Bug>, call: &Call, answer: Answer) -> (Answer, Option<Call>) {
    let foreign =
        matches!(&answer, Answer::Acted(_, Err(error)) if error.to_string().contains("a name is taken"));
    match (bug, call) {
        (Some(Bug::ForeignDeleted), Call::Act(id, action)) if foreign => {
            let name = match &**action {
                Action::CreateTask(task) => task.name.clone(),
                _ => return (answer, None),
            };
            let delete =
                Action::DeleteTask { name, uid: "foreign".to_owned(), why: "a bug".to_owned(), ended: true };
            (answer, Some(Call::Act(id.clone(), Box::new(delete))))
        }
        _ => (answer, None),
    }
}

/// The same call without the snapshots that people hold, if that is the bug.
pub fn forgetting_holds(bug: Option<Bug>, call: &Call) -> Option<Call> {
    let Call::Act(id, action) = call else { return None };
    let Action::CreateTask(task) = &**action else { return None };
    let Work::Finish(_) = &task.spec.work else { return None };
    if bug != Some(Bug::HoldIgnored) {
        return None;
    }
    let mut task = task.clone();
    if let Work::Finish(finish) = &mut task.spec.work {
        finish.keep.clear();
    }
    Some(Call::Act(id.clone(), Box::new(Action::CreateTask(task))))
}
