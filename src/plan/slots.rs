//! Which slot is due, and what became of those that can no longer run.

use crate::{
    domain::{
        names::Slot,
        policy::Policy,
        run::{Outcome, Run},
        schedule::Schedule,
        shared::Shared,
        status::{
            ConditionType, LISTED_SLOTS, MissedSlots, ScheduleStatus, SlotOutcome, Status, Truth, Waiting,
        },
    },
    plan::deadline::after,
};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};

/// A slot on record that lies further in the future than this was written under a wrong clock.
pub(super) const SKEW: Duration = Duration::from_secs(3600);
/// Slots that one decision settles; the next goes on from there.
const SETTLED_AT_ONCE: u64 = 10_000;

/// The slots of a policy at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slots {
    /// What slots are counted by from now on.
    pub schedule: ScheduleStatus,
    /// The newest slot that has no outcome and may still run.
    pub due: Option<Slot>,
    /// From then on the due slot is too late.
    pub due_until: Option<Timestamp>,
    /// Slots whose chance is over, oldest first; a stretch is at most one entry.
    pub passed: Vec<Passed>,
    /// More slots have passed than one decision settles.
    pub more: bool,
    /// The next slot.
    pub next: Option<Timestamp>,
    /// A slot on record that lies in the future.
    pub skewed: Option<Slot>,
}

/// What a status tells of slots.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    /// Their outcomes, newest first.
    history: Shared<Vec<SlotOutcome>>,
    /// Slots are counted.
    pub counted: bool,
    /// The last action was refused for good: what is told must hold should the next be refused as well.
    pub refused: bool,
}

impl Told {
    pub(super) fn of(status: &Status, refused: bool) -> Self {
        Self { history: status.history.clone(), counted: status.schedule.is_some(), refused }
    }

    /// True when it tells of the slot's run, or is full of newer ones.
    pub(super) fn settles(&self, slot: Slot) -> bool {
        settles(&self.history, slot)
    }
}

/// True when a history tells of the slot's run, or is full of newer ones. That the slot was missed is no word about its
/// run: two controllers can be at work for a moment, and one of them claim what the other calls missed.
pub(super) fn settles(history: &[SlotOutcome], slot: Slot) -> bool {
    let is_full = history.len() >= LISTED_SLOTS;
    history.iter().any(|told| told.slot == slot && told.outcome.has_run())
        || (is_full && history.last().is_some_and(|oldest| slot < oldest.slot))
}

/// Slots next to each other whose chance is over for one reason.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Passed {
    /// Missed or Skipped.
    pub outcome: Outcome,
    /// Which, and why.
    pub slots: MissedSlots,
    /// The newest of them, oldest first, for the history.
    pub newest: Vec<Slot>,
}

/// Slots of a valid policy. `told` is what the recorded status tells, `old` the same with the ends of `runs` in it.
/// `blocked` is what keeps a due slot from being claimed now.
pub(super) fn slots(
    policy: &Policy,
    created_at: Option<Timestamp>,
    told: &Told,
    old: &Status,
    runs: &[Arc<Run>],
    blocked: Option<&Waiting>,
    now: Timestamp,
) -> Slots {
    let horizon = after(now, SKEW);
    let scheduled = || runs.iter().map(|r| r.slot).filter(|s| !s.is_manual());
    let skewed = scheduled().filter(|s| s.time() > horizon).max();
    let claimed = scheduled().filter(|s| s.time() <= horizon).max();
    let mut schedule = counted_by(policy, created_at, old.schedule.as_ref(), horizon, now);
    let floor =
        schedule.settled.or_else(|| newest_told(told, old)).map_or(schedule.since, |s| s.max(schedule.since));

    let newest = policy.schedule.previous(now).filter(|t| *t > floor).map(Slot::scheduled);
    let candidate = newest.filter(|slot| claimed.is_none_or(|c| *slot > c));
    let due_until = candidate.and_then(|s| policy.starting_deadline.map(|d| after(s.time(), d)));
    let in_time = due_until.is_none_or(|until| now < until);
    let due = candidate.filter(|_| in_time && !policy.suspend);

    let reasons = Reasons { policy, old, runs, blocked, late: candidate.filter(|_| !in_time) };
    let passed =
        if newest.is_some() { passed(&policy.schedule, floor, now, due, &reasons) } else { Vec::new() };
    let more = passed.iter().map(|p| p.slots.count).sum::<u64>() >= SETTLED_AT_ONCE;
    let waits = due.is_some() && (blocked.is_some() || !told.counted || told.refused);
    let last = if more || waits { passed.last().map(|p| p.slots.last) } else { newest };
    schedule.settled = Some(last.map_or(floor, Slot::time));
    Slots {
        more,
        passed,
        next: policy.schedule.next_after(now),
        due_until: due.and(due_until),
        schedule,
        due,
        skewed,
    }
}

/// Slots count from creation, and from now on again when the schedule changes or a suspension ends.
fn counted_by(
    policy: &Policy,
    created_at: Option<Timestamp>,
    old: Option<&ScheduleStatus>,
    horizon: Timestamp,
    now: Timestamp,
) -> ScheduleStatus {
    let expression = policy.schedule.canonical().to_owned();
    let time_zone = policy.schedule.time_zone_name().to_owned();
    let since = match old {
        None => created_at.unwrap_or(now).min(now),
        Some(old) if old.expression != expression || old.time_zone != time_zone => now,
        Some(old) if old.suspended && !policy.suspend => now,
        Some(old) if old.since > horizon => now,
        Some(old) => old.since,
    };
    let settled =
        old.filter(|old| old.since == since).and_then(|old| old.settled).filter(|at| *at <= horizon);
    ScheduleStatus { expression, time_zone, since, suspended: policy.suspend, settled }
}

/// The newest slot of a status without a mark, or of the records where there is no status. A run that ended says nothing
/// of the slots before it: the status that told of them may never have been recorded.
fn newest_told(told: &Told, old: &Status) -> Option<Timestamp> {
    let history = if told.counted { &told.history } else { &old.history };
    history.iter().map(|told| told.slot).filter(|slot| !slot.is_manual()).max().map(Slot::time)
}

/// What is known about why slots passed.
struct Reasons<'a> {
    policy: &'a Policy,
    old: &'a Status,
    runs: &'a [Arc<Run>],
    blocked: Option<&'a Waiting>,
    late: Option<Slot>,
}

impl Reasons<'_> {
    fn of(&self, slot: Slot) -> (Outcome, String, String) {
        let missed = |reason: &str, message: String| (Outcome::Missed, reason.to_owned(), message);
        if self.policy.suspend {
            return (Outcome::Skipped, "Suspended".to_owned(), "the policy was suspended".to_owned());
        }
        if self.late == Some(slot) {
            let why = self.blocked.map(|w| format!(": {}", w.message)).unwrap_or_default();
            return missed("StartingDeadlineExceeded", format!("it could not start in time{why}"));
        }
        let busy = self.runs.iter().find(|r| {
            let end = r.state.end.as_ref().map_or(Timestamp::MAX, |e| e.at);
            r.slot != slot && (r.plan.claimed_at..=end).contains(&slot.time())
        });
        if let Some(run) = busy {
            return missed("RunActive", format!("run {} was still active", run.slot));
        }
        if let Some(waiting) = self.blocked {
            return missed(&format!("{:?}", waiting.reason), waiting.message.clone());
        }
        let ready = self.old.condition(ConditionType::Ready);
        if let Some(ready) = ready.filter(|c| c.status == Truth::False) {
            return missed(&ready.reason, ready.message.clone());
        }
        missed("ControllerUnavailable", "no controller was running, or it could not act".to_owned())
    }
}

/// The slots in `floor..=now` that are not `due`, have no record and no outcome, as stretches of one reason.
fn passed(
    schedule: &Schedule,
    floor: Timestamp,
    now: Timestamp,
    due: Option<Slot>,
    reasons: &Reasons<'_>,
) -> Vec<Passed> {
    let mut stretches: Vec<Passed> = Vec::new();
    let open = |slot: &Slot| {
        Some(*slot) != due
            && !reasons.runs.iter().any(|r| r.slot == *slot)
            && !reasons.old.history.iter().any(|h| h.slot == *slot)
    };
    let all = std::iter::successors(schedule.next_after(floor), |t| schedule.next_after(*t));
    let open = all.take_while(|t| *t <= now).map(Slot::scheduled).filter(open);
    for (slot, _) in open.zip(0..SETTLED_AT_ONCE) {
        let (outcome, reason, message) = reasons.of(slot);
        push(&mut stretches, slot, outcome, reason, message);
    }
    stretches
}

fn push(stretches: &mut Vec<Passed>, slot: Slot, outcome: Outcome, reason: String, message: String) {
    match stretches.last_mut() {
        Some(last) if last.outcome == outcome && last.slots.reason == reason => {
            last.slots.last = slot;
            last.slots.count += 1;
            last.newest.push(slot);
            if last.newest.len() > LISTED_SLOTS {
                last.newest.remove(0);
            }
        }
        _ => stretches.push(Passed {
            outcome,
            slots: MissedSlots { first: slot, last: slot, count: 1, reason, message },
            newest: vec![slot],
        }),
    }
}

impl Passed {
    /// One entry of the history for each of the newest.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = SlotOutcome> + '_ {
        self.newest.iter().map(|slot| SlotOutcome {
            slot: *slot,
            outcome: self.outcome,
            reason: self.slots.reason.clone(),
            seconds: None,
        })
    }
}
