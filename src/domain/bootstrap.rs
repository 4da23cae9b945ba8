//! An empty site that is filled from backups, once, before its first run.

use crate::domain::{names::SnapshotName, verdict::Failure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How far the filling of an empty site is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// The specification that it began with.
    pub generation: i64,
    /// What is done.
    pub phase: BootstrapPhase,
    /// The part of the site, from 1: the database, or the volumes of one node.
    pub part: u32,
    /// Number of the task, from 1; each one has another.
    pub attempt: u32,
    /// Tasks in a row that failed.
    pub failures: u32,
    /// Since when, or since when the last task failed.
    pub at: Timestamp,
    /// What is restored, once it is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotName>,
    /// How it ended, or why the last task failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What is done about an empty site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootstrapPhase {
    /// It is looked whether it is empty.
    Looking,
    /// It is filled.
    Filling,
    /// It was filled.
    Restored,
    /// Something was there, and nothing was restored.
    HadData,
    /// It was filled in part, and a person decides.
    Incomplete,
}

impl BootstrapPhase {
    /// Nothing more is done.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Looking | Self::Filling)
    }
}

impl Bootstrap {
    /// Nothing was done yet.
    pub fn new(generation: i64, now: Timestamp) -> Self {
        let (phase, snapshot, message) = (BootstrapPhase::Looking, None, String::new());
        Self { generation, phase, part: 1, attempt: 1, failures: 0, at: now, snapshot, message }
    }

    /// The next part.
    #[must_use]
    pub fn on(self, phase: BootstrapPhase, part: u32, now: Timestamp) -> Self {
        let attempt = self.attempt.saturating_add(1);
        Self { phase, part, attempt, failures: 0, at: now, message: String::new(), ..self }
    }

    /// The same part once more.
    #[must_use]
    pub fn again(self, why: Failure, now: Timestamp) -> Self {
        let fix = why.fix.map(|fix| format!("; {fix}")).unwrap_or_default();
        let (attempt, failures) = (self.attempt.saturating_add(1), self.failures.saturating_add(1));
        Self { attempt, failures, at: now, message: format!("{}{fix}", why.message), ..self }
    }

    /// The end.
    #[must_use]
    pub fn over(self, phase: BootstrapPhase, message: impl Into<String>, now: Timestamp) -> Self {
        Self { phase, message: message.into(), at: now, ..self }
    }
}
