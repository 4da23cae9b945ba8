//! What people asked for.

use crate::{
    domain::{names::Slot, policy::Policy, run::Run, status::WaitingReason},
    plan::{
        action::{Action, Answer},
        claim::{bootstrap_fix, held_fix},
        deadline::after,
        observed::{Request, Spec, Wish},
        pass::Pass,
    },
};
use std::{sync::Arc, time::Duration};

impl Pass<'_> {
    /// Does or refuses one wish, or leaves it waiting.
    pub(super) fn answer(&mut self, request: &Request) {
        let answer = match &request.wish {
            Wish::Cancel { slot } => Some(self.answer_cancel(request, *slot)),
            Wish::Run { wait_turn, .. } => self.answer_run(request, *wait_turn),
        };
        if let Some(answer) = answer {
            self.act(Action::AnswerRequest { id: request.id.clone(), answer });
        }
    }

    /// The wish was put into the record of the run that was active when it was made.
    fn answer_cancel(&self, request: &Request, slot: Option<Slot>) -> Answer {
        let was_active = |run: &Run| self.observed.active_run().is_some_and(|r| r.value.slot == run.slot);
        let is_meant = |run: &&Run| {
            let cancel = run.state.cancel.as_ref();
            slot.is_none_or(|s| s == run.slot)
                && cancel.is_some_and(|c| was_active(run) || c.requested_at == request.requested_at)
        };
        match self.runs.iter().map(Arc::as_ref).find(is_meant) {
            Some(run) => Answer::Accepted(run.slot),
            None => Answer::Refused(format!("no run of {} is active", self.declared.id)),
        }
    }

    fn answer_run(&mut self, request: &Request, wait_turn: bool) -> Option<Answer> {
        if let Some(run) = self.runs.iter().find(|r| r.plan.request.as_ref() == Some(&request.id)) {
            return Some(Answer::Accepted(run.slot));
        }
        let policy = match &self.declared.spec {
            Spec::Valid(policy) => policy,
            Spec::Wrong(error) => return Some(Answer::Refused(error.to_string())),
            Spec::Gone => return Some(Answer::Refused("the policy is declared no more".to_owned())),
        };
        let Some(waits) = self.blocked(policy) else {
            return Some(Answer::Accepted(self.claim_manual(policy, request)));
        };
        let refused = match waits.reason {
            WaitingReason::RunActive | WaitingReason::RestoreActive | WaitingReason::Bootstrapping => {
                !wait_turn
            }
            WaitingReason::RestoreIncomplete | WaitingReason::BootstrapIncomplete => true,
            _ => false,
        };
        if refused {
            let advice = match waits.reason {
                WaitingReason::RestoreIncomplete => held_fix(&self.declared.id, self.observed),
                WaitingReason::BootstrapIncomplete => Some(bootstrap_fix(policy)),
                _ => Some("--wait-turn waits for its end".to_owned()),
            };
            return Some(Answer::Refused(format!("{}; {}", waits.message, advice.unwrap_or_default())));
        }
        self.due_waits = Some(waits);
        None
    }

    /// Claims the first free second from the request on: names are never used twice, and a claim that is repeated, its
    /// answer lost or late, has the same name.
    fn claim_manual(&mut self, policy: &Policy, request: &Request) -> Slot {
        // Unless it was made by a clock far from ours.
        let asked = request.requested_at;
        let mut time = if asked <= self.horizon { asked } else { self.now };
        while self.is_known(Slot::manual(time)) {
            time = after(time, Duration::from_secs(1));
        }
        let slot = Slot::manual(time);
        self.claim(policy, slot, Some(request));
        slot
    }

    fn is_known(&self, slot: Slot) -> bool {
        self.runs.iter().any(|r| r.slot == slot) || self.status.history.iter().any(|h| h.slot == slot)
    }
}
