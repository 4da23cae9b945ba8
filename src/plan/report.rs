//! The status that a decision ends with.

use crate::{
    domain::{
        run::{Run, StepName},
        status::{ActiveRun, ConditionType, CredentialsCheck, Waiting, WaitingReason},
    },
    plan::{
        action::Action,
        claim::held,
        conditions,
        freshness::{Freshness, freshness},
        pass::Pass,
        slots::Slots,
    },
};

use jiff::Timestamp;
use std::sync::Arc;

impl Pass<'_> {
    /// The status, recorded only when it says something new.
    pub(super) fn record_status(&mut self, slots: Option<&Slots>) {
        let active: Vec<ActiveRun> =
            self.runs.iter().filter(|r| r.state.end.is_none()).map(|r| self.active_run(r)).collect();
        let generation = self.declared.generation;
        self.status.active = active;
        self.status.observed_generation = generation;
        let is_news = |w: &&Waiting| w.reason != WaitingReason::TaskRunning;
        self.status.waiting = self.decision.waiting_on.iter().filter(is_news).cloned().collect();
        self.schedule_status(slots);
        self.conditions(slots);
        let (message, fix) =
            conditions::message(self.declared, self.observed, &self.status, self.due_waits.as_ref());
        (self.status.message, self.status.fix) = (message, fix);
        let old = self.observed.status.as_ref();
        if old.is_none_or(|old| *old.value != self.status) {
            let revision = old.map(|old| old.revision.clone());
            // The pass ends with it.
            let status = Box::new(std::mem::take(&mut self.status));
            self.act(Action::RecordStatus { revision, status });
        }
    }

    fn active_run(&self, run: &Run) -> ActiveRun {
        let at = self.at.as_ref().filter(|(slot, ..)| *slot == run.slot);
        let last = run.state.attempts.last();
        let (step, attempt) = match (at, last) {
            (Some((_, step, attempt)), _) => (step.clone(), *attempt),
            (None, Some(last)) => (last.step.clone(), last.number),
            (None, None) => (run.plan.steps.first().map_or_else(StepName::finish, |s| s.name.clone()), 1),
        };
        ActiveRun {
            slot: run.slot,
            start_time: run.plan.claimed_at,
            generation: run.plan.generation,
            step,
            attempt,
            last_failure: last.and_then(|a| a.failure.as_ref()).map(|f| f.message.clone()),
        }
    }

    fn schedule_status(&mut self, slots: Option<&Slots>) {
        let (Some(policy), Some(slots)) = (self.policy(), slots) else {
            self.status.next_run_time = None;
            return;
        };
        self.status.schedule = Some(slots.schedule.clone());
        self.status.next_run_time = slots.next.filter(|_| !policy.suspend);
        let Freshness { fresh_until, young_until } = freshness(policy, &slots.schedule, &self.status);
        (self.status.fresh_until_time, self.young_until) = (fresh_until, young_until);
        let alarms = [fresh_until, young_until];
        alarms.into_iter().flatten().filter(|at| self.now < *at).for_each(|at| self.decision.wake(at));
    }

    fn conditions(&mut self, slots: Option<&Slots>) {
        let (spec, generation) = (&self.declared.spec, self.declared.generation);
        let held = held(self.observed);
        // One that is over would be told for a moment: what was refused is not tried again.
        let refusal = self.observed.refusal.as_ref().filter(|_| !self.decision.actions.is_empty());
        let ready = conditions::ready(spec, refusal, slots, held.as_ref(), generation);
        self.set(ConditionType::Ready, ready);
        if let Some(policy) = self.policy() {
            let fresh = conditions::fresh(policy, &self.status, self.young_until, generation, self.now);
            self.set(ConditionType::Fresh, fresh);
        } else if let Some(until) = self.status.fresh_until_time {
            self.freshness_promised(until);
        }
        let last_run = conditions::last_run_succeeded(&self.status, generation);
        self.set(ConditionType::LastRunSucceeded, last_run);
        let tested = conditions::restore_tested(self.observed.drill.as_ref(), generation);
        self.set(ConditionType::RestoreTested, tested);
        self.credentials();
    }

    /// A specification that is wrong makes nothing fresher: what was promised before it still counts.
    fn freshness_promised(&mut self, until: Timestamp) {
        if self.now < until {
            return self.decision.wake(until);
        }
        let stale = conditions::stale(&self.status, self.declared.generation, until);
        self.set(ConditionType::Fresh, stale);
    }

    /// The newest run whose end the status did not tell before.
    pub(super) fn newly_ended(&self) -> Option<&Run> {
        let is_news =
            |run: &&Run| run.state.end.is_some() && !self.is_future(run) && !self.told.settles(run.slot);
        self.runs.iter().map(Arc::as_ref).filter(is_news).max_by_key(|r| r.slot)
    }

    /// A run that ended in this pass says more than a preflight.
    fn credentials(&mut self) {
        if let Some(said) = self.newly_ended().and_then(conditions::credentials_from_run) {
            self.set(ConditionType::CredentialsValid, said);
            let number = self.declared.check_number();
            if let Some(check) = self.status.credentials_check.as_mut().filter(|c| c.number == number) {
                let renewed = self.declared.secrets.renewed;
                *check = CredentialsCheck { number, renewed, at: self.now, failed: 0, seen: check.seen };
            }
        } else if self.status.condition(ConditionType::CredentialsValid).is_none() {
            self.set(ConditionType::CredentialsValid, conditions::credentials_unknown());
        }
    }
}
