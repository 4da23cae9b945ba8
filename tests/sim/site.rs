//! The places of a policy's sources: what is in them, and how the tasks that fill an empty site treat it.

use crate::{
    faults::Class,
    orchestrator::{OLDEST_VIEW, World},
    remote::report,
    rng::Rng,
    tasks::SimTask,
};
use backstay::{
    domain::{
        bootstrap::BootstrapPhase,
        names::{SnapshotName, SourceName},
        policy::Policy,
        snapshot::AsOf,
        verdict::Verdict,
    },
    plan::task_spec::{RestoreMode, RestoreWork, TaskReport, TaskSpec, Work},
};
use std::collections::BTreeMap;

/// What is in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Empty,
    /// Data that no restore brought, as far as anybody can know.
    Own,
    /// A restore of this snapshot broke off in it.
    Half(SnapshotName),
    /// A restore brought all of it.
    Filled(SnapshotName),
}

/// All places of one policy.
#[derive(Debug, Clone, Default)]
pub struct Site(BTreeMap<SourceName, Content>);

impl Site {
    /// Where the policy asks for it, the site is empty, or some of it is.
    pub fn of(policy: &Policy, rng: &mut Rng) -> Self {
        let kind = rng.below(4);
        let mut content = |name| {
            let is_empty = match kind {
                0 => false,
                1 => rng.below(2) == 0,
                _ => true,
            };
            let is_empty = is_empty && policy.restore_from.is_some();
            (name, if is_empty { Content::Empty } else { Content::Own })
        };
        Self(policy.sources().iter().map(|source| content(source.name())).collect())
    }

    /// Destroyed, and built anew.
    pub fn is_rebuilt(&mut self) {
        self.0.values_mut().for_each(|content| *content = Content::Empty);
    }

    /// Whatever is there is somebody's from now on; with `all`, everywhere is something.
    pub fn is_adopted(&mut self, all: bool) {
        let adopted = self.0.values_mut().filter(|content| all || **content != Content::Empty);
        adopted.for_each(|content| *content = Content::Own);
    }

    fn all(&self, is_so: impl Fn(&Content) -> bool) -> bool {
        self.0.values().all(is_so)
    }

    pub fn is_empty(&self) -> bool {
        self.all(|content| *content == Content::Empty)
    }

    pub fn has_own(&self) -> bool {
        !self.all(|content| *content != Content::Own)
    }

    /// A restore has begun in it and has not come to its end.
    pub fn is_torn(&self) -> bool {
        let has_begun = !self.all(|content| matches!(content, Content::Empty | Content::Own));
        has_begun && !self.all(|content| matches!(content, Content::Filled(_) | Content::Own))
    }

    /// Everything came from one snapshot.
    pub fn is_filled(&self) -> bool {
        let Some(Content::Filled(first)) = self.0.values().next() else { return false };
        self.all(|content| *content == Content::Filled(first.clone()))
    }

    fn is_occupied(&self, names: &[SourceName]) -> bool {
        names.iter().any(|name| self.0.get(name) != Some(&Content::Empty))
    }
}

fn names(work: &RestoreWork) -> Vec<SourceName> {
    let database = work.request.mongodb.iter().map(|_| SourceName::mongodb());
    database.chain(work.request.volumes.iter().map(|volume| volume.name.clone())).collect()
}

/// A task that writes into the site.
pub fn fills(spec: &TaskSpec) -> bool {
    matches!(&spec.work, Work::Restore(work) if work.mode == RestoreMode::Execute)
}

fn refused(has_changed: bool) -> TaskReport {
    told(report(Verdict::Guard, "TargetNotEmpty"), has_changed)
}

fn told(report: TaskReport, has_changed: bool) -> TaskReport {
    TaskReport { outcome: has_changed.then(|| "broken".into()), ..report }
}

impl World {
    /// What a task that looks at a site, or fills it, does: it never replaces anything. A volume in which the same restore
    /// broke off goes on where it stopped.
    pub fn bring_back(
        &mut self,
        number: usize,
        spec: &TaskSpec,
        work: &RestoreWork,
        broken: bool,
    ) -> TaskReport {
        let Some(snapshot) = self.remote.place(spec).find(&work.request.as_of).cloned() else {
            return report(Verdict::Permanent, "NoSnapshot");
        };
        let (names, name) = (names(work), snapshot.name.clone());
        let site = &mut self.subjects[number].site;
        let good = TaskReport { snapshot: Some(snapshot), ..report(Verdict::Committed, "") };
        if work.mode != RestoreMode::Execute {
            return if site.is_occupied(&names) { refused(false) } else { good };
        }
        let mut has_changed = false;
        for (place, source) in names.iter().enumerate() {
            let Some(content) = site.0.get_mut(source) else { continue };
            let goes_on = *source != SourceName::mongodb() && *content == Content::Half(name.clone());
            if *content != Content::Empty && !goes_on {
                return refused(has_changed);
            }
            has_changed = true;
            if broken && place + 1 == names.len() {
                *content = Content::Half(name);
                return told(report(Verdict::Temporary, "Broken"), true);
            }
            *content = Content::Filled(name.clone());
        }
        good
    }

    /// A task that is ended from outside may have begun to write.
    pub fn breaks_off(&mut self, number: usize, task: &SimTask) {
        let Work::Restore(work) = &task.spec.work else { return };
        let AsOf::Name(snapshot) = &work.request.as_of else { return };
        if work.mode != RestoreMode::Execute || self.faults.rng().below(2) == 0 {
            return;
        }
        let site = &mut self.subjects[number].site;
        let begun = names(work).into_iter().find(|name| site.0.get(name) == Some(&Content::Empty));
        if let Some(name) = begun {
            site.0.insert(name, Content::Half(snapshot.clone()));
        }
    }

    /// What may be asked of the tasks that fill a site.
    pub(crate) fn check_filling(&mut self, number: usize, work: &RestoreWork) {
        let request = &work.request;
        let replaces = request.confirmed
            || request.mongodb.as_ref().is_some_and(|target| target.replace)
            || request.volumes.iter().any(|target| target.delete_extra);
        if replaces {
            self.violated(number, format_args!("asks for a restore that replaces what is there"));
        }
        let mut wrong: Vec<&str> = vec![];
        let subject = &self.subjects[number];
        let expected = match work.mode {
            RestoreMode::Execute => BootstrapPhase::Filling,
            _ => BootstrapPhase::Looking,
        };
        let looked = self.caller.looked;
        // What is newer than the look nobody could know.
        let knows_edits = !self.faults.is_of(Class::Stale) || subject.edited_at < looked - OLDEST_VIEW;
        let is_news = subject.told_at >= looked || subject.ledger.wiped.is_some_and(|at| at >= looked);
        if subject.bootstrap() != Some(expected) && !is_news && !self.faults.is_of(Class::Stale) {
            wrong.push("that is not on record");
        }
        if work.mode == RestoreMode::Execute {
            if subject.site.has_own() && subject.edited_at < looked && knows_edits && !is_news {
                wrong.push("into a site that has data");
            }
            if subject.is_being_filled() {
                wrong.push("beside another one");
            }
        }
        if self.caller.late {
            return;
        }
        for what in wrong {
            let phase = self.subjects[number].bootstrap();
            self.violated(number, format_args!("asks for a restore {what}: {phase:?}"));
        }
    }

    /// No run begins before the site is what it is to be.
    pub(crate) fn check_site_of_claim(&self, number: usize, generation: i64) -> Option<&'static str> {
        let subject = &self.subjects[number];
        let asks = subject.policy().is_some_and(|policy| policy.restore_from.is_some());
        if !asks || subject.generation != generation {
            return None;
        }
        let has_run = !subject.ledger.claims.is_empty() || subject.ledger.wiped.is_some();
        match &subject.site {
            site if site.is_torn() => Some("while the site is filled in part"),
            site if site.is_empty() && !has_run => Some("before the site is filled"),
            _ => None,
        }
    }

    /// What a status says of the filling must be so.
    pub(crate) fn check_bootstrap(&self, number: usize, new: Option<BootstrapPhase>) -> Option<String> {
        let subject = &self.subjects[number];
        let old = subject.bootstrap();
        if old == new {
            return None;
        }
        let has_run = !subject.ledger.claims.is_empty();
        let site = &subject.site;
        let is_so = match (old, new?) {
            (Some(old), _) if old.is_over() => false,
            (_, BootstrapPhase::Restored) => site.is_filled() || site.has_own(),
            (_, BootstrapPhase::HadData) => has_run || site.has_own(),
            (_, BootstrapPhase::Incomplete) => !site.is_empty() || subject.ledger.wiped.is_some(),
            (_, BootstrapPhase::Looking) => !site.is_torn(),
            (_, BootstrapPhase::Filling) => site.is_empty(),
        };
        (!is_so).then(|| format!("the filling was {old:?} and is called {new:?} of {site:?}"))
    }

    /// A site that was filled in part is brought back by a person, who then takes the wish from the policy.
    pub fn take_over_site(&mut self, number: usize) {
        let is_left = self.subjects[number].bootstrap() == Some(BootstrapPhase::Incomplete);
        let policy = self.subjects[number].policy().cloned();
        if let Some(policy) = policy.filter(|policy| is_left && policy.restore_from.is_some()) {
            self.remember(number);
            self.subjects[number].site.is_adopted(true);
            let policy = Policy { restore_from: None, ..policy };
            self.declare(number, backstay::plan::observed::Spec::Valid(std::sync::Arc::new(policy)));
        }
    }
}
