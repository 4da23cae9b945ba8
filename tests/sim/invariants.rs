//! What must hold at every step, checked at the effect that would break it.

use crate::{
    clock::{MINUTE, Ms, ms, stamp},
    faults::Class,
    orchestrator::{Subject, World},
    tasks::SimTask,
};
use backstay::{
    domain::{
        location::{Location, RcloneConfig},
        names::Slot,
        policy::Policy,
        run::{Outcome, Run, RunState},
        schedule::Schedule,
        status::{ConditionType, LISTED_SLOTS, ScheduleStatus, Status, Truth, Waiting, WaitingReason},
    },
    plan::{
        action::{Answer, NewTask},
        observed::{TaskName, TaskState, Wish},
        task_spec::Work,
    },
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a slot that was claimed.
#[derive(Debug)]
pub struct Claim {
    at: Ms,
    request: Option<String>,
    /// It was on its way when the slot was told as missed.
    crossed: bool,
    pub ended: Option<Outcome>,
}

/// All that was ever said and done about one policy since it was made.
#[derive(Debug)]
pub struct Ledger {
    /// Outcomes by what the status said first, and when.
    pub told: BTreeMap<Slot, (Outcome, Ms)>,
    /// Stretches that a status called missed.
    missed: BTreeSet<(Slot, Slot)>,
    pub claims: BTreeMap<Slot, Claim>,
    answers: BTreeMap<String, Answer>,
    /// Specifications that were suspended.
    pub suspended: BTreeSet<i64>,
    /// Every slot of this schedule until then has an outcome or a claim.
    audited: Option<(ScheduleStatus, Timestamp)>,
    /// For each condition, the number of causes when it changed last, and when that was.
    flips: BTreeMap<ConditionType, (u64, Ms)>,
    /// The status was wiped: what only it knew is lost.
    pub wiped: Option<Ms>,
    /// What the policy said before a person took it away.
    pub lost_spec: Option<Policy>,
}

impl Ledger {
    pub fn new() -> Self {
        Self {
            told: BTreeMap::new(),
            missed: BTreeSet::new(),
            claims: BTreeMap::new(),
            answers: BTreeMap::new(),
            suspended: BTreeSet::new(),
            audited: None,
            flips: BTreeMap::new(),
            wiped: None,
            lost_spec: None,
        }
    }

    pub fn claimed_at(&self, slot: Slot) -> Option<Ms> {
        self.claims.get(&slot).map(|claim| claim.at)
    }

    /// True when somebody was told what became of the slot, or it has a record that says so.
    pub fn knows(&self, slot: Slot) -> bool {
        self.told.contains_key(&slot)
            || self.claims.contains_key(&slot)
            || self.missed.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }

    /// The slots of `schedule` in `after..=until` that nobody knows of, at most one.
    pub fn lost(&self, schedule: &Schedule, after: Timestamp, until: Timestamp) -> Option<Slot> {
        schedule.slots_between(after, until).map(Slot::scheduled).find(|slot| !self.knows(*slot))
    }
}

impl World {
    pub(crate) fn check_claim(&mut self, number: usize, run: &Run) {
        self.effort.causes += 1;
        let (slot, clock, calm) = (run.slot, self.caller.clock, self.is_calm());
        let subject = &self.subjects[number];
        let ledger = &subject.ledger;
        let mut wrong: Vec<String> = vec![];
        if ledger.claims.contains_key(&slot) && !self.skewed {
            wrong.push("a second time".to_owned());
        }
        // Two controllers at once, or a call that took effect late: nobody could know of the other's word.
        let told = ledger.told.get(&slot);
        let crossed = told.is_some_and(|(_, at)| self.caller.late || *at > self.caller.looked);
        if let Some((told, _)) = told.filter(|_| !crossed && ledger.wiped.is_none()) {
            wrong.push(format!("after it was told as {told:?}"));
        }
        if let Some(active) = subject.active_run().filter(|_| calm) {
            wrong.push(format!("while run {} is active", active.slot));
        }
        if let Some(request) = &run.plan.request
            && !self.skewed
            && ledger.claims.values().any(|claim| claim.request.as_ref() == Some(request))
        {
            wrong.push(format!("for request {request}, which has a run"));
        }
        wrong.extend(self.check_site_of_claim(number, run.plan.generation).map(str::to_owned));
        // What began longer ago than any view may be old was seen.
        let seen = self.now - 11 * MINUTE;
        if !self.caller.late && subject.restores.iter().any(|r| ms(r.started_at) < seen) {
            wrong.push("while a restore holds the policy".to_owned());
        }
        if !slot.is_manual() {
            if ledger.suspended.contains(&run.plan.generation) {
                wrong.push("while the policy is suspended".to_owned());
            }
            if slot.time() > clock {
                wrong.push("before its time".to_owned());
            }
            let policy = subject.policy().filter(|_| subject.generation == run.plan.generation);
            if policy.is_some_and(|p| p.schedule.previous(slot.time()) != Some(slot.time())) {
                wrong.push("which is not on the schedule".to_owned());
            }
        }
        for what in wrong {
            self.violated(number, format_args!("claims {slot} {what}"));
        }
        let claim = Claim { at: self.now, request: run.plan.request.clone(), crossed, ended: None };
        self.subjects[number].ledger.claims.insert(slot, claim);
    }

    pub(crate) fn check_caps(&mut self, number: usize, run: &Run) {
        if !self.is_calm() {
            return;
        }
        let (all, remotes, mut directories) = self.load();
        let on_remote = remotes.get(run.plan.destination.remote.as_str()).copied().unwrap_or(0);
        let before = directories.len();
        directories.sort();
        directories.dedup();
        if all > self.caps.total || on_remote > self.caps.per_remote || directories.len() < before {
            let slot = run.slot;
            self.violated(
                number,
                format_args!("claims {slot}: {all} runs, {on_remote} on its remote: over a cap"),
            );
        }
    }

    pub(crate) fn check_task(&mut self, number: usize, task: &NewTask) {
        self.effort.causes += 1;
        if let Work::Restore(work) = &task.spec.work {
            return self.check_filling(number, work);
        }
        let Some(slot) = task.name.slot else { return };
        let (name, calm, clock) = (&task.name, self.is_calm(), self.caller.clock);
        let subject = &self.subjects[number];
        let Some(run) = subject.run(slot) else {
            if calm {
                self.violated(number, format_args!("makes {name} without a run"));
            }
            return;
        };
        let mut wrong: Vec<&str> = vec![];
        if name.attempt > i64::from(run.plan.limits.retries) + 1 {
            wrong.push("beyond its retries");
        }
        let before = run.state.attempts_of(&name.step).find(|a| i64::from(a.number) == name.attempt - 1);
        if let Some(before) = before {
            let pause = (60 << (2 * (name.attempt - 2)).min(20)).min(1800);
            if clock.duration_since(before.ended_at).as_secs() < pause {
                wrong.push("without a pause");
            }
        }
        if calm && run.state.end.is_some() {
            wrong.push("after the run ended");
        }
        if subject.is_being_filled() && !self.caller.late {
            wrong.push("while the site is being filled");
        }
        if calm && run.state.cancel.is_some() {
            wrong.push("after the run was cancelled");
        }
        if calm && run.state.is_good(&name.step) {
            wrong.push("after its step succeeded");
        }
        for what in wrong {
            self.violated(number, format_args!("makes {name} {what}"));
        }
    }

    /// At most one task of the policy's runs is at work.
    pub(crate) fn check_alone(&mut self, number: usize) {
        let live = self.subjects[number]
            .tasks
            .iter()
            .filter(|t| t.is_live() && t.task.name.slot.is_some() && !t.late);
        let mut names: Vec<_> = live.map(|t| &t.task.name).collect();
        if names.len() < 2 {
            return;
        }
        if !self.is_calm() {
            names.dedup_by_key(|name| (name.slot, name.step.clone()));
            let distinct: BTreeSet<_> = names.iter().map(|n| (n.slot, &n.step)).collect();
            if distinct.len() == names.len() {
                return;
            }
        }
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        self.violated(number, format_args!("{names} are at work at once"));
    }

    pub(crate) fn check_state(&mut self, number: usize, place: usize, state: &RunState) {
        let run = &self.subjects[number].runs[place].value;
        let (slot, old) = (run.slot, &run.state);
        let mut wrong: Vec<String> = vec![];
        if old.end.is_some() {
            wrong.push("changes after its end".to_owned());
        }
        if !state.attempts.starts_with(&old.attempts) || (old.cancel.is_some() && state.cancel.is_none()) {
            wrong.push("forgets what was recorded".to_owned());
        }
        let attempts = state.attempts.len().saturating_sub(old.attempts.len()) as u64;
        if let Some(end) = &state.end {
            let snapshot = self.remote.committed(&run.plan.destination.to_string(), slot);
            let is_there = snapshot.is_some_and(|s| s.complete || end.outcome == Outcome::Partial);
            if matches!(end.outcome, Outcome::Succeeded | Outcome::Partial) && !is_there {
                wrong.push(format!("is called {:?} without a manifest", end.outcome));
            }
        }
        for what in wrong {
            self.violated(number, format_args!("run {slot} {what}"));
        }
        self.effort.attempts += attempts;
        self.effort.causes += attempts;
        if let Some(end) = &state.end {
            self.effort.runs += 1;
            self.effort.causes += 1;
            if let Some(claim) = self.subjects[number].ledger.claims.get_mut(&slot) {
                claim.ended = Some(end.outcome);
            }
        }
    }

    pub(crate) fn check_answer(&mut self, number: usize, id: &str, answer: &Answer) {
        self.effort.causes += 1;
        let calm = self.is_calm();
        let subject = &self.subjects[number];
        let is_run = subject.requests.iter().any(|r| r.id == id && matches!(r.wish, Wish::Run { .. }));
        if let Some(first) = subject.ledger.answers.get(id) {
            let first = format!("{first:?}");
            if calm {
                self.violated(number, format_args!("answers request {id} again: {first}, now {answer:?}"));
            }
            return;
        }
        if let Answer::Accepted(slot) = answer {
            let claim = subject.ledger.claims.get(slot);
            if claim.is_none() || (is_run && claim.is_some_and(|c| c.request.as_deref() != Some(id))) {
                self.violated(number, format_args!("accepts request {id} by {slot}, which is not its run"));
            }
        }
        self.subjects[number].ledger.answers.insert(id.to_owned(), answer.clone());
    }

    pub(crate) fn check_delete(&mut self, number: usize, place: usize) {
        let subject = &self.subjects[number];
        let task = &subject.tasks[place];
        let name = task.task.name.clone();
        let Some(run) = name.slot.and_then(|slot| subject.run(slot)) else { return };
        let recorded =
            run.state.attempts.iter().any(|a| a.step == name.step && i64::from(a.number) == name.attempt);
        let over = run.state.end.is_some() || recorded;
        let is_lost = matches!(&task.task.state, TaskState::Ended { report: Some(_), .. });
        match &task.task.state {
            _ if over => {}
            TaskState::Ended { .. } if is_lost => {
                self.violated(number, format_args!("deletes {name} before its report is recorded"));
            }
            TaskState::Ended { .. } => {}
            _ if run.state.cancel.is_none() => {
                self.violated(number, format_args!("deletes {name}, which is at work"));
            }
            _ => {}
        }
    }

    pub(crate) fn check_forget(&mut self, number: usize, slot: Slot) {
        self.effort.causes += 1;
        let subject = &self.subjects[number];
        let ended = subject.run(slot).is_some_and(|r| r.state.end.is_some());
        // Several runs that outlasted the history are told by the newest of them.
        let last = subject.status.as_ref().and_then(|s| s.value.last_run.as_ref()).map(|r| r.completion_time);
        let ended_at = subject.run(slot).and_then(|r| r.state.end.as_ref()).map(|e| e.at);
        let told = subject.ledger.told.contains_key(&slot) || (last >= ended_at && ended_at.is_some());
        let busy = subject.tasks.iter().any(|t| t.task.name.slot == Some(slot) && t.is_live() && !t.late);
        if (!ended && (self.is_calm() || !self.skewed)) || !(told || self.skewed) || (busy && self.is_calm())
        {
            self.violated(
                number,
                format_args!("forgets run {slot}: ended {ended}, told {told}, tasks at work {busy}"),
            );
        }
    }

    pub(crate) fn check_status(&mut self, number: usize, new: &Status) {
        let subject = &self.subjects[number];
        let old = subject.status.as_ref().map(|s| &*s.value);
        if old == Some(new) {
            self.violated(number, format_args!("writes a status that says nothing new"));
            return;
        }
        let mut wrong: Vec<String> = vec![];
        if old.is_none_or(|old| old.history != new.history || old.last_success != new.last_success) {
            self.check_history(number, new, &mut wrong);
        }
        self.check_conditions(number, new, &mut wrong);
        wrong.extend(self.check_waiting(number, new).map(str::to_owned));
        let bootstrap = new.bootstrap.as_ref().map(|bootstrap| bootstrap.phase);
        wrong.extend(self.check_bootstrap(number, bootstrap));
        if let Err(lost) = self.check_slots(number, new) {
            wrong.push(format!("{lost} is passed over in silence, with {:?}", new.missed));
        }
        for what in wrong {
            self.violated(number, format_args!("status: {what}"));
        }
    }

    fn check_history(&mut self, number: usize, new: &Status, wrong: &mut Vec<String>) {
        let (skewed, now) = (self.skewed, self.now);
        let subject = &mut self.subjects[number];
        let (ledger, old) = (&mut subject.ledger, subject.status.as_ref().map(|s| &*s.value));
        let mut news = 0;
        for entry in &new.history {
            let (slot, outcome) = (entry.slot, entry.outcome);
            let (first, _) = *ledger.told.entry(slot).or_insert_with(|| {
                news += 1;
                (outcome, now)
            });
            let claim = ledger.claims.get(&slot);
            // Its own end is the last word about a run.
            let crossed = claim.is_some_and(|claim| claim.crossed) && !first.has_run();
            if first != outcome && !crossed && ledger.wiped.is_none() {
                wrong.push(format!("{slot} was {first:?} and is now {outcome:?}"));
            }
            match claim.map(|claim| claim.ended) {
                Some(None) if crossed && outcome == first => {}
                Some(ended) if ended != Some(outcome) && ledger.wiped.is_none() => {
                    wrong.push(format!("{slot} is told as {outcome:?}, its run ended as {ended:?}"));
                }
                None if !matches!(outcome, Outcome::Missed | Outcome::Skipped) => {
                    wrong.push(format!("{slot} is told as {outcome:?} and never ran"));
                }
                _ => {}
            }
        }
        let oldest = new.history.last().map(|h| h.slot).filter(|_| new.history.len() >= LISTED_SLOTS);
        let kept =
            |slot: Slot| new.history.iter().any(|h| h.slot == slot) || oldest.is_some_and(|o| slot < o);
        if let Some(lost) = old.and_then(|old| old.history.iter().find(|h| !kept(h.slot))).filter(|_| !skewed)
        {
            wrong.push(format!("{} is no longer told", lost.slot));
        }
        if let Some(last) = &new.last_run {
            ledger.told.entry(last.slot).or_insert((last.outcome, now));
        }
        ledger.missed.extend(new.missed.iter().map(|m| (m.first, m.last)));
        let good = |slot: Slot| ledger.claims.get(&slot).is_some_and(|c| c.ended == Some(Outcome::Succeeded));
        if let Some(success) = new.last_success.as_ref().filter(|s| !good(s.slot)) {
            wrong.push(format!("{} is the last success and did not succeed", success.slot));
        }
        self.effort.told += news;
        self.effort.causes += news;
    }

    fn check_conditions(&mut self, number: usize, new: &Status, wrong: &mut Vec<String>) {
        // Two clocks may differ about what is late.
        let lenient = self.faults.is_of(Class::Twin) || self.skewed;
        let (causes, now, clock) = (self.effort.causes, self.now, self.caller.clock);
        let subject = &mut self.subjects[number];
        let old = subject.status.as_ref().map(|s| &*s.value);
        let says = |kind| new.condition(kind).is_some_and(|c| c.status == Truth::True);
        if says(ConditionType::LastRunSucceeded)
            && new.last_run.as_ref().is_none_or(|r| r.outcome != Outcome::Succeeded)
        {
            wrong.push("the last run is called good and was not".to_owned());
        }
        if says(ConditionType::Fresh)
            && !self.skewed
            && (new.last_success.is_none()
                || new.fresh_until_time.is_none_or(|until| ms(until) + MINUTE < ms(clock)))
        {
            wrong.push("called fresh, and is not".to_owned());
        }
        for active in &new.active {
            if !subject.ledger.claims.contains_key(&active.slot) {
                wrong.push(format!("{} is called active and was never claimed", active.slot));
            }
        }
        let is_old = |old: &Status| old.location == new.location && old.snapshots == new.snapshots;
        if let Some(place) = new.location.as_ref().filter(|_| !old.is_some_and(is_old)) {
            let is_there = |slot| self.remote.committed(&place.destination, slot).is_some();
            if let Some(ghost) = new.snapshots.iter().find(|s| !is_there(s.name.slot())) {
                wrong.push(format!("lists {}, which was never made at {place}", ghost.name));
            }
        }
        for kind in ConditionType::ALL {
            let truth = |status: &Status| status.condition(kind).map(|c| c.status);
            let (Some(before), after) = (old.map(truth), truth(new)) else { continue };
            if before != after {
                let last = subject.ledger.flips.insert(kind, (causes, now));
                if last.is_some_and(|(before, at)| before == causes && now < at + 2 * MINUTE) && !lenient {
                    wrong.push(format!("{} flaps", kind.as_str()));
                }
            }
        }
    }

    /// A preflight that cannot be reached holds its policy's runs back for some minutes only.
    fn check_waiting(&self, number: usize, new: &Status) -> Option<&'static str> {
        let waits = |w: &Waiting| {
            w.reason == WaitingReason::ConfigurationInUse && w.message.starts_with("another task")
        };
        if !new.waiting.iter().any(waits) || self.skewed || self.faults.is_of(Class::Stale) {
            return None;
        }
        let uses = |destination: &Location| matches!(destination.config, RcloneConfig::Directory(_));
        // What others use may not have been seen to end.
        let others = self.subjects.iter().enumerate().filter(|(other, _)| *other != number);
        let is_shared = |s: &Subject| {
            s.policy().is_none_or(|p| uses(&p.destination))
                || s.active_run().is_some_and(|r| uses(&r.plan.destination))
        };
        if others.map(|(_, subject)| subject).any(is_shared) {
            return None;
        }
        let is_lost = |task: &SimTask| match &task.task.state {
            TaskState::Unreachable { since } => ms(*since) + 11 * MINUTE < self.caller.looked,
            _ => false,
        };
        let tasks = &self.subjects[number].tasks;
        let (lost, others): (Vec<&SimTask>, Vec<&SimTask>) =
            tasks.iter().filter(|t| t.task.name.is_preflight()).partition(|task| is_lost(task));
        let is_held = !lost.is_empty() && others.is_empty();
        is_held.then_some("a run waits for a preflight that cannot be reached")
    }

    /// Up to the newest slot that has an outcome, every slot has one, or a claim.
    fn check_slots(&mut self, number: usize, new: &Status) -> Result<(), Slot> {
        let now = self.now;
        let subject = &mut self.subjects[number];
        if subject.status.is_none() && subject.ledger.wiped.is_some() {
            // What only the wiped status knew is known again from now on.
            subject.ledger.wiped = Some(now);
            subject.ledger.audited = None;
        }
        let (Some(schedule), Some(policy)) = (&new.schedule, subject.valid()) else {
            return Ok(());
        };
        if schedule.expression != policy.schedule.canonical()
            || schedule.time_zone != policy.schedule.time_zone_name()
        {
            return Ok(());
        }
        let ledger = &mut subject.ledger;
        let same = ledger.audited.take().filter(|(of, _)| {
            of.since == schedule.since
                && of.expression == schedule.expression
                && of.time_zone == schedule.time_zone
        });
        let begin = ledger.wiped.map_or(schedule.since, |at| schedule.since.max(stamp(at)));
        let from = same.map_or(begin, |(_, until)| until);
        let newest = new.history.iter().map(|h| h.slot).filter(|s| !s.is_manual()).max();
        let until = newest.map_or(from, |slot| slot.time().max(from));
        ledger.audited = Some((schedule.clone(), until));
        // Of the slots of a suspension only the newest are told one by one.
        match ledger.lost(&policy.schedule, from, until) {
            Some(slot) if !policy.suspend => Err(slot),
            _ => Ok(()),
        }
    }

    /// What must be so in the end, when all is well and everything has come to rest.
    pub fn check_end(&mut self, rested: &[Option<Ms>]) {
        for number in 0..self.subjects.len() {
            // What became due since then may wait its turn.
            let rested = rested.get(number).copied().flatten();
            let unrest = if rested.is_some() { vec![] } else { self.unrest(number) };
            for what in unrest {
                self.violated(number, format_args!("in the end {what}"));
            }
            let subject = &self.subjects[number];
            let (Some(policy), Some(status)) = (subject.policy(), subject.status.as_ref()) else { continue };
            let Some(schedule) = status.value.schedule.as_ref().filter(|_| !policy.suspend) else { continue };
            let since = subject.ledger.wiped.map_or(schedule.since, |at| schedule.since.max(stamp(at)));
            if let Some(slot) =
                subject.ledger.lost(&policy.schedule, since, stamp(rested.unwrap_or(self.now)))
            {
                self.violated(number, format_args!("{slot} has no outcome"));
            }
        }
    }

    /// Why a policy is not at rest.
    pub fn unrest(&self, number: usize) -> Vec<String> {
        let subject = &self.subjects[number];
        let mut wrong: Vec<String> = vec![];
        wrong.extend(subject.active_run().map(|r| format!("run {} is active", r.slot)));
        wrong.extend(
            subject.tasks.iter().map(|t| format!("task {} remains ({:?})", t.task.name, t.task.state)),
        );
        let (Some(policy), Some(status)) = (subject.policy(), subject.status.as_ref()) else { return wrong };
        let status = &status.value;
        wrong.extend(subject.requests.iter().map(|r| format!("request {} is not answered", r.id)));
        if subject.runs.len() > 6 {
            wrong.push(format!("{} records remain", subject.runs.len()));
        }
        wrong.extend(status.waiting.iter().map(|w| format!("something waits: {}", w.message)));
        if !status.active.is_empty() {
            wrong.push("the status calls a run active".to_owned());
        }
        let expected = |kind| match kind {
            // A preflight whose report was lost is not made again: the next run tells.
            ConditionType::CredentialsValid if status.last_run.is_none() => None,
            ConditionType::CredentialsValid if policy.suspend => None,
            ConditionType::RestoreTested => None,
            // A slot that could not start in time is missed for good.
            ConditionType::Fresh | ConditionType::LastRunSucceeded
                if policy.suspend || policy.starting_deadline.is_some() =>
            {
                None
            }
            ConditionType::Bootstrapped => policy.restore_from.as_ref().map(|_| Truth::True),
            _ => Some(Truth::True),
        };
        for kind in ConditionType::ALL {
            let condition = status.condition(kind);
            if expected(kind).is_some_and(|truth| condition.map(|c| c.status) != Some(truth)) {
                wrong.push(format!("{kind:?} is {condition:?}"));
            }
        }
        wrong
    }

    /// Once all is well, what is due starts soon: called every hour.
    pub fn check_punctual(&mut self) {
        let (all, remotes, directories) = self.load();
        for number in 0..self.subjects.len() {
            let subject = &self.subjects[number];
            let waits = |p: &Policy| p.suspend || !subject.restores.is_empty() || subject.awaits_site();
            let Some(policy) = subject.policy().filter(|p| !waits(p)) else { continue };
            let since = subject.status.as_ref().and_then(|s| s.value.schedule.as_ref()).map(|s| ms(s.since));
            // What became of the slots before that only the wiped status knew.
            let since = since.map(|since| since.max(subject.ledger.wiped.unwrap_or(0)));
            let Some(newest) = policy.schedule.previous(stamp(self.now - 15 * MINUTE)) else {
                continue;
            };
            let slot = Slot::scheduled(newest);
            let remote = remotes.get(policy.destination.remote.as_str()).copied().unwrap_or(0);
            let free = all < self.caps.total
                && remote < self.caps.per_remote
                && match &policy.destination.config {
                    RcloneConfig::Directory(path) => !directories.contains(&path.display().to_string()),
                    RcloneConfig::Secret(_) => true,
                };
            let counts = since.is_some_and(|since| ms(newest) > since);
            if counts && free && !subject.ledger.knows(slot) && subject.active_run().is_none() {
                self.violated(
                    number,
                    format_args!("{slot} is due for a quarter of an hour, there is room, nothing happens"),
                );
            }
        }
        for number in 0..self.subjects.len() {
            let subject = &self.subjects[number];
            if !subject.is_listed() {
                continue;
            }
            let recorded = |name: &TaskName| {
                let run = name.slot.and_then(|slot| subject.run(slot));
                run.is_some_and(|run| {
                    let attempts = &run.state.attempts;
                    attempts.iter().any(|a| a.step == name.step && i64::from(a.number) == name.attempt)
                })
            };
            let unheard = subject.tasks.iter().find(|t| match &t.task.state {
                TaskState::Ended { at, .. } => ms(*at) + 15 * MINUTE < self.now && !recorded(&t.task.name),
                _ => false,
            });
            if let Some(task) = unheard {
                let name = task.task.name.clone();
                self.violated(
                    number,
                    format_args!("{name} ended a quarter of an hour ago and is not dealt with"),
                );
            }
            let subject = &self.subjects[number];
            let limit = |t: &crate::tasks::SimTask| ms(t.spec.not_after) + 15 * MINUTE;
            if let Some(late) = subject.tasks.iter().find(|t| t.is_live() && limit(t) < self.now && !t.late) {
                let name = late.task.name.clone();
                self.violated(number, format_args!("{name} is long past its deadline"));
            }
        }
    }
}
