//! The contract between the controller and a task: what to do, as JSON, and how it ended, as JSON.
//!
//! A task spec holds no secret, only the places where the task finds them.

use crate::domain::{
    location::Location,
    names::{InstanceName, PolicyName, Slot, SnapshotName, SourceName},
    policy::{Guards, Source},
    restore::RestoreRequest,
    retention::Retention,
    snapshot::{AsOf, SnapshotSummary, SourceSummary},
    verdict::{Failure, Verdict},
    verification::Level,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::path::PathBuf;

/// Version of [`TaskSpec`] and [`TaskReport`] that this build writes. The version before is read as well.
pub const TASK_SPEC_VERSION: u32 = 1;

/// The environment variable in which a task finds its [`TaskSpec`], where it is given no file.
pub const SPEC_VARIABLE: &str = "BACKSTAY_TASK_SPEC";

/// Everything a task needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskSpec {
    /// [`TASK_SPEC_VERSION`] of the controller that wrote it.
    pub version: u32,
    /// The policy.
    pub policy: PolicyName,
    /// Whose data.
    pub instance: InstanceName,
    /// Where the backups are.
    pub destination: Location,
    /// Random identity of this controller's site, kept in its own state: owner of the place on the remote.
    pub site: String,
    /// Take the place over when another site owns it.
    pub take_over: bool,
    /// Snapshots of the policy are known to be at this very place: an owner claim that is not there is a sign that
    /// something is wrong, and no reason to claim it anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub known_place: bool,
    /// After this moment the task ends itself: nobody is waiting for it.
    pub not_after: Timestamp,
    /// Memory of the task beside its children, MiB, at least 64.
    pub memory_mib: u32,
    /// What to do.
    pub work: Work,
}

/// What a task does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Work {
    /// Store sources; and finish, when it is the run's only task.
    Backup(BackupWork),
    /// Check what the steps left, write the manifest, prune.
    Finish(FinishWork),
    /// Prove that remote and sources can be reached, without backing up.
    Preflight {
        /// The sources to look at.
        sources: Vec<Source>,
    },
    /// Bring a snapshot back, or say what that would do.
    Restore(Box<RestoreWork>),
    /// Prove that a snapshot can be restored.
    Verify(VerifyWork),
    /// Remove what retention drops, because a person asks for it.
    Prune(PruneWork),
}

/// A pass over a policy's snapshots as a task does it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PruneWork {
    /// What to keep.
    pub retention: Retention,
    /// Kept whatever the rules say.
    pub keep: Vec<SnapshotName>,
    /// Snapshots that must be seen: when one is not, the listing is not to be trusted.
    pub known: Vec<SnapshotName>,
    /// Longest time that a run of the policy can take, seconds.
    pub run_deadline_seconds: u64,
    /// More than half of the snapshots may go.
    pub allow_many: bool,
    /// Say what would go, and remove nothing.
    pub dry_run: bool,
}

/// A verification as a task does it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyWork {
    /// Snapshots of this policy; `None`: of all.
    pub policy: Option<PolicyName>,
    /// Which of them.
    pub as_of: AsOf,
    /// How deep to look.
    pub level: Level,
}

/// A restore as a task does it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreWork {
    /// What to bring back, and where to.
    pub request: RestoreRequest,
    /// How far to go.
    pub mode: RestoreMode,
}

/// How far a restore goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RestoreMode {
    /// Say what would be done, and change nothing.
    Plan,
    /// The same, and fail where anything is there already.
    Look,
    /// Do it.
    Execute,
}

/// One step of a run: the sources that one task stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupWork {
    /// The run's slot.
    pub slot: Slot,
    /// Attempt of this step, from 1.
    pub attempt: u32,
    /// What to store, in this order.
    pub sources: Vec<Source>,
    /// When a source is too small to be true.
    pub guards: Guards,
    /// Totals of the last good snapshot, for the guards; empty on the first run.
    pub last_good: Vec<SourceSummary>,
    /// A person said that the sources shrank on purpose: guards only warn.
    pub accept_shrink: bool,
    /// Present when this task also finishes the run.
    pub finish: Option<FinishWork>,
}

/// The last step of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FinishWork {
    /// The run's slot.
    pub slot: Slot,
    /// Sources that make the snapshot complete.
    pub required: Vec<SourceName>,
    /// Sources that may be missing.
    pub optional: Vec<SourceName>,
    /// What to keep when pruning.
    pub retention: Retention,
    /// Longest time a run of this policy may take, seconds: debris younger than this and two days is left alone.
    pub run_deadline_seconds: u64,
    /// Snapshots that are held, or newest restore-tested: never pruned.
    pub keep: Vec<SnapshotName>,
    /// Where to look just before pruning for what has been held or tested since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_files: Option<KeepFiles>,
}

/// Files that say which snapshots to keep, on a host whose tasks can read them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeepFiles {
    /// A folder with a file `<policy>~<snapshot>` for each snapshot that a person holds.
    pub holds: PathBuf,
    /// The newest restore drill, a [`Drill`](crate::plan::observed::Drill); absent before the first.
    pub drill: PathBuf,
}

/// How a task ended, written by the task as its last act. Small: it must fit a 4 KiB termination message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskReport {
    /// [`TASK_SPEC_VERSION`] of the task.
    pub version: u32,
    /// How it ended, the same as the exit code.
    pub verdict: Verdict,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What each stored source amounts to, also when another source failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceSummary>,
    /// The snapshot, when the manifest was written (or found, by a retry).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotSummary>,
    /// Remarks for a person that are no failure: files that changed, a fallback that was taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Snapshots that pruning removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pruned: Vec<SnapshotName>,
    /// What came of work that a person waits for, a document of that work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<serde_json::Value>,
}

impl TaskReport {
    /// A report without failure, sources or snapshot.
    pub fn empty() -> Self {
        Self {
            version: TASK_SPEC_VERSION,
            verdict: Verdict::Committed,
            failure: None,
            sources: vec![],
            snapshot: None,
            warnings: vec![],
            pruned: vec![],
            outcome: None,
        }
    }

    /// What came of work that a person waits for.
    ///
    /// # Errors
    /// Why it failed, or that another version of this program has written it.
    pub fn told<T: DeserializeOwned>(self) -> Result<T, Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let outcome = self.outcome.and_then(|outcome| serde_json::from_value(outcome).ok());
        outcome.ok_or_else(|| {
            Failure::permanent("ReportUnreadable", "the task's report cannot be read by this version")
                .fix("start this verb from the image that the controller has")
        })
    }

    /// A report of nothing but a failure.
    pub fn failed(failure: Failure) -> Self {
        Self { verdict: failure.verdict, failure: Some(failure), ..Self::empty() }
    }
}

/// One line of a task's standard output: what it is doing now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What is going on, for a person: `homes: storing`.
    pub phase: String,
    /// Source bytes done in this phase.
    pub bytes: u64,
    /// Source bytes of this phase, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Files or documents done in this phase.
    pub items: u64,
}
