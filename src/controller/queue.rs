//! The policies that the loop knows, and when each is to be looked at again.

use crate::{
    domain::{identity::PolicyId, location::Location},
    plan::{
        action::{Action, Decision, Want, Wanted},
        observed::{Caps, Declared, Load, Observed, Spec},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeMap, vec};

/// The longest pause after repeated errors.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(300);
/// Looks in a row that may fail, those of others not, while a policy never seen is taken to have a run.
const GUESSED_LOOKS: u32 = 10;
/// Passes that may follow each other at once, beyond one a second; more are a fault, and are slowed down.
const FAST_PASSES: u32 = 30;

/// What is left of a pass after its decision.
#[derive(Debug)]
pub(super) struct Pass {
    /// What is still to be done.
    pub actions: vec::IntoIter<Action>,
    found_work: bool,
    wake_at: Option<Timestamp>,
    occupies: Option<Location>,
    preflight: Option<Location>,
}

impl Pass {
    /// The pass that carries out `decision`.
    fn new(decision: Decision) -> Self {
        let found_work = decision.actions.iter().any(Action::asks_for_another_look);
        let Decision { actions, wake_at, occupies, preflight, .. } = decision;
        Self { actions: actions.into_iter(), found_work, wake_at, occupies, preflight }
    }
}

/// One policy.
#[derive(Debug)]
pub(super) struct Entry {
    pub declared: Declared,
    /// When to look at it; `None`: only when something happens.
    pub due: Option<Timestamp>,
    /// A pass is under way.
    pub busy: bool,
    /// What that pass has still to do, once it has decided.
    pub pass: Option<Pass>,
    /// A hint came meanwhile.
    pub again: bool,
    /// The first look at it has ended.
    pub seen: bool,
    /// A look succeeded: what it uses is known. Until then it is taken to have a run, to anywhere.
    pub known: bool,
    /// Looks that failed until then, those of others not.
    guessed: u32,
    /// Where its run goes to.
    pub occupies: Option<Location>,
    /// Where its preflight looks.
    pub preflight: Option<Location>,
    /// Whether it waits for a cap.
    pub room: Room,
    /// Passes of all policies that had ended well when this one failed last.
    successes: u64,
    /// Errors in a row.
    pub failures: u32,
    /// Passes that may still follow each other at once, and since when.
    credit: (u32, Timestamp),
    /// Why an action was refused for good, until a pass meets no refusal.
    pub refusal: Option<String>,
    /// It says something else than what the pass under way was decided from.
    pub outdated: bool,
}

/// Whether a policy waits for a cap.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Room {
    /// It does not.
    Enough,
    /// It does.
    Wanted(Wanted),
    /// There is some for it; it was woken.
    Offered(Wanted),
}

impl Entry {
    /// Where a task of it looks that belongs to no run.
    pub(super) fn looks_at(&self, observed: &Observed, now: Timestamp) -> Option<&Location> {
        let Spec::Valid(policy) = &self.declared.spec else { return None };
        let from = policy.restore_from.as_ref().filter(|_| observed.is_being_filled());
        let preflight = || Some(&policy.destination).filter(|_| observed.has_preflight(now));
        from.map(|from| &from.location).or_else(preflight)
    }

    /// Counts what it uses, or may.
    fn add_to(&self, load: &mut Load) {
        load.unseen += usize::from(!self.known && self.guessed <= GUESSED_LOOKS);
        self.occupies.iter().for_each(|place| load.add(place));
        self.preflight.iter().for_each(|place| load.add_preflight(place));
    }

    fn new(declared: Declared, now: Timestamp) -> Self {
        Self {
            declared,
            due: Some(now),
            busy: false,
            pass: None,
            again: false,
            seen: false,
            known: false,
            guessed: 0,
            occupies: None,
            preflight: None,
            room: Room::Enough,
            successes: 0,
            failures: 0,
            credit: (FAST_PASSES, now),
            refusal: None,
            outdated: false,
        }
    }

    /// Looks again at once.
    pub(super) fn wake(&mut self, now: Timestamp) {
        self.again = self.busy;
        self.due = Some(self.soon(now));
    }

    /// At once; after many passes in a short time a little later, should our own writes be what wakes us.
    fn soon(&self, now: Timestamp) -> Timestamp {
        if self.credit.0 == 0 { a_second_after(now) } else { now }
    }

    /// A pass begins: one more that may follow at once for each second since the last.
    fn spend(&mut self, now: Timestamp) {
        let (left, since) = self.credit;
        let earned = u32::try_from(now.duration_since(since).as_secs().max(0)).unwrap_or(FAST_PASSES);
        self.credit = (left.saturating_add(earned).min(FAST_PASSES).saturating_sub(1), now);
    }

    /// The first look found where its run and its preflight go to.
    pub(super) fn found(&mut self, occupies: Option<Location>, preflight: Option<Location>) {
        (self.occupies, self.preflight) = (occupies, preflight);
        (self.seen, self.known) = (true, true);
    }

    /// Looks again at `at`, or at once when a hint came during the pass.
    pub(super) fn rest(&mut self, at: Option<Timestamp>, now: Timestamp) {
        self.busy = false;
        self.pass = None;
        self.due = if std::mem::take(&mut self.again) { Some(self.soon(now)) } else { at };
    }

    /// Looks again after a pause that grows with each error in a row.
    fn fail(&mut self, others_are_fine: bool, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        let pause = SignedDuration::from_secs(1i64 << self.failures.min(9)).min(LONGEST_PAUSE);
        if !self.known && others_are_fine {
            self.guessed += 1;
        }
        self.seen = true;
        self.again = false;
        self.rest(now.saturating_add(pause).ok(), now);
    }

    /// After a pass without an error.
    fn succeed(&mut self, now: Timestamp) {
        let Some(Pass { found_work, wake_at, occupies, preflight, .. }) = self.pass.take() else {
            return;
        };
        self.failures = 0;
        (self.occupies, self.preflight) = (occupies, preflight);
        let was_refused = self.refusal.take().is_some();
        let found_work = found_work || was_refused || wake_at.is_some_and(|at| at <= now);
        let at = if found_work { Some(self.soon(now)) } else { wake_at };
        self.rest(at, now);
    }
}

fn a_second_after(now: Timestamp) -> Timestamp {
    now.saturating_add(SignedDuration::from_secs(1)).unwrap_or(now)
}

/// All policies.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub entries: BTreeMap<PolicyId, Entry>,
    /// Passes that ended well.
    successes: u64,
}

impl Queue {
    /// Takes over a complete list: new and changed policies are due; with `resync`, all are.
    pub(super) fn replace(&mut self, declared: Vec<Declared>, resync: bool, now: Timestamp) {
        let mut old = std::mem::take(&mut self.entries);
        for declared in declared {
            let id = declared.id.clone();
            let mut entry = old.remove(&id).unwrap_or_else(|| Entry::new(declared.clone(), now));
            let is_changed = entry.declared != declared;
            if is_changed || resync {
                entry.outdated |= is_changed;
                entry.declared = declared;
                entry.refusal = None;
                entry.wake(now);
            }
            self.entries.insert(id, entry);
        }
        // One whose pass is under way leaves with the next list.
        self.entries.extend(old.into_iter().filter(|(_, entry)| entry.busy));
    }

    /// Passes that are under way.
    pub(super) fn busy(&self) -> usize {
        self.entries.values().filter(|entry| entry.busy).count()
    }

    /// A pass of `id` begins.
    pub(super) fn begin(&mut self, id: &PolicyId, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.busy = true;
            entry.spend(now);
        }
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
        others.for_each(|(_, entry)| entry.add_to(&mut load));
        load
    }

    /// Takes up a decision: what it needs is taken at once, what it gives back is free when all of it was done.
    pub(super) fn decided(&mut self, id: &PolicyId, mut decision: Decision) {
        if let Some(entry) = self.entries.get_mut(id) {
            if decision.occupies.is_some() {
                entry.occupies.clone_from(&decision.occupies);
            }
            if decision.preflight.is_some() {
                entry.preflight.clone_from(&decision.preflight);
            }
            entry.outdated = false;
            entry.room = decision.wants_room.take().map_or(Room::Enough, Room::Wanted);
            entry.pass = Some(Pass::new(decision));
        }
    }

    /// Ends a pass with an error.
    pub(super) fn fail(&mut self, id: &PolicyId, now: Timestamp) {
        let successes = self.successes;
        if let Some(entry) = self.entries.get_mut(id) {
            let others_are_fine = std::mem::replace(&mut entry.successes, successes) < successes;
            entry.fail(others_are_fine, now);
        }
    }

    /// Ends a pass whose every action was done, and offers the room that is left to those that wait for some.
    pub(super) fn succeed(&mut self, id: &PolicyId, caps: Caps, now: Timestamp) {
        self.successes += 1;
        if let Some(entry) = self.entries.get_mut(id) {
            entry.succeed(now);
        }
        self.offer_room(caps, now);
    }

    /// Wakes as many of those that wait as there is room for; one that was woken holds its room until it has decided.
    fn offer_room(&mut self, caps: Caps, now: Timestamp) {
        let wanted = |entry: &Entry| match &entry.room {
            Room::Wanted(Wanted { want, .. }) => Some((*want, entry.declared.id.clone())),
            Room::Enough | Room::Offered(_) => None,
        };
        let mut wanted: Vec<(Want, PolicyId)> = self.entries.values().filter_map(wanted).collect();
        if wanted.is_empty() {
            return;
        }
        wanted.sort();
        let mut load = Load { caps, ..Load::default() };
        for entry in self.entries.values() {
            entry.add_to(&mut load);
            if let Room::Offered(wanted) = &entry.room {
                take(&mut load, wanted);
            }
        }
        for (_, id) in wanted {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let Room::Wanted(wanted) = &entry.room else { continue };
            if take(&mut load, wanted) {
                entry.room = Room::Offered(wanted.clone());
                entry.wake(now);
            }
        }
    }
}

/// Takes room for what is wanted, if there is some.
fn take(load: &mut Load, Wanted { want, place }: &Wanted) -> bool {
    let is_free = match want {
        Want::Run(_) => load.full(place).is_none(),
        Want::Preflight => !load.full_of_preflights(place),
    };
    match want {
        _ if !is_free => {}
        Want::Run(_) => load.add(place),
        Want::Preflight => load.add_preflight(place),
    }
    is_free
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        api::document::Defaults,
        domain::location::RcloneConfig,
        plan::{
            observed::Secrets,
            validate::{Facts, Orchestrator, load as policies},
        },
    };
    use std::sync::Arc;

    pub(in crate::controller) fn declared(name: &str) -> Declared {
        let text = format!(
            "apiVersion: backstay.dev/v1alpha1\nkind: BackupPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
             schedule: \"0 2 * * *\"\n  instance: production\n  volumes: [{{name: homes, hostPath: /mnt}}]\n  \
             destination: {{remote: box, path: WT, configFrom: {{file: /etc/rclone.conf}}}}\n"
        );
        let facts = Facts { orchestrator: Orchestrator::Local, defaults: Defaults::default() };
        let policy = policies(&text, &facts).unwrap().remove(0).policy.unwrap();
        let spec = Spec::Valid(Arc::new(policy));
        Declared {
            id: name.parse().unwrap(),
            generation: 1,
            created_at: None,
            spec,
            secrets: Secrets::default(),
        }
    }

    fn destination(queue: &Queue, name: &str) -> Location {
        let Spec::Valid(policy) = &queue.entries[&name.parse().unwrap()].declared.spec else {
            panic!("not valid")
        };
        policy.destination.clone()
    }

    #[test]
    fn runs_are_offered_room_before_preflights_and_the_oldest_first() {
        let now = Timestamp::UNIX_EPOCH;
        let run = |second| Some(Want::Run(Timestamp::from_second(second).unwrap()));
        let caps = Caps { total: 2, per_remote: 2 };
        let wants = [("a", Some(Want::Preflight)), ("b", run(3)), ("c", run(1)), ("d", run(2))];
        let mut queue = Queue::default();
        queue.replace(wants.map(|(name, _)| declared(name)).into(), false, now);
        for (name, want) in wants {
            let place = destination(&queue, name);
            let wants_room = want.map(|want| Wanted { want, place });
            let decision = Decision { wants_room, ..Decision::default() };
            queue.decided(&name.parse().unwrap(), decision);
        }
        queue.entries.values_mut().for_each(|entry| entry.known = true);
        queue.offer_room(caps, now);
        let offered = |entry: &&Entry| matches!(entry.room, Room::Offered(_));
        let names: Vec<_> =
            queue.entries.values().filter(offered).map(|e| e.declared.id.to_string()).collect();
        assert_eq!(names, ["a", "c", "d"], "preflights have room of their own");
    }

    #[test]
    fn room_is_offered_where_it_is_wanted() {
        let now = Timestamp::UNIX_EPOCH;
        let (id, caps) = ("a".parse().unwrap(), Caps::default());
        let mut queue = Queue::default();
        queue.replace(vec![declared("a"), declared("b")], false, now);
        queue.entries.values_mut().for_each(|entry| entry.known = true);
        // Its site is filled from elsewhere, with a configuration that another one uses.
        let mut place = destination(&queue, "a");
        place.config = RcloneConfig::Directory("/etc/rclone".into());
        queue.entries.get_mut(&"b".parse().unwrap()).unwrap().occupies = Some(place.clone());
        let wants_room = Some(Wanted { want: Want::Preflight, place });
        queue.decided(&id, Decision { wants_room, ..Decision::default() });
        queue.offer_room(caps, now);
        assert!(matches!(queue.entries[&id].room, Room::Wanted(_)), "there is none");
        queue.entries.get_mut(&"b".parse().unwrap()).unwrap().occupies = None;
        queue.offer_room(caps, now);
        assert!(matches!(queue.entries[&id].room, Room::Offered(_)));
    }

    #[test]
    fn room_is_given_back_when_the_end_is_on_record() {
        let now = Timestamp::UNIX_EPOCH;
        let (id, caps) = ("a".parse().unwrap(), Caps { total: 1, per_remote: 1 });
        let mut queue = Queue::default();
        queue.replace(vec![declared("a"), declared("b")], false, now);
        let place = Some(destination(&queue, "a"));
        queue.decided(&id, Decision { occupies: place, ..Decision::default() });
        queue.succeed(&id, caps, now);
        queue.entries.values_mut().for_each(|entry| entry.known = true);
        let others = |queue: &Queue| queue.load(&"b".parse().unwrap(), caps).active;
        assert_eq!(others(&queue), 1);
        queue.decided(&id, Decision::default());
        assert_eq!(others(&queue), 1, "the end of the run is decided, not recorded");
        queue.succeed(&id, caps, now);
        assert_eq!(others(&queue), 0);
    }

    #[test]
    fn a_policy_whose_first_look_fails_is_taken_to_have_a_run_for_a_while() {
        let now = Timestamp::UNIX_EPOCH;
        let id = "a".parse().unwrap();
        let mut queue = Queue::default();
        queue.replace(vec![declared("a"), declared("b")], false, now);
        queue.entries.get_mut(&"b".parse().unwrap()).unwrap().known = true;
        let others = |queue: &Queue| queue.load(&"b".parse().unwrap(), Caps::default()).unseen;
        // As long as nobody can be looked at, nothing is learnt of it.
        for _ in 0..=2 * GUESSED_LOOKS {
            queue.fail(&id, now);
            assert_eq!(others(&queue), 1);
        }
        for failures in 1..=GUESSED_LOOKS + 1 {
            queue.decided(&"b".parse().unwrap(), Decision::default());
            queue.succeed(&"b".parse().unwrap(), Caps::default(), now);
            queue.fail(&id, now);
            assert_eq!(others(&queue), usize::from(failures <= GUESSED_LOOKS), "{failures}");
        }
    }

    #[test]
    fn an_unseen_policy_may_have_a_run_to_where_it_no_longer_points() {
        let now = Timestamp::UNIX_EPOCH;
        let (id, other) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut queue = Queue::default();
        queue.replace(vec![declared("a"), declared("b")], false, now);
        queue.entries.get_mut(&other).unwrap().known = true;
        queue.fail(&id, now);
        let mut former = destination(&queue, "a");
        former.remote = "former".parse().unwrap();
        let caps = Caps { total: 8, per_remote: 1 };
        assert!(queue.load(&other, caps).full(&former).is_some());
        queue.entries.get_mut(&id).unwrap().found(None, None);
        assert!(queue.load(&other, caps).full(&former).is_none());
    }

    #[test]
    fn an_echo_of_our_own_writes_is_slowed_down() {
        let now = Timestamp::UNIX_EPOCH;
        let id = "a".parse().unwrap();
        let mut queue = Queue::default();
        queue.replace(vec![declared("a")], false, now);
        for pass in 0..FAST_PASSES {
            assert_eq!(queue.due(1, now).len(), 1, "{pass}");
            queue.begin(&id, now);
            queue.decided(&id, Decision::default());
            queue.succeed(&id, Caps::default(), now);
            queue.entries.get_mut(&id).unwrap().wake(now);
        }
        assert!(queue.due(1, now).is_empty());
        assert_eq!(queue.due(1, a_second_after(now)).len(), 1);
    }
}
