//! The policies that the loop knows, and when each is to be looked at again.

use crate::{
    domain::{identity::PolicyId, location::Location},
    plan::{
        action::Decision,
        observed::{Caps, Declared, Load, Spec},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// The longest pause after repeated errors.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(300);
/// Passes in a row that may follow each other at once; more are a fault, and are slowed down.
const FAST_PASSES: u32 = 30;

/// One policy.
#[derive(Debug)]
pub(super) struct Entry {
    pub declared: Declared,
    /// When to look at it; `None`: only when something happens.
    pub due: Option<Timestamp>,
    /// A pass is under way.
    pub busy: bool,
    /// A hint came meanwhile.
    pub again: bool,
    /// It was observed once: what it uses is known.
    pub seen: bool,
    /// Where its run or preflight goes to.
    pub occupies: Option<Location>,
    /// Whether it waits for a cap.
    pub room: Room,
    /// Errors in a row.
    pub failures: u32,
    /// Passes in a row that found something to do.
    pub passes: u32,
    /// Why an action was refused for good.
    pub refusal: Option<String>,
}

/// Whether a policy waits for a cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// It does not.
    Enough,
    /// It does.
    Wanted,
    /// There is some for it; it was woken.
    Offered,
}

impl Entry {
    fn destination(&self) -> Option<&Location> {
        match &self.declared.spec {
            Spec::Valid(policy) => Some(&policy.destination),
            Spec::Wrong(_) | Spec::Gone => None,
        }
    }

    fn new(declared: Declared, now: Timestamp) -> Self {
        Self {
            declared,
            due: Some(now),
            busy: false,
            again: false,
            seen: false,
            occupies: None,
            room: Room::Enough,
            failures: 0,
            passes: 0,
            refusal: None,
        }
    }

    /// Looks again at once.
    pub(super) fn wake(&mut self, now: Timestamp) {
        self.again = self.busy;
        self.due = Some(now);
    }

    /// Looks again at `at`, or at once when a hint came during the pass.
    pub(super) fn rest(&mut self, at: Option<Timestamp>, now: Timestamp) {
        self.busy = false;
        self.due = if std::mem::take(&mut self.again) { Some(now) } else { at };
    }

    /// Looks again after a pause that grows with each error in a row.
    pub(super) fn fail(&mut self, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        let pause = SignedDuration::from_secs(1i64 << self.failures.min(9)).min(LONGEST_PAUSE);
        self.seen = true;
        self.again = false;
        self.rest(now.saturating_add(pause).ok(), now);
    }

    /// After a pass without an error.
    pub(super) fn succeed(&mut self, found_work: bool, wake_at: Option<Timestamp>, now: Timestamp) {
        self.failures = 0;
        let found_work = found_work || wake_at.is_some_and(|at| at <= now);
        self.passes = if found_work { self.passes.saturating_add(1) } else { 0 };
        let at = match (found_work, self.passes > FAST_PASSES) {
            (false, _) => wake_at,
            (true, false) => Some(now),
            (true, true) => now.saturating_add(SignedDuration::from_secs(1)).ok(),
        };
        self.rest(at, now);
    }
}

/// All policies.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub entries: BTreeMap<PolicyId, Entry>,
}

impl Queue {
    /// Takes over a complete list: new and changed policies are due; with `resync`, all are.
    pub(super) fn replace(&mut self, declared: Vec<Declared>, resync: bool, now: Timestamp) {
        let mut old = std::mem::take(&mut self.entries);
        for declared in declared {
            let id = declared.id.clone();
            let mut entry = old.remove(&id).unwrap_or_else(|| Entry::new(declared.clone(), now));
            if entry.declared != declared || resync {
                entry.declared = declared;
                entry.refusal = None;
                entry.wake(now);
            }
            self.entries.insert(id, entry);
        }
        // One whose pass is under way leaves with the next list.
        self.entries.extend(old.into_iter().filter(|(_, entry)| entry.busy));
    }

    /// True when it is known of every policy what it uses: only then may new runs start.
    pub(super) fn is_known(&self) -> bool {
        self.entries.values().all(|entry| entry.seen)
    }

    /// The policies to look at now, at most `most`.
    pub(super) fn due(&self, most: usize, now: Timestamp) -> Vec<PolicyId> {
        let known = self.is_known();
        let is_due =
            |entry: &&Entry| !entry.busy && entry.due.is_some_and(|due| due <= now) && (known || !entry.seen);
        self.entries.values().filter(is_due).take(most).map(|entry| entry.declared.id.clone()).collect()
    }

    /// When the next one is due after `now`.
    pub(super) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let due = self.entries.values().filter(|entry| !entry.busy).filter_map(|entry| entry.due);
        due.filter(|at| *at > now).min()
    }

    /// What all policies but `id` use.
    pub(super) fn load(&self, id: &PolicyId, caps: Caps) -> Load {
        let mut load = Load { caps, ..Load::default() };
        let others = self.entries.iter().filter(|(other, _)| *other != id);
        others.filter_map(|(_, entry)| entry.occupies.as_ref()).for_each(|place| load.add(place));
        load
    }

    /// Notes what a policy uses after a decision, and offers the room that is left to those that wait for some.
    pub(super) fn note(&mut self, id: &PolicyId, decision: &Decision, caps: Caps, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.occupies.clone_from(&decision.occupies);
            entry.room = if decision.wants_room { Room::Wanted } else { Room::Enough };
        }
        self.offer_room(caps, now);
    }

    /// Wakes as many of those that wait as there is room for; one that was woken holds its room until it has decided.
    fn offer_room(&mut self, caps: Caps, now: Timestamp) {
        if self.entries.values().all(|entry| entry.room != Room::Wanted) {
            return;
        }
        let mut load = Load { caps, ..Load::default() };
        for entry in self.entries.values() {
            let held = entry.destination().filter(|_| entry.room == Room::Offered);
            entry.occupies.as_ref().or(held).into_iter().for_each(|place| load.add(place));
        }
        for entry in self.entries.values_mut().filter(|entry| entry.room == Room::Wanted) {
            let place = entry.destination().filter(|place| load.full(place).is_none());
            if let Some(place) = place.cloned() {
                load.add(&place);
                entry.room = Room::Offered;
                entry.wake(now);
            }
        }
    }
}
