//! What no run asks for: a preflight for a new specification, and the end of old records.

use crate::{
    domain::{
        names::Slot,
        run::{Outcome, Run},
        status::ConditionType,
    },
    plan::{
        action::Action,
        claim::held,
        conditions,
        observed::{Task, TaskState},
        pass::Pass,
        phase::after,
        spec::{PREFLIGHT, preflight_task},
        summary,
    },
};

/// Records of ended runs that are kept: the newest, and beside them the newest that was not fine, the newest success (what
/// the next run is compared with) and the newest of a scheduled slot (so that it is not due again).
const KEPT_RUNS: usize = 3;

impl<'a> Pass<'a> {
    /// A look at remote and sources for each new specification.
    pub(super) fn preflight(&mut self) {
        let generation = self.declared.generation;
        let said = self.status.condition(ConditionType::CredentialsValid).map(|c| c.observed_generation);
        let tasks: Vec<&'a Task> = self.observed.tasks.iter().filter(|t| t.name.slot.is_none()).collect();
        for task in &tasks {
            self.watch_preflight(task, said);
        }
        let Some(policy) = self.policy() else { return };
        let is_free = self.active().is_none() && held(self.observed).is_none();
        let is_wanted = said != Some(generation) && !tasks.iter().any(|t| t.name.attempt == generation);
        if !(is_free && is_wanted) {
            return;
        }
        if self.load.full(&policy.destination).is_some() {
            self.decision.wants_room = true;
        } else {
            let task = preflight_task(policy, generation, self.observed, self.now);
            self.act(Action::CreateTask(Box::new(task)));
            self.decision.occupies = Some(policy.destination.clone());
        }
    }

    /// A preflight that ended is deleted only when the status tells its result.
    fn watch_preflight(&mut self, task: &Task, said: Option<i64>) {
        let generation = task.name.attempt;
        let is_told = said == Some(generation) || generation != self.declared.generation;
        let since = match &task.state {
            _ if is_told => return self.delete(&[task], "its result is recorded"),
            TaskState::Ended { .. } => {
                let said = conditions::credentials_from_preflight(task);
                said.into_iter().for_each(|said| self.set(ConditionType::CredentialsValid, said));
                return self.decision.wake(self.now);
            }
            TaskState::Pending { since, .. }
            | TaskState::Running { since }
            | TaskState::Unreachable { since } => *since,
        };
        let deadline = after(since, PREFLIGHT);
        if self.now >= deadline {
            self.set(ConditionType::CredentialsValid, conditions::credentials_timed_out(generation));
            return self.delete(&[task], "it is past its deadline");
        }
        self.decision.wake(deadline);
        self.decision.occupies = self.policy().map(|p| p.destination.clone());
    }

    /// Records that the status has taken over and whose tasks are gone. Those of a clock that was ahead go first, once
    /// there are enough others.
    pub(super) fn forget_old(&mut self) {
        let mut ended: Vec<&Run> = self.runs.iter().filter(|r| r.state.end.is_some()).collect();
        ended.sort_by_key(|r| (self.is_future(r), std::cmp::Reverse(r.slot)));
        let newest = |wanted: &dyn Fn(&Run) -> bool| {
            ended.iter().find(|r| !self.is_future(r) && wanted(r)).map(|r| r.slot)
        };
        let outcome = |r: &Run| r.state.end.as_ref().map(|end| end.outcome);
        let kept = [
            newest(&|r| outcome(r).is_some_and(|outcome| !outcome.is_fine())),
            newest(&|r| outcome(r) == Some(Outcome::Succeeded)),
            newest(&|r| !r.slot.is_manual()),
        ];
        let is_told = |r: &Run| self.is_future(r) || summary::is_settled(&self.before, r.slot);
        let has_tasks = |slot: Slot| self.observed.tasks.iter().any(|t| t.name.slot == Some(slot));
        let is_old = |r: &&&Run| !kept.contains(&Some(r.slot)) && is_told(r) && !has_tasks(r.slot);
        let old: Vec<Slot> = ended.iter().skip(KEPT_RUNS).filter(is_old).map(|r| r.slot).collect();
        for slot in old {
            self.act(Action::DeleteRun { slot });
        }
    }
}
