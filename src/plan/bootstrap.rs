//! An empty site is filled from backups, once, before its first run.
//!
//! First a look at every source: where anything is there, nothing is restored at all. Then the database, then the volumes,
//! one by one: a volume that broke off goes on where it stopped, which one that is whole beside it would not let it. What is
//! there is never replaced, so a task that comes late, or twice, does no harm; and where a restore broke off in the middle
//! of a database, a person decides.

use crate::{
    domain::{
        bootstrap::{Bootstrap, BootstrapPhase},
        names::{SnapshotName, SourceName},
        policy::{Policy, RestoreFrom, Source},
        restore::{MetadataOptions, MongodbTarget, RestoreRequest, VolumeTarget},
        run::{StepName, TaskLimits},
        snapshot::AsOf,
        status::{ConditionType, Waiting, WaitingReason},
        verdict::Failure,
    },
    plan::{
        action::{Action, NewTask},
        claim::{held, placement, waiting},
        conditions,
        deadline::after,
        observed::{Spec, Task, TaskName, TaskState},
        pass::Pass,
        phase::pause,
        task_spec::{RestoreMode, RestoreWork, TASK_SPEC_VERSION, TaskReport, TaskSpec, Work},
    },
};
use jiff::Timestamp;
use std::time::Duration;

/// Why a restore refuses a target that holds something.
const NOT_EMPTY: &str = "TargetNotEmpty";

impl<'a> Pass<'a> {
    /// What the filling of the site needs next. Runs wait until it is over.
    pub(super) fn bootstrap(&mut self) {
        let tasks: Vec<&'a Task> = self.observed.tasks.iter().filter(|task| task.name.fills_site()).collect();
        let policy = match &self.declared.spec {
            Spec::Valid(policy) => policy,
            Spec::Wrong(_) => return,
            Spec::Gone => return self.delete(&tasks, "the policy is declared no more"),
        };
        let Some(from) = &policy.restore_from else {
            self.status.bootstrap = None;
            self.unset(ConditionType::Bootstrapped);
            self.bootstrap_waits = stops(&tasks);
            return self.delete(&tasks, "the policy asks for it no more");
        };
        let recorded = self.status.bootstrap.clone();
        let state = self.next_state(policy, recorded.clone(), &tasks);
        let generation = self.declared.generation;
        self.set(ConditionType::Bootstrapped, conditions::bootstrapped(&state, generation));
        if recorded.as_ref() == Some(&state) {
            self.bootstrap_waits = waits(&state);
            self.carry_on(policy, from, &state, &tasks);
        } else {
            // It is on record before anything is made, or removed, because of it: a run as well.
            self.bootstrap_waits = recorded.as_ref().and_then(waits).or_else(|| waits(&state));
            self.status.bootstrap = Some(state);
            self.decision.wake(self.now);
        }
    }

    fn next_state(&self, policy: &Policy, recorded: Option<Bootstrap>, tasks: &[&Task]) -> Bootstrap {
        let (now, generation) = (self.now, self.declared.generation);
        let first = || {
            let sources = policy.sources().iter().map(Source::name).collect();
            Bootstrap::new(generation, sources, now)
        };
        let Some(state) = recorded else {
            let first = first();
            let has_run = self.status.last_run.is_some() || !self.runs.is_empty();
            let why = "the policy has made backups of its own already";
            if has_run {
                return first.over(BootstrapPhase::HadData, why, now);
            }
            // What a look would find may be half of what that task has brought.
            let fills = tasks.iter().any(|task| task.name.step.fills_site());
            let why = "a task was filling the site when the record of how far it was got lost";
            return if fills { first.over(BootstrapPhase::Incomplete, why, now) } else { first };
        };
        if state.phase.is_over() {
            return state;
        }
        if state.generation != generation && state.phase == BootstrapPhase::Looking {
            // What was looked at is not what is asked for now; a new attempt is a new task.
            return Bootstrap { attempt: state.attempt.saturating_add(1), ..first() };
        }
        // Nobody asks for it any more.
        if source_of(&state, policy).is_none() {
            return state.next(now);
        }
        let name = name(&state);
        let Some(task) = tasks.iter().find(|task| task.name == name) else { return state };
        let limits = TaskLimits::from(&policy.task);
        match &task.state {
            TaskState::Ended { report: Some(report), .. } => told(state, report, now),
            TaskState::Ended { report: None, detail, .. } => {
                let message = format!("the task ended without a report: {detail}");
                state.again(Failure::temporary("TaskLost", message), now)
            }
            TaskState::Pending { since, why } if now >= after(*since, pending(limits)) => state
                .again(Failure::temporary("PendingTooLong", format!("the task did not start: {why}")), now),
            TaskState::Running { since } if now >= after(*since, limits.attempt()) => state
                .again(Failure::temporary("TimedOut", "the task took longer than task.timeoutSeconds"), now),
            TaskState::Pending { .. } | TaskState::Running { .. } | TaskState::Unreachable { .. } => state,
        }
    }

    /// Does what `state`, which is on record, asks for.
    fn carry_on(&mut self, policy: &Policy, from: &RestoreFrom, state: &Bootstrap, tasks: &[&Task]) {
        let name = name(state);
        let (own, stale): (Vec<&Task>, Vec<&Task>) =
            tasks.iter().copied().partition(|task| task.name == name && !state.phase.is_over());
        self.delete(&stale, "its result is recorded");
        if state.phase.is_over() {
            return;
        }
        if let Some(task) = own.first() {
            if matches!(task.state, TaskState::Unreachable { .. }) {
                let message = format!("the node of task {} does not answer", task.name);
                self.wait(WaitingReason::TaskUnreachable, message);
            }
            self.decision.preflight = Some(from.location.clone());
            return self.decision.wake(deadline(task, TaskLimits::from(&policy.task), self.now));
        }
        // Two tasks never fill the same place at once.
        if stale.iter().any(|task| !matches!(task.state, TaskState::Ended { .. })) {
            return;
        }
        let at = match state.failures {
            0 => state.at,
            failures => after(state.at, pause(failures)),
        };
        if self.now < at {
            return self.decision.wake(at);
        }
        if held(self.observed).is_some() {
            return;
        }
        if self.load.full_of_preflights(&from.location) {
            self.decision.want_preflight(&from.location);
            return;
        }
        let Some(source) = source_of(state, policy) else { return };
        let task = self.bootstrap_task(policy, from, state, &source, name);
        self.act(Action::CreateTask(Box::new(task)));
        self.decision.preflight = Some(from.location.clone());
    }

    fn bootstrap_task(
        &self,
        policy: &Policy,
        from: &RestoreFrom,
        state: &Bootstrap,
        source: &Source,
        name: TaskName,
    ) -> NewTask {
        let limits = TaskLimits::from(&policy.task);
        let looks = state.phase == BootstrapPhase::Looking;
        let mode = if looks { RestoreMode::Look } else { RestoreMode::Execute };
        let request = request(from, state.snapshot.as_ref(), source);
        NewTask {
            name,
            node: self.observed.node_of(source),
            placement: placement(policy, self.observed),
            spec: TaskSpec {
                version: TASK_SPEC_VERSION,
                policy: policy.name.clone(),
                instance: from.instance.clone(),
                destination: from.location.clone(),
                site: self.observed.site.clone(),
                take_over: false,
                known_place: true,
                not_after: after(self.now, limits.attempt()),
                memory_mib: limits.memory_mib,
                work: Work::Restore(Box::new(RestoreWork { request, mode })),
            },
        }
    }
}

fn name(state: &Bootstrap) -> TaskName {
    let step = StepName::bootstrap(state.phase == BootstrapPhase::Looking, state.part);
    TaskName { slot: None, step, attempt: i64::from(state.attempt) }
}

fn source_of(state: &Bootstrap, policy: &Policy) -> Option<Source> {
    policy.sources().into_iter().find(|source| Some(&source.name()) == state.source())
}

fn request(from: &RestoreFrom, snapshot: Option<&SnapshotName>, source: &Source) -> RestoreRequest {
    let mut request = RestoreRequest {
        policy: Some(from.policy.clone()),
        as_of: snapshot.map_or_else(|| from.as_of.clone(), |name| AsOf::Name(name.clone())),
        allow_partial: false,
        mongodb: None,
        volumes: Vec::new(),
        confirmed: false,
    };
    match source {
        Source::Mongodb(mongodb) => {
            let connection = mongodb.connection.clone();
            let (include, rename) = (Vec::new(), Vec::new());
            let (users, replace) = (from.users, false);
            request.mongodb = Some(MongodbTarget { connection, include, rename, users, replace });
        }
        Source::Volume(volume) => request.volumes.push(VolumeTarget {
            name: volume.name.clone(),
            place: volume.place.clone(),
            include: Vec::new(),
            delete_extra: false,
            metadata: MetadataOptions::default(),
        }),
    }
    request
}

/// What the report of the current task means.
fn told(state: Bootstrap, report: &TaskReport, now: Timestamp) -> Bootstrap {
    let Some(failure) = &report.failure else {
        let chosen = report.snapshot.as_ref().map(|snapshot| snapshot.name.clone());
        return Bootstrap { snapshot: chosen.or(state.snapshot.clone()), ..state }.next(now);
    };
    let is_occupied = failure.reason == NOT_EMPTY;
    if state.phase == BootstrapPhase::Looking {
        let had = || format!("nothing was restored: {}", failure.message);
        return if is_occupied {
            state.over(BootstrapPhase::HadData, had(), now)
        } else {
            state.again(failure.clone(), now)
        };
    }
    // It was empty when it was looked at: what is there now may be half of what a task brought whose report was lost.
    // Files go on where they stopped; a half restored database cannot be told from one that has data.
    let has_changed = report.outcome.is_some();
    let is_of_database = state.source() == Some(&SourceName::mongodb());
    if is_occupied || has_changed && is_of_database {
        return state.over(BootstrapPhase::Incomplete, failure.message.clone(), now);
    }
    state.again(failure.clone(), now)
}

/// A task that still writes, though the policy asks for it no more.
fn stops(tasks: &[&Task]) -> Option<Waiting> {
    let is_live = |task: &&Task| matches!(task.state, TaskState::Pending { .. } | TaskState::Running { .. });
    let task = tasks.iter().copied().find(is_live)?;
    Some(waiting(WaitingReason::Bootstrapping, format!("task {} is being stopped", task.name)))
}

fn waits(state: &Bootstrap) -> Option<Waiting> {
    let message = match state.phase {
        BootstrapPhase::Looking => {
            "an empty site is filled first; it is looked whether it is empty".to_owned()
        }
        BootstrapPhase::Filling => "the site is filled from its backups first".to_owned(),
        BootstrapPhase::Incomplete => {
            let message = format!("the site is filled in part: {}", state.message);
            return Some(waiting(WaitingReason::BootstrapIncomplete, message));
        }
        BootstrapPhase::Restored | BootstrapPhase::HadData => return None,
    };
    let message = if state.message.is_empty() { message } else { format!("{message}: {}", state.message) };
    Some(waiting(WaitingReason::Bootstrapping, message))
}

fn pending(limits: TaskLimits) -> Duration {
    Duration::from_secs(limits.pending_seconds)
}

/// When a task that has not ended is given up.
fn deadline(task: &Task, limits: TaskLimits, now: Timestamp) -> Timestamp {
    match &task.state {
        TaskState::Pending { since, .. } => after(*since, pending(limits)),
        TaskState::Running { since } => after(*since, limits.attempt()),
        TaskState::Unreachable { .. } | TaskState::Ended { .. } => after(now, Duration::from_secs(300)),
    }
}
