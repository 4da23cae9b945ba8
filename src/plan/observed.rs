//! What a decision is made from: everything about one policy that an orchestrator sees, complete or not at all.

use crate::{
    domain::{
        error::Invalid,
        identity::PolicyId,
        location::{Location, RcloneConfig, RemoteName},
        names::{Slot, SnapshotName, SourceName},
        policy::{Policy, Source},
        run::{Run, StepName},
        status::{Status, Waiting, WaitingReason},
    },
    plan::{
        deadline::{NODE_LOST, after},
        task_spec::{KeepFiles, TaskReport},
    },
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A policy as its orchestrator declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// Which.
    pub id: PolicyId,
    /// Number of the specification.
    pub generation: i64,
    /// Since when it exists, where the orchestrator knows.
    pub created_at: Option<Timestamp>,
    /// What it says.
    pub spec: Spec,
    /// What is known of its secrets without reading them.
    pub secrets: Secrets,
}

impl Declared {
    /// Number of the specification together with its secrets: what a preflight speaks of.
    pub fn check_number(&self) -> i64 {
        (self.generation ^ self.secrets.fixed).max(1)
    }
}

/// Numbers of a policy's secrets, not negative: another number is another content. Zero: nothing is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Secrets {
    /// Those that only people replace.
    pub fixed: i64,
    /// The writable rclone configuration, in which tasks renew a token as well.
    pub renewed: i64,
}

/// What a declared policy says.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// It can be carried out.
    Valid(Arc<Policy>),
    /// It cannot; runs that were claimed before still can.
    Wrong(Invalid),
    /// Nobody declares it any more, but a run of it is not over.
    Gone,
}

/// Everything about one policy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// The status as it was recorded last.
    pub status: Option<Recorded<Status>>,
    /// The run records that exist, in any order.
    pub runs: Vec<Recorded<Run>>,
    /// The tasks that exist, in any order.
    pub tasks: Vec<Task>,
    /// What people asked for and was not answered, oldest first.
    pub requests: Vec<Request>,
    /// Restores into the policy's sources that are not settled.
    pub restores: Vec<Restore>,
    /// Snapshots that a person holds.
    pub holds: Vec<SnapshotName>,
    /// The newest restore drill.
    pub drill: Option<Drill>,
    /// Where tasks can read the holds and the drill themselves.
    pub keep_files: Option<KeepFiles>,
    /// Which node has which source, where it matters.
    pub nodes: BTreeMap<SourceName, String>,
    /// The image that tasks run as, where there are images.
    pub image: Option<String>,
    /// Identity of this controller's site, for the owner marker on the remote.
    pub site: String,
    /// Why the last attempt to act was refused for good, for the status.
    pub refusal: Option<String>,
}

impl Observed {
    /// The node that has `source`, where it matters.
    pub fn node_of(&self, source: &Source) -> Option<String> {
        self.nodes.get(&source.name()).cloned()
    }

    /// True while a preflight of the policy may be at work. Its node may be away for days: it is given up as an attempt is.
    pub fn has_preflight(&self, now: Timestamp) -> bool {
        let at_work = |task: &Task| match &task.state {
            TaskState::Pending { .. } | TaskState::Running { .. } => true,
            TaskState::Unreachable { since } => now < after(*since, NODE_LOST),
            TaskState::Ended { .. } => false,
        };
        self.tasks.iter().any(|task| task.name.is_preflight() && at_work(task))
    }

    /// True while a task looks at the site, or fills it.
    pub fn is_being_filled(&self) -> bool {
        self.tasks.iter().any(|task| task.name.fills_site() && !matches!(task.state, TaskState::Ended { .. }))
    }

    /// The run that is not over; at most one exists.
    pub fn active_run(&self) -> Option<&Recorded<Run>> {
        self.runs.iter().find(|r| r.value.state.end.is_none())
    }
}

/// A document of ours and the revision at which it was read, for compare-and-set.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded<T> {
    /// The document.
    pub value: Arc<T>,
    /// Opaque to everyone but the orchestrator.
    pub revision: String,
}

impl<T> Recorded<T> {
    /// `value` as it was read at `revision`.
    pub fn new(value: T, revision: String) -> Self {
        Self { value: Arc::new(value), revision }
    }
}

/// A task that exists.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Which.
    pub name: TaskName,
    /// Identity for its deletion: never that of a later task of the same name.
    pub uid: String,
    /// How far it is.
    pub state: TaskState,
}

/// The name of a task within its policy, a function of what it is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskName {
    /// The run it belongs to; none for a preflight, or for what fills a site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// Its step.
    pub step: StepName,
    /// From 1; of a preflight, [`Declared::check_number`].
    pub attempt: i64,
}

impl TaskName {
    /// An attempt of a run's step.
    pub fn of_run(slot: Slot, step: StepName, attempt: u32) -> Self {
        Self { slot: Some(slot), step, attempt: i64::from(attempt) }
    }

    /// True for a preflight.
    pub fn is_preflight(&self) -> bool {
        self.slot.is_none() && self.step == StepName::preflight()
    }

    /// True for a task that fills an empty site, or looks whether it is empty.
    pub fn fills_site(&self) -> bool {
        self.slot.is_none() && self.step.is_bootstrap()
    }

    /// The preflight of one specification and its secrets.
    pub fn preflight(number: i64) -> Self {
        Self { slot: None, step: StepName::preflight(), attempt: number }
    }
}

impl std::fmt::Display for TaskName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.slot {
            Some(slot) => write!(f, "{slot}-{}-{}", self.step, self.attempt),
            None => write!(f, "{}-{}", self.step, self.attempt),
        }
    }
}

/// How far a task is.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskState {
    /// Made, not started.
    Pending {
        /// Since when.
        since: Timestamp,
        /// What the orchestrator says about it.
        why: String,
    },
    /// Started, not ended.
    Running {
        /// Since when.
        since: Timestamp,
    },
    /// Its node does not answer.
    Unreachable {
        /// Since when.
        since: Timestamp,
    },
    /// Over.
    Ended {
        /// When it started.
        started_at: Option<Timestamp>,
        /// When it ended.
        at: Timestamp,
        /// What it said; lost when it was killed.
        report: Option<Box<TaskReport>>,
        /// Exit code or signal and the last words, for a person.
        detail: String,
    },
}

/// Something that a person asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Its own identity.
    pub id: String,
    /// When.
    pub requested_at: Timestamp,
    /// What.
    pub wish: Wish,
}

/// What a person can ask the controller for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Wish {
    /// A run now.
    #[serde(rename_all = "camelCase")]
    Run {
        /// The sources shrank on purpose.
        accept_shrink: bool,
        /// Wait for the run that is active instead of being refused.
        wait_turn: bool,
    },
    /// The end of the active run.
    #[serde(rename_all = "camelCase")]
    Cancel {
        /// Which; any, when absent.
        slot: Option<Slot>,
    },
}

/// A restore into a policy's sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// Its own identity.
    pub id: String,
    /// When it began.
    pub started_at: Timestamp,
    /// It runs; otherwise it ended badly.
    pub active: bool,
    /// What it does, or what went wrong.
    pub message: String,
}

/// A restore drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drill {
    /// What was restored.
    pub snapshot: SnapshotName,
    /// When it ended.
    pub at: Timestamp,
    /// Everything compared equal.
    pub passed: bool,
    /// What was compared, or what differed.
    pub message: String,
    /// The newest snapshot that ever passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_passed: Option<SnapshotName>,
}

/// How many runs may be active at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// In the whole system, at least 1.
    pub total: usize,
    /// To one remote, at least 1.
    pub per_remote: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self { total: 8, per_remote: 4 }
    }
}

/// Preflights that may be under way at once; they take no room from runs.
const PREFLIGHTS: usize = 4;

/// What the runs and preflights of the *other* policies use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Load {
    /// How many may be active.
    pub caps: Caps,
    /// Active runs.
    pub active: usize,
    /// The same by remote.
    pub by_remote: BTreeMap<String, usize>,
    /// Preflights that have not ended.
    pub preflights: usize,
    /// Writable rclone configurations in use.
    pub directories: Vec<PathBuf>,
    /// Policies that cannot be looked at. Each may have a run, to anywhere: what it says now is not what its run was
    /// planned with.
    pub unseen: usize,
}

impl Load {
    /// Counts one more run to `destination`.
    pub fn add(&mut self, destination: &Location) {
        self.active += 1;
        *self.by_remote.entry(destination.remote.to_string()).or_default() += 1;
        self.add_directory(destination);
    }

    /// Counts one more preflight of `destination`.
    pub fn add_preflight(&mut self, destination: &Location) {
        self.preflights += 1;
        self.add_directory(destination);
    }

    fn add_directory(&mut self, destination: &Location) {
        if let RcloneConfig::Directory(path) = &destination.config {
            self.directories.push(path.clone());
        }
    }

    /// The cap that keeps one more run to `destination` from starting.
    pub fn full(&self, destination: &Location) -> Option<Waiting> {
        let waiting = |reason, message| Some(Waiting { reason, message });
        let (unseen, may_be) = (self.unseen, self.may_be());
        if self.active + unseen >= self.caps.total {
            let message = format!("{} runs are active, as many as may be{may_be}", self.active);
            return waiting(WaitingReason::TooManyRuns, message);
        }
        let (remote, on_remote) = (&destination.remote, self.on(&destination.remote));
        if on_remote + unseen >= self.caps.per_remote {
            let message = format!("{on_remote} runs to {remote} are active, as many as may be{may_be}");
            return waiting(WaitingReason::TooManyRunsOnRemote, message);
        }
        self.in_use(destination)
    }

    /// Why there may be more than is counted.
    fn may_be(&self) -> String {
        match self.unseen {
            0 => String::new(),
            unseen => format!(", with those of {unseen} policies that could not be looked at yet"),
        }
    }

    /// True when one more preflight of `destination` has to wait.
    pub fn full_of_preflights(&self, destination: &Location) -> bool {
        self.preflights >= PREFLIGHTS || self.in_use(destination).is_some()
    }

    fn in_use(&self, destination: &Location) -> Option<Waiting> {
        let RcloneConfig::Directory(path) = &destination.config else { return None };
        if self.directories.contains(path) {
            return Some(in_use(path));
        }
        let message = || {
            let (path, unseen) = (path.display(), self.unseen);
            format!("{path} may be in use by one of {unseen} policies that could not be looked at yet")
        };
        let reason = WaitingReason::ConfigurationInUse;
        (self.unseen > 0).then(|| Waiting { reason, message: message() })
    }

    /// Active runs to `remote`.
    fn on(&self, remote: &RemoteName) -> usize {
        self.by_remote.get(remote.as_str()).copied().unwrap_or(0)
    }
}

/// Two tasks must not renew the token in one file.
pub(super) fn in_use(directory: &Path) -> Waiting {
    let message = format!("another task uses {}, whose token may be renewed", directory.display());
    Waiting { reason: WaitingReason::ConfigurationInUse, message }
}
