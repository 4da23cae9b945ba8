//! The remote as a model: which snapshots exist, what a finished task finds and leaves there. What goes is decided by
//! the product's own retention, over a listing that may fail or lack something.

use crate::{
    bugs::Bug,
    clock::{DAY, Ms, ms, stamp},
    faults::Class,
    orchestrator::World,
};
use backstay::{
    domain::{
        names::{Slot, SnapshotName, SourceName},
        policy::{Policy, RestoreFrom},
        retention::{self, ALWAYS_KEPT, Point},
        snapshot::{AsOf, Consistency, SnapshotSummary, SourceSummary},
        verdict::{Failure, Verdict},
    },
    plan::task_spec::{FinishWork, TaskReport, TaskSpec, Work},
};
use jiff::SignedDuration;
use std::collections::{BTreeMap, BTreeSet};

/// All places on all remotes.
#[derive(Debug, Default)]
pub struct Remote {
    places: BTreeMap<String, Place>,
    /// Nothing works until then.
    pub down_until: Ms,
}

/// What is below one path.
#[derive(Debug, Default)]
pub struct Place {
    /// The manifests that exist, by slot.
    snapshots: BTreeMap<Slot, SnapshotSummary>,
    /// Those that were pruned.
    pruned: BTreeMap<Slot, SnapshotSummary>,
    fragments: BTreeSet<(Slot, SourceName)>,
}

impl Remote {
    pub fn place(&mut self, spec: &TaskSpec) -> &mut Place {
        self.places.entry(spec.destination.to_string()).or_default()
    }

    /// The snapshot of a slot at a destination, also one that was pruned since.
    pub fn committed(&self, destination: &str, slot: Slot) -> Option<&SnapshotSummary> {
        let place = self.places.get(destination)?;
        place.snapshots.get(&slot).or_else(|| place.pruned.get(&slot))
    }

    /// The newest complete snapshot that exists there.
    pub fn newest(&self, destination: &str) -> Option<&SnapshotName> {
        self.places.get(destination)?.find(&AsOf::Latest).map(|s| &s.name)
    }

    /// What a site that is gone has left at the place from which it is to be filled, the last of it before `now`.
    pub fn leave(&mut self, policy: &Policy, from: &RestoreFrom, now: Ms) {
        let place = self.places.entry(from.location.to_string()).or_default();
        for days in 1..3 {
            let slot = Slot::scheduled(stamp((now / DAY - days) * DAY));
            let snapshot = SnapshotSummary {
                name: SnapshotName::new(from.policy.clone(), slot),
                instance: from.instance.clone(),
                committed_at: slot.time(),
                complete: true,
                sources: policy.sources().iter().map(|s| source(&s.name())).collect(),
                missing: vec![],
            };
            place.snapshots.entry(slot).or_insert(snapshot);
        }
    }
}

impl Place {
    /// What a restore takes.
    pub fn find(&self, as_of: &AsOf) -> Option<&SnapshotSummary> {
        let fits = |s: &&SnapshotSummary| match as_of {
            AsOf::Name(name) => s.name == *name,
            _ => s.complete,
        };
        self.snapshots.values().rev().find(fits)
    }
}

pub fn report(verdict: Verdict, reason: &str) -> TaskReport {
    let failed = verdict != Verdict::Committed;
    TaskReport {
        verdict,
        failure: failed.then(|| Failure::new(verdict, reason, "it broke")),
        ..TaskReport::empty()
    }
}

fn source(name: &SourceName) -> SourceSummary {
    SourceSummary {
        source: name.clone(),
        source_bytes: 1000,
        stored_bytes: 400,
        files: 10,
        collections: 0,
        documents: 0,
        changed_while_read: 0,
        unreadable: 0,
        consistency: Consistency::BestEffort,
    }
}

impl World {
    /// What a task of policy `number` does that comes to its end: it stores, commits and prunes. `broken` says that one
    /// of its sources cannot be read.
    pub fn work(&mut self, number: usize, spec: &TaskSpec, claimed_at: Ms, broken: bool) -> TaskReport {
        if self.now < self.remote.down_until {
            return report(Verdict::Temporary, "RemoteUnavailable");
        }
        if self.faults.strikes(Class::Remote, 60, "remote fails") {
            return report(Verdict::Temporary, "RemoteUnavailable");
        }
        match &spec.work {
            Work::Preflight { .. } => report(Verdict::Committed, ""),
            Work::Restore(work) => self.bring_back(number, spec, work, broken),
            Work::Verify(_) | Work::Prune(_) => unreachable!("no person of the simulation asks for it"),
            Work::Finish(work) => self.finish(number, spec, work, claimed_at),
            Work::Backup(work) => {
                let names: Vec<SourceName> = work.sources.iter().map(|s| s.name()).collect();
                // The last one breaks: what was stored before it stays.
                let stored = &names[..names.len() - usize::from(broken)];
                let place = self.remote.place(spec);
                place.fragments.extend(stored.iter().map(|name| (work.slot, name.clone())));
                let sources = stored.iter().map(source).collect();
                let optional = work.sources.last().is_some_and(|s| s.is_optional());
                if broken && !optional {
                    return TaskReport { sources, ..report(Verdict::Permanent, "SourceUnreadable") };
                }
                match &work.finish {
                    None => TaskReport { sources, ..report(Verdict::Committed, "") },
                    Some(finish) => {
                        let finished = self.finish(number, spec, finish, claimed_at);
                        TaskReport { sources, ..finished }
                    }
                }
            }
        }
    }

    fn finish(&mut self, number: usize, spec: &TaskSpec, work: &FinishWork, claimed_at: Ms) -> TaskReport {
        let now = self.now;
        let place = self.remote.place(spec);
        let has = |name: &&SourceName| place.fragments.contains(&(work.slot, (*name).clone()));
        let adopted = place.snapshots.get(&work.slot).cloned();
        let snapshot = adopted.unwrap_or_else(|| {
            let there = work.required.iter().chain(&work.optional).filter(has);
            let missing: Vec<SourceName> = work.required.iter().filter(|n| !has(n)).cloned().collect();
            SnapshotSummary {
                name: SnapshotName::new(spec.policy.clone(), work.slot),
                instance: spec.instance.clone(),
                committed_at: stamp(now),
                complete: missing.is_empty(),
                sources: there.map(source).collect(),
                missing,
            }
        });
        if snapshot.sources.is_empty() {
            return report(Verdict::Permanent, "NothingStored");
        }
        place.snapshots.insert(work.slot, snapshot.clone());
        let pruned = self.prune(number, spec, work, claimed_at);
        TaskReport { snapshot: Some(snapshot), pruned, ..report(Verdict::Committed, "") }
    }

    /// As the task prunes: a complete listing or nothing, never more than half, the newest two and what is held stay.
    fn prune(
        &mut self,
        number: usize,
        spec: &TaskSpec,
        work: &FinishWork,
        claimed_at: Ms,
    ) -> Vec<SnapshotName> {
        let failed = self.faults.strikes(Class::Remote, 120, "listing fails while pruning");
        if failed && !self.is(Bug::PrunesOnFailedListing) {
            return vec![];
        }
        let incomplete = !failed && self.faults.strikes(Class::Remote, 120, "listing lacks something");
        let point = |s: &SnapshotSummary| Point {
            name: s.name.clone(),
            committed_at: s.committed_at,
            complete: s.complete,
        };
        let all: Vec<Point> = self.remote.place(spec).snapshots.values().map(point).collect();
        let lacking: Vec<Point>;
        let points = if incomplete {
            let rng = self.faults.rng();
            lacking = all.iter().filter(|_| rng.below(3) > 0).cloned().collect();
            &lacking
        } else {
            &all
        };
        let own = SnapshotName::new(spec.policy.clone(), work.slot);
        let sees_own = points.iter().any(|p| p.name == own);
        if !sees_own || points.iter().any(|p| p.committed_at > stamp(self.now)) {
            return vec![];
        }
        let mut doomed = self.doomed(points, work);
        if doomed.len() * 2 > points.len() {
            return vec![];
        }
        // Killed in the middle, or refused by the store: the rest goes next time.
        if !doomed.is_empty() && self.faults.strikes(Class::Remote, 100, "pruning breaks off") {
            doomed.truncate(1);
        }
        self.check_prune(number, &all, &doomed, work, claimed_at, failed);
        let place = self.remote.place(spec);
        for name in &doomed {
            place.pruned.extend(place.snapshots.remove_entry(&name.slot()));
        }
        doomed
    }

    /// What retention drops, oldest first; and what it would if it had one of the planted bugs.
    fn doomed(&self, points: &[Point], work: &FinishWork) -> Vec<SnapshotName> {
        let held: BTreeSet<SnapshotName> = work.keep.iter().cloned().collect();
        let grace = SignedDuration::from_hours(48)
            + SignedDuration::from_secs(work.run_deadline_seconds.cast_signed());
        let decided = retention::decide(points, &work.retention, &held, grace, stamp(self.now));
        let newest = points.iter().map(|p| p.name.slot()).max();
        let too_old = |name: &SnapshotName| {
            ms(name.slot().time()) + DAY * Ms::from(work.retention.keep_within_days) < self.now
        };
        let doomed = decided.iter().rev().filter(|d| match self.bug {
            Some(Bug::RetentionKeepsOne) => Some(d.name.slot()) != newest && !held.contains(&d.name),
            Some(Bug::RetentionByWallClock) => {
                d.is_doomed()
                    || (work.retention.keep_within_days > 0
                        && Some(d.name.slot()) != newest
                        && too_old(&d.name))
            }
            _ => d.is_doomed(),
        });
        doomed.map(|d| d.name.clone()).collect()
    }

    /// The rules in other words: what must stay has stayed.
    fn check_prune(
        &mut self,
        number: usize,
        all: &[Point],
        doomed: &[SnapshotName],
        work: &FinishWork,
        claimed_at: Ms,
        failed: bool,
    ) {
        if failed && !doomed.is_empty() {
            self.violated(number, format_args!("prunes after a listing that failed"));
        }
        let mut complete: Vec<&SnapshotName> = all.iter().filter(|s| s.complete).map(|s| &s.name).collect();
        complete.reverse();
        let floor = ALWAYS_KEPT.max(usize::try_from(work.retention.keep_last).unwrap());
        let within = DAY * Ms::from(work.retention.keep_within_days);
        let newest = complete.first().map_or(0, |name| ms(name.slot().time()));
        for name in doomed {
            if complete.iter().take(floor).any(|kept| *kept == name) {
                self.violated(number, format_args!("{name} is pruned and one of the newest {floor}"));
            }
            if complete.contains(&name) && newest - ms(name.slot().time()) <= within && within > 0 {
                self.violated(number, format_args!("{name} is pruned within its time"));
            }
            let subject = &self.subjects[number];
            let held = subject.holds.iter().any(|(held, since)| held == name && *since < claimed_at);
            let tested = subject
                .drill
                .as_ref()
                .is_some_and(|(drill, at)| drill.last_passed.as_ref() == Some(name) && *at < claimed_at);
            if held || tested {
                self.violated(number, format_args!("{name} is pruned and held or restore-tested"));
            }
        }
    }
}
