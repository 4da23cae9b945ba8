//! The decision about one policy, in steps:
//!
//! 1. every run that exists: its [`phase`](super::phase), and what it needs next;
//! 2. an empty site, which is filled first;
//! 3. the requests of people;
//! 4. the slot that is due;
//! 5. a preflight, when the specification is new;
//! 6. old records;
//! 7. the status.
//!
//! Pure: the same arguments give the same decision.

use crate::{
    domain::{
        names::Slot,
        status::{ConditionType, Status, Truth},
    },
    plan::{
        action::{Decision, Want, Wanted},
        observed::{Declared, Load, Observed, Wish},
        pass::Pass,
        slots::{Slots, slots},
        summary,
    },
};
use jiff::Timestamp;

/// Decides what to do about one policy. `load` is what the runs of the other policies use.
pub fn decide(declared: &Declared, observed: &Observed, load: &Load, now: Timestamp) -> Decision {
    let mut pass = Pass::new(declared, observed, load, now);
    for recorded in &observed.runs {
        pass.advance(recorded);
    }
    pass.bootstrap();
    for request in &observed.requests {
        pass.answer(request);
    }
    let slots = pass.claim_due();
    pass.preflight();
    pass.forget_old();
    pass.record_status(slots.as_ref());
    pass.finish()
}

impl Pass<'_> {
    /// The slot that is due, and those whose chance is over.
    fn claim_due(&mut self) -> Option<Slots> {
        let policy = self.policy()?;
        let waits = self.blocked(policy);
        let created_at = self.declared.created_at;
        let slots = slots(policy, created_at, &self.told, &self.status, &self.runs, waits.as_ref(), self.now);
        summary::add_passed(&mut self.status, &slots.passed);
        if slots.more {
            self.decision.wake(self.now);
        }
        match (slots.due, waits) {
            (Some(slot), None) if self.told.counted => self.claim(policy, slot, None),
            // First it is on record from when on slots count, and what became of those before.
            (Some(_), None) => self.decision.wake(self.now),
            (Some(_), Some(waits)) => {
                self.due_waits = Some(waits);
                slots.due_until.into_iter().for_each(|until| self.decision.wake(until));
            }
            (None, _) => {}
        }
        if let Some(waits) = &self.due_waits {
            let asked = self.observed.requests.iter().filter(|r| matches!(r.wish, Wish::Run { .. }));
            let since = slots.due.map(Slot::time).into_iter().chain(asked.map(|r| r.requested_at)).min();
            let want = Want::Run(since.unwrap_or(self.now));
            if waits.reason.is_cap() {
                self.decision.wants_room = Some(Wanted { want, place: policy.destination.clone() });
            }
            self.decision.waiting_on.push(waits.clone());
        }
        slots.next.into_iter().for_each(|next| self.decision.wake(next));
        Some(slots)
    }
}

/// True when a status says that something is wrong; what people are told about first.
pub fn is_bad(status: &Status) -> bool {
    let bad = [
        ConditionType::Ready,
        ConditionType::Fresh,
        ConditionType::LastRunSucceeded,
        ConditionType::CredentialsValid,
        ConditionType::RestoreTested,
        ConditionType::Bootstrapped,
    ];
    bad.iter().any(|kind| status.condition(*kind).is_some_and(|c| c.status == Truth::False))
}
