//! One decision in the making: what is known, and what is to be done so far.

use crate::{
    domain::{
        names::Slot,
        policy::Policy,
        run::{Run, StepName},
        status::{ConditionType, Status, Waiting, WaitingReason},
    },
    plan::{
        action::{Action, Decision},
        claim::{blocked, new_run, waiting},
        conditions::{self, Said},
        deadline::{NODE_LOST, after},
        observed::{Declared, Load, Observed, Request, Spec, Task, TaskState},
        slots::{SKEW, Told},
        summary,
    },
};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};

/// A task on a node that does not answer is deleted again after this time at the latest.
const LONGEST_PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// One decision in the making.
pub(super) struct Pass<'a> {
    pub declared: &'a Declared,
    pub observed: &'a Observed,
    pub load: &'a Load,
    pub now: Timestamp,
    pub decision: Decision,
    /// The runs as they will be after the actions.
    pub runs: Vec<Arc<Run>>,
    /// A claim that may be refused as the last one was: not told of before it is seen.
    pub tried: Option<Arc<Run>>,
    /// Where the active run is: step and attempt.
    pub at: Option<(Slot, StepName, u32)>,
    /// What the status before tells, without what cannot have happened yet.
    pub told: Told,
    pub status: Status,
    /// Until when the last success itself is young enough.
    pub young_until: Option<Timestamp>,
    /// Slots and ends beyond it were recorded under a clock that was ahead.
    pub horizon: Timestamp,
    /// What keeps a due slot or a request from being claimed.
    pub due_waits: Option<Waiting>,
    /// The filling of the site, which is not over.
    pub bootstrap_waits: Option<Waiting>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        declared: &'a Declared,
        observed: &'a Observed,
        load: &'a Load,
        now: Timestamp,
    ) -> Self {
        let horizon = after(now, SKEW);
        let mut status = observed.status.as_ref().map(|s| Status::clone(&s.value)).unwrap_or_default();
        summary::forget_future(&mut status, horizon, now);
        let told = Told::of(&status, observed.refusal.is_some());
        if let Spec::Valid(policy) = &declared.spec {
            summary::set_place(&mut status, policy);
        }
        let decision = Decision::default();
        Self {
            declared,
            observed,
            load,
            now,
            decision,
            runs: Vec::new(),
            tried: None,
            at: None,
            told,
            status,
            young_until: None,
            horizon,
            due_waits: None,
            bootstrap_waits: None,
        }
    }

    pub(super) fn policy(&self) -> Option<&'a Policy> {
        match &self.declared.spec {
            Spec::Valid(policy) => Some(policy),
            Spec::Wrong(_) | Spec::Gone => None,
        }
    }

    pub(super) fn active(&self) -> Option<&Run> {
        self.runs.iter().chain(&self.tried).map(Arc::as_ref).find(|r| r.state.end.is_none())
    }

    /// True for a run that cannot have begun yet.
    pub(super) fn is_future(&self, run: &Run) -> bool {
        run.slot.time() > self.horizon
    }

    pub(super) fn act(&mut self, action: Action) {
        self.decision.actions.push(action);
    }

    pub(super) fn wait(&mut self, reason: WaitingReason, message: String) {
        self.decision.waiting_on.push(waiting(reason, message));
    }

    pub(super) fn delete(&mut self, tasks: &[&Task], why: &str) {
        for task in tasks {
            let (name, uid, why) = (task.name.clone(), task.uid.clone(), why.to_owned());
            let ended = matches!(task.state, TaskState::Ended { .. });
            self.act(Action::DeleteTask { name, uid, why, ended });
            self.decision.wake(after(self.now, patience(&task.state, self.now)));
        }
    }

    pub(super) fn claim(&mut self, policy: &Policy, slot: Slot, request: Option<&Request>) {
        let generation = self.declared.generation;
        let run = new_run(policy, generation, slot, request, self.observed, &self.status, self.now);
        if let Some(step) = run.plan.steps.first() {
            self.at = Some((slot, step.name.clone(), 1));
        }
        self.act(Action::CreateRun(Box::new(run.clone())));
        let run = Arc::new(run);
        if self.told.refused {
            self.tried = Some(run);
        } else {
            self.runs.push(run);
        }
    }

    /// What keeps any run from starting now.
    pub(super) fn blocked(&self, policy: &Policy) -> Option<Waiting> {
        let filling = || self.bootstrap_waits.clone();
        let active = self.active();
        let others = || blocked(&policy.destination, active, self.observed, self.load, self.now);
        if active.is_some() { others() } else { filling().or_else(others) }
    }

    /// Says no more about it.
    pub(super) fn unset(&mut self, kind: ConditionType) {
        if self.status.condition(kind).is_some() {
            self.status.conditions.edit().retain(|condition| condition.kind != kind);
        }
    }

    pub(super) fn set(&mut self, kind: ConditionType, said: Said) {
        conditions::set(&mut self.status, kind, said, self.now);
    }

    /// The actions in the order in which they are safe: record how runs ended, create, delete, the status last. A conflict
    /// in the first shows an old view before anything is made from it. After a refusal the status comes before what may
    /// be refused again: otherwise nobody would ever be told.
    pub(super) fn finish(mut self) -> Decision {
        let refused = self.told.refused;
        self.decision.actions.sort_by_key(|action| rank(action, refused));
        if let Some(run) = self.active() {
            self.decision.occupies = Some(run.plan.destination.clone());
        }
        self.decision
    }
}

/// When to look whether a task that was deleted is gone, should nobody say so. A node that is lost may be lost for days:
/// the pause grows with the time for which it has not answered.
fn patience(state: &TaskState, now: Timestamp) -> Duration {
    match state {
        TaskState::Ended { .. } => Duration::from_secs(1),
        TaskState::Pending { .. } | TaskState::Running { .. } => Duration::from_secs(5),
        TaskState::Unreachable { since } => {
            let lost = Duration::try_from(now.duration_since(*since)).unwrap_or_default();
            lost.clamp(NODE_LOST, LONGEST_PATIENCE)
        }
    }
}

fn rank(action: &Action, refused: bool) -> u8 {
    match action {
        Action::RecordRun { .. } => 0,
        Action::RecordStatus { .. } if refused => 1,
        Action::CreateRun(_) | Action::CreateTask(_) => 2,
        Action::AnswerRequest { .. } => 3,
        Action::DeleteTask { .. } => 4,
        Action::DeleteRun { .. } => 5,
        Action::RecordStatus { .. } => 6,
    }
}
