//! What no run asks for: a preflight for a new specification, and the end of old records.

use crate::{
    domain::{
        names::Slot,
        run::{Outcome, Run},
        status::{ConditionType, CredentialsCheck},
    },
    plan::{
        action::Action,
        claim::held,
        conditions::{self, Said},
        deadline::{NODE_LOST, after},
        observed::{Task, TaskState},
        pass::Pass,
        spec::{PREFLIGHT, preflight_task},
    },
};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};

/// Records of ended runs that are kept: the newest, and beside them the newest that was not fine, the newest success (what
/// the next run is compared with) and the newest of a scheduled slot (so that it is not due again).
const KEPT_RUNS: usize = 3;
/// The pause after a look that did not pass; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

impl<'a> Pass<'a> {
    /// A look at remote and sources for each new specification and each new secret, and again after a pause as long as it
    /// does not pass.
    pub(super) fn preflight(&mut self) {
        let number = self.declared.check_number();
        let tasks: Vec<&'a Task> = self.observed.tasks.iter().filter(|t| t.name.is_preflight()).collect();
        for task in &tasks {
            self.watch_preflight(task, number);
        }
        let Some(policy) = self.policy() else { return };
        if self.observed.has_preflight(self.now) {
            self.decision.preflight = Some(policy.destination.clone());
        }
        let is_free = self.active().is_none()
            && self.bootstrap_waits.is_none()
            && held(self.observed).is_none()
            && !self.observed.has_preflight(self.now);
        let Some(wanted_at) = self.next_check(number).filter(|_| is_free) else { return };
        if self.now < wanted_at {
            return self.decision.wake(wanted_at);
        }
        if tasks.iter().any(|t| t.name.attempt == number) {
            return;
        }
        // What a run has just shown is told first: it may answer the question.
        if self.newly_ended().is_some() {
            return self.decision.wake(self.now);
        }
        if self.load.full_of_preflights(&policy.destination) {
            self.decision.want_preflight(&policy.destination);
        } else {
            let task = preflight_task(policy, number, self.observed, &self.status, self.now);
            self.act(Action::CreateTask(Box::new(task)));
            self.decision.preflight = Some(policy.destination.clone());
        }
    }

    /// From when on the next look is wanted. A token that our own tasks renewed is no reason while all is well.
    fn next_check(&self, number: i64) -> Option<Timestamp> {
        let Some(last) = self.last_check(number) else { return Some(self.now) };
        if self.status.is(ConditionType::CredentialsValid) {
            return None;
        }
        if last.renewed != self.declared.secrets.renewed {
            return Some(self.now);
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << last.failed.saturating_sub(1).min(7)).min(LONGEST_PAUSE);
        Some(after(last.at, pause))
    }

    fn last_check(&self, number: i64) -> Option<CredentialsCheck> {
        self.status.credentials_check.filter(|check| check.number == number)
    }

    /// A preflight that ended is deleted only when the status tells its result.
    fn watch_preflight(&mut self, task: &Task, number: i64) {
        let seen = self.last_check(number).map(|check| check.seen);
        let is_told = |moment: Timestamp| seen.is_some_and(|seen| moment <= seen);
        let generation = self.declared.generation;
        let (since, allowed) = match &task.state {
            _ if task.name.attempt != number => {
                return self.delete(&[task], "the specification or a secret has changed");
            }
            TaskState::Ended { at, .. } if is_told(*at) => {
                return self.delete(&[task], "its result is recorded");
            }
            TaskState::Ended { at, .. } => {
                let said = conditions::credentials_from_preflight(task, generation);
                said.into_iter().for_each(|said| self.tell_check(number, said, *at));
                return self.decision.wake(self.now);
            }
            TaskState::Pending { since, .. } | TaskState::Running { since } => (*since, PREFLIGHT),
            TaskState::Unreachable { since } => (*since, NODE_LOST),
        };
        let deadline = after(since, allowed);
        if self.now < deadline {
            return self.decision.wake(deadline);
        }
        if !is_told(since) {
            self.tell_check(number, conditions::credentials_timed_out(generation), since);
        }
        self.delete(&[task], "it is past its deadline");
    }

    fn tell_check(&mut self, number: i64, said: Said, seen: Timestamp) {
        let last = self.last_check(number);
        let failed = last.map_or(0, |check| check.failed);
        // A look that found nothing out does not take back what a run has shown meanwhile.
        let is_shown = last.is_some() && self.status.is(ConditionType::CredentialsValid);
        if !(is_shown && said.says_nothing()) {
            self.set(ConditionType::CredentialsValid, said);
        }
        let passed = self.status.is(ConditionType::CredentialsValid);
        let failed = if passed { 0 } else { failed.saturating_add(1) };
        let renewed = self.declared.secrets.renewed;
        let at = self.now;
        self.status.credentials_check = Some(CredentialsCheck { number, renewed, at, seen, failed });
    }

    /// Records that the status has taken over and whose tasks are gone. Those of a clock that was ahead go first, once
    /// there are enough others.
    pub(super) fn forget_old(&mut self) {
        let mut ended: Vec<&Run> =
            self.runs.iter().map(Arc::as_ref).filter(|r| r.state.end.is_some()).collect();
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
        let is_told = |r: &Run| self.is_future(r) || self.told.settles(r.slot);
        let has_tasks = |slot: Slot| self.observed.tasks.iter().any(|t| t.name.slot == Some(slot));
        let is_old = |r: &&&Run| !kept.contains(&Some(r.slot)) && is_told(r) && !has_tasks(r.slot);
        let old: Vec<Slot> = ended.iter().skip(KEPT_RUNS).filter(is_old).map(|r| r.slot).collect();
        for slot in old {
            self.act(Action::DeleteRun { slot });
        }
    }
}
