//! A run: one policy, one slot. Its record is created first, and that creation is the claim; it outlives its tasks.

use crate::domain::{
    error::Invalid,
    location::Location,
    names::{InstanceName, PolicyName, Slot, SnapshotName, SourceName},
    policy::{Guards, Placement, Policy, Source, TaskSettings},
    retention::Retention,
    snapshot::{SnapshotSummary, SourceSummary},
    verdict::{Failure, Verdict},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time::Duration};

/// Version of a run record that this build writes.
pub const RUN_VERSION: u32 = 1;

/// A run's record: what it will do, which never changes, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The slot it is for.
    pub slot: Slot,
    /// What it does; frozen when the run is claimed.
    pub plan: RunPlan,
    /// How far it is.
    pub state: RunState,
}

/// Everything a run needs to know, whatever happens to the policy meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunPlan {
    /// [`RUN_VERSION`] of the controller that wrote it.
    pub version: u32,
    /// Version of the task specification for all attempts.
    pub task_version: u32,
    /// The policy's specification that it carries out (`metadata.generation`, or a checksum on a bare host).
    pub generation: i64,
    /// The policy's name.
    pub policy: PolicyName,
    /// Whose data.
    pub instance: InstanceName,
    /// To where.
    pub destination: Location,
    /// Take the place over from another site.
    pub take_over: bool,
    /// Snapshots of the policy were known to be there when it was claimed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub known_place: bool,
    /// The tasks in order.
    pub steps: Vec<Step>,
    /// What to keep.
    pub retention: Retention,
    /// When a source is too small to be true.
    pub guards: Guards,
    /// A person said that the sources shrank on purpose.
    #[serde(default)]
    pub accept_shrink: bool,
    /// Totals of the last good snapshot, for the guards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_good: Vec<SourceSummary>,
    /// Snapshots that pruning must leave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<SnapshotName>,
    /// How its tasks run.
    pub limits: TaskLimits,
    /// Where, and as what.
    #[serde(default, skip_serializing_if = "Placement::is_default")]
    pub placement: Placement,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// The request of a person that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

impl RunPlan {
    /// The run's sources, in the order in which they are read.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.steps.iter().flat_map(|step| &step.sources)
    }

    /// Longest time that all attempts of all steps can take, pauses between them not counted.
    pub fn longest(&self) -> Duration {
        let attempts = u32::from(self.limits.retries) + 1;
        let steps = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        self.limits.attempt().saturating_mul(attempts).saturating_mul(steps)
    }
}

/// How the tasks of a run run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskLimits {
    /// One attempt may run this long, seconds.
    pub timeout_seconds: u64,
    /// One attempt may wait this long for its start, seconds.
    pub pending_seconds: u64,
    /// Attempts of a step after the first.
    pub retries: u8,
    /// Memory of the task beside its children, MiB.
    pub memory_mib: u32,
}

impl TaskLimits {
    /// Longest time from the creation of one attempt to its end.
    pub fn attempt(self) -> Duration {
        Duration::from_secs(self.timeout_seconds.saturating_add(self.pending_seconds))
    }
}

impl From<&TaskSettings> for TaskLimits {
    fn from(settings: &TaskSettings) -> Self {
        let TaskSettings { timeout, pending, retries, memory_mib, placement: _ } = settings;
        Self {
            timeout_seconds: timeout.as_secs(),
            pending_seconds: pending.as_secs(),
            retries: *retries,
            memory_mib: *memory_mib,
        }
    }
}

/// One task of a run: sources that one node can read, or the end of the run, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its name, unique in the run.
    pub name: StepName,
    /// What it stores; empty for a step that only finishes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// It checks what the steps left, writes the manifest and prunes.
    pub finish: bool,
    /// Where it must run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl Step {
    /// The step that writes the manifest and reads no source.
    pub fn finish() -> Self {
        Self { name: StepName::finish(), sources: Vec::new(), finish: true, node: None }
    }
}

/// Name of a step: `backup`, `mongodb`, `volumes-2`, `finish`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepName(String);

impl StepName {
    /// All sources and the finish in one task.
    pub fn backup() -> Self {
        Self("backup".to_owned())
    }

    /// The database alone.
    pub fn mongodb() -> Self {
        Self("mongodb".to_owned())
    }

    /// The volumes of the `n`-th node, from 1.
    pub fn volumes(n: usize) -> Self {
        Self(format!("volumes-{n}"))
    }

    /// The end of the run.
    pub fn finish() -> Self {
        Self("finish".to_owned())
    }

    /// What fills an empty site, or looks whether it is one: the `n`-th part, from 1.
    pub fn bootstrap(looks: bool, n: u32) -> Self {
        Self(format!("{}-{}-{n}", Self::BOOTSTRAP, if looks { "look" } else { "fill" }))
    }

    const BOOTSTRAP: &str = "bootstrap";

    /// True for what [`StepName::bootstrap`] gives.
    pub fn is_bootstrap(&self) -> bool {
        self.0.starts_with(Self::BOOTSTRAP)
    }

    /// The same, of one that fills.
    pub fn fills_site(&self) -> bool {
        self.0.strip_prefix(Self::BOOTSTRAP).is_some_and(|rest| rest.starts_with("-fill"))
    }

    /// What a restore does on its `n`-th node, from 1; or would do.
    pub fn restore(n: usize) -> Self {
        Self(format!("restore-{n}"))
    }

    /// The proof that a snapshot can be restored.
    pub fn verify() -> Self {
        Self("verify".to_owned())
    }

    /// A pass that removes what retention drops.
    pub fn prune() -> Self {
        Self("prune".to_owned())
    }

    /// A look at remote and sources that belongs to no run.
    pub fn preflight() -> Self {
        Self("preflight".to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StepName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let good = text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        if good && (1..=40).contains(&text.len()) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new(format!("{text:?} is not the name of a step")))
    }
}

/// How far a run is. Grows only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunState {
    /// Attempts that ended, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// A person wants it to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<Cancel>,
    /// How it ended. Nothing changes after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<RunEnd>,
}

impl RunState {
    /// The attempts of one step, oldest first.
    pub fn attempts_of<'a>(&'a self, step: &'a StepName) -> impl DoubleEndedIterator<Item = &'a Attempt> {
        self.attempts.iter().filter(move |a| a.step == *step)
    }

    /// True when `step` did what it was for.
    pub fn is_good(&self, step: &StepName) -> bool {
        self.attempts_of(step).any(Attempt::is_success)
    }

    /// The snapshot that the run committed.
    pub fn snapshot(&self) -> Option<&SnapshotSummary> {
        self.attempts.iter().rev().find_map(|a| a.snapshot.as_ref())
    }
}

/// One task that ended, or was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Of which step.
    pub step: StepName,
    /// From 1.
    pub number: u32,
    /// When it started, as its orchestrator saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended, or was given up.
    pub ended_at: Timestamp,
    /// How.
    pub verdict: Verdict,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Its report reached the controller.
    pub reported: bool,
    /// What it stored, also when another of its sources failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceSummary>,
    /// The snapshot that it committed or found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotSummary>,
    /// Remarks for a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Snapshots that it pruned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pruned: Vec<SnapshotName>,
}

impl Attempt {
    /// True when it did what it was for.
    pub fn is_success(&self) -> bool {
        self.verdict == Verdict::Committed
    }

    /// True when it may have left a source's fragment on the remote.
    pub fn may_have_stored(&self) -> bool {
        !self.reported || !self.sources.is_empty()
    }

    /// True when it stored `source`.
    pub fn stored(&self, source: &SourceName) -> bool {
        self.sources.iter().any(|s| s.source == *source)
    }
}

/// A person's wish to stop a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cancel {
    /// When.
    pub requested_at: Timestamp,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunEnd {
    /// In one word.
    pub outcome: Outcome,
    /// CamelCase word for conditions and metrics.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// How a slot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// A complete snapshot exists.
    Succeeded,
    /// A snapshot without a required source exists: restorable when asked for, never the latest.
    Partial,
    /// No snapshot.
    Failed,
    /// It was due and could not start in time.
    Missed,
    /// It was due while the policy was suspended.
    Skipped,
    /// A person stopped it.
    Cancelled,
}

impl Outcome {
    /// True when nobody needs to do anything about it.
    pub fn is_fine(self) -> bool {
        matches!(self, Self::Succeeded | Self::Skipped | Self::Cancelled)
    }

    /// True when the slot had a run.
    pub fn has_run(self) -> bool {
        !matches!(self, Self::Missed | Self::Skipped)
    }
}

/// The tasks of a policy: one when everything can be read from one place, else the database, the volumes node by
/// node in the order of the policy, and the finish.
pub fn steps(policy: &Policy, node_of: impl Fn(&Source) -> Option<String>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for source in policy.sources() {
        let node = node_of(&source);
        let is_database = matches!(source, Source::Mongodb(_));
        let together = steps.iter_mut().find(|s| s.node == node && !is_database);
        match together {
            Some(step) => step.sources.push(source),
            None => {
                let name = if is_database {
                    StepName::mongodb()
                } else {
                    StepName::volumes(steps.iter().filter(|s| s.name != StepName::mongodb()).count() + 1)
                };
                steps.push(Step { name, sources: vec![source], finish: false, node });
            }
        }
    }
    match steps.as_mut_slice() {
        [only] => (only.name, only.finish) = (StepName::backup(), true),
        _ => steps.push(Step::finish()),
    }
    steps
}
