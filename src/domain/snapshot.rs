//! What is known of one committed backup: the summary that status, lists and reports carry.

use crate::domain::names::{InstanceName, SnapshotName, SourceName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How well the parts of a source agree with each other in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Consistency {
    /// A database at one moment: one member, one stream, its oplog in it.
    PointInTime,
    /// A database read over a while, without an oplog.
    Fuzzy,
    /// Files read while others may write them.
    BestEffort,
}

/// Totals of one source in one snapshot, also what the guards of the next run compare with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceSummary {
    /// Which source.
    pub source: SourceName,
    /// File contents or documents, bytes before compression.
    pub source_bytes: u64,
    /// Bytes stored for it.
    pub stored_bytes: u64,
    /// Regular files (volumes).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub files: u64,
    /// Collections (databases).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub collections: u64,
    /// Documents (databases).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub documents: u64,
    /// Entries that changed while they were read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub changed_while_read: u64,
    /// Entries that could not be read. More than zero: the snapshot is incomplete.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable: u64,
    /// How well its parts agree.
    pub consistency: Consistency,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// One committed snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotSummary {
    /// Its name.
    pub name: SnapshotName,
    /// Whose data.
    pub instance: InstanceName,
    /// When the manifest was written.
    pub committed_at: Timestamp,
    /// Every required source is there and readable.
    pub complete: bool,
    /// Totals by source, database first.
    pub sources: Vec<SourceSummary>,
    /// Required sources that are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<SourceName>,
}

impl SnapshotSummary {
    /// Bytes of all sources before compression.
    pub fn source_bytes(&self) -> u64 {
        self.sources.iter().map(|s| s.source_bytes).sum()
    }

    /// Bytes stored for all sources.
    pub fn stored_bytes(&self) -> u64 {
        self.sources.iter().map(|s| s.stored_bytes).sum()
    }

    /// Files of all volumes.
    pub fn files(&self) -> u64 {
        self.sources.iter().map(|s| s.files).sum()
    }

    /// Documents of the database.
    pub fn documents(&self) -> u64 {
        self.sources.iter().map(|s| s.documents).sum()
    }

    /// The weakest consistency of its sources.
    pub fn consistency(&self) -> Option<Consistency> {
        self.sources.iter().map(|s| s.consistency).max()
    }
}
