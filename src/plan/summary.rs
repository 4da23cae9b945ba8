//! The next status: the one before, and what has happened since.

use crate::{
    domain::{
        names::Slot,
        policy::Policy,
        run::{Attempt, Outcome, Run, RunEnd},
        shared::Shared,
        snapshot::SnapshotSummary,
        status::{
            LISTED_MISSES, LISTED_SLOTS, LISTED_SNAPSHOTS, MissedSlots, Place, RunSummary, SlotOutcome,
            Status,
        },
    },
    plan::slots::{Passed, settles},
};
use jiff::Timestamp;

/// Remarks of a run's tasks that its summary carries.
const WARNINGS: usize = 10;
/// Places that a status remembers.
const FORMER_LOCATIONS: usize = 5;

/// Leaves out what was written while the clock was ahead: what lies beyond `horizon` cannot have happened yet. When that
/// was all the history, slots count from `now` on: what became of those before is known no more.
pub(super) fn forget_future(status: &mut Status, horizon: Timestamp, now: Timestamp) {
    if status.history.iter().any(|told| told.slot.time() > horizon) {
        status.history.edit().retain(|told| told.slot.time() <= horizon);
        if status.history.is_empty() {
            status.schedule.iter_mut().for_each(|schedule| schedule.since = now);
        }
    }
    let ends_later = |told: &SlotOutcome| {
        let left = horizon.duration_since(told.slot.time());
        told.seconds.is_some_and(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX) > left.as_secs())
    };
    if status.history.iter().any(ends_later) {
        status.history.edit().iter_mut().filter(|told| ends_later(told)).for_each(|told| told.seconds = None);
    }
    if status.missed.iter().any(|stretch| stretch.last.time() > horizon) {
        status.missed.edit().retain(|stretch| stretch.last.time() <= horizon);
    }
    if let Some(check) = status.credentials_check.as_mut().filter(|check| check.at > horizon) {
        check.at = now;
    }
    for run in [&mut status.last_run, &mut status.last_success] {
        run.take_if(|run| run.slot.time() > horizon);
    }
}

/// Adds a run that has ended, unless its slot lies beyond `horizon`. Adding it again changes nothing.
pub(super) fn add_run(status: &mut Status, run: &Run, horizon: Timestamp) {
    let Some(end) = run.state.end.as_ref().filter(|_| run.slot.time() <= horizon) else { return };
    // An end beyond the horizon was told by a wrong clock; the slot is the next best.
    let ended = |slot: Slot, at: Timestamp| if at > horizon { slot.time() } else { at };
    let is_news = |old: &Option<Shared<RunSummary>>| {
        old.as_ref().is_none_or(|old| {
            let is_same = old.slot == run.slot && old.completion_time == end.at;
            !is_same && ended(old.slot, old.completion_time) <= ended(run.slot, end.at)
        })
    };
    let is_success = end.outcome == Outcome::Succeeded && is_news(&status.last_success);
    if is_success || is_news(&status.last_run) {
        let summary = Shared::from(summary(run, end));
        if is_success {
            status.last_success = Some(summary.clone());
        }
        if is_news(&status.last_run) {
            status.last_run = Some(summary);
        }
    }
    if settles(&status.history, run.slot) {
        return;
    }
    let seconds = end.at.duration_since(run.plan.claimed_at).as_secs();
    add_slot(
        status,
        SlotOutcome {
            slot: run.slot,
            outcome: end.outcome,
            reason: end.reason.clone(),
            seconds: Some(u64::try_from(seconds).unwrap_or(0)),
        },
    );
    add_snapshots(status, run);
}

fn summary(run: &Run, end: &RunEnd) -> RunSummary {
    let snapshot = run.state.snapshot();
    let warnings = run.state.attempts.iter().flat_map(|a| &a.warnings).take(WARNINGS).cloned().collect();
    RunSummary {
        slot: run.slot,
        outcome: end.outcome,
        reason: end.reason.clone(),
        message: end.message.clone(),
        fix: end.fix.clone(),
        start_time: run.plan.claimed_at,
        completion_time: end.at,
        attempts: u32::try_from(run.state.attempts.len()).unwrap_or(u32::MAX),
        source_bytes: snapshot.map(SnapshotSummary::source_bytes),
        stored_bytes: snapshot.map(SnapshotSummary::stored_bytes),
        files: snapshot.map(SnapshotSummary::files),
        documents: snapshot.map(SnapshotSummary::documents),
        consistency: snapshot.and_then(SnapshotSummary::consistency),
        snapshot: snapshot.map(|s| s.name.clone()),
        sources: snapshot.map(|s| s.sources.clone()).unwrap_or_default(),
        warnings,
    }
}

/// The run's snapshot joins the list, what its tasks pruned leaves it. One that went to a place which is no longer the
/// policy's does not join.
fn add_snapshots(status: &mut Status, run: &Run) {
    let place = Place::new(&run.plan.destination, &run.plan.instance);
    // Of a policy that cannot be read only its runs tell the place.
    if *status.location.get_or_insert_with(|| place.clone()) != place {
        return;
    }
    let snapshots = status.snapshots.edit();
    if let Some(snapshot) = run.state.snapshot() {
        snapshots.retain(|s| s.name != snapshot.name);
        snapshots.push(snapshot.clone());
    }
    let pruned = |a: &Attempt, s: &SnapshotSummary| a.pruned.contains(&s.name);
    snapshots.retain(|s| !run.state.attempts.iter().any(|a| pruned(a, s)));
    snapshots.sort_by_key(|s| std::cmp::Reverse(s.name.slot()));
    snapshots.truncate(LISTED_SNAPSHOTS);
}

/// Adds slots whose chance is over.
pub(super) fn add_passed(status: &mut Status, passed: &[Passed]) {
    for stretch in passed {
        stretch.outcomes().for_each(|slot| add_slot(status, slot));
        if stretch.outcome == Outcome::Missed {
            add_missed(status.missed.edit(), &stretch.slots);
        }
    }
}

fn add_slot(status: &mut Status, slot: SlotOutcome) {
    if status.history.iter().any(|h| h.slot == slot.slot && (h.outcome.has_run() || !slot.outcome.has_run()))
    {
        return;
    }
    let history = status.history.edit();
    history.retain(|h| h.slot != slot.slot);
    history.push(slot);
    history.sort_by_key(|h| std::cmp::Reverse(h.slot));
    history.truncate(LISTED_SLOTS);
}

/// A stretch that goes on where the newest one of the same reason ended makes it longer.
fn add_missed(missed: &mut Vec<MissedSlots>, stretch: &MissedSlots) {
    match missed.first_mut() {
        Some(newest) if newest.reason == stretch.reason && is_close(newest.last, stretch) => {
            newest.last = stretch.last;
            newest.count += stretch.count;
            newest.message.clone_from(&stretch.message);
        }
        _ => missed.insert(0, stretch.clone()),
    }
    missed.truncate(LISTED_MISSES);
}

/// Stretches less than two days apart are told as one.
fn is_close(last: Slot, next: &MissedSlots) -> bool {
    next.first.time().duration_since(last.time()).as_hours() < 48
}

/// Notes where the snapshots are. What was made elsewhere stays there and leaves the list.
pub(super) fn set_place(status: &mut Status, policy: &Policy) {
    if status.location.as_ref().is_some_and(|place| place.is_at(&policy.destination, &policy.instance)) {
        return;
    }
    let place = Place::new(&policy.destination, &policy.instance);
    if let Some(old) = status.location.replace(place.clone()) {
        status.former_locations.retain(|p| *p != place && *p != old);
        status.former_locations.insert(0, old);
        status.former_locations.truncate(FORMER_LOCATIONS);
        status.snapshots = Shared::default();
    }
}
