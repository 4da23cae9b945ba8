//! An orchestrator in memory for the tests of decisions: it does what an action says, and time passes when told to.

use crate::{
    domain::{
        names::{SnapshotName, SourceName},
        policy::{
            Guards, MemberPreference, MongoConnection, MongoUri, Mongodb, OplogMode, Policy, TaskSettings,
            Volume, VolumePlace,
        },
        retention::Retention,
        run::Run,
        schedule::Schedule,
        snapshot::{Consistency, SnapshotSummary, SourceSummary},
        status::Status,
        verdict::{Failure, Verdict},
    },
    plan::{
        action::{Action, Answer, Decision},
        decide::decide,
        observed::{Declared, Load, Observed, Recorded, Request, Secrets, Spec, Task, TaskState, Wish},
        task_spec::{TaskReport, TaskSpec, Work},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// A policy of a database and a volume at two o'clock.
pub(super) fn policy() -> Policy {
    let (name, instance) = ("nightly".parse().unwrap(), "production".parse().unwrap());
    let location = serde_json::json!({
        "remote": "box", "path": "WT", "config": {"secret": {"file": "/etc/rclone.conf"}},
        "transfers": 4, "partSizeMib": 16
    });
    Policy {
        schedule: Schedule::parse("0 2 * * *", "UTC", &instance, &name).unwrap(),
        name,
        instance,
        starting_deadline: None,
        suspend: false,
        mongodb: Some(Mongodb {
            connection: MongoConnection {
                uri: MongoUri::Plain("mongodb://localhost/".to_owned()),
                username: None,
                password: None,
                tls_ca: None,
                tls_certificate: None,
            },
            include: vec![],
            exclude: vec![],
            oplog: OplogMode::Auto,
            member: MemberPreference::Primary,
            parallel_collections: 4,
        }),
        volumes: vec![volume("homes", false)],
        restore_from: None,
        destination: serde_json::from_value(location).unwrap(),
        take_over: false,
        retention: Retention::default(),
        guards: Guards { minimum_source_percent: 50 },
        fresh_within: None,
        task: TaskSettings {
            timeout: Duration::from_secs(6 * 3600),
            pending: Duration::from_secs(900),
            retries: 2,
            memory_mib: 128,
            placement: Default::default(),
        },
    }
}

pub(super) fn volume(name: &str, optional: bool) -> Volume {
    Volume {
        name: name.parse().unwrap(),
        place: VolumePlace::HostPath(format!("/mnt/{name}").into()),
        include: vec![],
        exclude: vec![],
        optional,
        allow_empty: false,
        node_selector: BTreeMap::new(),
        one_file_system: true,
    }
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) struct World {
    pub declared: Declared,
    pub observed: Observed,
    pub load: Load,
    pub now: Timestamp,
    /// Specifications of the tasks that exist.
    pub specs: BTreeMap<String, TaskSpec>,
    pub answers: BTreeMap<String, Answer>,
    /// Everything that was done, in a line each.
    pub trace: Vec<String>,
    serial: u64,
}

impl World {
    /// The policy is seen for the first time at `now`; its preflight has passed.
    pub(super) fn new(policy: Policy, now: &str) -> Self {
        let declared = Declared {
            id: "nightly".parse().unwrap(),
            generation: 1,
            created_at: None,
            spec: Spec::Valid(Arc::new(policy)),
            secrets: Secrets::default(),
        };
        let observed = Observed { site: "site-1".to_owned(), ..Observed::default() };
        let mut world = Self {
            declared,
            observed,
            load: Load::default(),
            now: at(now),
            specs: BTreeMap::new(),
            answers: BTreeMap::new(),
            trace: Vec::new(),
            serial: 0,
        };
        world.settle();
        world.end_task(report(Verdict::Committed));
        world.settle();
        world.trace.clear();
        world
    }

    pub(super) fn policy_mut(&mut self) -> &mut Policy {
        let Spec::Valid(policy) = &mut self.declared.spec else { panic!("not valid") };
        self.declared.generation += 1;
        Arc::make_mut(policy)
    }

    pub(super) fn decide(&self) -> Decision {
        decide(&self.declared, &self.observed, &self.load, self.now)
    }

    pub(super) fn status(&self) -> &Status {
        &self.observed.status.as_ref().unwrap().value
    }

    /// Passes until nothing is left to do at this moment; the last decision.
    pub(super) fn settle(&mut self) -> Decision {
        for _ in 0..50 {
            let decision = self.decide();
            if decision.actions.iter().all(|a| matches!(a, Action::DeleteTask { .. })) && !self.any_ended() {
                decision.actions.iter().for_each(|a| self.apply(a));
                if decision.actions.is_empty() {
                    return decision;
                }
                continue;
            }
            decision.actions.iter().for_each(|a| self.apply(a));
            if decision.is_idle() {
                return decision;
            }
        }
        panic!("does not settle: {:#?}", self.trace);
    }

    /// Passes as [`World::settle`] does, of a controller that dies each time before it records the status.
    pub(super) fn settle_without_status(&mut self) {
        for _ in 0..10 {
            let actions = self.decide().actions;
            actions.iter().filter(|a| !matches!(a, Action::RecordStatus { .. })).for_each(|a| self.apply(a));
        }
    }

    fn any_ended(&self) -> bool {
        self.observed.tasks.iter().any(|t| matches!(t.state, TaskState::Ended { .. }))
    }

    pub(super) fn go_to(&mut self, time: &str) -> Decision {
        self.now = at(time);
        self.settle()
    }

    pub(super) fn pass_time(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// Does one action.
    pub(super) fn apply(&mut self, action: &Action) {
        self.serial += 1;
        let revision = self.serial.to_string();
        self.trace.push(line(action));
        match action {
            Action::CreateRun(run) => {
                assert!(self.run(run.slot).is_none(), "claimed twice: {}", run.slot);
                self.observed.runs.push(Recorded::new((**run).clone(), revision));
            }
            Action::CreateTask(task) => {
                if self.observed.tasks.iter().all(|t| t.name != task.name) {
                    let state = TaskState::Running { since: self.now };
                    self.specs.insert(revision.clone(), task.spec.clone());
                    self.observed.tasks.push(Task { name: task.name.clone(), uid: revision, state });
                }
            }
            Action::RecordRun { slot, revision: seen, state } => {
                let run = self.observed.runs.iter_mut().find(|r| r.value.slot == *slot).unwrap();
                assert_eq!(run.revision, *seen);
                Arc::make_mut(&mut run.value).state = (**state).clone();
                run.revision = revision;
            }
            Action::AnswerRequest { id, answer } => {
                self.observed.requests.retain(|r| r.id != *id);
                self.answers.insert(id.clone(), answer.clone());
            }
            Action::DeleteTask { uid, .. } => self.observed.tasks.retain(|t| t.uid != *uid),
            Action::DeleteRun { slot } => self.observed.runs.retain(|r| r.value.slot != *slot),
            Action::RecordStatus { revision: seen, status } => {
                assert_eq!(self.observed.status.as_ref().map(|s| &s.revision), seen.as_ref());
                self.observed.status = Some(Recorded::new((**status).clone(), revision));
            }
        }
    }

    pub(super) fn run(&self, slot: crate::domain::names::Slot) -> Option<&Run> {
        self.observed.runs.iter().map(|r| &*r.value).find(|r| r.slot == slot)
    }

    pub(super) fn set_task(&mut self, state: TaskState) {
        self.observed.tasks.last_mut().unwrap().state = state;
    }

    /// The newest task ends.
    pub(super) fn end_task(&mut self, report: TaskReport) {
        let task = self.observed.tasks.last().unwrap();
        let report = completed(report, &self.specs[&task.uid], self.now);
        let started_at = match &task.state {
            TaskState::Running { since } => Some(*since),
            _ => None,
        };
        let ended = TaskState::Ended {
            started_at,
            at: self.now,
            report: Some(Box::new(report)),
            detail: String::new(),
        };
        self.set_task(ended);
    }

    /// The newest task is killed, and its report with it.
    pub(super) fn kill_task(&mut self) {
        let detail = "signal 9".to_owned();
        self.set_task(TaskState::Ended { started_at: None, at: self.now, report: None, detail });
    }

    pub(super) fn ask(&mut self, id: &str, wish: Wish) {
        let request = Request { id: id.to_owned(), requested_at: self.now, wish };
        self.observed.requests.push(request);
    }

    pub(super) fn outcomes(&self) -> Vec<String> {
        self.status().history.iter().map(|h| format!("{} {:?} {}", h.slot, h.outcome, h.reason)).collect()
    }
}

/// A report with this verdict; the world fills in what the task would have made.
pub(super) fn report(verdict: Verdict) -> TaskReport {
    let failed = verdict != Verdict::Committed;
    let failure = failed.then(|| Failure::new(verdict, "Broken", "it broke").fix("mend it"));
    TaskReport { verdict, failure, ..TaskReport::empty() }
}

pub(super) fn source(name: &str) -> SourceSummary {
    SourceSummary {
        source: name.parse().unwrap(),
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

/// What a task that commits reports: its sources, and the snapshot when it finishes.
fn completed(mut report: TaskReport, spec: &TaskSpec, now: Timestamp) -> TaskReport {
    if report.verdict != Verdict::Committed || report.snapshot.is_some() {
        return report;
    }
    let (slot, names): (_, Vec<SourceName>) = match &spec.work {
        Work::Backup(work) => {
            let names = work.sources.iter().map(|s| s.name()).collect();
            (work.finish.is_some().then_some(work.slot), names)
        }
        Work::Finish(work) => (Some(work.slot), work.required.clone()),
        Work::Preflight { .. } | Work::Restore(_) | Work::Verify(_) | Work::Prune(_) => (None, vec![]),
    };
    report.sources = names.iter().map(|n| source(n.as_str())).collect();
    report.snapshot = slot.map(|slot| SnapshotSummary {
        name: SnapshotName::new(spec.policy.clone(), slot),
        instance: spec.instance.clone(),
        committed_at: now,
        complete: true,
        sources: report.sources.clone(),
        missing: vec![],
    });
    report
}

/// An action in a line.
pub(super) fn line(action: &Action) -> String {
    match action {
        Action::CreateRun(run) => format!("create run {}", run.slot),
        Action::CreateTask(task) => format!("create task {}", task.name),
        Action::RecordRun { slot, state, .. } => {
            let last = state.attempts.last().map(|a| format!(" {}-{} {:?}", a.step, a.number, a.verdict));
            let end = state.end.as_ref().map(|e| format!(" {:?}/{}", e.outcome, e.reason));
            format!("record run {slot}{}{}", last.unwrap_or_default(), end.unwrap_or_default())
        }
        Action::AnswerRequest { id, answer } => format!("answer {id}: {answer:?}"),
        Action::DeleteTask { name, why, .. } => format!("delete task {name}: {why}"),
        Action::DeleteRun { slot } => format!("delete run {slot}"),
        Action::RecordStatus { .. } => "record status".to_owned(),
    }
}
