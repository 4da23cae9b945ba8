//! What people do: to policies, through requests, with their hands.

use crate::{
    clock::{DAY, HOUR, MINUTE, Ms, stamp},
    faults::Class,
    orchestrator::{Flavour, Foreign, News, World},
    policies,
};
use backstay::{
    domain::{
        error::Invalid,
        names::{Slot, SnapshotName},
        policy::Policy,
        run::StepName,
    },
    plan::observed::{Drill, Request, Restore, Spec, TaskName, Wish},
};
use std::sync::Arc;

/// What follows later from what a person did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Later {
    /// The policy is declared again.
    Declares,
    /// What is wrong with it is mended.
    Mends,
    /// A restore ends.
    RestoreEnds,
    /// A restore that ended badly is forgotten.
    Forgets,
    /// What was not ours goes away.
    Removes(Foreign),
    /// A site that was filled in part is brought back by hand.
    TakesOver,
}

impl World {
    /// A policy is declared, new or changed.
    pub fn declare(&mut self, number: usize, spec: Spec) {
        self.effort.causes += 1;
        let (flavour, now) = (self.flavour, self.now);
        let subject = &mut self.subjects[number];
        if subject.declared.is_none() {
            (subject.born, subject.born_at) = (subject.generation + 1, now);
        }
        subject.edited_at = now;
        subject.declare(spec, flavour, now);
        if subject.policy().is_some_and(|p| p.suspend) {
            subject.ledger.suspended.insert(subject.generation);
        }
        self.news.push(News::Policies);
    }

    /// The class of people who come about so often.
    pub fn mean_pause(class: Class) -> Ms {
        match class {
            Class::Edits => 6 * DAY,
            Class::Wishes => 2 * DAY,
            Class::Wipe => 20 * DAY,
            _ => 8 * DAY,
        }
    }

    /// A person does something; what follows later.
    pub fn person(&mut self, class: Class) -> Option<(Ms, usize, Later)> {
        let number = usize::try_from(self.faults.rng().below(self.subjects.len() as u64)).unwrap();
        self.effort.causes += 1;
        match class {
            Class::Edits => self.edit(number),
            Class::Wishes => self.wish(number),
            Class::Hands => self.delete_by_hand(number),
            Class::Wipe => self.wipe(number),
            Class::Foreign => self.intrude(number),
            _ => None,
        }
    }

    fn edit(&mut self, number: usize) -> Option<(Ms, usize, Later)> {
        let mut rng = self.faults.rng().fork();
        let mut policy = self.subjects[number].policy().cloned()?;
        let burns = policy.restore_from.is_some() && rng.below(2) == 0;
        let what = match if burns { 4 } else { rng.below(9) } {
            0 => {
                policy.retention = policies::retention(&mut rng);
                "edit: retention"
            }
            1 => {
                policy.schedule = policies::schedule(&mut rng, policy.name.as_str());
                "edit: schedule"
            }
            2 | 3 => {
                policy.suspend = !policy.suspend;
                "edit: suspend or resume"
            }
            4 => return self.undeclare(number, &mut rng),
            5 => {
                self.faults.count("edit: wrong policy");
                self.subjects[number].ledger.lost_spec = Some(policy);
                self.declare(number, Spec::Wrong(Invalid::new("a person's slip")));
                return Some((self.now + rng.wide(MINUTE, 5 * DAY), number, Later::Mends));
            }
            6 => {
                let path = format!("p{number}-{}", self.subjects[number].generation);
                policy.destination = policies::location(&mut rng, &path);
                "edit: destination"
            }
            7 if policy.restore_from.is_some() => {
                policy.restore_from = None;
                self.subjects[number].site.is_adopted(true);
                "edit: no restoreFrom"
            }
            7 => {
                let from = policies::restore_from(&mut rng, &policy);
                self.remote.leave(&policy, &from, self.now);
                policy.restore_from = Some(from);
                "edit: restoreFrom"
            }
            _ => {
                let node = |n| format!("n{n}");
                let volumes = policy.volumes.iter().map(|v| (v.name.clone(), node(rng.below(2))));
                self.subjects[number].nodes = volumes.collect();
                "edit: sources move to other nodes"
            }
        };
        self.faults.count(what);
        self.declare(number, Spec::Valid(Arc::new(policy)));
        None
    }

    fn undeclare(&mut self, number: usize, rng: &mut crate::rng::Rng) -> Option<(Ms, usize, Later)> {
        self.faults.count("edit: policy deleted");
        self.remember(number);
        let (now, flavour) = (self.now, self.flavour);
        let subject = &mut self.subjects[number];
        let policy = subject.policy().cloned();
        subject.declared = None;
        if flavour == Flavour::Cluster {
            // Garbage collection.
            subject.forget();
        }
        // Some never come back.
        subject.ledger.lost_spec = policy.filter(|_| rng.below(4) > 0);
        let returns = subject.ledger.lost_spec.is_some();
        self.news.push(News::Policies);
        returns.then(|| (now + rng.wide(MINUTE, 20 * DAY), number, Later::Declares))
    }

    fn wish(&mut self, number: usize) -> Option<(Ms, usize, Later)> {
        let (now, ticket) = (self.now, self.faults.rng().below(10));
        let rng = self.faults.rng();
        let (wish, what) = match ticket {
            0..3 => (Wish::Run { accept_shrink: false, wait_turn: rng.below(2) == 0 }, "wish: a run"),
            3 => (Wish::Cancel { slot: None }, "wish: cancel"),
            4 => {
                let slot = self.subjects[number].active_run().map(|r| r.slot);
                (Wish::Cancel { slot }, "wish: cancel")
            }
            5 | 6 => return self.hold(number),
            7 => return self.drill(number),
            _ => return self.restore(number),
        };
        self.faults.count(what);
        self.subjects[number].declared.as_ref()?;
        self.remember(number);
        self.requests += 1;
        let id = format!("r{}", self.requests);
        self.subjects[number].requests.push(Request { id, requested_at: stamp(now), wish });
        None
    }

    fn newest_snapshot(&self, number: usize) -> Option<SnapshotName> {
        let destination = self.subjects[number].policy()?.destination.to_string();
        self.remote.newest(&destination).cloned()
    }

    fn hold(&mut self, number: usize) -> Option<(Ms, usize, Later)> {
        let name = self.newest_snapshot(number)?;
        self.faults.count("wish: hold");
        self.remember(number);
        let now = self.now;
        let holds = &mut self.subjects[number].holds;
        if holds.len() > 1 {
            holds.remove(0);
        } else if !holds.iter().any(|(held, _)| *held == name) {
            holds.push((name, now));
        }
        None
    }

    fn drill(&mut self, number: usize) -> Option<(Ms, usize, Later)> {
        let snapshot = self.newest_snapshot(number)?;
        self.faults.count("wish: restore drill");
        self.remember(number);
        let (at, passed) = (stamp(self.now), self.faults.rng().below(3) > 0);
        let before = self.subjects[number].drill.as_ref().and_then(|(d, _)| d.last_passed.clone());
        let last_passed = if passed { Some(snapshot.clone()) } else { before };
        let drill = Drill { snapshot, at, passed, message: "compared".to_owned(), last_passed };
        let since =
            if passed { self.now } else { self.subjects[number].drill.as_ref().map_or(0, |(_, at)| *at) };
        self.subjects[number].drill = Some((drill, since));
        None
    }

    fn restore(&mut self, number: usize) -> Option<(Ms, usize, Later)> {
        let (now, subject) = (self.now, &self.subjects[number]);
        if subject.declared.is_none() || subject.active_run().is_some() || !subject.restores.is_empty() {
            return None;
        }
        self.faults.count("wish: restore");
        self.remember(number);
        let restore =
            Restore { id: "x".to_owned(), started_at: stamp(now), active: true, message: "p".to_owned() };
        self.subjects[number].restores.push(restore);
        Some((now + self.faults.rng().range(10 * MINUTE, 8 * HOUR), number, Later::RestoreEnds))
    }

    fn delete_by_hand(&mut self, number: usize) -> Option<(Ms, usize, Later)> {
        if self.subjects[number].tasks.is_empty() {
            return None;
        }
        self.faults.count("task deleted by hand");
        self.remember(number);
        let task = self.subjects[number].tasks.remove(0);
        if task.is_running() {
            self.breaks_off(number, &task);
        }
        None
    }

    fn wipe(&mut self, number: usize) -> Option<(Ms, usize, Later)> {
        self.faults.count("status wiped");
        self.remember(number);
        self.subjects[number].status = None;
        self.subjects[number].site.is_adopted(false);
        self.subjects[number].ledger.wiped = Some(self.now);
        None
    }

    /// Somebody sets the controller's clock. What was written under one that was far off is not believed afterwards.
    pub fn clock_is_set(&mut self, offset: Ms) {
        self.skewed |= offset.abs() > HOUR / 2;
        if self.skewed {
            let now = self.now;
            self.subjects.iter_mut().for_each(|s| s.ledger.wiped = Some(now));
        }
    }

    /// Something appears under the name that the next run, or its first task, will have.
    fn intrude(&mut self, number: usize) -> Option<(Ms, usize, Later)> {
        let policy: &Policy = self.subjects[number].policy()?;
        let slot = Slot::scheduled(policy.schedule.next_after(stamp(self.now))?);
        let foreign = match self.faults.rng().below(3) {
            0 => Foreign::Run(slot),
            1 => Foreign::Task(TaskName::of_run(slot, StepName::backup(), 1)),
            _ => Foreign::Task(TaskName::of_run(slot, StepName::backup(), 2)),
        };
        self.faults.count("foreign object");
        self.subjects[number].foreign.push(foreign.clone());
        Some((self.now + self.faults.rng().wide(HOUR, 20 * DAY), number, Later::Removes(foreign)))
    }

    /// What was to follow.
    pub fn later(&mut self, number: usize, later: &Later) -> Option<(Ms, usize, Later)> {
        self.effort.causes += 1;
        match later {
            Later::Declares | Later::Mends => {
                let wrong =
                    self.subjects[number].declared.as_ref().is_some_and(|d| matches!(d.spec, Spec::Wrong(_)));
                let absent = self.subjects[number].declared.is_none();
                let policy = self.subjects[number].ledger.lost_spec.clone();
                if absent && self.flavour == Flavour::Cluster && self.faults.rng().below(2) == 0 {
                    self.subjects[number].site.is_rebuilt();
                }
                if let Some(policy) = policy.filter(|_| wrong || absent) {
                    self.declare(number, Spec::Valid(Arc::new(policy)));
                }
                None
            }
            Later::RestoreEnds => {
                self.remember(number);
                let good = self.faults.healed || self.faults.rng().below(3) > 0;
                let restores = &mut self.subjects[number].restores;
                if good {
                    restores.clear();
                    return None;
                }
                restores.iter_mut().for_each(|r| r.active = false);
                Some((self.now + self.faults.rng().wide(MINUTE, 4 * DAY), number, Later::Forgets))
            }
            Later::Forgets => {
                self.remember(number);
                self.subjects[number].restores.clear();
                None
            }
            Later::TakesOver => {
                self.take_over_site(number);
                None
            }
            Later::Removes(foreign) => {
                self.subjects[number].foreign.retain(|f| f != foreign);
                None
            }
        }
    }

    /// People have put everything right.
    pub fn put_right(&mut self) {
        for number in 0..self.subjects.len() {
            // Also what is to come back: from then on there is time for a run of it.
            if self.subjects[number].policy().is_none() {
                self.later(number, &Later::Mends);
            }
            self.take_over_site(number);
            self.remember(number);
            self.subjects[number].restores.clear();
            self.subjects[number].foreign.clear();
        }
        self.news.push(News::Policies);
    }
}
