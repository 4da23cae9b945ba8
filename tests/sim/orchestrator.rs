//! The orchestrator behind the port: records, tasks and people's notes in memory. Every effect passes the invariants.

use crate::{
    bugs::Bug,
    clock::{DAY, MINUTE, Ms, stamp},
    effort::Effort,
    faults::{Class, Faults},
    invariants::Ledger,
    remote::Remote,
    site::{self, Site},
    tasks::SimTask,
};
use async_trait::async_trait;
use backstay::{
    controller::port::{Create, Created, Delete, Orchestrator, PortError, Record, Wake},
    domain::{
        bootstrap::BootstrapPhase,
        identity::PolicyId,
        location::RcloneConfig,
        names::{Slot, SnapshotName},
        policy::Policy,
        run::{Run, RunState},
        status::Status,
    },
    plan::{
        action::{Answer, NewTask},
        observed::{
            Caps, Declared, Drill, Observed, Recorded, Request, Restore, Secrets, Spec, Task, TaskName,
            TaskState,
        },
    },
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};
use tokio::sync::mpsc;

/// Views that are kept for looks into the past, and how old they may be.
const VIEWS: usize = 4;
pub const OLDEST_VIEW: Ms = 5 * MINUTE;

/// How policies and their records hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Records outlive the policy's file, nobody knows when it was made.
    Host,
    /// Records go with the policy, which knows when it was made.
    Cluster,
}

/// Something of somebody else that has a name of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    Run(Slot),
    Task(TaskName),
}

/// One policy and all about it.
pub struct Subject {
    pub id: PolicyId,
    /// `None`: nobody declares it.
    pub declared: Option<Declared>,
    /// Since when lists find that nobody does.
    absent_since: Option<Ms>,
    pub generation: i64,
    /// The first specification since it was made, and when that was.
    pub born: i64,
    pub born_at: Ms,
    /// When a person changed it last.
    pub edited_at: Ms,
    /// When the status was written last.
    pub told_at: Ms,
    pub site: Site,
    pub status: Option<Recorded<Status>>,
    pub runs: Vec<Recorded<Run>>,
    pub tasks: Vec<SimTask>,
    pub requests: Vec<Request>,
    pub restores: Vec<Restore>,
    /// With the time since when.
    pub holds: Vec<(SnapshotName, Ms)>,
    pub drill: Option<(Drill, Ms)>,
    pub nodes: BTreeMap<backstay::domain::names::SourceName, String>,
    pub foreign: Vec<Foreign>,
    views: VecDeque<View>,
    pub ledger: Ledger,
}

/// What was there before a change.
struct View {
    until: Ms,
    status: Option<Recorded<Status>>,
    runs: Vec<Recorded<Run>>,
    tasks: Vec<Task>,
    requests: Vec<Request>,
}

impl Subject {
    pub fn new(number: usize) -> Self {
        Self {
            id: format!("p{number}").parse().unwrap(),
            declared: None,
            absent_since: None,
            generation: 0,
            born: 0,
            born_at: 0,
            edited_at: 0,
            told_at: 0,
            site: Site::default(),
            status: None,
            runs: vec![],
            tasks: vec![],
            requests: vec![],
            restores: vec![],
            holds: vec![],
            drill: None,
            nodes: BTreeMap::new(),
            foreign: vec![],
            views: VecDeque::new(),
            ledger: Ledger::new(),
        }
    }

    pub fn policy(&self) -> Option<&Policy> {
        match &self.declared.as_ref()?.spec {
            Spec::Valid(policy) => Some(policy),
            Spec::Wrong(_) | Spec::Gone => None,
        }
    }

    /// The same, to keep.
    pub fn valid(&self) -> Option<Arc<Policy>> {
        match &self.declared.as_ref()?.spec {
            Spec::Valid(policy) => Some(Arc::clone(policy)),
            Spec::Wrong(_) | Spec::Gone => None,
        }
    }

    /// How far the filling of the site is, as the status says.
    pub fn bootstrap(&self) -> Option<BootstrapPhase> {
        self.status.as_ref()?.value.bootstrap.as_ref().map(|bootstrap| bootstrap.phase)
    }

    /// A task is writing into the site.
    pub fn is_being_filled(&self) -> bool {
        self.tasks.iter().any(|t| site::fills(&t.spec) && t.is_live() && !t.late)
    }

    /// Runs wait for the site.
    pub fn awaits_site(&self) -> bool {
        let is_ready = matches!(self.bootstrap(), Some(BootstrapPhase::Restored | BootstrapPhase::HadData));
        self.policy().is_some_and(|policy| policy.restore_from.is_some()) && !is_ready
    }

    /// Everything is forgotten but what the policy said.
    pub fn forget(&mut self) {
        self.site.is_adopted(false);
        self.status = None;
        self.runs.clear();
        self.tasks.clear();
        self.requests.clear();
        self.restores.clear();
        self.holds.clear();
        self.drill = None;
        let lost_spec = self.ledger.lost_spec.take();
        self.ledger = Ledger::new();
        self.ledger.lost_spec = lost_spec;
    }

    pub fn active_run(&self) -> Option<&Run> {
        self.runs.iter().map(|r| &*r.value).find(|r| r.state.end.is_none())
    }

    /// Lists name it, so that a controller can look at it. What is left of others goes with their records.
    pub fn is_listed(&self) -> bool {
        self.declared.is_some() || self.active_run().is_some()
    }

    pub fn run(&self, slot: Slot) -> Option<&Run> {
        self.runs.iter().map(|r| &*r.value).find(|r| r.slot == slot)
    }

    /// Declares a specification, new or changed.
    pub fn declare(&mut self, spec: Spec, flavour: Flavour, now: Ms) {
        self.generation += 1;
        let created_at = match &self.declared {
            Some(old) => old.created_at,
            None => (flavour == Flavour::Cluster).then(|| stamp(now)),
        };
        self.declared = Some(Declared {
            id: self.id.clone(),
            generation: self.generation,
            created_at,
            spec,
            secrets: Secrets::default(),
        });
    }
}

/// What the driver has to follow up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A task was made.
    Made(usize, String),
    /// A running task was asked to stop.
    Stopping(usize, String),
    /// A record or a task changed.
    Changed(usize),
    /// What is declared changed.
    Policies,
    /// A site is filled in part, and a person is to decide.
    Incomplete(usize),
}

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    pub clock: Timestamp,
    /// It comes after the caller gave up waiting.
    pub late: bool,
    /// When the caller looked at the policy last.
    pub looked: Ms,
}

/// Everything outside the controller.
pub struct World {
    pub now: Ms,
    pub caller: Caller,
    pub flavour: Flavour,
    pub caps: Caps,
    pub bug: Option<Bug>,
    pub faults: Faults,
    pub remote: Remote,
    pub subjects: Vec<Subject>,
    pub news: Vec<News>,
    /// A clock was so wrong that what was written under it is not believed.
    pub skewed: bool,
    /// A controller's call is being carried out.
    pub in_call: bool,
    pub effort: Effort,
    pub violations: Vec<String>,
    /// Requests that people made.
    pub requests: u64,
    serial: u64,
}

impl World {
    pub fn new(now: Ms, flavour: Flavour, caps: Caps, faults: Faults, bug: Option<Bug>) -> Self {
        Self {
            now,
            caller: Caller { clock: stamp(now), late: false, looked: now },
            flavour,
            caps,
            bug,
            faults,
            remote: Remote::default(),
            subjects: vec![],
            news: vec![],
            skewed: false,
            in_call: false,
            effort: Effort::default(),
            violations: vec![],
            requests: 0,
            serial: 0,
        }
    }

    pub fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// The number of a policy, which its name carries.
    pub fn number(policy: &PolicyId) -> usize {
        policy.name().as_str()[1..].parse().unwrap()
    }

    fn next_serial(&mut self) -> String {
        self.serial += 1;
        self.serial.to_string()
    }

    pub fn violated(&mut self, number: usize, what: std::fmt::Arguments<'_>) {
        self.violations.push(format!("{}  p{number}: {what}", stamp(self.now)));
    }

    /// Nothing of the seed can let an honest controller act on what is no longer so.
    pub fn is_calm(&self) -> bool {
        ![Class::LateEffect, Class::Stale, Class::Twin].iter().any(|class| self.faults.is_of(*class))
    }

    /// In a cluster, what belongs to a policy that is gone cannot be made or written.
    fn is_orphan(&self, number: usize, generation: i64) -> bool {
        let subject = &self.subjects[number];
        self.flavour == Flavour::Cluster
            && (subject.declared.is_none() || (generation > 0 && generation < subject.born))
    }

    /// Keeps what is there now, for looks into the past. To be called before each change.
    pub fn remember(&mut self, number: usize) {
        // A host notices what people and processes do; a cluster tells of every write.
        if !self.in_call || self.flavour == Flavour::Cluster {
            self.news.push(News::Changed(number));
        }
        if !self.faults.has(Class::Stale) {
            return;
        }
        let (now, subject) = (self.now, &mut self.subjects[number]);
        if subject.views.len() == VIEWS {
            subject.views.pop_front();
        }
        subject.views.push_back(View {
            until: now,
            status: subject.status.clone(),
            runs: subject.runs.clone(),
            tasks: subject.tasks.iter().map(|t| t.task.clone()).collect(),
            requests: subject.requests.clone(),
        });
    }

    fn list(&mut self) -> Vec<Declared> {
        self.effort.lists += 1;
        self.sweep();
        let gone = |s: &Subject| Declared {
            id: s.id.clone(),
            generation: 0,
            created_at: None,
            spec: Spec::Gone,
            secrets: Secrets::default(),
        };
        let of = |s: &Subject| s.declared.clone().or_else(|| s.active_run().map(|_| gone(s)));
        self.subjects.iter().filter_map(of).collect()
    }

    /// A host forgets a policy that nobody has declared for seven days, as its port does.
    fn sweep(&mut self) {
        let now = self.now;
        for number in 0..self.subjects.len() {
            let subject = &mut self.subjects[number];
            if subject.declared.is_some() || subject.active_run().is_some() || !subject.restores.is_empty() {
                subject.absent_since = None;
            } else if now >= *subject.absent_since.get_or_insert(now) + 7 * DAY {
                subject.forget();
            }
        }
    }

    fn observe(&mut self, number: usize) -> Observed {
        self.effort.observes += 1;
        let subject = &self.subjects[number];
        let mut observed = Observed {
            status: subject.status.clone(),
            runs: subject.runs.clone(),
            tasks: subject.tasks.iter().map(|t| t.task.clone()).collect(),
            requests: subject.requests.clone(),
            restores: subject.restores.clone(),
            holds: subject.holds.iter().map(|(name, _)| name.clone()).collect(),
            drill: subject.drill.as_ref().map(|(drill, _)| drill.clone()),
            keep_files: None,
            nodes: subject.nodes.clone(),
            image: None,
            site: "s".to_owned(),
            refusal: None,
        };
        let recent = subject.views.iter().filter(|v| v.until + OLDEST_VIEW > self.now).count();
        if recent > 0 && self.faults.strikes(Class::Stale, 150, "stale view") {
            self.age(number, recent, &mut observed);
        }
        observed
    }

    /// Each part may be old; what is read later is never older: tasks, run records, the rest.
    fn age(&mut self, number: usize, recent: usize, observed: &mut Observed) {
        let views = &self.subjects[number].views;
        let oldest = views.len() - recent;
        let rng = self.faults.rng();
        let mut draw = |from: usize| {
            let choices = views.len() - from + 1;
            from + usize::try_from(rng.below(choices as u64)).unwrap()
        };
        let tasks = draw(oldest);
        let runs = draw(tasks);
        let rest = draw(runs);
        if let Some(view) = views.get(tasks) {
            observed.tasks.clone_from(&view.tasks);
        }
        if let Some(view) = views.get(runs) {
            observed.runs.clone_from(&view.runs);
        }
        if let Some(view) = views.get(rest) {
            observed.status.clone_from(&view.status);
            observed.requests.clone_from(&view.requests);
        }
    }

    fn create_run(&mut self, number: usize, run: &Run) -> Result<Created, PortError> {
        self.effort.creates += 1;
        let subject = &self.subjects[number];
        if subject.foreign.contains(&Foreign::Run(run.slot)) && !self.is(Bug::ForeignAdopted) {
            self.effort.causes += 1;
            return Ok(Created::Foreign(format!("{}, made by somebody else", run.slot)));
        }
        if subject.foreign.contains(&Foreign::Run(run.slot)) {
            return Ok(Created::Ours);
        }
        if self.is_orphan(number, run.plan.generation) {
            return Err(PortError::Conflict("the policy is gone".to_owned()));
        }
        let subject = &self.subjects[number];
        if subject.restores.iter().any(|r| r.active) {
            return Err(PortError::Conflict("a restore began".to_owned()));
        }
        if subject.runs.iter().any(|r| r.value.slot == run.slot) {
            return Ok(Created::Ours);
        }
        self.check_claim(number, run);
        self.remember(number);
        let revision = self.next_serial();
        self.subjects[number].runs.push(Recorded::new(run.clone(), revision));
        self.check_caps(number, run);
        Ok(Created::Fresh)
    }

    fn create_task(&mut self, number: usize, task: &NewTask) -> Result<Created, PortError> {
        self.effort.creates += 1;
        let subject = &self.subjects[number];
        if subject.foreign.contains(&Foreign::Task(task.name.clone())) && !self.is(Bug::ForeignAdopted) {
            self.effort.causes += 1;
            return Ok(Created::Foreign(format!("{}, made by somebody else", task.name)));
        }
        if subject.foreign.contains(&Foreign::Task(task.name.clone())) {
            return Ok(Created::Ours);
        }
        let owner = match task.name.slot {
            Some(slot) => subject.run(slot).map(|run| run.plan.generation),
            None if task.name.is_preflight() => Some(task.name.attempt),
            // What fills a site carries no number of its own.
            None if self.caller.looked < subject.born_at => Some(1),
            None => Some(subject.generation),
        };
        if owner.is_none_or(|generation| self.is_orphan(number, generation)) {
            return Err(PortError::Conflict("the owner is gone".to_owned()));
        }
        let subject = &self.subjects[number];
        if subject.tasks.iter().any(|t| t.task.name == task.name) {
            return Ok(Created::Ours);
        }
        self.check_task(number, task);
        self.remember(number);
        let uid = self.next_serial();
        let state = TaskState::Pending { since: stamp(self.now), why: "scheduling".to_owned() };
        let made = Task { name: task.name.clone(), uid: uid.clone(), state };
        let made = SimTask::new(made, task.spec.clone(), self.caller.late);
        self.subjects[number].tasks.push(made);
        self.news.push(News::Made(number, uid));
        self.check_alone(number);
        Ok(Created::Fresh)
    }

    fn record_run(
        &mut self,
        number: usize,
        slot: Slot,
        revision: &str,
        state: &RunState,
    ) -> Result<(), PortError> {
        self.effort.run_writes += 1;
        let Some(place) = self.subjects[number].runs.iter().position(|r| r.value.slot == slot) else {
            return Err(PortError::Conflict(format!("run {slot} is not there")));
        };
        if self.subjects[number].runs[place].revision != revision && !self.is(Bug::RevisionIgnored) {
            return Err(PortError::Conflict(format!("run {slot}")));
        }
        self.check_state(number, place, state);
        self.remember(number);
        let revision = self.next_serial();
        let run = &mut self.subjects[number].runs[place];
        Arc::make_mut(&mut run.value).state = state.clone();
        run.revision = revision;
        Ok(())
    }

    fn record_answer(&mut self, number: usize, id: &str, answer: &Answer) {
        self.effort.answers += 1;
        self.check_answer(number, id, answer);
        self.remember(number);
        self.subjects[number].requests.retain(|r| r.id != id);
    }

    fn record_status(
        &mut self,
        number: usize,
        revision: Option<&str>,
        status: &Status,
    ) -> Result<(), PortError> {
        self.effort.status_writes += 1;
        let subject = &self.subjects[number];
        let there = subject.status.as_ref().map(|s| s.revision.as_str());
        if there != revision && !self.is(Bug::RevisionIgnored) {
            return Err(PortError::Conflict("status".to_owned()));
        }
        if self.is_orphan(number, status.observed_generation) {
            return Err(PortError::Conflict("the policy is gone".to_owned()));
        }
        self.check_status(number, status);
        let phase = status.bootstrap.as_ref().map(|bootstrap| bootstrap.phase);
        if phase == Some(BootstrapPhase::Incomplete) && self.subjects[number].bootstrap() != phase {
            self.news.push(News::Incomplete(number));
        }
        self.remember(number);
        let revision = self.next_serial();
        let subject = &mut self.subjects[number];
        (subject.status, subject.told_at) = (Some(Recorded::new(status.clone(), revision)), self.now);
        Ok(())
    }

    fn delete_task(&mut self, number: usize, uid: &str, ended: bool) -> Result<(), PortError> {
        self.effort.deletes += 1;
        if uid.starts_with("foreign") {
            self.violated(number, format_args!("deletes {uid}, which is not ours"));
            return Ok(());
        }
        let Some(place) = self.subjects[number].tasks.iter().position(|t| t.task.uid == uid) else {
            return Ok(());
        };
        if !ended && matches!(self.subjects[number].tasks[place].task.state, TaskState::Ended { .. }) {
            return Err(PortError::Conflict("it has ended".to_owned()));
        }
        self.check_delete(number, place);
        if self.subjects[number].tasks[place].stopping && self.subjects[number].tasks[place].is_running() {
            return Ok(());
        }
        self.remember(number);
        self.effort.causes += u64::from(!self.subjects[number].tasks[place].stopping);
        let task = &mut self.subjects[number].tasks[place];
        match task.task.state {
            TaskState::Pending { .. } | TaskState::Ended { .. } => {
                self.subjects[number].tasks.remove(place);
            }
            TaskState::Running { .. } => {
                task.stopping = true;
                self.news.push(News::Stopping(number, uid.to_owned()));
            }
            TaskState::Unreachable { .. } => task.stopping = true,
        }
        Ok(())
    }

    fn delete_run(&mut self, number: usize, slot: Slot) {
        self.effort.deletes += 1;
        if !self.subjects[number].runs.iter().any(|r| r.value.slot == slot) {
            return;
        }
        self.check_forget(number, slot);
        self.remember(number);
        self.subjects[number].runs.retain(|r| r.value.slot != slot);
    }

    /// Active runs of all policies: in all, to a remote, with a configuration.
    pub fn load(&self) -> (usize, BTreeMap<String, usize>, Vec<String>) {
        let (mut all, mut remotes, mut directories) = (0, BTreeMap::new(), vec![]);
        for run in self.subjects.iter().filter_map(Subject::active_run) {
            all += 1;
            *remotes.entry(run.plan.destination.remote.to_string()).or_default() += 1;
            if let RcloneConfig::Directory(path) = &run.plan.destination.config {
                directories.push(path.display().to_string());
            }
        }
        (all, remotes, directories)
    }
}

/// The world as the controller reaches it.
#[derive(Clone)]
pub struct Port(pub Arc<Mutex<World>>);

#[async_trait]
impl Orchestrator for Port {
    fn wakes(&self) -> mpsc::Receiver<Wake> {
        mpsc::channel(1).1
    }

    async fn list(&self) -> Result<Vec<Declared>, PortError> {
        Ok(self.0.lock().unwrap().list())
    }

    async fn observe(&self, policy: &PolicyId) -> Result<Observed, PortError> {
        Ok(self.0.lock().unwrap().observe(World::number(policy)))
    }

    async fn create(&self, policy: &PolicyId, what: Create<'_>) -> Result<Created, PortError> {
        let (mut world, number) = (self.0.lock().unwrap(), World::number(policy));
        match what {
            Create::Run(run) => world.create_run(number, run),
            Create::Task(task) => world.create_task(number, task),
        }
    }

    async fn record(&self, policy: &PolicyId, what: Record<'_>) -> Result<(), PortError> {
        let (mut world, number) = (self.0.lock().unwrap(), World::number(policy));
        match what {
            Record::Run { slot, revision, state } => world.record_run(number, slot, revision, state),
            Record::Answer { id, answer } => {
                world.record_answer(number, id, answer);
                Ok(())
            }
            Record::Status { revision, status } => world.record_status(number, revision, status),
        }
    }

    async fn delete(&self, policy: &PolicyId, what: Delete<'_>) -> Result<(), PortError> {
        let (mut world, number) = (self.0.lock().unwrap(), World::number(policy));
        match what {
            Delete::Task { uid, ended } => return world.delete_task(number, uid, ended),
            Delete::Run { slot } => world.delete_run(number, slot),
        }
        Ok(())
    }
}
