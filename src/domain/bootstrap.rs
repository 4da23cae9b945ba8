//! An empty site that is filled from backups, once, before its first run.

use crate::domain::{
    names::{SnapshotName, SourceName},
    verdict::Failure,
};
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
    /// The part of the site, from 1: one of `sources`.
    pub part: u32,
    /// What the site had when this began, in the order in which it is looked at and filled; empty when it is over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceName>,
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
    pub fn new(generation: i64, sources: Vec<SourceName>, now: Timestamp) -> Self {
        let (phase, snapshot, message) = (BootstrapPhase::Looking, None, String::new());
        Self { generation, phase, part: 1, sources, attempt: 1, failures: 0, at: now, snapshot, message }
    }

    /// The source that is looked at or filled.
    pub fn source(&self) -> Option<&SourceName> {
        self.sources.get(usize::try_from(self.part).ok()?.checked_sub(1)?)
    }

    /// On with the next part: all are looked at before the first is filled.
    #[must_use]
    pub fn next(self, now: Timestamp) -> Self {
        let is_last = usize::try_from(self.part).is_ok_and(|part| part >= self.sources.len());
        let (phase, part) = match self.phase {
            BootstrapPhase::Looking if is_last => (BootstrapPhase::Filling, 1),
            BootstrapPhase::Filling if is_last => {
                let filled = self.snapshot.as_ref().map_or_else(String::new, ToString::to_string);
                return self.over(BootstrapPhase::Restored, format!("filled from {filled}"), now);
            }
            phase => (phase, self.part.saturating_add(1)),
        };
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
        Self { phase, message: message.into(), at: now, sources: Vec::new(), ..self }
    }
}
