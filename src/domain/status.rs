//! What is known about a policy, for people, monitoring and the controller's own next decision.
//!
//! The same structure everywhere: a status subresource, a Config's labels, or a file.

use crate::domain::{
    bootstrap::{Bootstrap, BootstrapPhase},
    location::Location,
    names::{InstanceName, Slot, SnapshotName},
    run::{Outcome, StepName},
    shared::Shared,
    snapshot::{Consistency, SnapshotSummary, SourceSummary},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Snapshots that a status lists.
pub const LISTED_SNAPSHOTS: usize = 20;
/// Slots that a status remembers.
pub const LISTED_SLOTS: usize = 30;
/// Stretches of missed slots that a status remembers.
pub const LISTED_MISSES: usize = 10;

/// The status of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The specification that it speaks of.
    pub observed_generation: i64,
    /// One line for a person: what is wrong, or what is going on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// One for each [`ConditionType`], in its order.
    pub conditions: Shared<Vec<Condition>>,
    /// The newest run that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Shared<RunSummary>>,
    /// The newest run that made a complete snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Shared<RunSummary>>,
    /// The schedule that slots are counted by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleStatus>,
    /// When remote and sources were looked at last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_check: Option<CredentialsCheck>,
    /// The filling of an empty site, where the policy asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// When the next run is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run_time: Option<Timestamp>,
    /// From then on the newest complete snapshot is too old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fresh_until_time: Option<Timestamp>,
    /// Runs that have not ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<ActiveRun>,
    /// Why something that is due does not happen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Waiting>,
    /// The newest [`LISTED_SNAPSHOTS`], newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Shared<Vec<SnapshotSummary>>,
    /// The newest [`LISTED_SLOTS`], newest first: one entry for each slot that has an outcome.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Shared<Vec<SlotOutcome>>,
    /// The newest [`LISTED_MISSES`] stretches of missed slots, newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missed: Shared<Vec<MissedSlots>>,
    /// Where the snapshots are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Place>,
    /// Where snapshots were made before and still are, newest first; nothing there is pruned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub former_locations: Vec<Place>,
}

impl Status {
    /// The condition of this type.
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.kind == kind)
    }

    /// True when snapshots are known to be where they go now: the list is emptied when the place changes.
    pub fn knows_place(&self) -> bool {
        !self.snapshots.is_empty()
    }

    /// True when the site was filled from backups.
    pub fn was_filled(&self) -> bool {
        self.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.phase == BootstrapPhase::Restored)
    }

    /// True when this condition is `True`.
    pub fn is(&self, kind: ConditionType) -> bool {
        self.condition(kind).is_some_and(|c| c.status == Truth::True)
    }
}

/// What can be said of a policy by yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionType {
    /// The policy is accepted and its runs will start.
    Ready,
    /// The newest complete snapshot is young enough.
    Fresh,
    /// The newest run made a complete snapshot.
    LastRunSucceeded,
    /// A snapshot was restored and compared.
    RestoreTested,
    /// Remote and sources let the tasks in.
    CredentialsValid,
    /// An empty site was filled from its backups; only where the policy asks for that.
    Bootstrapped,
}

impl ConditionType {
    /// All, in the order of a status.
    pub const ALL: [Self; 6] = [
        Self::Ready,
        Self::Fresh,
        Self::LastRunSucceeded,
        Self::RestoreTested,
        Self::CredentialsValid,
        Self::Bootstrapped,
    ];

    /// The name as written in a status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Fresh => "Fresh",
            Self::LastRunSucceeded => "LastRunSucceeded",
            Self::RestoreTested => "RestoreTested",
            Self::CredentialsValid => "CredentialsValid",
            Self::Bootstrapped => "Bootstrapped",
        }
    }
}

/// Yes, no, or not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Truth {
    /// Yes.
    True,
    /// No.
    False,
    /// Not known yet.
    Unknown,
}

/// One thing said of a policy, in the form of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is said.
    #[serde(rename = "type")]
    pub kind: ConditionType,
    /// Whether it holds.
    pub status: Truth,
    /// Why, as a CamelCase word.
    pub reason: String,
    /// Why, for a person.
    pub message: String,
    /// Since when it has held, or not.
    pub last_transition_time: Timestamp,
    /// The specification that it speaks of.
    #[serde(default)]
    pub observed_generation: i64,
}

/// A look at whether remote and sources let the tasks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsCheck {
    /// Number of the specification and the secrets that were looked at.
    pub number: i64,
    /// Number of the writable configuration, whose token a task may renew.
    pub renewed: i64,
    /// When it was told.
    pub at: Timestamp,
    /// How far the look had come, by the clock of whoever ran it: the same look is told once, whatever our clock says.
    #[serde(default)]
    pub seen: Timestamp,
    /// Looks in a row that did not pass.
    pub failed: u32,
}

/// The schedule that slots are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// Five fields, `H` resolved.
    pub expression: String,
    /// IANA name.
    pub time_zone: String,
    /// Only later slots count: creation, a change of schedule or zone, or the end of a suspension.
    pub since: Timestamp,
    /// No new scheduled runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// Every slot after `since` and up to this one has an outcome that was told, or a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Timestamp>,
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    /// Its slot.
    pub slot: Slot,
    /// How it ended.
    pub outcome: Outcome,
    /// CamelCase word.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// When it was claimed.
    pub start_time: Timestamp,
    /// When it ended.
    pub completion_time: Timestamp,
    /// Attempts that it took, of all steps.
    pub attempts: u32,
    /// Bytes before compression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_bytes: Option<u64>,
    /// Bytes on the remote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<u64>,
    /// Regular files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Documents of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<u64>,
    /// The weakest of its sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<Consistency>,
    /// What it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotName>,
    /// Totals by source, what the guards of the next run compare with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceSummary>,
    /// Remarks of its tasks, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A run that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveRun {
    /// Its slot.
    pub slot: Slot,
    /// When it was claimed.
    pub start_time: Timestamp,
    /// The specification that it carries out.
    pub generation: i64,
    /// The step it is at.
    pub step: StepName,
    /// The attempt it is at, from 1.
    pub attempt: u32,
    /// Why the attempt before failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
}

/// Why something that is due does not happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// In one word.
    pub reason: WaitingReason,
    /// For a person: what waits, for what.
    pub message: String,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WaitingReason {
    /// The policy's own run that is not over.
    RunActive,
    /// A restore into the policy's sources.
    RestoreActive,
    /// A restore into the policy's sources that ended badly.
    RestoreIncomplete,
    /// Room for one more run in the whole system.
    TooManyRuns,
    /// Room for one more run to this remote.
    TooManyRunsOnRemote,
    /// Another run that uses the same writable rclone configuration.
    ConfigurationInUse,
    /// The pause before the next attempt.
    Backoff,
    /// A task that has not started.
    TaskPending,
    /// A task that runs.
    TaskRunning,
    /// A task whose node does not answer.
    TaskUnreachable,
    /// A task that is being stopped.
    TaskStopping,
    /// The filling of an empty site.
    Bootstrapping,
    /// The filling of an empty site, which broke off.
    BootstrapIncomplete,
}

impl WaitingReason {
    /// True for a limit that the runs of other policies have reached.
    pub fn is_cap(self) -> bool {
        matches!(self, Self::TooManyRuns | Self::TooManyRunsOnRemote | Self::ConfigurationInUse)
    }
}

/// One slot and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotOutcome {
    /// Which.
    pub slot: Slot,
    /// How.
    pub outcome: Outcome,
    /// Why, as a CamelCase word.
    pub reason: String,
    /// From claim to end, seconds; nothing for a slot that never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// Slots next to each other that were missed for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MissedSlots {
    /// The oldest.
    pub first: Slot,
    /// The newest.
    pub last: Slot,
    /// How many.
    pub count: u64,
    /// Why, as a CamelCase word.
    pub reason: String,
    /// Why, for a person.
    pub message: String,
}

/// Where snapshots are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// `remote:path` of the destination.
    pub destination: String,
    /// Whose data.
    pub instance: InstanceName,
}

impl Place {
    /// The place of an instance at a destination.
    pub fn new(destination: &Location, instance: &InstanceName) -> Self {
        Self { destination: destination.to_string(), instance: instance.clone() }
    }

    /// True for the place that [`Place::new`] would make.
    pub fn is_at(&self, destination: &Location, instance: &InstanceName) -> bool {
        let path = self.destination.strip_prefix(destination.remote.as_str());
        let path = path.and_then(|rest| rest.strip_prefix(':'));
        self.instance == *instance && path == Some(destination.path.as_str())
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let slash = if self.destination.ends_with(':') { "" } else { "/" };
        write!(f, "{}{slash}{}", self.destination, self.instance)
    }
}
